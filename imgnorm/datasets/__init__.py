"""Images that Python objects make: torchvision's sets, a user's Dataset, DataLoader or iterable.

    user_code.py       "package.module:name" on the command line -> the user's object
    loader.py          a torch Dataset or DataLoader -> its source
    iterables.py       any other object -> its source, without importing torch
    torchvision.py     `torchvision:NAME`, and torchvision's Datasets with their pixels in memory
    executor.py        units in, a tally out: in this process, by one thread or several
    loader_workers.py  the same, in a DataLoader's worker processes

A source is *indexed* (indexed.py: `dataset[i]` and `len`) or a *stream* (stream.py: all the rest, read
once). An indexed one has names, so it can be sampled, sharded and verified; a stream has places only.

The way of an item: items.py finds its images and their layout, counter.py counts them and returns a
`Tally`. The user's code runs in this process, or in a DataLoader's workers; an image that fails is
skipped by its name. Datasets with their pixels in memory need no items: executor.py counts slices of
their array, or has threads convert and preprocess them. attributes.py reads what an object reports about
itself: length, labels, paths.

It may import the packages from the ground to cuda (cuda only for tensors that lie on a device), NumPy
and Pillow; torch only in loader.py and loader_workers.py. A new kind of Python object: a `Source` with an
`executor`, and the line where iterables.py or loader.py opens it.
"""
