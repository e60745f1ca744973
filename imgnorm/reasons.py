"""Why an input was skipped: the closed list of reasons."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


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


class Unreadable(Exception):
    """One image cannot be counted. Never leaves imgnorm: it becomes a `Skipped`."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail

    def skipped(self, name: str, size: int | None = None) -> Skipped:
        return Skipped(name, self.reason, self.detail, size)
