"""Options that more than one command has, so that they mean the same everywhere."""

from __future__ import annotations

import click

from imgnorm.reasons import Allowance


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
