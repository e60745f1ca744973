"""Pipeline configs, and the torchvision transforms that are made from them or from a stats file.

The way of a config:

    YAML -> config.py -> Pipeline -> steps.py -> transforms.py (objects: build, to_transform)
            structure.py, order.py            -> emit.py       (a Python module: targets/torchvision.py)
            numbers.py                        -> dry_run.py    (built and run once: validate --build)
    Stats -> emit.py -> targets/                               (the files of other frameworks)

- `config.py` reads a config, has its model and its JSON Schema (schema.json), and calls the checks:
  `structure.py` (names and arguments of transforms), `order.py` (what may follow what) and `numbers.py`
  (the stats file or the numbers to normalize with). Each check ends with the pages of its rules.
- `pipeline.py` holds what a sound config says. `steps.py` turns it, or stats, into calls by name, so
  that objects and emitted modules do the same.
- `augmentations.py` knows torchvision's transforms from a table, augmentations.json, which
  `scripts/make_transform_table` writes. So checking needs neither torch nor torchvision.

It may import the ground and the packages from documents to constants. Only `transforms.py` and `dry_run.py` may load torch and Pillow.

A new rule is a `Rule` and its check in one of the three modules, a row in docs/checks.md, and a case in
tests/cases/. A new key of a config is a `Key` in config.py and a field of `Pipeline`. A new API of
torchvision: its steps in steps.py, its imports in targets/torchvision.py, its name in cli/emit.py. Another
framework: a module in targets/.
"""
