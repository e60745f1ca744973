"""Which entries of a folder or an archive are looked at, by their names alone."""

from __future__ import annotations

from imgnorm.sources.files import IMG_EXTENSIONS

_JUNK_FOLDERS = {"__MACOSX", "@eaDir"}  # left behind by macOS archives and Synology


def rule_against(entry: str) -> str | None:
    """The rule that passes over a file or folder of this name (without its path), if there is one."""
    if entry.startswith("."):
        return "hidden"
    return "junk" if entry in _JUNK_FOLDERS else None


def looks_like_an_image(name: str) -> bool:
    return name.lower().endswith(IMG_EXTENSIONS)
