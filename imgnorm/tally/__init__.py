"""What was counted, in numbers that add up exactly.

The law of this package: everything that is kept is a frozen dataclass with `+`, made of Python numbers.
Integers add up without rounding, so the sum does not depend on which worker counted which image, or
on the order in which they finished. Nor does adding need NumPy, which takes long to load.

    tally.py      Tally: all that one job counted, by mode (Counted), and what it skipped
    histogram.py  how often each value occurs: 8- and 16-bit images
    floats.py     power sums and the range: float images
    moments.py    Moments, ImageSums, CrossSums: the sums that means, stds and error bars follow from
    skipped.py    why an image was not counted: Reason, Skipped, Unreadable; the file of `--rejects`
    overview.py   the images' sizes and means in fixed ranges, and how many look odd
    notes.py      what was lost of images that were counted, by kind: Noted
    rows.py       each image by itself, packed on its way to the process that measures
    spool.py      packed rows in a temporary file, in the order of their names
    names.py      the digest of images' names, and names as lines of text

The way of the data: imgnorm.pixels, imgnorm.datasets and imgnorm.cuda count images and return a `Tally`,
the main process adds all of them up, and imgnorm.stats makes a stats file from the sum.

Imports only the modules beside the packages (errors, settings, output, ...) and no third party.
A new kind of sum: a dataclass with `zero`, `+` and `replicated`, a field of `Counted`. A new reason to
skip: a line in `Reason`, and `Unreadable` raised with it where it is found.
"""
