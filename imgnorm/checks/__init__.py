"""The checks of files: what is wrong, where it stands, and what to do about it.

    validate.py   pipeline configs and stats files: structure, order, numbers
    lint/         means and stds in Python, YAML, JSON and TOML that are not imgnorm's own
    verify/       a stats file against its data
    diff.py       two stats files against each other; diff_table.py is what the command prints
    rules.py      every rule by its id; each family of rules stands beside what it is about
    ignore.py     which problems are reported: --select, --ignore and `# imgnorm: ignore[rule]`
    reports.py    problems -> text, JSON, GitHub annotations, SARIF, JUnit

Each check reads files and returns a frozen result with `problems` (imgnorm.errors.Problem: file,
line, column, rule, message, hint, severity) and a `summary()` of one line. Nothing here prints or
exits: the commands in cli/ pass the problems to a reporter and choose the exit code.

It may import all packages but cli, and no third party itself; checking configs and code never loads
torch, NumPy or Pillow.

A new rule: append a `Rule` to the RULES of its family (pipeline/order.py, constants/findings.py,
...), yield a `Problem` with its id, and run scripts/make_rule_pages, which makes docs/rules.md. A new
report format: a function in reports.py and its line in REPORTERS.
"""
