"""Where images live: folders, lists of files, archives and arrays.

A source is made from what the user typed (measuring/opening.py chooses it). It lists its **units**
without opening them: a unit is what one process best reads in one go, an archive, an array or a run of
files. A unit is sent to the process that reads it, and `images` gives what it has: each entry is an
image to be measured, one that is skipped with a reason, or a number of files that a rule ignores.

    source.py        what a source must offer: units, and the images of each
    listing.py       the names of all images at once, for what needs them
    names.py         names as bytes and as text; numbered names; runs of names
    files.py         which names are images; reading one file
    signatures.py    how the files of each format begin
    paths.py         patterns and labels of many files
    patterns.py      which files --include and --exclude choose
    folder.py        a folder             filelist.py     a text file of paths
    archive.py       zip, tar, tar.gz     arrays.py       .npy and .npz
    archivefile.py   one archive, open    arrayfile.py    one .npy or .npz file, open
    tar.py, zip.py   their formats        npy.py          the header of an array, its layout
    bytestream.py    an archive's bytes, of a file or a gzip stream

May import the modules beside the packages, documents and tally; no third party, so no NumPy.

To add a source of files: subclass `Source` in a module here, and open it in measuring/opening.py.
checks/verify/listings.py has the kinds that a path can name, pipeline/config.py those of configs.
Sources that need Python objects, such as torch Datasets, are in datasets/.
"""
