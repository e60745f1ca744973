"""Thumbnails of a few images, if the data is where the stats file says.

They are made in a process of their own: an image is a stranger's bytes, and what decodes it may hang, crash or
take all memory. Then there are fewer thumbnails, and that is all.
"""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from base64 import b64encode
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING

from imgnorm.errors import ImgnormError
from imgnorm.measuring.opening import open_again
from imgnorm.settings import MAX_PIXELS, TIMEOUT_S, ImageSettings
from imgnorm.sources.listing import Catalogue
from imgnorm.sources.source import Source, Unread
from imgnorm.stats.provenance import Provenance
from imgnorm.stats.stats import Stats
from imgnorm.tally.skipped import Unreadable
from imgnorm.workers.forkserver import python_command

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

_EDGE = 96  # pixels, of the longer one
_MOST_BYTES = 16 << 10  # of one thumbnail
_KINDS = {"folder", "list", "archive", "array"}
_SLOW_TO_LIST = (".gz", ".tgz")
_PROGRAM = "from imgnorm.report.thumbnails import print_thumbnails; print_thumbnails()"


@dataclass(frozen=True)
class Thumbnail:
    """A small picture of one image."""

    uri: str  # data:image/...
    width: int  # of the image itself
    height: int

    @property
    def shown(self) -> tuple[int, int]:
        """Width and height on the page: tiny images are larger there."""
        longer = max(self.width, self.height)
        factor = _EDGE / longer if longer > _EDGE else max(1, _EDGE // longer)
        return max(1, round(self.width * factor)), max(1, round(self.height * factor))


def thumbnails_of(stats: Stats, names: Collection[str]) -> dict[str, Thumbnail]:
    """Thumbnails of the images with these names, of those that are there and can be decoded."""
    assert stats.measurement
    sources = stats.measurement.source.sources
    origins = [one.without_names for one in sources if one.kind in _KINDS]
    inside = sorted(name for name in names if ".." not in name.split("/"))
    if not (origins and inside):
        return {}
    bits = max(8, int(max(stats.max)).bit_length())
    try:
        printed = subprocess.run(
            python_command(_PROGRAM),
            input=pickle.dumps((origins, inside, bits)),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=TIMEOUT_S,
            check=False,
        ).stdout
    except subprocess.TimeoutExpired as expired:
        printed = expired.stdout or b""
    lines = [line for line in printed.splitlines(keepends=True) if line.endswith(b"\n")]
    return {name: Thumbnail(*rest) for name, *rest in map(json.loads, lines)}


def print_thumbnails() -> None:
    """The program of that process: what to do comes from standard input, a line of JSON for each goes out."""
    origins, names, bits = pickle.load(sys.stdin.buffer)
    from imgnorm.pixels.decode import prepare_process
    from imgnorm.pixels.load import Loader

    prepare_process(MAX_PIXELS)
    loader = Loader(ImageSettings(), MAX_PIXELS)
    for origin in origins:
        for image in _images(origin, names):
            try:
                decoded = loader.load(image)
            except (Unreadable, MemoryError):
                continue
            if decoded:
                width, height = decoded.picture.size
                uri = _uri(decoded.picture, bits)
                if len(uri) < _MOST_BYTES:
                    print(json.dumps([image.name, uri, width, height]), flush=True)  # noqa: T201


def _images(origin: Provenance, names: Sequence[str]) -> Iterator[Unread]:
    """Those of the images that a source may have."""
    try:
        source = open_again(origin)
        source.open()
        if type(source).read is not Source.read:
            for name in names:
                yield Unread(name, partial(source.read, name))
            return
        for unit in Catalogue(source):
            # An archive's id is the start of its images' names; a packed one takes long to list.
            its_names = {name for name in names if name.startswith(f"{unit.id}/")}
            if its_names and not unit.id.endswith(_SLOW_TO_LIST):
                listed = source.listed(unit).unit
                places = [i for i, name in enumerate(listed.names or ()) if name in its_names]
                found = source.images(listed.only(places))
                yield from (one for one in found if isinstance(one, Unread))
    except (ImgnormError, Unreadable, OSError, KeyError):
        return  # the data is elsewhere


def _uri(picture: Picture, bits: int) -> str:
    """
    Args:
        bits: that the values of 16-bit images need.
    """
    if picture.mode == "I;16":
        import numpy as np
        from PIL import Image

        picture = Image.fromarray((np.asarray(picture) >> (bits - 8)).astype("u1"))
    small = picture.convert("RGB" if picture.mode != "L" else "L")
    exact = max(small.size) <= _EDGE
    small.thumbnail((_EDGE, _EDGE))
    file = BytesIO()
    small.save(file, "PNG" if exact else "JPEG", quality=80)
    kind = "png" if exact else "jpeg"
    return f"data:image/{kind};base64,{b64encode(file.getvalue()).decode()}"
