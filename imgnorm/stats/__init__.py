"""Stats: the numbers of a measurement, their file, and what can be done with them.

`Stats` (stats.py) are mean and std per channel with the `Measurement` (measurement.py) that they follow
from: integers that add up exactly, and a `Provenance` (provenance.py), which identifies the source, its
shards and its images. An estimate (estimate.py) also has error bars. Constants, written by hand, have
mean and std only; a shard without images has neither, until it is merged with others.

    Measurement -> Stats        stats.py      mean and std follow from the integers
    images drawn -> bounds      betting.py    for an estimate; a single bet is in capital.py
    Stats + Stats               merging.py    or the message with every reason against it; overlaps.py
                                              finds images that are counted twice, and missing shards
    Stats <-> values            format.py     each key of the file, described once: what it can be, and how
                                              it follows from Stats; schema.json is its JSON Schema
    Stats <-> file              file.py       reading computes all from the integers; faults.py has what is
                                              refused, and the page of each rule
    Measurement -> notes        notes.py      what is lost or odd, a sentence and what to do for each kind
    Stats -> table              table.py      what `imgnorm show` prints

May import the packages before it (documents to workers). Only betting loads a third party.

A number that follows from others is a line in format.py: reading compares it with what follows. If it is
always written, older files are not valid any more, so it needs a new STATS_FORMAT. A number that is counted
is a line in format.py and a field of `Measurement`, which also says how it adds up; it is set in
measuring/result.py, and what no images can have is refused in faults.py. A new kind of note: a constant of
tally/notes.py, counted in pixels/losses.py, and its sentence in notes.py.
"""
