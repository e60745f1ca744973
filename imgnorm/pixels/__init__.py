"""Encoded images and arrays -> pixels -> tallies: all that runs in a worker between reading and adding.

The way of an image, in this order:

    count.py       the job: entries of a unit one after the other, errors listed, a `Tally` at the end
    load.py        one image: read it from its source, decode, preprocess
    formats.py     which format its bytes have; which libraries decode it
    damage.py      what Pillow would not notice: missing ends, wrong checksums, impossible sizes
    jpeg.py        ordinary JPEGs by libjpeg-turbo, with the pixels of Pillow
    decode.py      all other files by Pillow; modes that would give wrong values are refused
    losses.py      what is lost on that way: further frames, bits, alpha, the orientation
    preprocess.py  Resize and CenterCrop, as torchvision does them
    sizes.py       instead of all that, the size of an image by its header, for an estimate
    images.py      pixels -> the histogram and the sums of one mode

frames.py is a source in which each frame of a file is an image. Arrays need no decoding: planes.py counts bytes and 16-bit values, floats.py counts floats. Where a device counts, buffer.py takes the pixels to it.

An image that cannot be counted raises `Unreadable` with its reason, wherever that is found; the job
turns it into a `Skipped`. Imports the packages up to imgnorm.sources, and NumPy, Pillow and simplejpeg,
never torch. The process that measures a folder needs only buffer.py, which must not load NumPy.
A new format: its signature and plugin in formats.py, the signs of its damage in damage.py.
"""
