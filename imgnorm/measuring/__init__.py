"""A source and options -> Stats: the way through all packages before it.

`measure` checks its arguments and then goes this way:

1. `opening`: what the user named (a path, a name, an object) becomes a source.
2. `selection`: the options choose among its units (`--shard`), or among all names (`--limit`).
3. `routes`: the executor that counts units: the source's own, for what is in this process, or worker
   processes. It is a function from units to a tally.
4. `sampling`: with a tolerance, that function is called for a growing random sample of the names; `headers`
   has workers read the sizes of all images before.
5. `result`: the tally's mode is decided, and it becomes Stats.

No module here asks what kind of source it has: `sources/source.py` has all that differs between them.

These modules import nothing heavy: NumPy and Pillow load in the workers, and torch only for a device
or a dataset of torch's. They may import all packages before this one; `bar` imports tqdm when it shows one.

A new kind of source is opened in `opening`. A new executor is chosen in `routes.executing`. A new option
about images belongs to `SelectionOptions`. One that changes pixels is best a `Step` of settings.py:
pixels/preprocess.py applies it, stats/ keeps it (schema, text, file), pipeline/steps.py emits it.
"""
