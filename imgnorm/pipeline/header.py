"""The comments at the top of an emitted file: where its numbers come from, and the command that writes it."""

from __future__ import annotations

import os
import shlex

from imgnorm.settings import frames_text
from imgnorm.stats.stats import Stats
from imgnorm.wording import cut, plural

_LONGEST = 1000  # characters of a comment


def origin_lines(stats: Stats, values: str = "") -> list[str]:
    """Where the numbers come from."""
    lines = []
    measured = stats.measurement
    if measured:
        options = "".join(
            f", {key} {' '.join(value) if isinstance(value, tuple) else value}"
            for key, value in measured.source.options.items()
        )
        pixels = measured.pixels.moments().count
        lines.append(
            cut(f"Measured: {measured.source.kind} {measured.source.called!r}{options}:", _LONGEST)
        )
        lines += [cut(f"Incomplete: {part}.", _LONGEST) for part in measured.source.incomplete]
        frames = f"frames {frames_text(stats.frames)}, " if stats.frames else ""
        lines.append(
            f"{plural(measured.images, 'image')}, {plural(pixels, 'pixel')}, mode {stats.mode}, {frames}"
            f"{len(measured.skipped):,} skipped."
        )
        lines.append(f"Mean and std are pooled over all pixels, population{values}.")
        if measured.estimate:
            lines.append(
                f"They are an estimate ({measured.estimate}), not exact: any may be off by "
                f"{measured.estimate.margins.widest:g}."
            )
    else:
        lines.append(f"Constants that were written by hand, not measured{values}.")
    return lines


def seen_from(path: str, module_path: str) -> tuple[str, str]:
    """The path of a file relative to the module's folder, and the module's file name."""
    folder, module = os.path.split(os.path.abspath(module_path))
    # `..` after a symbolic link is the parent of the folder that it points to: resolve both folders.
    file_folder, name = os.path.split(os.path.abspath(path))
    path = os.path.join(os.path.realpath(file_folder), name)
    try:
        seen = os.path.relpath(path, os.path.realpath(folder))
    except ValueError:  # another drive
        seen = path
    return seen.replace(os.sep, "/"), module


def command_lines(
    path: str, module_path: str, eps: float | None, options: str, *, into: bool = False
) -> list[str]:
    options += f" --eps {eps!r}" if eps is not None else ""
    where, force = ("--into", "") if into else ("-o", " --force")
    command = f"imgnorm emit {_shell_word(path)} {where} {_shell_word(module_path)}{options}{force}"
    return ["Regenerate it in this folder:", f"  {command}"]


def _shell_word(path: str) -> str:
    path = f"./{path}" if path.startswith("-") else path
    if path.isprintable():
        return shlex.quote(path)
    return "$'" + "".join(_shell_character(character) for character in path) + "'"


def _shell_character(character: str) -> str:
    """As bash, zsh and POSIX.1-2024 read it in $'...'."""
    if character.isprintable() and character not in "'\\":
        return character
    return "".join(f"\\x{byte:02x}" for byte in os.fsencode(character))
