"""Where images live: folders, lists of files, archives and arrays. They list names, and read.

A source is made from what the user typed (measuring/opening.py chooses it). `listing` finds all names
in the main process: each entry is to be measured, skipped with a reason, or ignored by a rule. The
source is then pickled and sent to workers, and `read` gives one image's bytes, or its pixels, by name.

    source.py        the protocols: what a source must offer
    names.py         names as bytes and as text; numbered names
    files.py         which names are images; reading one file
    paths.py         patterns and labels of many files
    folder.py        a folder             filelist.py     a text file of paths
    archive.py       zip, tar, tar.gz     arrays.py       .npy and .npz
    shard.py         one archive          arrayfile.py    one .npy or .npz file
    tar.py, zip.py   their formats        npy.py          the header of an array, its layout
    bytestream.py    an archive's bytes, of a file or a gzip stream

May import the modules beside the packages, documents and tally; no third party, so no NumPy.

To add a source of files: implement `EncodedSource` in a module here, and open it in
measuring/opening.py. checks/verify/listings.py has the kinds that a path can name, pipeline/config.py
those of configs. Sources that need Python objects, such as torch Datasets, are in datasets/.
"""
