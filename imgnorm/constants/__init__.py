"""Numbers that people publish and paste: known means and stds, and what is wrong with a pair of them.

The way through the package:

    presets.json -> presets.py -> findings.py -> explain.py
                    the table     the rules      answers in words

- `presets.json` is the table: every published set that we know, right or wrong, with its source.
- `presets.py` reads it. `Numbers` are values with their precision, so that 0.247 equals 0.2470 but not
  0.2471. `matches` finds the presets with given numbers; `preset` gives the one to normalize with.
- `findings.py` holds the rules about a mean and a std: their pages and their checks, which are pure
  functions. The package `pipeline` and both checkers, validate and lint, use them.
- `frameworks.py` is the table of what frameworks do with a mean and a std: the unit and the order.
- `explain.py` writes what `imgnorm explain` and `imgnorm presets` print.

It may import the ground, documents, tally, sources, pixels, workers and stats. Only `explain.py` needs
one of these, stats. The package needs the standard library alone: `imgnorm lint` must start fast.

A new preset is an entry in `presets.json`: `source` says who published it, and `mark` how far to trust
it (`MARKS`); a wrong set also needs `remark`, and `use` if the right numbers are known. A new rule is a
`Rule` and a function in `findings.py`, both listed at the end of the file, and a
case in tests/cases/. validate, lint and explain all ask it; checks/lint/judge.py says where lint does.
"""
