"""`imgnorm lint`: wrong means and stds in source code and configs."""

from __future__ import annotations

from collections.abc import Collection

import click

from imgnorm.cli import options as shared
from imgnorm.cli.terminal import note, print_result

_EXIT_CODES = """\b
Exit codes:
  0    no errors (with --strict: no warnings either)
  1    problems
  2    wrong usage, or a path that cannot be read
"""


@click.command(no_args_is_help=True, epilog=_EXIT_CODES)
@click.argument("paths", nargs=-1, required=True)
@shared.select
@shared.ignore
@shared.strict
@shared.report_format
@shared.quiet("No summary on standard error.")
@shared.verbose("Name the files that could not be read, and why.")
def lint(
    paths: tuple[str, ...],
    select: Collection[str],
    ignore: Collection[str],
    strict: bool,
    report: str,
    quiet: bool,
    verbose: bool,
) -> int:
    """Look for wrong means and stds in source code and configs.

    PATHS are files or folders; Python, YAML, JSON and TOML are read. Nothing is imported or run. Files
    that are not valid, or not in the subset of YAML that imgnorm reads, are passed over. The comment
    `# imgnorm: ignore[rule]` ignores a rule on its line.
    """
    from imgnorm.checks.lint.lint import lint as check
    from imgnorm.checks.reports import REPORTERS

    found = check(paths, select=select or None, ignore=ignore)
    written = REPORTERS[report](found.problems)
    if written:
        print_result(written)
    if verbose:
        for name, reason in found.unread:
            note(f"not read  {name}: {reason}")
    if not quiet:
        hint = " (-v says why)" if found.unread and not verbose else ""
        note(found.summary() + hint)
    failing = ("error", "warning") if strict else ("error",)
    return int(any(problem.severity in failing for problem in found.problems))
