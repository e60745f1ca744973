"""`imgnorm lint`: wrong means and stds in source code and configs."""

from __future__ import annotations

from collections.abc import Collection

import click

from imgnorm.cli import options as shared
from imgnorm.cli.terminal import advise, note, print_result, reported

_EXIT_CODES = """\b
Exit codes:
  0    no errors (with --strict: no warnings either)
  1    problems; with --diff, also files that --fix would change
  2    wrong usage, or a path that cannot be read
"""


@click.command(epilog=_EXIT_CODES)
@click.argument("paths", nargs=-1, required=True, shell_complete=shared.files)
@shared.select
@shared.ignore
@shared.strict
@shared.report_format
@shared.explain
@click.option(
    "--diff", is_flag=True, help="Show what --fix would write, as a diff, and write nothing."
)
@click.option(
    "--fix", is_flag=True, help="Write the right numbers into the files, where they are sure."
)
@shared.quiet("No summary on standard error.")
@shared.verbose("Show notes, too, and name the files that could not be read.")
def lint(
    paths: tuple[str, ...],
    select: Collection[str],
    ignore: Collection[str],
    strict: bool,
    report: str,
    diff: bool,
    fix: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    """Look for wrong means and stds in source code and configs.

    \b
    Examples:
      imgnorm lint .
      imgnorm lint src configs --diff                 # what --fix would write
      imgnorm lint train.py --fix

    PATHS are files or folders; Python of any version, YAML, JSON, TOML, notebooks, shell scripts, and the
    code in Markdown and reStructuredText are read. Nothing is imported or run. Files that are not valid
    are passed over. The comment `# imgnorm: ignore[rule]` ignores a rule on its line.

    --fix changes numbers and nothing else, in the file's own unit, order and digits, and only where the
    file says which dataset they are for. Look at --diff first.
    """
    from imgnorm.checks.lint.lint import lint as check

    if diff and fix:
        raise click.UsageError("--diff shows what --fix would write; give one of them")
    found = check(paths, select=select or None, ignore=ignore, fix=diff or fix)
    if diff:
        written = "".join(one.diff() for one in found.fixes).removesuffix("\n")
    else:  # before files are changed, since the lines that have problems are shown
        shown = [p for p in found.problems if verbose or p.severity != "info"]
        written = reported(shown, report)
    if fix:
        from imgnorm.checks.lint.fix import write_fixes

        write_fixes(found.fixes)
    if written:
        print_result(written)
    if verbose:
        for name, reason in found.unread:
            note(f"not read  {name}: {reason}")
    if not quiet:
        note(found.summary(verbose=verbose, written=fix))
        if found.fixable:
            advise(
                "next     `imgnorm lint --diff` shows the right numbers, and `--fix` writes them"
            )
    failing = ("error", "warning") if strict else ("error",)
    wrong = any(problem.severity in failing for problem in found.problems)
    return int(wrong or (diff and bool(found.fixes)))
