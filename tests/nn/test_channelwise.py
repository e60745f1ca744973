"""imgnorm.nn.channelwise and tracing: every kind of BatchNorm layer folds by what it does, or is named."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn
from torchvision.ops import FrozenBatchNorm2d

from imgnorm.errors import FoldError
from imgnorm.nn import PopulationBatchNorm2d, fold_batchnorm, fold_input_norm, unfolded
from imgnorm.nn.inspection import is_batchnorm
from imgnorm.stats.stats import Stats

STATS = Stats(("R", "G", "B"), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# Of the largest output, in float64: two orders above what was measured.
TOLERANCE = 1e-12
CANNOT = "symbolically traced variables cannot be used as inputs to control flow"


def seeded(model: nn.Module) -> nn.Module:
    """Random weights and running statistics, so that no layer is an identity."""
    torch.manual_seed(0)
    for layer in filter(is_batchnorm, model.modules()):
        if layer.running_mean is not None:
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 2)
        if layer.weight is not None:
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, 0, 0.1)
    return model.double().eval()


def data(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def assert_same(expected: torch.Tensor, found: torch.Tensor) -> None:
    error = (expected - found).abs().max() / expected.abs().max()

    assert error <= TOLERANCE


class NormAct(nn.BatchNorm2d):
    """As timm's BatchNormAct2d: normalization, drop layer and activation in one."""

    def __init__(self, channels: int, act: nn.Module, drop: nn.Module | None = None) -> None:
        super().__init__(channels)
        self.drop = drop if drop is not None else nn.Identity()
        self.act = act

    def forward(self, x):
        torch._assert(x.ndim == 4, f"expected 4D input (got {x.ndim}D input)")
        if self.training and self.track_running_stats:
            self.num_batches_tracked.add_(1)
        x = F.batch_norm(
            x,
            self.running_mean if not self.training or self.track_running_stats else None,
            self.running_var if not self.training or self.track_running_stats else None,
            self.weight,
            self.bias,
            self.training or (self.running_mean is None and self.running_var is None),
            self.momentum,
            self.eps,
        )
        return self.act(self.drop(x))


class Frozen(nn.Module):
    """As Detectron2's FrozenBatchNorm2d."""

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.num_features, self.eps = channels, eps
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels) - eps)

    def forward(self, x):
        if x.requires_grad:
            scale = self.weight * (self.running_var + self.eps).rsqrt()
            bias = self.bias - self.running_mean * scale
            scale = scale.reshape(1, -1, 1, 1)
            bias = bias.reshape(1, -1, 1, 1)
            return x * scale.to(x.dtype) + bias.to(x.dtype)
        return F.batch_norm(
            x,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            training=False,
            eps=self.eps,
        )


class ByHand(Frozen):
    """Subtracts and divides, and its eps is no attribute, as in DETR's."""

    def forward(self, x):
        std = (self.running_var + 1e-3).sqrt()
        y = (x - self.running_mean[:, None, None]) / std[:, None, None]
        return y * self.weight[:, None, None] + self.bias[:, None, None]


class Rectified(nn.BatchNorm2d):
    def forward(self, values):
        return F.relu(super().forward(values))


class Gained(nn.BatchNorm2d):
    """A scale and a shift of its own, behind torch's."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.gain = nn.Parameter(torch.tensor(1.5))

    def forward(self, values):
        return super().forward(values) * (1 + self.gain) - 0.25


class Gated(nn.BatchNorm2d):
    """What comes behind the normalization is no chain of modules, and has a parameter."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.gate = nn.Conv2d(channels, channels, 1)

    def forward(self, values):
        normalized = super().forward(values)
        return normalized * torch.sigmoid(self.gate(normalized))


class Silent(nn.BatchNorm2d):
    """A subclass without a forward of its own."""


@pytest.mark.parametrize(
    ("layer", "left"),
    [
        (NormAct(4, nn.SiLU()), {"act": nn.SiLU}),
        (NormAct(4, nn.Identity()), {}),
        (NormAct(4, nn.PReLU(4), nn.Dropout2d()), {"drop": nn.Dropout2d, "act": nn.PReLU}),
        (NormAct(4, nn.ReLU(inplace=True)), {"act": nn.ReLU}),
        (FrozenBatchNorm2d(4), {}),
        (Frozen(4), {}),
        (ByHand(4), {}),
        (nn.SyncBatchNorm(4), {}),
        (PopulationBatchNorm2d(4), {}),
        (Silent(4), {}),
        (Gained(4), {}),
        (Rectified(4), {}),
        (Gated(4), {"gate": nn.Conv2d}),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
@pytest.mark.parametrize("transposed", [False, True])
@torch.no_grad()
def test_a_layer_folds_by_what_it_does_and_keeps_the_rest(layer, left, transposed):
    before = nn.ConvTranspose2d(3, 4, 3) if transposed else nn.Conv2d(3, 4, 3)
    model = seeded(nn.Sequential(before, copy.deepcopy(layer)))
    images = data(2, 3, 8, 8)
    folded = fold_batchnorm(model)

    assert_same(model(images), folded(images))
    assert left == {name: type(child) for name, child in folded[1].named_children()}
    assert {} == unfolded(model) == unfolded(folded)
    assert not any(map(is_batchnorm, folded.modules()))
    assert type(folded[1]) is nn.Identity or left or type(layer) is Rectified


def test_the_keys_of_the_activation_stay():
    model = seeded(nn.Sequential(nn.Conv2d(3, 4, 3), NormAct(4, nn.PReLU(4))))

    assert ["0.weight", "0.bias", "1.act.weight"] == list(fold_batchnorm(model).state_dict())


@torch.no_grad()
def test_what_is_left_of_a_layer_is_saved_compiled_and_exported(tmp_path):
    model = seeded(nn.Sequential(nn.Conv2d(3, 4, 3), Gated(4), NormAct(4, nn.SiLU())))
    folded, images = fold_batchnorm(model), data(2, 3, 8, 8)
    torch.save(folded, tmp_path / "folded.pt")
    expected = folded(images)

    assert torch.equal(expected, torch.load(tmp_path / "folded.pt", weights_only=False)(images))
    assert torch.equal(expected, torch.compile(folded, backend="aot_eager", fullgraph=True)(images))
    assert torch.equal(expected, torch.export.export(folded, (images,)).module()(images))


class Late(nn.BatchNorm2d):
    def forward(self, values):
        return super().forward(F.relu(values))


class Skipping(nn.BatchNorm2d):
    def forward(self, values):
        return values + super().forward(values)


class Deciding(nn.BatchNorm2d):
    def forward(self, values):
        return super().forward(values) if values.sum() > 0 else values


class Standardized(nn.Conv2d):
    """Its weight is normalized, so that a scale in it has no effect."""

    def forward(self, values):
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return F.conv2d(values, weight / weight.std((1, 2, 3), keepdim=True), self.bias)


class Reused(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.pause, self.norm = nn.Conv2d(3, 4, 1), nn.Identity(), nn.BatchNorm2d(4)

    def forward(self, images):
        features = self.pause(self.conv(images))
        return torch.cat([features, self.norm(features)], 1)


class Unused(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def forward(self, images):
        return images


def after(layer: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), layer)


def replaced() -> nn.Module:
    model = after(nn.BatchNorm2d(4))
    model[1].forward = lambda values: values
    return model


def hooked(index: int) -> nn.Module:
    model = after(nn.BatchNorm2d(4))
    model[index].register_forward_hook(lambda *_: None)
    return model


def twice() -> nn.Module:
    layer = nn.Conv2d(3, 3, 1)
    return nn.Sequential(layer, nn.BatchNorm2d(3), layer)


@pytest.mark.parametrize(
    ("model", "name", "reason"),
    [
        (
            after(Late(4)),
            "1",
            "is Late, whose own forward begins with relu, not with a normalization alone",
        ),
        (
            after(Skipping(4)),
            "1",
            "is Skipping, whose own forward begins with batch_norm, add, not with a normalization alone",
        ),
        (
            after(Deciding(4)),
            "1",
            f"is Deciding, whose own forward torch.fx cannot trace ({CANNOT})",
        ),
        (replaced(), "1", "is BatchNorm2d whose forward is not that of its class"),
        (
            after(nn.BatchNorm2d(4, track_running_stats=False)),
            "1",
            "has no running statistics, so it depends on the batch",
        ),
        (hooked(1), "1", "has hooks"),
        (hooked(0), "1", "follows 0 (Conv2d), which has hooks"),
        (twice(), "1", "follows 0 (Conv2d), which runs more than once"),
        (
            nn.Sequential(nn.ReLU(), nn.BatchNorm2d(3)),
            "1",
            "follows 0 (ReLU), not a convolution or linear layer",
        ),
        (
            nn.Sequential(Standardized(3, 4, 3), nn.BatchNorm2d(4)),
            "1",
            "follows 0 (Standardized), whose forward is not torch's own",
        ),
        (Reused(), "norm", "follows conv (Conv2d), which also goes to cat"),
        (
            nn.BatchNorm2d(3),
            "the model itself",
            "follows the input, not a convolution or linear layer",
        ),
        (Unused(), "norm", "does not run in eval mode"),
        (
            nn.Sequential(nn.Linear(4, 4), nn.BatchNorm2d(3)),
            "1",
            "follows 0 (Linear), and is not a BatchNorm1d",
        ),
        (
            nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(3)),  # of (N, 3, 4)
            "1",
            "follows 0 (Linear), and normalizes another dimension than its 5 features",
        ),
    ],
)
def test_a_layer_that_is_left_is_named_with_the_reason(model, name, reason):
    model = seeded(model)
    with pytest.raises(FoldError) as caught:
        fold_batchnorm(model)

    assert {name: reason} == unfolded(model)
    assert f"{type(model).__name__}: no BatchNorm can be folded: {name} {reason}" == str(
        caught.value
    )


@torch.no_grad()
def test_an_identity_between_them_is_no_hindrance():
    model = seeded(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Identity(), nn.BatchNorm2d(4)))
    images = data(2, 3, 8, 8)

    assert_same(model(images), fold_batchnorm(model)(images))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("norm", [nn.BatchNorm1d, nn.SyncBatchNorm])
@torch.no_grad()
def test_a_linear_layer_absorbs_the_batchnorm_behind_it(norm, bias):
    model = seeded(nn.Sequential(nn.Linear(5, 4, bias=bias), norm(4), nn.ReLU(), nn.Linear(4, 2)))
    features = data(7, 5)
    folded = fold_batchnorm(model)

    assert_same(model(features), folded(features))
    assert not any(map(is_batchnorm, folded.modules()))


@torch.no_grad()
def test_a_linear_layer_with_as_many_positions_as_features_is_refused():
    """BatchNorm1d takes (N, C, L): it normalized the positions, where C and L are the same number."""
    model = seeded(nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4)))
    folded = fold_batchnorm(model)
    model(data(7, 4, 5))
    with pytest.raises(AssertionError) as caught:
        folded(data(7, 4, 5))

    assert (
        "a BatchNorm was folded into the linear layer before it, which is right for (N, C) only: this "
        "input has other dimensions; use the model without folding"
    ) == str(caught.value)


class Part(nn.Module):
    """Remembers its input, as some modules do for their own purposes."""

    def __init__(self, branches: bool) -> None:
        super().__init__()
        self.branches = branches
        self.block = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU())
        self.heads = nn.ModuleList([nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))])
        self.conv, self.norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.last = None

    def forward(self, features):
        self.last = features
        features = self.norm(self.conv(features))
        if self.branches and features.sum() > 0:
            features = features / 2
        return next(head(self.block(features)) for head in self.heads)


@torch.no_grad()
def test_a_part_that_cannot_be_traced_is_left_or_traced_by_its_own_parts():
    model = seeded(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), Part(True), Part(False)))
    images = data(2, 3, 8, 8)
    expected = model(images)
    inside = f"2 (Part), whose forward torch.fx cannot trace ({CANNOT})"

    left = dict.fromkeys(["2.block.1", "2.heads.0.1", "2.norm"], f"is inside {inside}")
    assert left == unfolded(model)
    assert_same(expected, fold_batchnorm(model)(images))

    assert {"2.norm": f"is called by {inside}"} == unfolded(model, untraceable="parts")
    parts = fold_batchnorm(model, untraceable="parts")
    assert_same(expected, parts(images))
    assert ["2.norm"] == [n for n, module in parts.named_modules() if is_batchnorm(module)]


@torch.no_grad()
def test_tracing_leaves_nothing_in_the_model():
    model = seeded(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), Part(False)))

    assert fold_batchnorm(model)[2].last is None


class Detector(nn.Module):
    """As detection models: a list of images, normalized inside, goes through a backbone."""

    def __init__(self, mean: str, std: str) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        self.register_buffer(mean, torch.full((3, 1, 1), 120.0))
        self.register_buffer(std, torch.full((3, 1, 1), 60.0))

    def forward(self, images):
        return [self.backbone(image[None]) for image in images]


class Preprocessed(nn.Module):
    """As mmdet's models."""

    def __init__(self) -> None:
        super().__init__()
        self.data_preprocessor = Detector("mean", "std")
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, images):
        return self.conv(self.data_preprocessor(images))


@pytest.mark.parametrize(
    ("model", "where"),
    [
        (
            Detector("pixel_mean", "pixel_std"),
            "Detector: normalizes its images itself, in the model itself (Detector) by pixel_mean and pixel_std",
        ),
        (
            Preprocessed(),
            (
                "the images go to data_preprocessor (Detector), whose forward torch.fx cannot trace (Proxy object "
                "cannot be iterated); the model normalizes its images itself, in data_preprocessor (Detector) by "
                "mean and std"
            ),
        ),
        (
            fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None),
            (
                "FasterRCNN: normalizes its images itself, in transform (GeneralizedRCNNTransform) by image_mean "
                "and image_std"
            ),
        ),
    ],
    ids=["detectron2", "mmdet", "torchvision"],
)
def test_a_model_that_normalizes_inside_is_not_normalized_twice(model, where):
    with pytest.raises(FoldError) as caught:
        fold_input_norm(model, STATS)

    assert (
        f"{where}; set these to the statistics, and put no other normalization in front, which would be a "
        "second one"
    ) == str(caught.value)


@torch.no_grad()
def test_a_detection_model_is_folded_by_its_parts():
    torch.manual_seed(0)
    model = fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None)
    model = seeded(model)
    with pytest.raises(FoldError) as caught:
        fold_batchnorm(model)
    folded = fold_batchnorm(model, untraceable="parts")
    images = data(1, 3, 64, 64)
    features = model.backbone(images)

    assert (
        "FasterRCNN: torch.fx cannot trace its forward (Proxy object cannot be iterated); fold its parts "
        'with untraceable="parts", which is exact if it calls them as a whole'
    ) == str(caught.value)
    assert not any(map(is_batchnorm, folded.modules()))
    for name, expected in features.items():
        assert_same(expected, folded.backbone(images)[name])


class Choosing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 1))

    def forward(self, images):
        return self.body(images) if images.sum() > 0 else images


def test_the_part_that_takes_the_images_is_named():
    with pytest.raises(FoldError) as caught:
        fold_input_norm(Choosing(), STATS)

    assert (
        f"Choosing: torch.fx cannot trace its forward ({CANNOT}); fold the part that takes the images, such "
        "as model.body = fold_input_norm(model.body, stats)"
    ) == str(caught.value)


# What must not be folded


class Branching(nn.Module):
    """torch.fx cannot trace it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        y = self.conv(x)
        return y if y.sum() > -1e9 else -y


class Reaching(nn.Module):
    """Uses the convolution of a part that cannot be traced, and the part itself."""

    def __init__(self) -> None:
        super().__init__()
        self.part = Branching()
        self.bn = nn.BatchNorm2d(4)

    def forward(self, x):
        return self.bn(self.part.conv(x)) + self.part(x)


class Noisy(nn.BatchNorm2d):
    def forward(self, x):
        return super().forward(x) + torch.randn(4, 1, 1)


class Clamping(nn.BatchNorm2d):
    """Each channel by itself, and then a constant that is made anew each time."""

    def forward(self, x):
        return super().forward(x).relu() * torch.rand(1, 4, 7, 7)


def with_relu(layer: nn.Module) -> nn.Module:
    layer.register_forward_hook(lambda module, arguments, output: output.relu())
    return layer


def own_forward(layer: nn.Module) -> nn.Module:
    layer.forward = lambda x: x.relu()  # type: ignore[method-assign]
    return layer


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (Reaching(), "is also in a part that torch.fx cannot trace"),
        (nn.Sequential(nn.Conv2d(3, 4, 3), Noisy(4)), "whose own forward draws random numbers"),
        (nn.Sequential(nn.Conv2d(3, 4, 3), Clamping(4)), "whose own forward draws random numbers"),
        (
            nn.Sequential(nn.Conv2d(3, 4, 3), with_relu(nn.Identity()), nn.BatchNorm2d(4)),
            "Identity",
        ),
        (nn.Sequential(nn.Conv2d(3, 4, 3), own_forward(nn.Identity()), nn.BatchNorm2d(4)), ""),
    ],
    ids=["reached from outside", "noise", "noise behind", "hook", "forward of its own"],
)
def test_what_would_change_the_output_is_left(model, reason):
    model = seeded(model)

    (said,) = unfolded(model).values()
    assert reason in said
    with pytest.raises(FoldError):
        fold_batchnorm(model)


@pytest.mark.parametrize("change", [with_relu, own_forward])
@pytest.mark.parametrize("kind", ["identity", "flatten"])
def test_a_changed_layer_before_the_first_one_is_not_passed_over(change, kind):
    layers = {
        "identity": [change(nn.Identity()), nn.Conv2d(3, 4, 3)],
        "flatten": [change(nn.Flatten()), nn.Linear(3 * 4 * 4, 5)],
    }
    with pytest.raises(FoldError):
        fold_input_norm(seeded(nn.Sequential(*layers[kind])), STATS)


def test_a_batchnorm_that_is_called_by_name_folds_behind_a_linear_layer():
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.bn = nn.Linear(3, 4), nn.BatchNorm1d(4)

        def forward(self, x):
            return self.bn(input=self.fc(x))

    model = seeded(Named())

    assert_same(model(data(5, 3)), fold_batchnorm(model)(data(5, 3)))


def test_a_model_that_cannot_be_copied_is_told_in_a_sentence():
    layer = nn.Conv2d(3, 4, 3)
    with pytest.warns(FutureWarning):
        model = nn.Sequential(nn.utils.weight_norm(layer), nn.BatchNorm2d(4)).eval()
    model(torch.rand(1, 3, 8, 8))

    with pytest.raises(FoldError, match=r"cannot be copied .*; remove weight_norm first"):
        fold_batchnorm(model)
