"""Does a stats file still describe its data?

    verify.py     stats file + source -> Verification
    listings.py   the file's sources as they are now, and whether the names are the same
    sample.py     a random sample measured again, against the file's counts and averages
    betting.py    the test for the averages: which of them moved, by more than chance
    recount.py    all images measured again: every integer must be equal
    findings.py   what was asked for, and the differences, each at its line of the file
    rules.py      the pages that `imgnorm verify --explain` prints

verify() reads the file, lists its sources (listings), then compares a sample or everything, and
each step adds to one Findings. A new comparison: a function that takes Findings and calls
`findings.add(path, rule, message)`, and a page for its rule in rules.py.
"""
