"""Stats: the numbers of a measurement, their file, and what can be done with them.

`Stats` (stats.py) are mean and std per channel with the `Measurement` (measurement.py) that they follow
from: integers that add up exactly, and a `Provenance` (provenance.py), which identifies the source, its
shards and its images. An estimate (estimate.py) also has error bars. Constants, written by hand, have
mean and std only.

    Measurement -> Stats        stats.py      mean and std follow from the integers
    Stats + Stats               merging.py    or the message with every reason against it
    Stats -> text -> file       text.py, file.py
    file -> Document -> model   schema.py     the models; stats/schema.json is their JSON Schema
    model -> Stats              file.py       computed from the integers; faults.py has what is refused
    Stats -> table              table.py      what `imgnorm show` prints

This package may import the packages before it (documents, tally, sources, pixels, workers), PyYAML and
pydantic. Importing stats.py loads neither of the two: measuring does not need them.

A new field of the stats file is added to the model in schema.py, written in text.py and read in file.py.
If other numbers determine it, reading compares it with what follows from them without more code.
"""
