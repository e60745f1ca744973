"""The help pages: options in groups, and lists of commands whose summaries are whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click


class GroupedCommand(click.Command):
    """A command with so many options that its help lists them by subject.

    Args:
        groups: from a heading to the options below it, in the order of the page: `{"Source": "--list
            --key"}`. What is in no group comes last, below "Options".
    """

    def __init__(self, *args: Any, groups: Mapping[str, str], **more: Any) -> None:
        super().__init__(*args, **more)
        self.groups = {heading: names.split() for heading, names in groups.items()}

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        options = [one for one in self.get_params(ctx) if isinstance(one, click.Option)]
        known = {name: one for one in options for name in one.opts}
        for heading, names in self.groups.items():
            _write(heading, [known[name] for name in names], ctx, formatter)
        grouped = {name for names in self.groups.values() for name in names}
        _write("Options", [one for one in options if grouped.isdisjoint(one.opts)], ctx, formatter)


class CommandGroup(click.Group):
    """Commands in the order in which they were added; no summary is cut, however narrow the page."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        uncut = 1000
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, one.get_short_help_str(uncut)) for name, one in self.commands.items()]
            )


def _write(
    heading: str, options: list[click.Option], ctx: click.Context, formatter: click.HelpFormatter
) -> None:
    rows = [row for option in options if (row := option.get_help_record(ctx))]
    if rows:
        with formatter.section(heading):
            formatter.write_dl(rows)
