"""Which dimension of an array is which: as its shape tells, or as the user says."""

from __future__ import annotations

LAYOUTS = ("NHWC", "NCHW", "NHW", "HWC", "CHW", "HW")
_FEW = 4  # channels that a shape may have unasked; no image is so small


class UnclearLayout(Exception):
    """The user must say what is meant."""


def layout_of(shape: tuple[int, ...], asked: str | None) -> str:
    """
    Raises:
        UnclearLayout: the shape fits several layouts, or not the one that was asked for.
    """
    fitting = [layout for layout in LAYOUTS if len(layout) == len(shape)]
    if asked is not None:
        if len(asked) != len(shape):
            raise UnclearLayout(
                f"shape {shape} has {len(shape)} dimensions, and --layout {asked} has {len(asked)}"
            )
        return asked
    if not fitting:
        raise UnclearLayout(
            f"shape {shape} is none of images; reshape it to 3 or 4 dimensions, as NHWC has"
        )
    clear = [layout for layout in fitting if _is_clear(shape, layout)]
    if len(clear) == 1:
        return clear[0]
    if "NHW" in clear and shape[0] == 1:  # one gray image either way
        return "NHW"
    if fitting == ["HW"]:
        raise UnclearLayout(
            f"shape {shape} may be one gray image, or a table; say --layout HW if it is an image, or "
            "reshape it if it is many, flattened"
        )
    may_be = " or ".join(f"{layout} ({_meaning(shape, layout)})" for layout in clear or fitting)
    raise UnclearLayout(f"shape {shape} may be {may_be}; say which with --layout")


def _is_clear(shape: tuple[int, ...], layout: str) -> bool:
    edges = dict(zip(layout, shape, strict=True))
    if layout == "HW":  # it may as well be a table of numbers
        return False
    return edges.get("C", 1) <= _FEW < min(edges["H"], edges["W"])


def _meaning(shape: tuple[int, ...], layout: str) -> str:
    edges = dict(zip(layout, shape, strict=True))
    images, channels = edges.get("N", 1), edges.get("C", 1)
    return (
        f"{images:,} image{'s' * (images != 1)} of {edges['H']:,}x{edges['W']:,}, "
        f"{channels:,} channel{'s' * (channels != 1)}"
    )
