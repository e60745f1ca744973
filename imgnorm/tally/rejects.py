"""The skipped images as data: one JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Sequence

from imgnorm.output import write_whole
from imgnorm.tally.skipped import Skipped


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
