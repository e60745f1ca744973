"""imgnorm.nn.input_norm, and the two normalizations of imgnorm.pipeline.transforms that need no dataset."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.ao.quantization import get_default_qconfig_mapping
from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx
from torchvision import transforms
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.transforms import v2

from imgnorm.errors import TransformError
from imgnorm.nn import InputNorm, to_batchnorm
from imgnorm.nn.image_norm import LpNormalize, PerImageStandardize
from imgnorm.nn.input_norm import _normalized
from imgnorm.stats.stats import Stats

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
STATS = Stats(("R", "G", "B"), MEAN, STD)


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def test_every_pixel_value_is_bit_for_bit_that_of_to_tensor_and_normalize():
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, 2)
    reference = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
    expected = reference(Image.fromarray(pixels))

    assert torch.equal(expected, InputNorm.of(STATS)(torch.from_numpy(pixels).permute(2, 0, 1)))


def test_v2_differs_by_what_its_own_to_dtype_rounds():
    """v2 multiplies by 1/255 where ToTensor divides: an ulp of [0, 1], that Normalize then scales."""
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, 2)
    to_float = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
    unit = to_float(Image.fromarray(pixels))
    layer = InputNorm.of(STATS)

    assert torch.equal(v2.Normalize(MEAN, STD)(unit), layer(unit))
    torch.testing.assert_close(
        layer(unit),
        layer(torch.from_numpy(pixels).permute(2, 0, 1)),
        rtol=0,
        atol=1.2e-7 / 0.224 + 2.4e-7,
    )


def test_uint8_and_unit_floats_give_the_same():
    pixels = images(2, 3, 5, 7)
    layer = InputNorm(MEAN, STD)

    assert torch.equal(layer(pixels), layer(pixels.float().div(255)))


def test_uint16_is_scaled_by_65535():
    pixels = torch.tensor([[[0, 65535]]], dtype=torch.uint16)

    assert torch.equal(torch.tensor([[[-2.0, 2.0]]]), InputNorm([0.5], [0.25])(pixels))


def test_one_image_is_a_batch_of_one():
    pixels = images(3, 4, 4)
    layer = InputNorm(MEAN, STD)

    assert torch.equal(layer(pixels[None])[0], layer(pixels))


def test_it_is_the_batchnorm_with_its_buffers():
    pixels = images(2, 3, 8, 8).float().div(255)
    layer = InputNorm(MEAN, STD)
    batchnorm = nn.BatchNorm2d(3, affine=False, eps=0).eval()
    batchnorm.running_mean.copy_(layer.mean)
    batchnorm.running_var.copy_(layer.std.double().square())

    # BatchNorm computes x·(1/s) − m·(1/s): where the two nearly cancel, the rounding of numbers up
    # to 1/s = 4.5 stays, a few times 2**-22.
    torch.testing.assert_close(batchnorm(pixels), layer(pixels), rtol=0, atol=1e-6)


@pytest.mark.parametrize("eps", [0.0, 1e-5, 1e-2])
def test_to_batchnorm_accounts_for_eps_exactly(eps):
    pixels = images(2, 3, 8, 8).double().div(255)
    mean = torch.tensor(MEAN, dtype=torch.float64).view(3, 1, 1)
    std = torch.tensor(STD, dtype=torch.float64).view(3, 1, 1)
    expected = (pixels - mean) / std

    layer = to_batchnorm(STATS, eps=eps, dtype=torch.float64)
    torch.testing.assert_close(expected, layer(pixels), rtol=0, atol=1e-13)
    assert not layer.training


def test_to_batchnorm_refuses_a_variance_below_eps():
    message = (
        "channel R: the variance is 1e-06, below eps 1e-05, so running_var would be negative; give a "
        "smaller eps, or use InputNorm"
    )
    with pytest.raises(TransformError) as caught:
        to_batchnorm(Stats(("R", "G"), (0.5, 0.5), (1e-3, 0.2)))

    assert message == str(caught.value)


def test_channels_last_stays_channels_last():
    pixels = images(2, 3, 8, 8).to(memory_format=torch.channels_last)

    normalized = InputNorm(MEAN, STD)(pixels)
    assert normalized.is_contiguous(memory_format=torch.channels_last)


def test_autocast_does_not_round_it():
    pixels = images(2, 3, 8, 8)
    layer = InputNorm(MEAN, STD)
    expected = layer(pixels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        normalized = layer(pixels)

    assert torch.equal(expected, normalized)


def test_half_images_stay_half_and_are_computed_in_float32():
    pixels = images(2, 3, 8, 8).float().div(255).half()
    layer = InputNorm(MEAN, STD)

    assert torch.equal(layer(pixels.float()).half(), layer(pixels))


def test_the_state_dict_carries_it():
    layer = InputNorm([0.1, 0.2], [1.0, 2.0])
    layer.load_state_dict(InputNorm([0.3, 0.4], [3.0, 4.0]).state_dict())

    assert ["mean", "std"] == list(layer.state_dict())
    assert torch.equal(torch.tensor([3.0, 4.0]), layer.std)


def test_inverse_takes_it_back():
    unit = images(2, 3, 8, 8).float().div(255)
    layer = InputNorm(MEAN, STD)

    # Two roundings of numbers up to 2.7, scaled back by std < 0.23.
    torch.testing.assert_close(unit, layer.inverse()(layer(unit)), rtol=0, atol=2e-7)


def test_it_exports_with_free_sizes():
    dims = ({0: torch.export.Dim("n"), 2: torch.export.Dim("h"), 3: torch.export.Dim("w")},)
    layer = InputNorm(MEAN, STD)
    exported = torch.export.export(layer, (images(2, 3, 8, 8),), dynamic_shapes=dims)
    other = images(5, 3, 9, 7)

    assert torch.equal(layer(other), exported.module()(other))


def test_it_compiles_in_one_graph():
    pixels = images(2, 3, 8, 8)
    layer = InputNorm(MEAN, STD)

    assert torch.equal(
        layer(pixels), torch.compile(layer, backend="aot_eager", fullgraph=True)(pixels)
    )


def by_numpy(pixels: torch.Tensor) -> torch.Tensor:
    """In float32, step by step."""
    mean, std = (np.array(values, np.float32)[:, None, None] for values in (MEAN, STD))
    unit = pixels.numpy().astype(np.float32) / np.float32(255)
    return torch.from_numpy((unit - mean) / std)


@pytest.mark.parametrize(
    ("convert", "dtype"),
    [
        (lambda layer: layer.half(), torch.float16),
        (lambda layer: layer.bfloat16(), torch.bfloat16),
        (lambda layer: layer.to(torch.float16), torch.float16),
        (lambda layer: layer.to("cpu", torch.bfloat16), torch.bfloat16),
        (lambda layer: layer.type(torch.float16), torch.float16),
        (lambda layer: layer.half().float(), torch.float32),
        (lambda layer: layer.half().bfloat16(), torch.bfloat16),
        (lambda layer: nn.Sequential(layer).half()[0], torch.float16),
        (lambda layer: copy.deepcopy(layer.half()), torch.float16),
        (lambda layer: InputNorm.of(STATS, dtype=torch.float16), torch.float16),
    ],
)
def test_a_smaller_dtype_is_for_the_result_and_not_for_the_constants(convert, dtype):
    pixels = images(2, 3, 16, 16)
    layer = convert(InputNorm(MEAN, STD))

    assert torch.equal(by_numpy(pixels).to(dtype), layer(pixels))
    assert torch.equal(torch.tensor(MEAN), layer.mean)
    assert torch.equal(torch.tensor(STD), layer.std)
    assert dtype == layer.inverse()(pixels).dtype
    assert torch.float64 == layer(pixels.double() / 255).dtype


def test_constants_in_float64_stay_so():
    layer = InputNorm(MEAN, STD, dtype=torch.float64).half()

    assert list(MEAN) == layer.mean.tolist()
    assert torch.float16 == layer(images(3, 4, 4)).dtype


def test_a_half_model_takes_uint8_images_and_loads_what_a_float_model_saved():
    model = nn.Sequential(InputNorm([0.5] * 3, [0.5] * 3), nn.Conv2d(3, 4, 3))
    saved = nn.Sequential(InputNorm(MEAN, STD), nn.Conv2d(3, 4, 3)).state_dict()
    model.half().load_state_dict(saved)

    assert torch.equal(torch.tensor(STD), model[0].std)
    assert torch.float16 == model(images(2, 3, 8, 8)).dtype


KINDS = [
    images(2, 3, 8, 8),
    images(3, 8, 8),
    images(2, 3, 8, 8).to(torch.uint16),
    *(images(2, 3, 8, 8).to(kind) / 255 for kind in (torch.float16, torch.float32, torch.float64)),
]


@pytest.mark.parametrize("pixels", KINDS, ids=lambda pixels: f"{pixels.ndim} {pixels.dtype}")
def test_it_is_one_operation_for_torch_fx(pixels, tmp_path):
    layer = InputNorm(MEAN, STD)
    program = torch.fx.symbolic_trace(layer)
    torch.save(program, tmp_path / "program.pt")
    loaded = torch.load(tmp_path / "program.pt", weights_only=False)

    assert 1 == len(program.graph.find_nodes(op="call_function", target=_normalized))
    assert torch.equal(layer(pixels), program(pixels))
    assert torch.equal(layer(pixels), loaded(pixels))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("pixels", KINDS, ids=lambda pixels: f"{pixels.ndim} {pixels.dtype}")
def test_torchscript_gives_the_same(pixels, dtype, tmp_path):
    layer = InputNorm(MEAN, STD).to(dtype)
    script = torch.jit.script(layer)
    script.save(tmp_path / "script.pt")
    expected = layer(pixels)

    for program in (script, torch.jit.load(tmp_path / "script.pt")):
        normalized = program(pixels)
        assert torch.equal(expected, normalized)
        assert expected.dtype == normalized.dtype


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (images(2, 1, 4, 4), "ValueError: images have the shape [2, 1, 4, 4], mean and std have 3"),
        (images(3, 4), "ValueError: images have the shape [3, 4], mean and std have 3"),
        (images(3, 4, 4).int(), "InputNorm takes uint8, uint16, or floats in [0, 1]"),
    ],
)
def test_torchscript_refuses_the_same(pixels, message):
    """A single channel would otherwise be broadcast to three."""
    with pytest.raises(torch.jit.Error) as caught:
        torch.jit.script(InputNorm(MEAN, STD))(pixels)

    assert message in str(caught.value)


def with_input_norm() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        InputNorm(MEAN, STD), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()
    ).eval()


def test_features_are_extracted_behind_it():
    model, pixels = with_input_norm(), images(2, 3, 8, 8)
    features = create_feature_extractor(model, {"0": "normalized", "1": "features"})(pixels)

    assert torch.equal(by_numpy(pixels), features["normalized"])
    assert torch.equal(model[1](by_numpy(pixels)), features["features"])


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore:.*:UserWarning")
@torch.no_grad()
def test_fx_quantization_leaves_it_as_it_is():
    """The quantized model is that of normalized images, behind an InputNorm."""

    def quantized(part: nn.Module, given: torch.Tensor) -> nn.Module:
        prepared = prepare_fx(part, get_default_qconfig_mapping(), (given,))
        prepared(given)
        return convert_fx(prepared)

    pixels = images(2, 3, 8, 8)
    whole = quantized(with_input_norm(), pixels)
    behind = quantized(with_input_norm()[1:], by_numpy(pixels))

    assert torch.equal(behind(by_numpy(pixels)), whole(pixels))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_onnxruntime_gives_the_same(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    layer = InputNorm(MEAN, STD).eval()
    path = str(tmp_path / "norm.onnx")
    program = torch.onnx.export(layer, (images(2, 3, 8, 8),), dynamo=True, verbose=False)
    program.save(path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    pixels = images(2, 3, 8, 8, seed=1)
    (normalized,) = session.run(None, {session.get_inputs()[0].name: pixels.numpy()})

    # onnxruntime may replace a division by a multiplication: 1 ulp of numbers up to 2.7.
    np.testing.assert_allclose(layer(pixels).numpy(), normalized, rtol=0, atol=2.4e-7)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (
            lambda: InputNorm(MEAN, STD)(images(2, 1, 4, 4)),
            ValueError,
            (
                "images have 1 channels (shape (2, 1, 4, 4)), mean and std have 3; convert the images, or use "
                "their own statistics"
            ),
        ),
        (
            lambda: InputNorm(MEAN, STD)(images(3, 4)),
            ValueError,
            "images have the shape (3, 4); InputNorm takes (N, C, H, W) or (C, H, W)",
        ),
        (
            lambda: InputNorm(MEAN, STD)(torch.zeros(3, 4, 4, dtype=torch.int64)),
            TypeError,
            "images are torch.int64; InputNorm takes uint8, uint16, or floats in [0, 1]",
        ),
        (
            lambda: InputNorm([0.5], [0.0]),
            ValueError,
            "std is [0.0]; every channel's must be above 0",
        ),
        (
            lambda: InputNorm([0.5], [0.5, 0.5]),
            ValueError,
            "mean has 1 numbers and std has 2; give one per channel to each",
        ),
        (
            lambda: InputNorm([float("nan")], [0.5]),
            ValueError,
            "mean is [nan]; every number must be finite",
        ),
        (
            lambda: InputNorm(0.5, 0.5),  # type: ignore[arg-type]
            TypeError,
            "mean is 0.5; give a sequence of numbers",
        ),
        (
            lambda: LpNormalize(p=0),
            ValueError,
            "p is 0; it must be above 0",
        ),
        (
            lambda: PerImageStandardize()(images(3, 4, 4)),
            TypeError,
            "the dtype is torch.uint8; convert to floats first, as ToTensor does",
        ),
        (
            lambda: PerImageStandardize()(torch.zeros(4, 4)),
            ValueError,
            "images have the shape (4, 4); PerImageStandardize takes (..., C, H, W)",
        ),
    ],
)
def test_what_does_not_fit_is_told(call, kind, message):
    with pytest.raises(kind) as caught:
        call()

    assert message == str(caught.value)


def test_standardized_images_have_mean_0_and_std_1_each():
    pixels = images(4, 3, 16, 16).double().div(255)
    flat = PerImageStandardize()(pixels).flatten(1)

    torch.testing.assert_close(flat.mean(1), torch.zeros(4).double(), rtol=0, atol=1e-14)
    torch.testing.assert_close(
        flat.std(1, correction=0), torch.ones(4).double(), rtol=0, atol=1e-14
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_a_constant_image_becomes_0_and_not_nan(dtype):
    constant = torch.full((3, 4, 4), 0.3, dtype=dtype)

    # 0.3 is no float: the mean of equal values may differ from them in the last bit, over eps.
    assert PerImageStandardize()(constant).abs().max() < 0.1
    assert torch.equal(
        torch.zeros(3, 4, 4, dtype=dtype), LpNormalize()(torch.zeros(3, 4, 4, dtype=dtype))
    )


@pytest.mark.parametrize(("p", "dim"), [(2.0, -3), (1.0, 0), (float("inf"), 1), (2.0, (0, 1, 2))])
def test_lp_normalize_is_torchs_functional(p, dim):
    values = torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(0))
    expected = nn.functional.normalize(values, p=p, dim=dim)

    torch.testing.assert_close(expected, LpNormalize(p, dim)(values), rtol=1e-6, atol=0)


@pytest.mark.parametrize("size", [1e-4, 6e4])
def test_lp_normalize_survives_what_float16_does_not(size):
    """The squares of these leave float16's range, and torch's default eps is 0 in it."""
    values = torch.full((3, 2, 2), size, dtype=torch.float16)
    norms = LpNormalize()(values).float().norm(dim=0)

    torch.testing.assert_close(torch.ones(2, 2), norms, rtol=0, atol=1e-3)


def test_they_fit_into_a_compose():
    picture = Image.fromarray(images(8, 8, 3).numpy())
    composed = transforms.Compose([transforms.ToTensor(), PerImageStandardize(), LpNormalize()])(
        picture
    )

    assert (3, 8, 8) == tuple(composed.shape)
    assert repr(copy.deepcopy(LpNormalize())) == "LpNormalize(p=2.0, dim=-3, eps=1e-12)"


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (
            InputNorm(MEAN, STD),
            "images are a ndarray; InputNorm takes tensors; torch.from_numpy makes one",
        ),
        (PerImageStandardize(), "got a ndarray; put ToTensor in front of this transform"),
        (LpNormalize(), "got a ndarray; put ToTensor in front of this transform"),
    ],
)
def test_what_is_no_tensor_is_told(layer, message):
    with pytest.raises(TypeError) as caught:
        layer(np.zeros((3, 4, 4), np.float32))

    assert message == str(caught.value)
