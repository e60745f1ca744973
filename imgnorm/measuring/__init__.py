"""A source and options -> Stats: the way through all packages before it.

`measure` checks its arguments and then goes this way:

1. `opening`: what the user named (a path, a name, an object) becomes a source.
2. `selection`: the source lists its names, and the options choose those to look at.
3. `routes`: how these are counted: by worker processes, by threads, or in this process. The result is
   a function from groups of names to a tally of each group.
4. `sampling`: with a tolerance, that function is called for a growing random sample of the names.
5. `result`: the tallies add up to one, its mode is decided, and it becomes Stats.

A stream (a DataLoader, an iterable) has no names to choose from: it skips steps 2 to 4 and counts its
images as they come.

These modules import nothing heavy: NumPy and Pillow load in the workers, and torch only for a device
or a dataset of torch's. They may import all packages before this one, and no third party.

A new kind of source is opened in `opening`. A new way to count is a branch of `routes.counting`. A new
option about names belongs to `SelectionOptions`. One that changes pixels is best a `Step` of settings.py:
pixels/preprocess.py applies it, stats/ keeps it (schema, text, file), pipeline/steps.py emits it.
"""
