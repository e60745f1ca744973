"""docs/recipes.md: every way to measure what imgnorm does not open gives the numbers of its pixels.

What most computers lack (PyAV, pyarrow) is skipped where it is not installed.
"""

from __future__ import annotations

import importlib
import io
import re
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from blocks import ROOT
from PIL import Image

import imgnorm
from imgnorm.sources import files

RECIPES = ROOT / "docs" / "recipes.md"
SECTIONS = dict(
    re.findall(r"^## (.*)\n((?:.*\n)*?)(?=^## |\Z)", RECIPES.read_text("utf-8"), re.MULTILINE)
)
PIXELS = np.random.default_rng(0).integers(0, 256, (10, 8, 12, 3), dtype=np.uint8)


def png(pixels: np.ndarray) -> bytes:
    Image.fromarray(pixels).save(file := io.BytesIO(), "PNG")
    return file.getvalue()


def stored() -> np.ndarray:
    Path("bucket/train").mkdir(parents=True)
    for number, pixels in enumerate(PIXELS):
        Path(f"bucket/train/{number}.png").write_bytes(png(pixels))
    return PIXELS


def parquet() -> np.ndarray:
    import pyarrow
    import pyarrow.parquet

    images = [{"bytes": png(pixels), "path": "1.png"} for pixels in PIXELS]
    table = pyarrow.table({"image": images, "label": range(10)})
    pyarrow.parquet.write_table(table, "train-0.parquet", row_group_size=4)
    return PIXELS


def tensors() -> np.ndarray:
    import torch

    torch.save(torch.from_numpy(PIXELS).permute(0, 3, 1, 2), "train.pt")
    return PIXELS


def hdf5() -> np.ndarray:
    import h5py

    with h5py.File("train.h5", "w") as file:
        file["images"] = PIXELS
    return PIXELS


def in_lmdb() -> np.ndarray:
    import lmdb

    with lmdb.open("train.lmdb", map_size=1 << 22) as opened, opened.begin(write=True) as written:
        for number, pixels in enumerate(PIXELS):
            written.put(b"%d" % number, png(pixels))
    return PIXELS


def video() -> np.ndarray:
    import av

    Path("clips").mkdir()
    with av.open("clips/1.mp4", "w") as written:
        stream = written.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 16, "yuv420p"
        gray = np.full((16, 32, 3), 99, np.uint8)
        for _ in range(31):
            written.mux(stream.encode(av.VideoFrame.from_ndarray(gray, format="rgb24")))
        written.mux(stream.encode())
    with av.open("clips/1.mp4") as read:
        frames = [frame.to_ndarray(format="rgb24") for frame in read.decode(video=0)]
    return np.stack(frames[::30])


def dicom() -> np.ndarray:
    import pydicom

    Path("scans").mkdir()
    raw = PIXELS[..., 0].astype(np.int16) * 8
    for number, pixels in enumerate(raw):
        scan = pydicom.Dataset()
        scan.file_meta = pydicom.dataset.FileMetaDataset()
        scan.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        scan.SOPClassUID = pydicom.uid.CTImageStorage
        scan.SOPInstanceUID, scan.Modality = f"1.2.{number}", "CT"
        scan.Rows, scan.Columns, scan.SamplesPerPixel = 8, 12, 1
        scan.PhotometricInterpretation = "MONOCHROME2"
        scan.BitsAllocated, scan.BitsStored, scan.HighBit = 16, 16, 15
        scan.PixelRepresentation, scan.RescaleSlope, scan.RescaleIntercept = 1, 1, -1024
        scan.PixelData = pixels.tobytes()
        pydicom.dcmwrite(f"scans/{number}.dcm", scan, enforce_file_format=True)
    return raw[..., None].astype(np.int64) - 1024


def heic() -> np.ndarray:
    import pillow_heif

    Path("photos").mkdir()
    for number, pixels in enumerate(PIXELS):
        image = Image.fromarray(pixels).resize((64, 64))
        pillow_heif.from_pillow(image).save(f"photos/{number}.heic")
    opened = [pillow_heif.open_heif(f"photos/{number}.heic") for number in range(10)]
    return np.stack([np.asarray(image.to_pillow()) for image in opened])


class Recipe:
    def __init__(self, package: str, maker: Callable[[], np.ndarray], *arguments: Any) -> None:
        self.package = package
        self.maker = maker
        self.arguments = arguments


TRIED = {
    "URLs and object stores": Recipe("fsspec", stored, "file://bucket/train"),
    "Parquet": Recipe("pyarrow", parquet),
    "Tensors of torch": Recipe("torch", tensors),
    "HDF5": Recipe("h5py", hdf5),
    "LMDB": Recipe("lmdb", in_lmdb),
    "Video": Recipe("av", video),
    "DICOM": Recipe("pydicom", dicom),
    "HEIC": Recipe("pillow_heif", heic),
}


@pytest.mark.parametrize("section", TRIED)
def test_a_recipe_measures_the_pixels(section, tmp_path, monkeypatch):
    recipe = TRIED[section]
    pytest.importorskip(recipe.package)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (code,) = re.findall(r"^```python\n(.*?)^```$", SECTIONS[section], re.MULTILINE | re.DOTALL)
    name = re.match(r"# (\w+)\.py\n", code)[1]
    (tmp_path / f"{name}.py").write_text(code, encoding="utf-8")
    factory = re.findall(r"^(?:def|class) (\w+)", code, re.MULTILINE)[-1]
    pixels = recipe.maker()

    module = importlib.import_module(name)
    monkeypatch.delitem(sys.modules, name)
    arguments = [str(one).replace("//", f"//{tmp_path}/", 1) for one in recipe.arguments]
    stats = imgnorm.measure(getattr(module, factory)(*arguments))

    values = pixels.reshape(-1, pixels.shape[-1]).astype(np.int64)
    totals = values.sum(0).tolist()
    assert (len(pixels), len(values)) == (stats.images, stats.pixels)
    assert stats.mean == tuple(
        float(Fraction(total, len(values) * stats.scale)) for total in totals
    )
    assert (tuple(values.min(0)), tuple(values.max(0))) == (stats.min, stats.max)


def test_messages_name_sections_that_are_there():
    named = {files.URLS, *files._RECIPES}

    assert named == set(TRIED)
    assert set() == named - set(SECTIONS)
