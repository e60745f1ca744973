"""What more than one command has, so that it means the same everywhere: options, and their checks."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

import click

from imgnorm.cli.terminal import print_result
from imgnorm.errors import TooManySkipped
from imgnorm.settings import LAYOUTS, MAX_PIXELS, TIMEOUT_S, conflicts, frames_of, frames_text
from imgnorm.wording import plural

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from imgnorm.output import FileKind
    from imgnorm.tally.skipped import Allowance

_Option = Callable[[Callable[..., Any]], Callable[..., Any]]

EXIT_CODES = """\b
Exit codes:
  0    all that was found is counted, or the check passed
  1    a check failed: a file is not up to date, or more images were skipped
       than --max-skipped allows
  2    wrong usage, or the work could not be done; nothing was written
  3    done, but some images were skipped, and no --max-skipped was given
  70   a bug in imgnorm
  74   standard output cannot be written; what -o names is written
  130  Ctrl-C (143 SIGTERM, 129 SIGHUP, 141: the reader of the output is gone)
"""


def files(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Tab completes names of files here: click does that by itself for `click.Path` alone."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="file")]


def _folders(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="dir")]


def _rules(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Those of lint and validate; with a comma, of the last name of the list."""
    from imgnorm.checks.rules import PAGES, RULES

    before, comma, begun = incomplete.rpartition(",")
    known = PAGES if param.name == "explain" else RULES
    return [f"{before}{comma}{name}" for name in known if name.startswith(begun)]


def given(*names: str) -> list[str]:
    """Those of these options that are on the command line, as they are written there."""
    context = click.get_current_context()
    written = {parameter.name: parameter.opts[0] for parameter in context.command.params}
    source = click.core.ParameterSource.COMMANDLINE
    return [written[name] for name in names if context.get_parameter_source(name) is source]


def refuse(*names: str, why: str) -> None:
    """
    Args:
        why: what follows the name of the option in the message.

    Raises:
        UsageError: one of these options is given. It would do nothing, so it is a misunderstanding.
    """
    for option in given(*names):
        raise click.UsageError(f"{option} {why}")


def refuse_conflicts(facts: Collection[str]) -> None:
    """
    Args:
        facts: from `call_facts`.

    Raises:
        UsageError: options do not go together.
    """
    parameters = click.get_current_context().command.params
    for fault in conflicts(facts, {str(one.name): one.opts[0] for one in parameters}):
        raise click.UsageError(fault)


def refuse_beside_config(path: str, *names: str) -> None:
    """
    Raises:
        UsageError: one of these options is given, and the config sets the same thing.
    """
    for option in given(*names):
        raise click.UsageError(f"{option}: {path} says it; change it there, or leave {option} out")


listed = click.option(
    "--list",
    "listed",
    is_flag=True,
    help="SOURCE is a text file with one path a line, relative to that file, or - for standard input; each file is read, whatever its extension.",
)


def parsed(parse: Callable[[Any], Any]) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """A callback of an option that may be left out: what `parse` makes of its value, or its ValueError."""

    def callback(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
        try:
            return None if value is None else parse(value)
        except ValueError as error:
            raise click.BadParameter(str(error), ctx, param) from error

    return callback


def _patterns(value: Sequence[str]) -> tuple[str, ...]:
    from imgnorm.sources.patterns import Patterns

    return Patterns(tuple(value)).include


include = click.option(
    "--include",
    multiple=True,
    callback=parsed(_patterns),
    metavar="PATTERN",
    help="Measure only files that a pattern matches, as in .gitignore: --include 'train/**'. One that ends in an extension, '*.gif', also takes files that are left out by default. May be repeated.  [default: all]",
)
exclude = click.option(
    "--exclude",
    multiple=True,
    callback=parsed(_patterns),
    metavar="PATTERN",
    help="Leave out files, and all in folders, that a pattern matches: --exclude masks. May be repeated.",
)


frames = click.option(
    "--frames",
    callback=parsed(lambda value: frames_text(frames_of(value))),
    default="first",
    metavar="first|all|every:N",
    help="Which frames or pages of each file (GIF, TIFF, WebP, APNG, AVIF) are images.",
)
root = click.option(
    "--root",
    default="data",
    metavar="FOLDER",
    shell_complete=_folders,
    help="Where a torchvision dataset is: its own `root`.",
)
split = click.option(
    "--split",
    default="train",
    metavar="NAME",
    help="The split of a torchvision dataset: train, test, or another value that its `split` accepts.",
)


def layout(text: str) -> _Option:
    names = f"{', '.join(LAYOUTS[:-1])} or {LAYOUTS[-1]}"
    return click.option(
        "--layout", type=click.Choice(LAYOUTS), metavar="LAYOUT", help=f"{names}: {text}"
    )


def max_pixels(text: str) -> _Option:
    return click.option(
        "--max-pixels",
        type=click.IntRange(min=1),
        metavar="N",
        default=MAX_PIXELS,
        help=text,
    )


timeout = click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0, min_open=True, max=86_400),
    metavar="SECONDS",
    default=TIMEOUT_S,
    help="What one image may take; it is tried twice.",
)


def _allowance(value: str) -> Allowance:
    from imgnorm.tally.skipped import Allowance

    return Allowance.parse(value)


max_skipped = click.option(
    "--max-skipped",
    callback=parsed(_allowance),
    metavar="N|P%",
    help="This many skipped images are accepted (exit 0); with more, the result is not written (exit 1).  [default: any number, exit 3]",
)
rejects = click.option(
    "--rejects",
    type=click.Path(),
    help="Write skipped images to this file as JSON lines: name, member, reason, detail, bytes.",
)


def demand_few_skipped(
    skipped: int, images: int, allowed: Allowance | None, unwritten: str
) -> None:
    """
    Args:
        images: how many were looked at, the skipped ones included.
        unwritten: the file that is not written if there are too many.

    Raises:
        TooManySkipped: more images were skipped than `--max-skipped` allows.
    """
    if allowed is not None and not allowed.covers(skipped, images):
        raise TooManySkipped(
            f"{plural(skipped, 'image')} skipped, more than --max-skipped {allowed}; no {unwritten} was "
            "written: fix them, or allow more"
        )


def output(text: str, *, required: bool = False) -> _Option:
    return click.option("-o", "--output", type=click.Path(), required=required, help=text)


force = click.option(
    "--force",
    count=True,
    show_default=False,
    help="Replace a file of the same kind that imgnorm wrote. Given twice: any file.",
)
eps = click.option(
    "--eps",
    type=click.FloatRange(min=0, min_open=True, max=1),
    metavar="EPS",
    help="The least std to divide by: max(std, eps).  [default: refuse constant channels]",
)


def check_files(
    *,
    force: int,
    output: str | None = None,
    rejects: str | None = None,
    per_image: str | None = None,
    report: str | None = None,
    kind: FileKind | None = "stats file",
) -> None:
    """Check with `check_output` whether the files of these options can be written.

    Args:
        kind: of `output`.
    """
    from imgnorm.output import check_output

    kinds: tuple[tuple[str | None, FileKind | None], ...] = (
        (output, kind),
        (rejects, "list of skipped images"),
        (per_image, "table of images"),
        (report, "report"),
    )
    for path, kind in kinds:
        if path is not None:
            check_output(path, kind=kind, force=force)


def written_files(**given: str | None) -> list[str]:
    """The files that these options of the command name, in this order.

    Raises:
        UsageError: two of them name the same file.
    """
    written: dict[str, str] = {}  # file -> option
    for name, path in given.items():
        if path is None:
            continue
        option = "-o" if name == "output" else f"--{name.replace('_', '-')}"
        first = written.setdefault(os.path.realpath(path), option)
        if first != option:
            raise click.UsageError(f"{first} and {option} name the same file; give each its own")
    return [path for path in given.values() if path is not None]


def quiet(text: str) -> _Option:
    return click.option("-q", "--quiet", is_flag=True, help=text)


def verbose(text: str) -> _Option:
    return click.option("-v", "--verbose", is_flag=True, help=text)


as_json = click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print the content of the stats file as JSON, instead of the table.",
)


def _demand_known(
    ctx: click.Context, param: click.Parameter, name: str, rules: Collection[str]
) -> None:
    from imgnorm.wording import nearest

    if name not in rules:
        near = nearest(name, rules)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(rules)}"
        raise click.BadParameter(f"there is no rule {name!r}; {hint}", ctx, param)


def _known_rules(ctx: click.Context, param: click.Parameter, value: Sequence[str]) -> set[str]:
    """The ids in `--select a,b --select c`."""
    from imgnorm.checks.rules import RULES

    names = {name.strip() for part in value for name in part.split(",")} - {""}
    for name in sorted(names):
        _demand_known(ctx, param, name, RULES)
    return names


def _print_page(ctx: click.Context, param: click.Parameter, name: str | None) -> None:
    from imgnorm.checks.reports import page
    from imgnorm.checks.rules import PAGES

    if name is not None:
        _demand_known(ctx, param, name, PAGES)
        print_result(page(PAGES[name]))
        ctx.exit()


select = click.option(
    "--select",
    multiple=True,
    callback=_known_rules,
    shell_complete=_rules,
    metavar="RULES",
    help="Check these rules only: a,b,c.",
)
ignore = click.option(
    "--ignore",
    multiple=True,
    callback=_known_rules,
    shell_complete=_rules,
    metavar="RULES",
    help="Do not check these rules.",
)
explain = click.option(
    "--explain",
    is_eager=True,  # before the command asks for a file
    expose_value=False,
    callback=_print_page,
    shell_complete=_rules,
    metavar="RULE",
    help="Print what a rule is about, and stop.",
)
strict = click.option("--strict", is_flag=True, help="Exit 1 for warnings, too.")
report_format = click.option(
    "--format",
    "report",
    type=click.Choice(["text", "json", "github"]),
    default="text",
    help="For people, for programs, or as annotations of a pull request on GitHub.",
)
