"""imgnorm.nn.ranks: calibration in several processes gives each of them the statistics of all images."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from imgnorm.errors import ModelError
from imgnorm.nn import calibrate
from imgnorm.nn.calibration import CalibrationMode

MODES: list[CalibrationMode] = ["one-pass", "sequential"]


def images() -> torch.Tensor:
    """Whole numbers in float32; each image has a mean and a spread of its own."""
    generator = torch.Generator().manual_seed(0)
    levels = torch.randint(0, 256, (23, 3, 8, 8), generator=generator)
    return (levels * torch.arange(1, 24).view(-1, 1, 1, 1)).float()


SHARES = {  # of two ranks
    "uneven": ([4, 6], [2, 11]),
    "nothing for the last": ([11, 12], []),
    "nothing for the first": ([], [9, 14]),
    "no image in a batch": ([0, 10], [13]),
    "sharded": ([12], [11]),  # a shard runs as often as the others, or they wait for it
}


def batches_of(share: str, rank: int) -> list[torch.Tensor]:
    parts = images().split([size for sizes in SHARES[share] for size in sizes])
    of_the_first = len(SHARES[share][0])
    return list(parts[of_the_first:] if rank else parts[:of_the_first])


def net(last: type[nn.Module] = nn.BatchNorm1d) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4), nn.Flatten(), last(144)
    )


def buffers(model: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value for key, value in model.named_buffers() if "running" in key}


def exact(mode: CalibrationMode, share: str) -> dict[str, torch.Tensor]:
    """The statistics of all images, by NumPy in float64; one-pass normalizes by batches on the way."""
    model = net().double().eval()
    values = [part.double() for rank in (0, 1) for part in batches_of(share, rank) if len(part)]
    with torch.no_grad():
        for layer in model.children():
            if hasattr(layer, "running_mean"):
                flat = [np.moveaxis(v.numpy(), 1, 0).reshape(v.shape[1], -1) for v in values]
                everything = np.concatenate(flat, 1)
                layer.running_mean.copy_(torch.from_numpy(everything.mean(1)))
                layer.running_var.copy_(torch.from_numpy(everything.var(1)))
            values = [
                nn.functional.batch_norm(value, None, None, training=True)
                if mode == "one-pass" and hasattr(layer, "running_mean")
                else layer(value)
                for value in values
            ]
    return buffers(model)


def calibrated(
    wrapped: Callable[[nn.Module], nn.Module], batches: Iterable[Any], mode: CalibrationMode
) -> dict[str, Any]:
    """In a wrapper, and with SyncBatchNorm, which no wrapper takes on a CPU."""
    plain, synchronized = net(), net(nn.SyncBatchNorm)
    calibrate(wrapped(plain), batches, mode=mode)
    done = calibrate(synchronized, batches, mode=mode)
    return {
        "buffers": buffers(plain),
        "synchronized": buffers(synchronized),
        "images": done.images,
        "counts": [layer.count for layer in done.layers],
    }


def sharded(model: nn.Module) -> nn.Module:
    mesh = init_device_mesh("cpu", (2,))
    fully_shard(model[1], mesh=mesh)
    fully_shard(model, mesh=mesh)
    assert any(isinstance(parameter, DTensor) for parameter in model.parameters())
    return model


def refused(model: nn.Module, batches: Iterable[Any], mode: CalibrationMode) -> dict[str, Any]:
    before = copy.deepcopy(model.state_dict())
    with pytest.raises((ModelError, KeyError, ValueError)) as caught:
        calibrate(model, batches, mode=mode)
    kept = all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    return {"message": str(caught.value), "kept": kept}


def alone(rank: int) -> dict[str, torch.Tensor]:
    model = net()
    group, _ = dist.new_subgroups(group_size=1)
    calibrate(model, [images()[: 10 + rank]], process_group=group)
    return buffers(model)


def not_a_member(rank: int) -> str:
    group = dist.new_group([1])
    if rank == 1:
        return ""
    with pytest.raises(ValueError, match="process_group") as caught:
        calibrate(net(), [images()], process_group=group)
    return str(caught.value)


def failing() -> Iterable[torch.Tensor]:
    yield images()[:4]
    raise KeyError("lost.png")


class Fails:
    def __iter__(self) -> Iterable[torch.Tensor]:
        return failing()


def poisoned() -> list[torch.Tensor]:
    data = images()
    data[3, 1, 2, 2] = torch.nan
    return [data]


def _one_process(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.set_num_threads(1)
    found: dict[Any, Any] = {}
    for mode in MODES:
        for share in SHARES:
            wrapped = sharded if share == "sharded" else nn.parallel.DistributedDataParallel
            found[mode, share] = calibrated(wrapped, batches_of(share, rank), mode)
        found[mode, "nan"] = refused(net(), poisoned() if rank else [images()], mode)
        found[mode, "loader"] = refused(net(), Fails() if rank else [images()], mode)
        found[mode, "nothing"] = refused(net(), [], mode)
        found[mode, "other"] = refused(net() if rank else net()[:4], [images()], mode)
    found["modes"] = refused(net(), [images()], MODES[rank])
    found["typo"] = refused(net(), [images()], "onepass" if rank else "one-pass")  # type: ignore[arg-type]
    found["alone"] = alone(rank)
    found["not a member"] = not_a_member(rank)
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Sequence[dict[Any, Any]]:
    """What each of two processes found."""
    folder: Path = tmp_path_factory.mktemp("ranks")
    multiprocessing.spawn(_one_process, (str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in (0, 1)]


each_mode: Callable[..., Any] = pytest.mark.parametrize("mode", MODES)
each_share: Callable[..., Any] = pytest.mark.parametrize("share", SHARES)


@each_mode
@each_share
def test_all_ranks_get_the_same_bits(ranks, mode, share):
    first, second = (found[mode, share] for found in ranks)

    assert 23 == first["images"] == second["images"]
    assert [23 * 64, 23 * 36, 23] == first["counts"] == second["counts"]
    for key, value in first["buffers"].items():
        assert torch.equal(value, second["buffers"][key]), key
        assert torch.equal(value, first["synchronized"][key]), key
        assert torch.equal(value, second["synchronized"][key]), key


@each_mode
@each_share
def test_they_are_the_statistics_of_all_images(ranks, mode, share):
    found, expected = ranks[0][mode, share]["buffers"], exact(mode, share)

    assert list(expected) == list(found)
    for key, value in expected.items():
        error = (found[key] - value).abs().max() / value.abs().max()

        assert error < 1e-6, key  # float32 activations and buffers


@each_mode
@each_share
def test_one_process_with_all_batches_gets_the_same(ranks, mode, share):
    model = net()
    calibrate(model, [*batches_of(share, 0), *batches_of(share, 1)], mode=mode)
    for key, value in buffers(model).items():
        error = (ranks[1][mode, share]["buffers"][key] - value).abs().max() / value.abs().max()

        assert error < 1e-6, key


@each_share
def test_the_first_layer_is_the_exact_fraction_in_float32(ranks, share):
    """Its inputs are whole numbers; float64 sums of them round far below float32's last digit."""
    levels = [[int(level) for level in channel.flatten()] for channel in images().movedim(1, 0)]
    means = [Fraction(sum(channel), len(channel)) for channel in levels]
    variances = [
        Fraction(sum(level**2 for level in channel), len(channel)) - mean**2
        for channel, mean in zip(levels, means, strict=True)
    ]
    found = ranks[0]["sequential", share]["buffers"]

    assert [float(np.float32(float(mean))) for mean in means] == found["0.running_mean"].tolist()
    assert [float(np.float32(float(v))) for v in variances] == found["0.running_var"].tolist()


NAN = (
    "0: its input has NaN or Inf in images 0 to {}; look at the images, and at the layers before it"
)
OTHER = (
    "5: is not the same BatchNorm layer on rank 1 as on rank 0; give every rank the same model, or "
    "calibrate each in a process_group of its own"
)
EMPTY = "the batches are empty; give at least two images"


@each_mode
@pytest.mark.parametrize(
    ("case", "first", "second"),
    [
        ("nan", f"rank 1: {NAN}", NAN),
        ("loader", "rank 1: KeyError: 'lost.png'", "'lost.png'"),
        ("nothing", EMPTY, EMPTY),
        ("other", OTHER, OTHER),
    ],
)
def test_what_fails_on_one_rank_fails_on_all_and_changes_nothing(ranks, mode, case, first, second):
    last = {"one-pass": 22, "sequential": 7}[mode]

    assert {"message": first.format(last), "kept": True} == ranks[0][mode, case]
    assert {"message": second.format(last), "kept": True} == ranks[1][mode, case]


def test_ranks_with_different_modes_are_refused_together(ranks):
    modes = "mode is 'sequential' on rank 1, but 'one-pass' on rank 0; give every rank the same"
    typo = "mode is 'onepass'; expected 'one-pass' or 'sequential'"

    assert [{"message": modes, "kept": True}] * 2 == [found["modes"] for found in ranks]
    assert {"message": typo, "kept": True} == ranks[1]["typo"]
    assert ranks[0]["typo"]["message"].startswith("rank 1: ValueError: mode is 'onepass'")


def test_a_group_pools_its_own_images_only(ranks):
    for rank, found in enumerate(ranks):
        model = net()
        calibrate(model, [images()[: 10 + rank]])

        assert all(torch.equal(value, found["alone"][key]) for key, value in buffers(model).items())


def test_a_process_outside_of_the_group_is_refused(ranks):
    expected = "this process is not in process_group; call it on the ranks of the group"

    assert [expected, ""] == [found["not a member"] for found in ranks]
