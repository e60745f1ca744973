"""Options that more than one command has, so that they mean the same everywhere."""

from __future__ import annotations

from collections.abc import Sequence

import click

from imgnorm.tally.skipped import Allowance


def given(*names: str) -> list[str]:
    """Those of these options that stand on the command line, as they are written there."""
    context = click.get_current_context()
    written = {parameter.name: parameter.opts[0] for parameter in context.command.params}
    source = click.core.ParameterSource.COMMANDLINE
    return [written[name] for name in names if context.get_parameter_source(name) is source]


def _allowance(ctx: click.Context, param: click.Parameter, value: str | None) -> Allowance | None:
    try:
        return None if value is None else Allowance.parse(value)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from error


max_skipped = click.option(
    "--max-skipped",
    callback=_allowance,
    metavar="N|P%",
    help="So many skipped images are fine (exit 0); with more, the result is not written (exit 1).  [default: any number, exit 3]",
)
rejects = click.option(
    "--rejects",
    type=click.Path(),
    help="Write skipped images to this file as JSON lines: name, member, reason, detail, bytes.",
)


def known_rule(ctx: click.Context, param: click.Parameter, name: str | None) -> str | None:
    """The id of a rule that there is."""
    from imgnorm.checks.rules import PAGES, RULES
    from imgnorm.wording import nearest

    rules = PAGES if param.name == "explain" else RULES
    if name is not None and name not in rules:
        near = nearest(name, rules)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(rules)}"
        raise click.BadParameter(f"there is no rule {name!r}; {hint}", ctx, param)
    return name


def _known_rules(ctx: click.Context, param: click.Parameter, value: Sequence[str]) -> set[str]:
    """The ids in `--select a,b --select c`."""
    names = {name.strip() for part in value for name in part.split(",")} - {""}
    for name in sorted(names):
        known_rule(ctx, param, name)
    return names


select = click.option(
    "--select",
    multiple=True,
    callback=_known_rules,
    metavar="RULES",
    help="Ask these rules only: a,b,c.",
)
ignore = click.option(
    "--ignore",
    multiple=True,
    callback=_known_rules,
    metavar="RULES",
    help="Do not ask these rules.",
)
