"""Names of images, as a digest and as lines of text.

Stats files hold digests of their images' names, by which measurements are compared with each other and
with folders; with `--keep-names`, also the names themselves. The sums of parts add up to that of the
whole, so that workers compute them, each from the names of its jobs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

_ESCAPED = re.compile(rb"\\(\\|x[0-9a-f]{2})")


def names_digest(names: Iterable[bytes]) -> str:
    """The sum of each name's SHA-256, modulo 2**256, in hexadecimal: the same in any order.

    Other names have another sum, except with a chance of 2**-256. An attacker could construct names that
    have a given sum (Wagner 2002, "A Generalized Birthday Problem"), but would gain nothing here.
    """
    return digest_of(names_sum(names))


def names_sum(names: Iterable[bytes]) -> int:
    """The sum of each name's SHA-256: sums of parts add up, and `digest_of` makes the digest."""
    from hashlib import sha256  # loads OpenSSL, 2 ms, which only workers need in most cases

    total = 0
    for name in names:  # perhaps millions: sum() of a generator takes a third longer
        total += int.from_bytes(sha256(name).digest(), "big")
    return total


def digest_of(total: int) -> str:
    """The digest of names, from their `names_sum`."""
    return f"{total % (1 << 256):064x}"


def lines_of(names: Iterable[bytes]) -> str:
    """Names as text, sorted, one a line; \\xNN is a byte that cannot be shown, \\\\ a backslash."""
    return "\n".join(sorted(map(_line_of, names)))


def names_in(lines: str) -> Iterator[bytes]:
    """The names in lines that `lines_of` made."""
    for line in lines.split("\n"):
        data = line.encode()
        yield _ESCAPED.sub(_unescaped, data) if b"\\" in data else data


def _line_of(name: bytes) -> str:
    text = name.decode("utf-8", "surrogateescape")
    if text.isprintable() and "\\" not in text and text == text.strip(" "):
        return text
    first, last = len(text) - len(text.lstrip(" ")), len(text.rstrip(" "))
    return "".join(
        char if char.isprintable() and char != "\\" and first <= place < last else _escaped(char)
        for place, char in enumerate(text)
    )


def _escaped(char: str) -> str:
    if char == "\\":
        return "\\\\"
    return "".join(f"\\x{byte:02x}" for byte in char.encode("utf-8", "surrogateescape"))


def _unescaped(found: re.Match[bytes]) -> bytes:
    return b"\\" if found[1] == b"\\" else bytes([int(found[1][1:], 16)])
