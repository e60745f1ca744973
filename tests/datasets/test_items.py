"""Where the image is in an item of a Dataset, which layout it has, and which floats were 8-bit."""

from __future__ import annotations

from collections import namedtuple
from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import functional, v2

from imgnorm.datasets.items import ItemFormat, eight_bits, image_count, images_in
from imgnorm.tally.skipped import Unreadable

Sample = namedtuple("Sample", ["label", "photo"])
PICTURE = Image.new("RGB", (5, 4))
TENSOR = torch.arange(60, dtype=torch.uint8).reshape(3, 4, 5)
BATCH = torch.arange(120, dtype=torch.uint8).reshape(2, 3, 4, 5)
ARRAY = TENSOR.numpy().transpose(1, 2, 0)
SIZES = (TENSOR, TENSOR[:, :2])  # no collate function can join them


def only(item, **item_format):
    (found,) = images_in(item, ItemFormat(**item_format))
    return found


def refusal(item, **item_format):
    with pytest.raises(Unreadable) as caught:
        images_in(item, ItemFormat(**item_format))
    return caught.value.detail


# Where the image is


@pytest.mark.parametrize(
    ("item", "reading"),
    [
        (TENSOR, {}),
        ((TENSOR, 3), {}),
        ([TENSOR, torch.tensor(3)], {}),
        ((TENSOR,), {}),
        ((TENSOR, TENSOR[:1]), {}),  # a mask has another shape
        ({"image": TENSOR, "label": 3}, {}),
        ({"pixel_values": TENSOR, "mask": TENSOR}, {}),
        ({"photo": TENSOR, "label": 3}, {}),  # the only image
        ({"left": TENSOR, "right": TENSOR}, {"key": "left"}),
        ((3, TENSOR), {"key": 1}),
        ((3, TENSOR), {"key": -1}),
        (Sample(3, TENSOR), {"key": "photo"}),
        ((TENSOR, TENSOR), {"key": 0}),
        (ARRAY, {}),
        ((ARRAY, "label"), {}),
        (TENSOR[None], {}),
        (ARRAY[None], {}),
    ],
)
def test_the_image_is_where_the_conventions_put_it(item, reading):
    found = only(item, **reading)

    assert np.array_equal(found, ARRAY[None])


@pytest.mark.parametrize("item", [PICTURE, (PICTURE, 1), {"img": PICTURE}, [{"img": PICTURE}]])
def test_a_pil_image_stays_one(item):
    assert only(item) is PICTURE


@pytest.mark.parametrize(
    "item",
    [
        (SIZES, ({}, {})),  # tuple(zip(*samples))
        [(SIZES[0], 1), (SIZES[1], 0)],  # the samples themselves
        [{"image": SIZES[0]}, {"image": SIZES[1]}],
        {"images": list(SIZES)},
    ],
)
def test_a_batch_of_many_sizes_has_all_its_images(item):
    shapes = [found.shape for found in images_in(item, ItemFormat())]

    assert [(1, 4, 5, 3), (1, 2, 5, 3)] == shapes


@pytest.mark.parametrize(
    ("item", "reading", "expected"),
    [
        (None, {}, "None, not an image"),
        (7, {}, "an int, not an image; if it is the label, name the image with `key=` (--key)"),
        (
            (7, TENSOR),
            {},
            "an int, not an image; if it is the label, name the image with `key=` (--key)",
        ),
        ("a.png", {}, "a str, not an image; open it with Pillow in the dataset"),
        ((), {}, "an empty tuple"),
        ({"label": 1}, {}, "a dict in which no value is an image; it has 'label'"),
        (
            {"left": TENSOR, "right": TENSOR},
            {},
            "a dict with several images ('left', 'right'); choose one with `key=` (--key)",
        ),
        ({"a": TENSOR}, {"key": "image"}, "a dict without the key 'image'; it has 'a'"),
        ((TENSOR, 1), {"key": 2}, "a tuple of 2; it has no index 2"),
        ((TENSOR, 1), {"key": "image"}, "a tuple; it has no key 'image'"),
        (
            [TENSOR, TENSOR],
            {},
            (
                "a list of 2 images, which may be a batch or views of one image; choose with `key=0` (--key 0), or "
                "yield them one by one"
            ),
        ),
        (
            [(TENSOR,), (TENSOR,)],
            {},
            (
                "a list of 2 images, which may be a batch or views of one image; choose with `key=0` (--key 0), or "
                "yield them one by one"
            ),
        ),
        (
            [[BATCH, BATCH], torch.zeros(2)],
            {"batches": True},
            "2 images where one is expected, perhaps views of it; give the loader one of them",
        ),
        (
            BATCH,
            {"single": True},
            (
                "2 images in one item of a Dataset, where one is expected; measure `DataLoader(dataset, "
                "batch_size=None)` instead"
            ),
        ),
        (
            torch.zeros(64, dtype=torch.int64),
            {},
            (
                "int64 of shape (64,); pixels are uint8, uint16 or float: convert them in the dataset, or, if these "
                "are labels, name the image with `key=` (--key)"
            ),
        ),
        (
            np.zeros((4, 5), bool),
            {},
            (
                "bool of shape (4, 5); pixels are uint8, uint16 or float: convert them in the dataset, or, if these "
                "are labels, name the image with `key=` (--key)"
            ),
        ),
    ],
)
def test_what_is_no_image_is_told_in_a_sentence(item, reading, expected):
    """An image that was only not understood is never left out silently."""
    assert expected == refusal(item, **reading)


# Which layout it has


@pytest.mark.parametrize(
    ("shape", "tensor", "reading", "expected"),
    [
        ((3, 4, 5), True, {}, (1, 4, 5, 3)),
        ((1, 4, 5), True, {}, (1, 4, 5, 1)),
        ((3, 4, 3), True, {}, (1, 4, 3, 3)),
        ((4, 5), True, {}, (1, 4, 5, 1)),
        ((7, 3, 4, 5), True, {}, (7, 4, 5, 3)),
        ((0, 3, 4, 5), True, {}, (0, 4, 5, 3)),
        ((4, 5, 3), False, {}, (1, 4, 5, 3)),
        ((4, 5, 1), False, {}, (1, 4, 5, 1)),
        ((7, 4, 5, 3), False, {}, (7, 4, 5, 3)),
        ((3, 4, 5), True, {"batches": True}, (3, 4, 5, 1)),  # the first axis is the batch
        ((4, 5, 3), True, {"layout": "NHWC"}, (1, 4, 5, 3)),
        ((7, 4, 5, 3), True, {"layout": "NHWC"}, (7, 4, 5, 3)),
        ((3, 4, 5), False, {"layout": "NCHW"}, (1, 4, 5, 3)),
        ((3, 4, 5), True, {"layout": "NHW"}, (3, 4, 5, 1)),
        ((13, 4, 5), True, {"layout": "NCHW"}, (1, 4, 5, 13)),
    ],
)
def test_pixels_lie_as_torch_has_them_unless_told(shape, tensor, reading, expected):
    flat = np.arange(np.prod(shape, dtype=int), dtype=np.uint8)
    item = torch.from_numpy(flat.reshape(shape)) if tensor else flat.reshape(shape)

    assert expected == only(item, **reading).shape


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (
            torch.zeros(28, 28, 28),
            (
                'a tensor of shape (28, 28, 28), not CHW of 1, 3 or 4 channels; give layout="NHW" or '
                '"HWC" or "CHW" (--layout)'
            ),
        ),
        (
            np.zeros((3, 28, 28)),
            (
                'an array of shape (3, 28, 28), not HWC of 1, 3 or 4 channels; give layout="NHW" or '
                '"HWC" or "CHW" (--layout)'
            ),
        ),
        (
            torch.zeros(8, 28, 28, 3),
            (
                'a tensor of shape (8, 28, 28, 3), not CHW of 1, 3 or 4 channels; give layout="NHWC" or '
                '"NCHW" (--layout)'
            ),
        ),
        (
            torch.zeros(2, 3, 8, 28, 28),
            "a tensor of shape (2, 3, 8, 28, 28), not an image; if these are labels, name the image with `key=` (--key)",
        ),
    ],
)
def test_a_shape_that_does_not_tell_is_refused_with_the_candidates(item, expected):
    assert expected == refusal(item)


def test_a_layout_that_does_not_fit_is_refused():
    assert "shape (4, 5) is not NCHW" == refusal(torch.zeros(4, 5), layout="NCHW")


NOT_DENSE = "a nested or sparse tensor; make it dense"


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (torch.zeros(4, 4).to_sparse(), NOT_DENSE),
        (torch.nested.nested_tensor([torch.zeros(3, 4, 4)], layout=torch.jagged), NOT_DENSE),
        (torch.empty(3, 4, 4, device="meta"), "a tensor on the meta device, without values"),
        (np.ma.masked_less(np.eye(4), 1), "an array with masked values; fill them"),
        (
            torch.zeros(3, 4, 4).to(torch.float8_e4m3fn),
            (
                "float8_e4m3fn of shape (3, 4, 4); pixels are uint8, uint16 or float: convert them in the "
                "dataset, or, if these are labels, name the image with `key=` (--key)"
            ),
        ),
    ],
)
def test_what_holds_no_plain_values_is_refused(item, expected):
    assert expected == refusal(item)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_tensors_are_refused_side_by_side_too():
    """torch gives them no shape."""
    nested = torch.nested.nested_tensor([torch.zeros(3, 4, 4)])

    assert NOT_DENSE == refusal((nested, nested))
    assert (1, 4, 4, 3) == only((torch.zeros(3, 4, 4), nested)).shape


def test_a_view_that_negates_and_an_array_without_a_mask_are_what_they_show():
    image = torch.arange(48.0).reshape(3, 4, 4)
    negated = torch.view_as_complex(torch.stack([image, image], -1)).conj().imag

    assert (-image).flatten().tolist() == only(negated)[0].transpose(2, 0, 1).ravel().tolist()
    assert np.array_equal(np.eye(4), only(np.ma.array(np.eye(4), mask=False))[0, ..., 0])


def test_a_key_of_digits_is_a_place_or_a_dicts_key():
    assert np.array_equal(
        only({"0": PICTURE, "1": TENSOR}, key=1), only({0: PICTURE, 1: TENSOR}, key=1)
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_every_float_keeps_its_value(dtype):
    item = (torch.arange(60).reshape(3, 4, 5) / 59).to(dtype)

    found = only(item)

    assert item.double().flatten().tolist() == [
        float(value) for value in found[0].transpose(2, 0, 1).ravel()
    ]


def test_the_images_of_an_item_are_counted():
    assert [1, 2] == [image_count(only(PICTURE)), image_count(only(BATCH))]


# Floats that were 8-bit

BYTES = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)


def exact(kind: type[np.floating]) -> np.ndarray:
    """k/255, rounded once: by rational numbers, not by NumPy's division."""
    rounded = [
        kind(Fraction(k, 255).numerator) / kind(Fraction(k, 255).denominator) for k in range(256)
    ]
    return np.array(rounded, kind).reshape(1, 16, 16, 1)


@pytest.mark.parametrize(
    "floats",
    [
        exact(np.float32),
        exact(np.float64),
        BYTES / 255,
        BYTES * (1 / 255),
        (BYTES / 255).astype(np.float32),
        BYTES.astype(np.float32) * np.float32(1 / 255),
        functional.to_tensor(BYTES[0]).numpy().transpose(1, 2, 0)[None],
        v2.functional.to_dtype(torch.from_numpy(BYTES), torch.float32, scale=True).numpy(),
        v2.functional.to_dtype(torch.from_numpy(BYTES), torch.float64, scale=True).numpy(),
    ],
)
def test_every_way_to_divide_by_255_is_recognised(floats):
    values, were = eight_bits(floats)

    assert were.tolist() == [True]
    assert np.array_equal(BYTES, values)


@pytest.mark.parametrize(
    "wrong",
    [
        1 / 256,
        np.nextafter(np.float32(100 / 255), np.float32(1)) + np.float32(6e-8),
        1.004,
        -0.004,
        -1.0,
        256 / 255,
        1e30,
        float("nan"),
        float("inf"),
    ],
)
def test_one_other_value_makes_an_image_a_float_one(wrong):
    floats = np.repeat((BYTES / 255).astype(np.float32), 3, axis=0)
    floats[1, 3, 3, 0] = wrong

    assert [True, False, True] == eight_bits(floats)[1].tolist()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_not_taken_for_8_bits(dtype):
    """The network sees the rounded values, which differ from k/255 by up to 0.002."""
    rounded = v2.functional.to_dtype(torch.from_numpy(BYTES), dtype, scale=True)

    assert [False] == eight_bits(rounded.float().numpy())[1].tolist()
