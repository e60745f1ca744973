"""Images that were not counted: the list of reasons, and how many of them are allowed."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction

from imgnorm.output import write_whole


class Reason(str, Enum):
    """Why an image was skipped: each skipped image has exactly one of these.

    Its string is the text that stats files show.

    Example:
        >>> stats = imgnorm.measure("examples/shapes")
        >>> imgnorm.Reason.TRUNCATED in {skipped.reason for skipped in stats.skipped}
        False
        >>> print(imgnorm.Reason.TRUNCATED)
        truncated
    """

    EMPTY_FILE = "empty-file"
    NOT_AN_IMAGE = "not-an-image"
    GIT_LFS_POINTER = "git-lfs-pointer"  # a text file in place of the image: `git lfs pull`
    UNSUPPORTED_FORMAT = "unsupported-format"  # of no format that is decoded
    UNSUPPORTED_MODE = "unsupported-mode"  # no conversion of its pixels has the right values
    TRUNCATED = "truncated"  # the file ends before its pixels do
    CORRUPT = "corrupt"
    ZERO_FILLED_TAIL = "zero-filled-tail"  # its end was never written
    ZERO_AREA = "zero-area"  # it has no pixels
    TOO_LARGE = "too-large"  # more pixels than the limit
    TOO_LARGE_FILE = "too-large-file"  # more bytes than the limit
    NOT_A_REGULAR_FILE = "not-a-regular-file"
    SYMLINK_LOOP = "symlink-loop"
    DANGLING_LINK = "dangling-link"  # a link to a file that does not exist
    PATH_TOO_LONG = "path-too-long"
    UNREADABLE = "unreadable"  # no permission, or an impossible name
    READ_ERROR = "read-error"  # any other error of the operating system
    VANISHED = "vanished"  # listed, but gone when it was read
    CHANGED_DURING_READ = "changed-during-read"
    TIMEOUT = "timeout"  # it took longer than the limit, twice
    OUT_OF_MEMORY = "out-of-memory"
    WORKER_DIED = "worker-died"  # the process that decoded it ended, twice
    NONFINITE_PIXELS = "nonfinite-pixels"  # NaN or infinity
    CHANNEL_MISMATCH = "channel-mismatch"  # other channels than were asked for
    DUPLICATE_NAME = "duplicate-name"
    ARCHIVE_CORRUPT = "archive-corrupt"
    ARCHIVE_TRUNCATED = "archive-truncated"
    ARCHIVE_ENCRYPTED = "archive-encrypted"
    ARCHIVE_ENTRY_UNSAFE = "archive-entry-unsafe"  # a link, a path outside of the archive, a bomb
    ARCHIVE_UNSUPPORTED_COMPRESSION = "archive-unsupported-compression"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Skipped:
    """One image that was found and not counted.

    Example:
        >>> skipped = imgnorm.Skipped("cats/1.png", imgnorm.Reason.EMPTY_FILE, "0 bytes", bytes=0)
        >>> print(f"{skipped.name}: {skipped.reason} ({skipped.detail})")
        cats/1.png: empty-file (0 bytes)
    """

    name: str  # as its source lists it; in an archive, ARCHIVE/MEMBER
    reason: Reason
    detail: str = ""  # one clause for a person, lower case
    bytes: int | None = None  # the file's size, where it was read
    member: str | None = None  # the part of the name that lies inside an archive


def skipped_order(skipped: Skipped) -> tuple[str, str]:
    """The sort key of skipped images in a stats file: the same whether measured at once or merged."""
    return skipped.name, skipped.reason.value


@dataclass(frozen=True)
class Allowance:
    """How many skipped images are allowed: a number, or a percentage of all images."""

    number: Fraction
    percent: bool

    @classmethod
    def parse(cls, text: str) -> Allowance:
        """From "10" or "0.5%".

        Raises:
            ValueError: it is neither of them, or more than 100%.
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
        """Whether `skipped` of `images` are allowed."""
        return skipped <= (self.number * images / 100 if self.percent else self.number)

    def __str__(self) -> str:
        return f"{float(self.number):g}%" if self.percent else str(self.number)


class Unreadable(Exception):
    """One image cannot be counted: what `Source.read` raises. It becomes a `Skipped` of the stats.

    Example:
        >>> imgnorm.Unreadable(imgnorm.Reason.VANISHED, "no such key").skipped("cats/1.png").detail
        'no such key'
    """

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail

    def skipped(self, name: str, size: int | None = None) -> Skipped:
        """The list entry of the image that has this fault; `size` is that of its file, in bytes."""
        return Skipped(name, self.reason, self.detail, size)


def write_rejects(path: str, skipped: Sequence[Skipped], *, force: bool) -> None:
    """Write one line of JSON per skipped image: name, member (in an archive), reason, detail, bytes.

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
