"""The command line: each command parses its options, makes one call and prints the result.

One file a command, or a small family of commands: `stats` (also show and merge), `emit`, `validate`
(also schema), `lint`, `verify`, `diff`, `constants` (presets and explain), `bn`. Options that several commands
have are in `options`, help pages in `help`, printing and progress in `terminal`.

`run` is the way in: it picks the command, and turns the error that a command raises into one line on
standard error and an exit code. Results go to standard output, everything else to standard error.
Signals, closed pipes and bugs are handled around it, in `imgnorm.__main__`.

A command has no loop over images, no arithmetic and no YAML: that belongs to the packages below,
which this package may import, all of them. Third parties are click and tqdm. A command imports what it
needs inside its function, so that `imgnorm --help` loads nothing but click and starts at once.

A new command is a file here and a line in `_COMMANDS`, and a row in the README's table. An option that
a second command needs moves to `options`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

import imgnorm
from imgnorm.cli import bn, constants, diff, emit, lint, report, stats, validate, verify
from imgnorm.cli.help import CommandGroup
from imgnorm.cli.options import EXIT_CODES
from imgnorm.cli.screen import program
from imgnorm.cli.terminal import failed, note
from imgnorm.errors import ImgnormError, NotesFound, TooManySkipped

_COMMANDS = (
    stats.stats,
    stats.show,
    stats.merge,
    report.report,
    emit.emit,
    verify.verify,
    diff.diff,
    lint.lint,
    validate.validate,
    validate.schema,
    constants.explain,
    constants.presets,
    bn.bn,
)


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    output = sys.stdout
    try:
        code = commands.main(
            list(arguments),
            prog_name=program(),
            complete_var="_IMGNORM_COMPLETE",
            standalone_mode=False,
        )
        return code if isinstance(code, int) else 0
    except SystemExit:
        if sys.stdout is output:
            raise
        raise BrokenPipeError from None  # click had wrapped the output, to exit with 1
    except click.Abort as error:  # click's own for a KeyboardInterrupt, which is raised again here
        raise error.__cause__ or error from None
    except click.exceptions.NoArgsIsHelpError as error:
        note(error.format_message())
        return 2
    except click.UsageError as error:
        failed(f"{_usage(error)} (see `{_command_of(arguments)} --help`)")
        return 2
    except (NotesFound, TooManySkipped) as error:
        failed(error)
        return 1
    except ImgnormError as error:
        failed(error)
        return 2


def _command_of(arguments: Sequence[str]) -> str:
    """The program with the names of the command and its subcommand: `error.ctx` is not always set."""
    path: str = program()
    command: click.Command = commands
    for name in arguments:
        below = command.commands.get(name) if isinstance(command, click.Group) else None
        if below is None:
            break
        path, command = f"{path} {name}", below
    return path


def _usage(error: click.UsageError) -> str:
    """What was wrong with the usage, in a sentence."""
    missing = error.param if isinstance(error, click.MissingParameter) else None
    if missing is None or error.ctx is None:
        return error.format_message()
    if isinstance(missing, click.Option):
        return f"missing {missing.opts[-1]}"
    return f"missing {missing.make_metavar(error.ctx).removesuffix('...').strip('{}')}"


_COMPLETION = """\b
Completion with Tab, by a line in ~/.bashrc (zsh_source in ~/.zshrc):
  eval "$(_IMGNORM_COMPLETE=bash_source imgnorm)"

"""
_SETTINGS = {"max_content_width": 100, "help_option_names": ["-h", "--help"], "show_default": True}


@click.group(cls=CommandGroup, epilog=_COMPLETION + EXIT_CODES, context_settings=_SETTINGS)
@click.version_option(imgnorm.__version__, message="imgnorm %(version)s")
def commands() -> None:
    """Exact per-channel mean and std of image datasets, and the transforms that use them.

    \b
    Examples:
      imgnorm stats data/train -o stats.yaml     # measure a folder
      imgnorm emit stats.yaml -o transforms.py   # write torchvision transforms
      imgnorm lint .                             # find wrong numbers in code
    """


for _command in _COMMANDS:
    commands.add_command(_command)
