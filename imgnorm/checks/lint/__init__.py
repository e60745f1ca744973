"""Wrong means and stds in source code and configs that are not imgnorm's own.

    lint.py      the files of the paths -> read each -> rules -> problems
    files.py     which files are read, and by which reader
    python.py    pairs of a mean and a std in Python source, which is parsed, never imported
    flow.py      into which dataset a transform goes
    evidence.py  what a Python file as a whole says: decoders, datasets, pretrained weights
    values.py    the numbers that a Python expression gives
    data.py      pairs in YAML, JSON and TOML
    text.py      pairs in Markdown, reStructuredText, notebooks and shell scripts
    frameworks.py  what each framework fixes: unit, channel order
    names.py     what the names of variables and keys say
    pair.py      what a pair is: numbers with their places, and what the file says about them
    explained.py what the numbers of one file are, for `imgnorm explain FILE`
    judge.py     which of the rules make sense for a pair, and the problems that they find

A reader finds pairs, and what the lines around them say (unit, channel order, dataset). The rules
are those of constants/findings.py. To read another kind of file, write a reader
`(data, file) -> list[Pair]` and add its extension to `_READERS` in files.py.
"""
