"""Wrong means and stds in source code and configs that are not imgnorm's own.

    lint.py      the files of the paths -> read each -> rules -> problems
    python.py    pairs of a mean and a std in Python source, which is parsed, never imported
    values.py    the numbers that a Python expression gives
    data.py      pairs in YAML, JSON and TOML
    frameworks.py  what each framework fixes: unit, channel order
    names.py     what the names of variables and keys say
    pair.py      what a pair is: numbers with their places, and what the file says about them
    judge.py     which of the rules make sense for a pair, and the problems that they find

A reader finds pairs, and what the lines around them say (unit, channel order, dataset). The rules
are those of constants/findings.py. To read another kind of file, write a reader
`(data, file) -> list[Pair]` and add its suffix to `_READERS` in lint.py.
"""
