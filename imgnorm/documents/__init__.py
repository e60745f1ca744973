"""YAML documents that know the line and column of every value.

Pipeline configs and stats files are read here. The way of the data:

    file -> bytes          document.py   within limits of size; never waits for a FIFO
    bytes -> Document      reader.py     a subset of YAML: nothing in it is executed or expanded
    Document -> values     kinds.py      unknown keys, wrong types and wrong values; JSON Schemas
    values -> YAML         writer.py     the bytes that PyYAML would write

The second and the third step each collect all faults and raise them at once, as one `InvalidDocument`
with a `Problem` for each fault: file, line, column, rule, message and hint. rules.py has the page of
each rule (`imgnorm validate --explain RULE`). portability.py warns of scalars that readers of YAML
1.1 read otherwise.

tree.py reads the YAML, JSON and TOML of others for `imgnorm lint`: leniently, with the place of each value.

This package may import the modules at the top of imgnorm, and PyYAML; kinds.py and writer.py do without.
A new rule about YAML gets its check in reader.py and its page in rules.py; a new file format is a `Record`
in its own package, and reads files with `read_document` and `check`.
"""
