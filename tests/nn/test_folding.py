"""imgnorm.nn.folding: the folded model is the model."""

from __future__ import annotations

import copy

import pytest
import torch
import torchvision
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.parametrizations import weight_norm

from imgnorm.errors import FoldError
from imgnorm.nn import FoldedInput, InputNorm, convert, fold_batchnorm, fold_input_norm
from imgnorm.stats.stats import Stats

STATS = Stats(("R", "G", "B"), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
NAMES = ["mobilenet_v3_small", "densenet121", "efficientnet_b0"]
# Of the largest output. Two orders above what was measured for float64, one for float32.
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


def uint8_images(size: int = 32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8, generator=generator)


def seeded(model: nn.Module, dtype: torch.dtype = torch.float64) -> nn.Module:
    """Random running statistics and weights, so that no layer is an identity."""
    torch.manual_seed(0)
    for layer in model.modules():
        if isinstance(layer, _BatchNorm):
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 2)
            if layer.affine:
                nn.init.uniform_(layer.weight, 0.5, 1.5)
                nn.init.normal_(layer.bias, 0, 0.1)
    return model.to(dtype).eval()


def assert_same(expected: torch.Tensor, found: torch.Tensor) -> None:
    error = (expected - found).abs().max() / expected.abs().max()

    assert error <= TOLERANCE[expected.dtype]


def model_of(name: str) -> nn.Module:
    if name == "vgg11_bn":  # without its classifier: 124 million weights, and no BatchNorm
        return torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs["A"], batch_norm=True)
    return torchvision.models.get_model(name, weights=None)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        *((name, torch.float64) for name in NAMES),
        *(("resnet18", dtype) for dtype in TOLERANCE),
        *(("vgg11_bn", dtype) for dtype in TOLERANCE),
    ],
)
@torch.no_grad()
def test_torchvisions_models_fold(name, dtype):
    torch.manual_seed(0)
    model = seeded(model_of(name), dtype)
    before = copy.deepcopy(model.state_dict())
    pixels = uint8_images(64)
    normalized = InputNorm.of(STATS, dtype=dtype)(pixels)
    expected = model(normalized)

    without_bn = fold_batchnorm(model)
    assert_same(expected, without_bn(normalized))
    assert_same(expected, fold_input_norm(model, STATS, padding="mean", pixels="raw")(pixels))
    both = fold_input_norm(without_bn, STATS, padding="mean")
    assert_same(expected, both(pixels.to(dtype).div(255)))
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in before.items())


def test_zero_padding_is_refused_by_default():
    message = (
        "0: pads with zeros, which mean black after folding and the mean before it, so the border would "
        'differ; fold with padding="mean", which is exact'
    )
    with pytest.raises(FoldError) as caught:
        fold_input_norm(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1)), STATS)

    assert message == str(caught.value)


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("pixels", ["unit", "raw"])
@pytest.mark.parametrize(
    "options",
    [
        {"padding": 0},
        {"padding": "valid"},
        {"padding": 1},
        {"padding": (2, 1)},
        {"padding": "same"},
        {"padding": "same", "dilation": 3},
        {"padding": 2, "padding_mode": "reflect"},
        {"padding": 2, "padding_mode": "replicate"},
        {"padding": 2, "padding_mode": "circular"},
        {"padding": 1, "stride": 2, "dilation": 2},
        {"padding": 1, "groups": 3},
        {"padding": 1, "bias": False},
    ],
)
@torch.no_grad()
def test_every_first_convolution_folds_up_to_its_border(options, pixels):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 6, (4, 3), **options)).double()
    images = uint8_images(16)
    expected = model(InputNorm.of(STATS, dtype=torch.float64)(images))
    folded = fold_input_norm(model, STATS, padding="mean", pixels=pixels)

    assert_same(expected, folded(images if pixels == "raw" else images.double().div(255)))


@torch.no_grad()
def test_without_padding_the_names_stay():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    folded = fold_input_norm(model, STATS)

    assert list(model.state_dict()) == list(folded.state_dict())


def test_a_padded_layer_says_what_it_is():
    folded = fold_input_norm(nn.Conv2d(3, 4, 3, padding=1), STATS, padding="mean")

    assert isinstance(folded, FoldedInput)
    assert (1, 1, 1, 1) == folded.padding
    assert (0, 0) == folded.layer.padding


class Flattened(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3 * 16 * 16, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc(torch.flatten(images, 1))


@torch.no_grad()
@pytest.mark.parametrize(
    "make", [Flattened, lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 5))]
)
def test_a_linear_layer_behind_flatten_folds(make):
    model = make().double()
    images = uint8_images(16)

    assert_same(
        model(InputNorm.of(STATS, dtype=torch.float64)(images)),
        fold_input_norm(model, STATS, pixels="raw")(images),
    )


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images + self.conv(images)


class Branching(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images if images.sum() > 0 else -images


def shared() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.Conv2d(3, 3, 1))
    model[2].weight = model[0].weight
    return model


def twice() -> nn.Module:
    convolution = nn.Conv2d(3, 3, 1)
    return nn.Sequential(convolution, nn.ReLU(), convolution)


def hooked() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(3, 3, 1))
    model[0].register_forward_hook(lambda *_: None)
    return model


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            Residual(),
            (
                "the images go to conv (Conv2d), add, not to one convolution or linear layer; keep InputNorm "
                "in front"
            ),
        ),
        (
            nn.Sequential(nn.ReLU(), nn.Conv2d(3, 3, 1)),
            "the images go to 0 (ReLU), which cannot absorb a normalization; keep InputNorm in front",
        ),
        (
            nn.Sequential(nn.ConvTranspose2d(3, 3, 2)),
            (
                "0 (ConvTranspose2d): each of its outputs has another share of the mean, which a bias "
                "cannot express; keep InputNorm in front"
            ),
        ),
        (
            nn.Sequential(nn.Conv2d(1, 3, 1)),
            "0: takes 1 channels, the statistics have 3; measure the images that the model takes",
        ),
        (
            nn.Linear(16, 3),
            (
                "the model itself: takes 16 features, not 3 flattened channels; put torch.nn.Flatten in front "
                "of it, or keep InputNorm"
            ),
        ),
        (shared(), "0: shares its weight, so it cannot be changed; keep InputNorm in front"),
        (twice(), "0: runs more than once, so it cannot be changed; keep InputNorm in front"),
        (hooked(), "0: has hooks, so it cannot be changed; keep InputNorm in front"),
        (
            nn.Sequential(weight_norm(nn.Conv2d(3, 3, 1))),
            (
                "0: has its weight computed by a parametrization, so it cannot be changed; keep InputNorm in "
                "front"
            ),
        ),
        (
            nn.Identity(),
            "the images go to the output, which cannot absorb a normalization; keep InputNorm in front",
        ),
        (
            Branching(),
            (
                "Branching: torch.fx cannot trace its forward (symbolically traced variables cannot be used as "
                "inputs to control flow); keep InputNorm in front"
            ),
        ),
    ],
)
def test_what_cannot_be_exact_is_refused(model, message):
    with pytest.raises(FoldError) as caught:
        fold_input_norm(model, STATS)

    assert message == str(caught.value)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("convolution", "batchnorm", "shape"),
    [
        (lambda **o: nn.Conv1d(4, 6, 3, groups=2, **o), nn.BatchNorm1d, (4, 9)),
        (lambda **o: nn.Conv2d(4, 6, 3, dilation=2, padding=1, **o), nn.BatchNorm2d, (4, 9, 9)),
        (lambda **o: nn.Conv3d(4, 6, 2, stride=2, **o), nn.BatchNorm3d, (4, 5, 5, 5)),
        (lambda **o: nn.ConvTranspose1d(4, 6, 3, **o), nn.BatchNorm1d, (4, 9)),
        (
            lambda **o: nn.ConvTranspose2d(
                4, 6, 3, groups=2, stride=2, padding=1, output_padding=1, **o
            ),
            nn.BatchNorm2d,
            (4, 9, 9),
        ),
        (lambda **o: nn.ConvTranspose3d(4, 6, 2, dilation=2, **o), nn.BatchNorm3d, (4, 4, 4, 4)),
    ],
)
@torch.no_grad()
def test_every_pair_of_convolution_and_batchnorm_folds(convolution, batchnorm, shape, bias, affine):
    torch.manual_seed(0)
    model = seeded(nn.Sequential(convolution(bias=bias), batchnorm(6, affine=affine, eps=1e-2)))
    data = torch.randn(2, *shape, dtype=torch.float64)
    folded = fold_batchnorm(model)

    assert_same(model(data), folded(data))
    assert nn.Identity is type(folded[1])


@torch.no_grad()
def test_converted_layers_and_an_input_norm_fold_too():
    model = seeded(
        convert(nn.Sequential(InputNorm.of(STATS), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))
    )
    images = uint8_images()
    folded = fold_batchnorm(model)

    assert_same(model(images), folded(images))
    assert nn.Identity is type(folded[2])


@torch.no_grad()
def test_a_pair_that_cannot_be_folded_exactly_is_left():
    """The middle convolution's output is used twice, the last BatchNorm has no running statistics."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.bn_a = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
            self.b, self.bn_b = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
            self.c, self.bn_c = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, track_running_stats=False)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            middle = self.b(self.bn_a(self.a(images)))
            return self.bn_c(self.c(self.bn_b(middle) + middle))

    net = Net()
    for layer in (net.bn_a, net.bn_b):
        layer.running_mean.normal_()
    net = net.double().eval()
    folded = fold_batchnorm(net)
    images = uint8_images().double()

    assert [nn.Identity, nn.BatchNorm2d, nn.BatchNorm2d] == [
        type(layer) for layer in (folded.bn_a, folded.bn_b, folded.bn_c)
    ]
    assert_same(net(images), folded(images))


class Patches(nn.Module):
    """Asks for the shape of its images first, as vision transformers do."""

    def __init__(self):
        super().__init__()
        self.projection = nn.Conv2d(3, 4, 4, stride=4)

    def forward(self, images):
        count, _, height, width = images.shape
        torch._assert(height == width, "torchvision's assert that torch.fx can trace")
        return self.projection(images).reshape(count, 4, height * width // 16)


class HeadBehind(nn.Module):
    def __init__(self, flattened):
        super().__init__()
        self.flattened = flattened
        self.head = nn.Linear(3 * 16 * 16, 5)

    def forward(self, images):
        return self.head(self.flattened(images))


class Named(nn.Module):
    """Calls its layers by keyword."""

    def __init__(self):
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, images):
        return self.norm(input=self.convolution(input=images))


@torch.no_grad()
@pytest.mark.parametrize(
    "model",
    [
        Patches(),
        HeadBehind(lambda images: images.view(images.size(0), -1)),
        HeadBehind(lambda images: images.reshape(images.shape[0], -1)),
        HeadBehind(lambda images: images.reshape((images.size()[0], -1))),
        HeadBehind(lambda images: torch.reshape(images, (images.shape[0], -1))),
    ],
)
@pytest.mark.parametrize("pixels", ["unit", "raw"])
def test_a_model_may_ask_for_the_shape_of_its_images(model, pixels):
    model = model.double().eval()
    images = uint8_images(size=16)
    given = images if pixels == "raw" else images.double() / 255

    normalized = InputNorm.of(STATS, dtype=torch.float64)(images)

    assert_same(model(normalized), fold_input_norm(model, STATS, pixels=pixels)(given))


@pytest.mark.parametrize(
    ("flattened", "found"),
    [
        (lambda images: images.view(-1, 768), "view"),  # a row may be anything
        (lambda images: images.view(images.size(1), -1), "view"),
        (lambda images: images.to(images.dtype).flatten(1), "getattr, to"),
    ],
)
def test_what_is_not_known_to_be_flattened_is_refused(flattened, found):
    with pytest.raises(FoldError) as caught:
        fold_input_norm(HeadBehind(flattened), STATS)

    assert str(caught.value).startswith(f"the images go to {found}, ")


@torch.no_grad()
def test_layers_that_are_called_by_keyword_are_folded():
    model = seeded(Named())
    images = uint8_images().double()
    folded = fold_batchnorm(model)

    assert isinstance(folded.norm, nn.Identity)
    assert_same(model(images), folded(images))


def negative() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    model[1].running_var[2] = -1
    return model


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)),
            "1: is in training mode, where BatchNorm depends on the batch; call model.eval() first",
        ),
        (
            nn.Sequential(nn.Conv2d(3, 4, 3)).eval(),
            "Sequential: has no BatchNorm layer; use it as it is",
        ),
        (
            nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(5)).eval(),
            "1: has 5 channels and follows 0 with 4; fix the model",
        ),
        (
            negative(),
            (
                "1: folding it gives NaN or Inf in torch.float32; look at its numbers with "
                "imgnorm.nn.inspect, or fold in float32"
            ),
        ),
        (
            nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d()).eval(),
            "0.weight: is lazy and has no values yet; run one batch through the model first",
        ),
    ],
)
def test_batchnorm_that_cannot_be_folded_is_told(model, message):
    with pytest.raises(FoldError) as caught:
        fold_batchnorm(model)

    assert message == str(caught.value)


def small() -> nn.Module:
    return seeded(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))


@pytest.mark.filterwarnings("ignore:.*deprecated")
@pytest.mark.parametrize(
    ("freeze", "message"),
    [
        (
            torch.jit.script,
            (
                "RecursiveScriptModule: is TorchScript, whose code is fixed; fold the model before it is "
                "scripted or traced"
            ),
        ),
        (
            lambda model: torch.export.export(model, (uint8_images().double(),)).module(),
            (
                "GraphModule: was exported, so it has operators in place of layers; fold the model before "
                "it is exported"
            ),
        ),
    ],
)
@pytest.mark.parametrize("fold", [fold_batchnorm, lambda model: fold_input_norm(model, STATS)])
def test_a_program_is_not_folded(freeze, message, fold):
    with pytest.raises(FoldError) as caught:
        fold(freeze(small()))

    assert message == str(caught.value)


@torch.no_grad()
def test_a_wrapped_model_is_folded_as_itself():
    model, images = small(), uint8_images().double()
    for wrapped in (nn.DataParallel(model), torch.compile(model, backend="eager")):
        assert_same(model(images), fold_batchnorm(wrapped)(images))


@torch.no_grad()
def test_what_was_folded_compiles_and_exports():
    folded = fold_input_norm(nn.Conv2d(3, 4, 3, padding=1), STATS, padding="mean", pixels="raw")
    images = uint8_images()
    compiled = torch.compile(folded, backend="aot_eager", fullgraph=True)
    exported = torch.export.export(folded, (images,)).module()

    assert torch.equal(folded(images), compiled(images))
    assert torch.equal(folded(images), exported(images))
