"""Stats: the numbers of a measurement, their file, and what can be done with them.

`Stats` (stats.py) are mean and std per channel with the `Measurement` (measurement.py) that they follow
from: integers that add up exactly, and a `Provenance` (provenance.py), which identifies the source, its
shards and its images. An estimate (estimate.py) also has error bars. Constants, written by hand, have
mean and std only; a shard without images has neither, until it is merged with others.

    Measurement -> Stats        stats.py      mean and std follow from the integers
    Stats + Stats               merging.py    or the message with every reason against it; overlaps.py
                                              finds images that are counted twice, and missing shards
    Stats -> text -> file       text.py, file.py
    file -> Document -> model   schema.py     the models; stats/schema.json is their JSON Schema
    model -> Stats              file.py       computed from the integers; faults.py has what is refused,
                                              rules.py the page of each of its rules
    Stats -> table              table.py      what `imgnorm show` prints

May import the packages before it (documents to workers), PyYAML and pydantic. Importing stats.py loads
neither of the two: measuring does not need them.

A number that follows from others is added to the model in schema.py and written in text.py: reading
compares it with what follows. If it is always written, older files are not valid any more, so it needs a
new STATS_FORMAT. A number that is counted is also a field of `Measurement`, set in measuring/result.py,
read in file.py, added in merging.py, bounded in faults.py and compared in checks/verify/recount.py.
"""
