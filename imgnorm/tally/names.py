"""Names of images as a digest that adds up, and as lines of text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator


def names_digest(names: Iterable[bytes]) -> str:
    """The sum of each name's SHA-256, modulo 2**256: the same in any order, and digests add up.

    Other names give another sum, short of a chance of 2**-256. It does not resist an attacker, who
    could find names for a wanted sum (Wagner's generalized birthday); nobody gains from that here.
    """
    return digest_of(names_sum(names))


def names_sum(names: Iterable[bytes]) -> int:
    """A part of what `digest_of` makes the digest of: such sums add up."""
    from hashlib import sha256  # OpenSSL, 2 ms, where workers have done it all

    total = 0
    for name in names:  # millions, perhaps: a generator would take a third more
        total += int.from_bytes(sha256(name).digest(), "big")
    return total


def digest_of(total: int) -> str:
    return f"{total % (1 << 256):064x}"


def lines_of(names: Iterable[bytes]) -> str:
    """Names as text, sorted, one a line: UTF-8, in which \\xNN is a byte that a line cannot show."""
    return "\n".join(sorted(map(_line_of, names)))


def names_in(lines: str) -> Iterator[bytes]:
    """The names that `lines_of` made lines of."""
    for line in lines.split("\n"):
        data = line.encode()
        yield _ESCAPED.sub(_unescaped, data) if b"\\" in data else data


_ESCAPED = re.compile(rb"\\(\\|x[0-9a-f]{2})")


def _unescaped(found: re.Match[bytes]) -> bytes:
    return b"\\" if found[1] == b"\\" else bytes([int(found[1][1:], 16)])


def _line_of(name: bytes) -> str:
    text = name.decode("utf-8", "surrogateescape")
    if text.isprintable() and "\\" not in text and text == text.strip(" "):
        return text
    first, last = len(text) - len(text.lstrip(" ")), len(text.rstrip(" "))
    return "".join(
        char * 2
        if char == "\\"
        else char
        if char.isprintable() and first <= place < last
        else "".join(f"\\x{byte:02x}" for byte in char.encode("utf-8", "surrogateescape"))
        for place, char in enumerate(text)
    )
