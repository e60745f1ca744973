"""What Stats offer to Python: their face, and the numbers beside mean and std."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import yaml
from PIL import Image

import imgnorm
from imgnorm.stats.table import table

PIXELS = np.arange(2 * 3 * 4 * 3, dtype=np.uint8).reshape(2, 3, 4, 3)  # two images of 3 x 4 pixels


@pytest.fixture
def stats(tmp_path, monkeypatch):
    for name, image in zip(("a", "b"), PIXELS, strict=True):
        (tmp_path / "d" / name).mkdir(parents=True)
        Image.fromarray(image).save(tmp_path / "d" / name / "<1>.png")
    monkeypatch.chdir(tmp_path)
    return imgnorm.measure("d", per_class=True, workers=1)


def test_the_numbers_are_those_of_the_pixels(stats):
    assert (24, (0, 1, 2), (69, 70, 71)) == (stats.pixels, stats.min, stats.max)
    assert stats.histogram == tuple(
        tuple(np.bincount(PIXELS[..., channel].ravel(), minlength=256)) for channel in range(3)
    )
    assert ["a", "b"] == list(stats.classes)
    for of_class, image in zip(stats.classes.values(), PIXELS, strict=True):
        assert 1 == of_class.images
        assert np.allclose(image.mean((0, 1)) / 255, of_class.mean, rtol=1e-14)
        assert np.allclose(image.std((0, 1)) / 255, of_class.std, rtol=1e-14)
    by_image = PIXELS.std((1, 2)).mean(0) / 255
    assert np.allclose(by_image, stats.conventions["mean_of_image_std"].std, rtol=1e-7)
    assert (stats.mean, stats.std) == (
        stats.conventions["pooled"].mean,
        stats.conventions["pooled"].std,
    )


def test_to_dict_is_the_content_of_the_file(stats, tmp_path):
    imgnorm.write_stats("stats.yaml", stats)
    content = stats.to_dict()

    assert yaml.safe_load((tmp_path / "stats.yaml").read_text("utf-8")) == content
    assert json.loads(json.dumps(content)) == content


def test_a_prompt_shows_two_lines_and_print_shows_the_table(stats):
    assert (
        "<Stats of folder 'd': 2 images, 24 pixels, mode RGB\n"
        " mean 0.1353 0.1392 0.1431  std 0.0814 0.0814 0.0814>"
    ) == repr(stats)
    assert table(stats) == str(stats)
    assert f"<pre>{stats}</pre>" == stats._repr_html_()


def test_other_stats_have_two_lines_too(stats):
    bands = tuple(f"B{number}" for number in range(1, 14))
    constants = imgnorm.Stats(bands, (0.5,) * 13, (0.25,) * 13)
    both = stats + replace(
        stats, measurement=imgnorm.measure("d/a", workers=1, mode="RGB").measurement
    )
    empty = imgnorm.measure("d", shard=(2, 2), mode="RGB")

    assert (
        "<Stats constants\n mean 0.5000 0.5000 0.5000 0.5000"
        "  std 0.2500 0.2500 0.2500 0.2500 ... of 13 channels>"
    ) == repr(constants)
    assert (0, (), (), None, {}) == (
        constants.pixels,
        constants.min,
        constants.max,
        constants.histogram,
        constants.classes,
    )
    assert repr(both).startswith("<Stats of folder 'd' and 1 more: 3 images, 36 pixels, mode RGB\n")
    assert "<Stats of folder 'd': 0 images, mode RGB\n without mean and std>" == repr(empty)


def test_html_is_escaped(stats):
    broken = replace(stats.measurement, modes={"<b>": 2})

    assert "2 &lt;b&gt;;" in replace(stats, measurement=broken)._repr_html_()


def test_equal_stats_are_one_in_a_set_and_one_image_is_one():
    first, again = (imgnorm.measure([np.full((1, 1, 3), 9, np.uint8)]) for _ in range(2))

    assert 1 == len({first, again})
    assert "1 image, 1 pixel," in repr(first)
