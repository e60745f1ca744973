"""Why an input was skipped: the closed list of reasons."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction

from imgnorm.output import write_whole


class Reason(str, Enum):
    """Every skipped input has exactly one of these."""

    EMPTY_FILE = "empty-file"
    NOT_AN_IMAGE = "not-an-image"
    GIT_LFS_POINTER = "git-lfs-pointer"
    UNSUPPORTED_FORMAT = "unsupported-format"
    UNSUPPORTED_MODE = "unsupported-mode"
    TRUNCATED = "truncated"
    CORRUPT = "corrupt"
    ZERO_FILLED_TAIL = "zero-filled-tail"
    ZERO_AREA = "zero-area"
    TOO_LARGE = "too-large"
    TOO_LARGE_FILE = "too-large-file"
    NOT_A_REGULAR_FILE = "not-a-regular-file"
    SYMLINK_LOOP = "symlink-loop"
    DANGLING_LINK = "dangling-link"
    PATH_TOO_LONG = "path-too-long"
    UNREADABLE = "unreadable"
    READ_ERROR = "read-error"
    VANISHED = "vanished"
    CHANGED_DURING_READ = "changed-during-read"
    TIMEOUT = "timeout"
    OUT_OF_MEMORY = "out-of-memory"
    WORKER_DIED = "worker-died"
    NONFINITE_PIXELS = "nonfinite-pixels"
    CHANNEL_MISMATCH = "channel-mismatch"
    DUPLICATE_NAME = "duplicate-name"
    ARCHIVE_CORRUPT = "archive-corrupt"
    ARCHIVE_TRUNCATED = "archive-truncated"
    ARCHIVE_ENCRYPTED = "archive-encrypted"
    ARCHIVE_ENTRY_UNSAFE = "archive-entry-unsafe"
    ARCHIVE_UNSUPPORTED_COMPRESSION = "archive-unsupported-compression"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Skipped:
    """One input that was found and not counted."""

    name: str
    reason: Reason
    detail: str = ""  # one clause for a person, lower case
    bytes: int | None = None  # the file's size, where it was read
    member: str | None = None  # the part of the name that lies inside an archive


def skipped_order(skipped: Skipped) -> tuple[str, str]:
    """How a stats file sorts them, whatever was measured together and whatever merged."""
    return skipped.name, skipped.reason.value


@dataclass(frozen=True)
class Allowance:
    """How many skipped images are fine: a number, or a part of all images."""

    number: Fraction
    percent: bool

    @classmethod
    def parse(cls, text: str) -> Allowance:
        """From "10" or "0.5%".

        Raises:
            ValueError: it is neither.
        """
        if not re.fullmatch(r"\d{1,12}|\d{1,3}(\.\d{1,12})?%", text, re.ASCII):
            raise ValueError(
                f"{text!r} is neither a number of images nor a percentage; give 10, or 0.5%"
            )
        number = Fraction(text.removesuffix("%"))
        if text.endswith("%") and number > 100:
            raise ValueError(f"{text!r} is more than all images; give at most 100%")
        return cls(number, text.endswith("%"))

    def covers(self, skipped: int, images: int) -> bool:
        """Whether `skipped` of `images` are fine."""
        return skipped <= (self.number * images / 100 if self.percent else self.number)

    def __str__(self) -> str:
        return f"{float(self.number):g}%" if self.percent else str(self.number)


class Unreadable(Exception):
    """One image cannot be counted. Never leaves imgnorm: it becomes a `Skipped`."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail

    def skipped(self, name: str, size: int | None = None) -> Skipped:
        return Skipped(name, self.reason, self.detail, size)


def write_rejects(path: str, skipped: Sequence[Skipped], *, force: bool) -> None:
    """One line per skipped input: name, member (inside an archive), reason, detail, bytes.

    Raises:
        OutputError: the file cannot be written.
    """
    write_whole(path, "".join(map(_line, skipped)).encode(), force=force)


def _line(skipped: Skipped) -> str:
    fields = {
        "name": skipped.name,
        "member": skipped.member,
        "reason": skipped.reason.value,
        "detail": skipped.detail,
        "bytes": skipped.bytes,
    }
    return json.dumps(fields) + "\n"
