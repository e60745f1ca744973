"""imgnorm.nn.population: torch's BatchNorm in all but the running statistics, which are exact."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
import torch.multiprocessing as multiprocessing
from torch import nn

from imgnorm.errors import ModelError
from imgnorm.nn import (
    PopulationBatchNorm1d,
    PopulationBatchNorm2d,
    PopulationBatchNorm3d,
    convert,
    revert,
)

KINDS = [
    (PopulationBatchNorm1d, nn.BatchNorm1d, (3,)),
    (PopulationBatchNorm1d, nn.BatchNorm1d, (3, 5)),
    (PopulationBatchNorm2d, nn.BatchNorm2d, (3, 5, 4)),
    (PopulationBatchNorm3d, nn.BatchNorm3d, (3, 2, 5, 4)),
]


def population(shape: tuple[int, ...]) -> torch.Tensor:
    """Batches that differ in mean and spread, so that the variance between them matters."""
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(23, *shape, generator=generator)
    return data * torch.linspace(0.1, 3, 23).view(-1, *[1] * len(shape)) + torch.linspace(
        -2, 5, 23
    ).view(-1, *[1] * len(shape))


def pickled(layer: nn.Module) -> nn.Module:
    return pickle.loads(pickle.dumps(layer))


def reference(data: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Two passes of NumPy in float64."""
    values = np.moveaxis(data.numpy().astype(np.float64), 1, 0).reshape(data.shape[1], -1)
    return values.mean(1), values.var(1)


@pytest.mark.parametrize(("kind", "torchs", "shape"), KINDS)
@pytest.mark.parametrize("batch_size", [4, 5, 7, 23])
def test_running_statistics_are_those_of_all_that_was_seen(kind, torchs, shape, batch_size):
    data = population(shape)
    layer = kind(3, dtype=torch.float64)
    for batch in data.double().split(batch_size):
        layer(batch)
    mean, variance = reference(data)

    np.testing.assert_allclose(mean, layer.running_mean.numpy(), rtol=1e-13)
    np.testing.assert_allclose(variance, layer.running_var.numpy(), rtol=1e-13)


@pytest.mark.parametrize(("kind", "torchs", "shape"), KINDS)
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("tracks", [True, False])
@pytest.mark.parametrize("momentum", [None, 0.1])
def test_outputs_and_gradients_are_torchs(kind, torchs, shape, affine, tracks, momentum):
    options = {"affine": affine, "track_running_stats": tracks, "momentum": momentum, "eps": 1e-3}
    ours, theirs = kind(3, **options), torchs(3, **options)
    results = []
    for layer in (ours, theirs):
        data = population(shape).requires_grad_()
        output = layer(data)
        (output.square() * torch.arange(output.numel()).view_as(output)).sum().backward()
        results.append((output, data.grad))

    assert torch.equal(results[1][0], results[0][0])
    assert torch.equal(results[1][1], results[0][1])
    if momentum is not None and tracks:
        assert torch.equal(theirs.running_var, ours.running_var)
    if tracks:
        theirs.load_state_dict(ours.state_dict())
    assert torch.equal(theirs.eval()(population(shape)), ours.eval()(population(shape)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_inputs_under_autocast_give_torchs_outputs_and_float32_statistics(dtype):
    data = population((3, 5, 4)).to(dtype)
    ours, theirs = PopulationBatchNorm2d(3), nn.BatchNorm2d(3)
    with torch.autocast("cpu", dtype=dtype):
        assert torch.equal(theirs(data), ours(data))
    mean, variance = reference(data.float())

    assert torch.float32 is ours.running_var.dtype
    np.testing.assert_allclose(mean, ours.running_mean.numpy(), rtol=1.2e-7)
    np.testing.assert_allclose(variance, ours.running_var.numpy(), rtol=1.2e-7)


def test_a_compiled_layer_keeps_the_same_statistics():
    eager, layer = PopulationBatchNorm2d(3), PopulationBatchNorm2d(3)
    compiled = torch.compile(layer, backend="aot_eager")
    for batch in population((3, 5, 4)).split(5):
        eager(batch)
        compiled(batch)

    assert torch.equal(eager.running_var, layer.running_var)


def test_eval_sees_nothing():
    layer = PopulationBatchNorm2d(3)
    layer(population((3, 5, 4)))
    before = copy.deepcopy(layer.state_dict())
    layer.eval()(population((3, 5, 4)) + 100)

    assert all(torch.equal(value, layer.state_dict()[key]) for key, value in before.items())


def test_a_reset_forgets_everything():
    data = population((3, 5, 4))
    layer, fresh = PopulationBatchNorm2d(3), PopulationBatchNorm2d(3)
    layer(data + 7)
    layer.reset_running_stats()
    layer(data)
    fresh(data)

    assert torch.equal(fresh.running_mean, layer.running_mean)
    assert 1 == layer.num_batches_tracked


def test_torch_checkpoints_load_and_save_unchanged():
    theirs = nn.BatchNorm2d(3)
    theirs(population((3, 5, 4)))
    ours = PopulationBatchNorm2d(3)
    ours.load_state_dict(theirs.state_dict())
    saved = ours.state_dict()

    assert list(theirs.state_dict()) == list(saved)
    assert all(torch.equal(value, saved[key]) for key, value in theirs.state_dict().items())


def test_after_loading_the_next_batch_starts_a_new_population():
    """A checkpoint holds no count that the old population could weigh."""
    data = population((3, 5, 4))
    layer, fresh = PopulationBatchNorm2d(3), PopulationBatchNorm2d(3)
    layer(data + 7)
    layer.load_state_dict(layer.state_dict())
    layer(data)
    fresh(data)

    assert torch.equal(fresh.running_var, layer.running_var)


def test_an_empty_batch_changes_no_statistics():
    layer = PopulationBatchNorm2d(3)
    layer(population((3, 5, 4)))
    before = layer.running_var.clone()
    layer(torch.zeros(0, 3, 5, 4))

    assert torch.equal(before, layer.running_var)


def test_convert_keeps_parameters_and_hooks_and_revert_is_the_way_back():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, momentum=0.3), nn.BatchNorm2d(4))
    model.append(model[1])  # a layer used twice stays one layer
    weight, calls = model[1].weight, []
    model[1].register_forward_hook(lambda *_: calls.append(1))
    before = copy.deepcopy(model.state_dict())

    assert convert(model) is model
    assert [PopulationBatchNorm2d] * 3 == [type(layer) for layer in model[1:]]
    assert weight is model[1].weight
    assert model[3] is model[1]
    assert model[1].momentum is None
    assert list(before) == list(model.state_dict())
    model(population((3, 5, 4)))
    assert 2 == len(calls)

    assert revert(model) is model
    assert [nn.BatchNorm2d] * 3 == [type(layer) for layer in model[1:]]
    assert [0.3, 0.1, 0.3] == [layer.momentum for layer in model[1:]]
    assert vars(nn.BatchNorm2d(4)).keys() == vars(model[2]).keys()


def test_a_model_that_is_one_layer_converts_too():
    layer = nn.BatchNorm1d(3)

    assert PopulationBatchNorm1d is type(convert(layer))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            convert,
            "Linear: has no BatchNorm layer to convert; convert a model that has one",
        ),
        (revert, "Linear: has no population BatchNorm layer to revert; convert it first"),
    ],
)
def test_a_model_without_batchnorm_is_refused(call, message):
    with pytest.raises(ModelError) as caught:
        call(nn.Linear(2, 2))

    assert message == str(caught.value)


def test_wrong_ranks_are_refused_as_torch_does():
    with pytest.raises(ValueError, match=r"^expected 4D input \(got 3D input\)$"):
        PopulationBatchNorm2d(3)(torch.zeros(3, 5, 5))


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_another_number_of_channels_is_refused_by_name(affine, training):
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.BatchNorm2d(8, affine=affine)))
    convert(model).train(training)
    with pytest.raises(ValueError, match="channels") as caught:
        model(population((3, 5, 4)))

    assert (
        "1.0: normalizes 8 channels, but its input has 4, (23, 4, 5, 4); make the layer with "
        "num_features=4, or give it the output of the layer that it belongs to"
    ) == str(caught.value)


def test_a_layer_without_a_name_is_called_by_its_class():
    with pytest.raises(
        ValueError, match=r"^PopulationBatchNorm1d: normalizes 8 channels, but its "
    ):
        PopulationBatchNorm1d(8)(population((3, 5)))


class Renamed(nn.BatchNorm2d):
    """Does what torch's does."""


class Doubled(nn.BatchNorm2d):
    def forward(self, input):  # noqa: A002
        return 2 * super().forward(input)


def timms() -> nn.Module:
    return pytest.importorskip("timm.layers").BatchNormAct2d(3, act_layer=nn.SiLU)


def timms_synchronized() -> nn.Module:
    return pytest.importorskip("timm.layers").convert_sync_batchnorm(timms())


@pytest.mark.parametrize(
    "make", [lambda: Renamed(3), lambda: nn.SyncBatchNorm(3), timms, timms_synchronized]
)
@pytest.mark.parametrize("again", [lambda layer: layer, copy.deepcopy, pickled])
def test_subclasses_that_do_what_torch_does_become_population_layers(make, again):
    torchs, converted = make(), convert(make())
    data = population((3, 5, 4))
    for batch in data[:10].split(4):
        assert torch.equal(torchs(batch), converted(batch))
    ours = again(converted)
    for batch in data[10:].split(4):
        assert torch.equal(torchs(batch), ours(batch))
    mean, variance = reference(data)

    assert isinstance(ours, type(torchs))
    assert f"Population{type(torchs).__name__}" == type(ours).__name__
    # The buffers are float32.
    np.testing.assert_allclose(mean, ours.running_mean.numpy(), rtol=1.2e-7)
    np.testing.assert_allclose(variance, ours.running_var.numpy(), rtol=1.2e-7)
    torchs.load_state_dict(ours.state_dict())
    assert torch.equal(torchs.eval()(data), ours.eval()(data))
    assert type(torchs) is type(revert(ours))
    assert vars(torchs).keys() == vars(ours).keys()
    assert 0.1 == ours.momentum


@pytest.mark.parametrize(
    ("last", "message"),
    [
        (
            Doubled(3),
            (
                "1: is a Doubled, whose forward is its own and may normalize otherwise; convert the parts of "
                "the model without it"
            ),
        ),
        (
            nn.LazyBatchNorm2d(),
            "1: is lazy and does not know its channels yet; run one batch through the model first",
        ),
    ],
)
def test_a_layer_that_cannot_be_converted_is_named_and_no_other_is_converted(last, message):
    model = nn.Sequential(nn.BatchNorm2d(3), last)
    with pytest.raises(ModelError) as caught:
        convert(model)

    assert message == str(caught.value)
    assert nn.BatchNorm2d is type(model[0])


@pytest.mark.parametrize(
    "synchronized",
    [
        nn.SyncBatchNorm.convert_sync_batchnorm,
        lambda model: pytest.importorskip("timm.layers").convert_sync_batchnorm(model),
    ],
    ids=["torch", "timm"],
)
def test_convert_sync_batchnorm_cannot_lose_a_population(synchronized):
    """It would make a SyncBatchNorm with momentum None: torch's average of batches, without a word."""
    model = convert(nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)))
    with pytest.raises(ModelError) as caught:
        synchronized(model)

    assert (
        "1: is a population layer, whose population convert_sync_batchnorm would lose; call "
        "convert_sync_batchnorm first, then imgnorm.nn.convert, which keeps SyncBatchNorm"
    ) == str(caught.value)
    assert PopulationBatchNorm2d is type(model[1])


def test_convert_keeps_sync_batchnorm_and_revert_gives_it_back():
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, momentum=0.3))
    model = convert(nn.SyncBatchNorm.convert_sync_batchnorm(model))

    assert isinstance(model[1], nn.SyncBatchNorm)
    assert model[1].affine
    revert(model)
    assert nn.SyncBatchNorm is type(model[1])
    assert 0.3 == model[1].momentum


def _one_process(rank: int, folder: str) -> None:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2
    )
    data = population((3, 5, 4))
    layer = PopulationBatchNorm2d(3)
    parts = [data[:4], data[4:10]] if rank == 0 else [data[10:11], data[11:]]  # uneven
    for part in parts:
        layer(part)
    torch.save(layer.state_dict(), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_keep_the_statistics_of_all_data(tmp_path):
    multiprocessing.spawn(_one_process, (str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    mean, variance = reference(population((3, 5, 4)))

    assert all(torch.equal(value, second[key]) for key, value in first.items())
    # The buffers are float32.
    np.testing.assert_allclose(mean, first["running_mean"].numpy(), rtol=1.2e-7)
    np.testing.assert_allclose(variance, first["running_var"].numpy(), rtol=1.2e-7)


def test_a_layer_whose_forward_is_its_own_is_not_converted():
    model = nn.Sequential(nn.BatchNorm2d(3))
    model[0].forward = lambda x: x

    with pytest.raises(ModelError, match="whose forward is its own"):
        convert(model)

    assert type(model[0]) is nn.BatchNorm2d
