"""Images that Python objects make: torchvision's sets, a user's Dataset, DataLoader or iterable.

    user_code.py    "package.module:name" on the command line -> the user's object
    loader.py       a torch Dataset or DataLoader -> its source; a DataLoader's workers that count
    iterables.py    any other object -> its source, without importing torch
    torchvision.py  `torchvision:NAME`, and torchvision's Datasets with their pixels in memory
    source.py       the protocols of these sources; imgnorm.measuring chooses the way by them

A source is *indexed* (indexed.py: `dataset[i]` and `len`) or a *stream* (stream.py: all the rest, read
once). An indexed one has names, so it can be sampled, sharded and verified; a stream has places only.

The way of an item: items.py finds its images and their layout, counter.py counts them and returns a
`Tally`. jobs.py cuts names into jobs and adds up their tallies. The user's code runs in this process, or
in a DataLoader's workers; an image that fails is skipped by its name. Datasets with their pixels in
memory need no items: their array is counted, or threads.py converts and preprocesses its images.
attributes.py reads what an object reports about itself: length, labels, paths.

It may import the packages from the ground to cuda (cuda only for tensors that lie on a device), NumPy
and Pillow; torch only in loader.py. A new kind of Python object: a source with one of the protocols,
and the line where iterables.py or loader.py opens it.
"""
