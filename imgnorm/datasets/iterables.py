"""A user's object -> its source: indexed where it can be, else a stream.

torch is not imported here: lists and generators of arrays or PIL images are measured without it.
loader.py opens torch's own kinds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from PIL import Image

from imgnorm.datasets.attributes import length_of, ref_of
from imgnorm.datasets.indexed import IndexedSource
from imgnorm.datasets.items import ItemFormat, is_array_or_tensor
from imgnorm.datasets.stream import Promise, StreamSource
from imgnorm.errors import SourceError

_NOT_A_SOURCE = "neither a path nor a Dataset, a DataLoader or another iterable of images"


def open_iterable(
    source: Any, item_format: ItemFormat, ref: str | None = None
) -> IndexedSource | StreamSource:
    """The source for an object that is not a torch Dataset or DataLoader.

    Args:
        ref: the user's name for it; by default, its class and length.

    Raises:
        TypeError: it does not yield images.
        SourceError: it is unclear which images it has.
    """
    if isinstance(source, Image.Image) or is_array_or_tensor(source):
        return StreamSource("iterable", ref or type(source).__name__, [source], item_format)
    if isinstance(source, Mapping):
        raise SourceError(
            f"{ref_of(source)}: is a dict, whose images have no order; measure one of its values, or "
            "`[source]` if it is a batch"
        )
    if isinstance(source, (type, bytes, bytearray)):
        raise TypeError(f"{source!r} is {_NOT_A_SOURCE}")
    builtin = isinstance(source, (list, tuple))
    if not builtin and hasattr(source, "__getitem__") and hasattr(source, "__len__"):
        return IndexedSource(source, item_format, ref)
    if isinstance(source, Iterable):
        promise = Promise(items=length_of(source))
        return StreamSource("iterable", ref or ref_of(source), source, item_format, promise)
    raise TypeError(f"{source!r} is {_NOT_A_SOURCE}")
