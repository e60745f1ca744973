"""imgnorm.nn.calibration and inspection: exact statistics, and a model that is otherwise untouched."""

from __future__ import annotations

import copy
import io
import warnings

import numpy as np
import pytest
import torch
import torchvision
from devices import needs_cuda
from torch import nn

from imgnorm.errors import ModelError
from imgnorm.nn import PopulationBatchNorm2d, calibrate, convert, inspect
from imgnorm.nn.inspection import table_of

MODES = ["one-pass", "sequential"]


def images(count: int = 23, size: int = 8) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    scale = torch.linspace(0.2, 2, count).view(-1, 1, 1, 1)
    return torch.randn(count, 3, size, size, generator=generator) * scale + scale


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Conv2d(4, 5, 3),
        nn.BatchNorm2d(5, momentum=None),
        nn.Flatten(),
        nn.Linear(80, 6),
        nn.BatchNorm1d(6, affine=False),
    )


def exact_net(data: torch.Tensor) -> nn.Module:
    """The fixed point by an independent road: float64, all images at once, NumPy's var."""
    model = net().double().eval()
    value = data.double()
    with torch.no_grad():
        for layer in model.children():
            if hasattr(layer, "running_mean"):
                flat = np.moveaxis(value.numpy(), 1, 0).reshape(value.shape[1], -1)
                layer.running_mean.copy_(torch.from_numpy(flat.mean(1)))
                layer.running_var.copy_(torch.from_numpy(flat.var(1)))
            value = layer(value)
    return model


def assert_close(a: nn.Module, b: nn.Module, tolerance: float) -> None:
    theirs = dict(b.named_buffers())
    for key, value in a.named_buffers():
        if "running" in key:
            error = (value.double() - theirs[key].double()).abs().max() / value.abs().max()

            assert error <= tolerance, key


@pytest.mark.parametrize("batch_size", [1, 5, 23])
def test_sequential_is_the_population_under_inference_whatever_the_batch_size(batch_size):
    model = net()
    done = calibrate(model, images().split(batch_size), mode="sequential")

    # float32 activations and buffers.
    assert_close(exact_net(images()), model, 1e-6)
    assert 23 == done.images
    assert ["1", "5", "8"] == [layer.name for layer in done.layers]
    assert [23 * 36, 23 * 16, 23] == [layer.count for layer in done.layers]


@pytest.mark.parametrize("batch_size", [1, 5, 19])
def test_sequential_is_a_fixed_point_and_no_batching_changes_a_digit(batch_size):
    """The last layers have six values per channel, where the batch size once changed results by 4e-5."""
    torch.manual_seed(0)
    model = torchvision.models.resnet18(weights=None)
    calibrate(model, images(19, 32).split(7), mode="sequential")
    first = copy.deepcopy(model.state_dict())
    calibrate(model, images(19, 32).split(batch_size), mode="sequential")

    assert all(torch.equal(first[key], value) for key, value in model.state_dict().items())


def test_images_of_other_sizes_are_run_apart():
    """In groups by size, in their order; what is pooled is that of all."""
    model = nn.Sequential(nn.BatchNorm2d(3))
    small, large = images(9, 4), images(5, 6)
    done = calibrate(model, [small[:4], small[4:], large, small[:0]], mode="sequential")
    values = torch.cat([small.movedim(1, 0).flatten(1), large.movedim(1, 0).flatten(1)], 1)

    assert 14 == done.images
    torch.testing.assert_close(values.double().mean(1).float(), model[0].running_mean)
    torch.testing.assert_close(values.double().var(1, correction=0).float(), model[0].running_var)


def test_one_pass_normalizes_each_batch_by_itself_on_the_way():
    """Of one batch, that is what torch's training mode does; its running_var is Bessel-corrected."""
    torchs, ours = net(), net()
    for layer in torchs.children():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
        elif hasattr(layer, "momentum"):
            layer.momentum = 1.0
    data = images()
    torchs.train()(data)
    calibrate(ours, [data])

    torch.testing.assert_close(torchs[5].running_mean, ours[5].running_mean, rtol=1e-5, atol=1e-6)
    count = 23 * 16
    torch.testing.assert_close(
        torchs[5].running_var * (count - 1) / count, ours[5].running_var, rtol=1e-5, atol=0
    )


def error_of_first_layer(model: nn.Module) -> float:
    exact = exact_net(images())[1].running_var

    return float((model[1].running_var.double() / exact - 1).abs().max())


@pytest.mark.parametrize("mode", MODES)
def test_the_first_layer_is_exact_in_both_modes_and_not_with_update_bn(mode):
    """update_bn averages the batches' own variances: what the batches' means differ by is missing."""
    ours, torchs = net(), net()
    calibrate(ours, images().split(4), mode=mode)
    torch.optim.swa_utils.update_bn(images().split(4), torchs)

    assert error_of_first_layer(ours) < 1e-6  # float32 activations and buffers
    assert error_of_first_layer(torchs) > 0.05


@pytest.mark.parametrize("mode", MODES)
def test_all_else_stays(mode):
    model = net()
    model[3].eval()
    model[1].num_batches_tracked.fill_(7)
    flags = [module.training for module in model.modules()]
    state, before = torch.get_rng_state(), copy.deepcopy(model.state_dict())
    calibrate(model, [(batch, "label") for batch in images().split(4)], mode=mode)

    assert flags == [module.training for module in model.modules()]
    assert [0.1, None, 0.1] == [model[index].momentum for index in (1, 5, 8)]
    assert torch.equal(state, torch.get_rng_state())
    changed = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    assert {f"{i}.running_{what}" for i in (1, 5, 8) for what in ("mean", "var")} == changed


def poisoned() -> torch.Tensor:
    data = images()
    data[20, 0, 0, 0] = float("nan")
    return data


class Stop(BaseException):
    """As Ctrl-C."""


def interrupted(batches: list[torch.Tensor]):
    class Loader(list):  # type: ignore[type-arg]
        passes = 0

        def __iter__(self):
            self.passes += 1
            yield from batches
            if self.passes > 1 or len(batches) == 1:
                raise Stop

    return Loader(batches)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([], "the batches are empty; give at least two images"),
        (
            poisoned().split(4),
            (
                "1: its input has NaN or Inf in images {}; look at the images, and at the layers before it",
                {"one-pass": "20 to 22", "sequential": "8 to 22"},
            ),
        ),
        (
            [images(), images()[:, :1]],
            (
                (
                    "0: fails on images 23 to {0}, ({1}, 1, 8, 8) torch.float32 (RuntimeError: Given "
                    "groups=1, weight of size [4, 3, 3, 3], expected input[{1}, 1, 8, 8] to have 3 "
                    "channels, but got 1 channels instead); give it images like those that it was trained on"
                ),
                {"one-pass": ("45", "23"), "sequential": ("30", "8")},
            ),
        ),
        (
            [images(), images()[:, 0]],
            None,  # the message is torch's
        ),
        (["text"], "batch 0 is a str; give tensors, or tuples that begin with one"),
        ([images()[:0]], "the batches are empty; give at least two images"),
        (
            [images() * 1e25],
            (
                "1: its statistics reach 6.37e+49, which torch.float32 cannot hold; look at the layers "
                "before it"
            ),
        ),
        ([torch.tensor(1.0)], "batch 0 is a Tensor; give tensors, or tuples that begin with one"),
    ],
)
def test_bad_batches_leave_the_model_as_it_was(batches, message, mode):
    model = net()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ModelError) as caught:
        calibrate(model, batches, mode=mode)

    if isinstance(message, tuple):
        text, gaps = message
        message = text.format(*([gaps[mode]] if isinstance(gaps[mode], str) else gaps[mode]))
    assert message is None or message == str(caught.value)
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in before.items())
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("mode", MODES)
def test_an_interrupted_calibration_leaves_the_model_as_it_was(mode):
    model = net()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(Stop):
        calibrate(
            model,
            interrupted([images()] if mode == "one-pass" else [*images().split(9)]),
            mode=mode,
        )

    assert all(torch.equal(value, model.state_dict()[key]) for key, value in before.items())
    assert all(module.training for module in model.modules())


def used_twice() -> nn.Module:
    layer = nn.BatchNorm2d(3)
    return nn.Sequential(layer, nn.ReLU(), layer)


@pytest.mark.parametrize(
    ("model", "batches", "mode", "message"),
    [
        (
            net(),
            images().split(22),
            "one-pass",
            (
                "8: has one value per channel in the batch of image 22, (1, 6), so its variance is 0; use larger "
                "batches, all of one size, or mode sequential"
            ),
        ),
        (
            net(),
            images(1).split(1),
            "sequential",
            "8: got 1 value per channel in all, which has no variance; give more images",
        ),
        (
            nn.Conv2d(3, 3, 1),
            images().split(4),
            "one-pass",
            "Conv2d: has no BatchNorm layer with running statistics; there is nothing to calibrate",
        ),
        (
            used_twice(),
            images().split(4),
            "sequential",
            "0: runs more than once in a pass, so its statistics depend on themselves; use mode one-pass",
        ),
        (
            nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d()),
            images().split(4),
            "one-pass",
            "1: is lazy and does not know its channels yet; run one batch through the model first",
        ),
        (
            nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm1d(4)),
            [images()],
            "one-pass",
            (
                "1: fails on images 0 to 22, (23, 3, 8, 8) torch.float32 (ValueError: expected 2D or 3D input "
                "(got 4D input)); give it images like those that it was trained on"
            ),
        ),
        (
            nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(5)),
            [images()],
            "sequential",
            (
                "1: fails on images 0 to 7, (8, 3, 8, 8) torch.float32 (RuntimeError: running_mean should "
                "contain 4 elements not 5); give it images like those that it was trained on"
            ),
        ),
    ],
)
def test_what_has_no_answer_is_told(model, batches, mode, message):
    with pytest.raises(ModelError) as caught:
        calibrate(model, batches, mode=mode)

    assert message == str(caught.value)


def test_an_iterator_is_refused_where_it_is_read_again():
    with pytest.raises(ValueError, match=r"^batches is an iterator, which gives its images once;"):
        calibrate(net(), iter(images().split(4)), mode="sequential")


def test_frozen_layers_stay_as_they_are():
    frozen = torchvision.ops.FrozenBatchNorm2d(3)
    done = calibrate(nn.Sequential(frozen, nn.BatchNorm2d(3)), images().split(4))

    assert ["1"] == [layer.name for layer in done.layers]
    assert () == done.unreached
    assert torch.equal(torch.zeros(3), frozen.running_mean)


def test_a_layer_that_no_image_reaches_is_named():
    model = net()
    model[0].spare = nn.BatchNorm2d(2)
    done = calibrate(model, images().split(4))

    assert ("0.spare",) == done.unreached


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.filterwarnings("ignore:.*deprecated")
def test_scripted_and_exported_models_get_the_same_statistics(mode):
    data = images()
    eager = net().eval()
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(eager), buffer)
    buffer.seek(0)
    scripted = torch.jit.load(buffer)
    dims = ({0: torch.export.Dim("n", min=2, max=64)},)
    exported = torch.export.export(eager, (data,), dynamic_shapes=dims).module()
    for model in (eager, scripted, exported):
        calibrate(model, data.split(6), mode=mode)

    assert_close(eager, scripted, 1e-6)
    assert_close(eager, exported, 1e-6)


@pytest.mark.filterwarnings("ignore:.*deprecated", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "freeze",
    [
        lambda model: torch.export.export(model, (images(),)).module(),
        lambda model: torch.jit.trace(model, images(), check_trace=False),
    ],
)
def test_a_program_of_training_mode_is_refused(freeze, mode):
    program = freeze(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).train())
    with pytest.raises(ModelError) as caught:
        calibrate(program, images().split(23), mode=mode)

    assert (
        "1: was exported or traced in training mode, where it never uses its running statistics; export "
        "model.eval()"
    ) == str(caught.value)


def test_a_program_for_one_batch_size_gets_that_size():
    plain, data = net().eval(), images(20)
    program = torch.export.export(plain, (data[:5],)).module()
    calibrate(program, data.split(10), mode="sequential")
    calibrate(plain, data.split(10), mode="sequential")

    assert_close(plain, program, 1e-6)
    with pytest.raises(
        ModelError, match=r"give a multiple of 5 images in batches of 5, or export it with a dyn"
    ):
        calibrate(program, data.split(7))


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("mode", MODES)
def test_a_gpu_gives_the_same(mode):
    torch.backends.cudnn.allow_tf32 = False
    on_cpu, on_gpu = net(), net().cuda()
    for model in (on_cpu, on_gpu):
        calibrate(model, images().split(6), mode=mode)

    assert_close(on_cpu, on_gpu.cpu(), 1e-5)


def test_each_fault_of_a_layer_is_named():
    model = nn.Sequential(*(nn.BatchNorm2d(2) for _ in range(6)))
    for layer in model:
        layer.running_mean.fill_(0.5)
    model[0].running_mean.zero_()
    model[1].running_var[0] = float("nan")
    model[2].running_var[1] = 1e-6
    nn.init.zeros_(model[3].weight)
    model[4].running_var = torch.ones(3)
    model[5] = nn.BatchNorm2d(2, track_running_stats=False)

    assert [
        ("never updated: running_mean is 0 and running_var 1; calibrate it",),
        ("running_var has NaN or Inf in 1 of 2 channels",),
        (
            (
                "running_var is below 10 eps (0.0001) in 1 of 2 channels: eps, not the data, decides their "
                "scale"
            ),
        ),
        ("2 of 2 channels are dead: |weight| below 1e-06",),
        ("channel counts differ: running_var has 3, the layer has 2",),
        (
            (
                "no running statistics (track_running_stats=False): results depend on the batch, and are "
                "noisy if it is small"
            ),
        ),
    ] == [report.faults for report in inspect(model)]


def test_a_checkpoint_and_its_model_are_shown_alike():
    model = nn.Sequential(nn.Conv2d(3, 2, 1), PopulationBatchNorm2d(2))
    model(images())
    (of_model,), (of_checkpoint,) = inspect(model), inspect(model.state_dict())

    assert ("1", 2, None, 1) == (
        of_checkpoint.name,
        of_checkpoint.channels,
        of_checkpoint.eps,
        of_checkpoint.batches,
    )
    assert of_model.variance == of_checkpoint.variance
    assert "?" in table_of((of_checkpoint,))


def test_what_has_no_batchnorm_is_told():
    with pytest.raises(ModelError) as caught:
        inspect({"weight": torch.zeros(3)})

    assert (
        "the checkpoint: has no BatchNorm layer; name a model or a checkpoint that has one"
        == str(caught.value)
    )


def compiled(model: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped = torch.compile(model, backend="eager")
        wrapped(images())  # it runs what it has compiled from now on
    for layer in model.children():
        if hasattr(layer, "reset_running_stats"):
            layer.reset_running_stats()
    return wrapped


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "wrap", [compiled, lambda model: nn.Sequential(compiled(model)), nn.DataParallel]
)
def test_a_wrapped_model_is_calibrated_as_itself(wrap, mode):
    model, plain = net(), net()
    calibrate(wrap(model), images().split(6), mode=mode)
    calibrate(plain, images().split(6), mode=mode)

    assert_close(plain, model, 1e-6)
    assert ("0",) == tuple(
        report.name for report in inspect(nn.DataParallel(nn.Sequential(plain[1])))
    )


@pytest.mark.parametrize("mode", MODES)
def test_distributed_data_parallel_is_looked_through(mode, tmp_path):
    """One process may calibrate while the others do not: their forward passes are not waited for."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1
    )
    try:
        model, plain = net(), net()
        calibrate(nn.parallel.DistributedDataParallel(model), images().split(6), mode=mode)
    finally:
        torch.distributed.destroy_process_group()
    calibrate(plain, images().split(6), mode=mode)

    assert_close(plain, model, 0)


def half(model: nn.Module) -> tuple[nn.Module, torch.Tensor]:
    return model.half(), images().half()


def channels_last(model: nn.Module) -> tuple[nn.Module, torch.Tensor]:
    return model.to(memory_format=torch.channels_last), images().to(
        memory_format=torch.channels_last
    )


def synchronized(model: nn.Module) -> tuple[nn.Module, torch.Tensor]:
    return nn.SyncBatchNorm.convert_sync_batchnorm(model), images()


def population(model: nn.Module) -> tuple[nn.Module, torch.Tensor]:
    return convert(model), images()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("change", "tolerance"),
    [(half, 5e-3), (channels_last, 1e-6), (synchronized, 0), (population, 0)],
)
def test_every_kind_of_batchnorm_and_memory_is_calibrated(change, tolerance, mode):
    """float16 has 11 bits: 5e-4, a few times over in three layers."""
    plain = net()
    calibrate(plain, images().split(6), mode=mode)
    model, data = change(net())
    calibrate(model, data.split(6), mode=mode)

    assert_close(plain, model, tolerance)


@pytest.mark.parametrize("mode", MODES)
def test_inference_mode_and_autocast_around_it_are_fine(mode):
    plain, inferring, casting = net(), net(), net()
    calibrate(plain, images().split(6), mode=mode)
    with torch.inference_mode():
        calibrate(inferring, images().split(6), mode=mode)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        calibrate(casting, images().split(6), mode=mode)

    assert_close(plain, inferring, 0)
    assert_close(plain, casting, 3e-2)  # bfloat16 has 8 bits
    assert torch.float32 is casting[1].running_var.dtype


def test_images_that_batches_leave_out_meanwhile_are_no_other_images():
    """A loader with `skipped` may find more unreadable images in a later pass."""

    class Loader(list):  # type: ignore[type-arg]
        skipped: tuple[str, ...] = ()
        passes = 0

        def __iter__(self):
            self.passes += 1
            if self.passes == 3:  # the first finds the order of the layers
                self.skipped = ("last",)
            yield from self[: len(self) - len(self.skipped)]

    done = calibrate(net(), Loader(images(9).split(1)), mode="sequential")

    assert 8 == done.images
    assert [9 * 36, 8 * 16, 8] == [layer.count for layer in done.layers]


def test_batches_that_change_between_passes_are_told():
    class Loader(list):  # type: ignore[type-arg]
        passes = 0

        def __iter__(self):
            self.passes += 1
            yield from self[: 9 if self.passes < 3 else 7]

    with pytest.raises(ModelError) as caught:
        calibrate(net(), Loader(images(9).split(1)), mode="sequential")

    assert (
        "the batches held 9 images in one pass and 7 in another; give the same images in each"
        == str(caught.value)
    )


def test_a_model_that_is_one_batchnorm_layer_has_the_name_of_its_class():
    layer = nn.BatchNorm2d(3)

    assert ["BatchNorm2d"] == [one.name for one in inspect(layer)]
    assert ["BatchNorm2d"] == [one.name for one in calibrate(layer, [images()]).layers]


def exported_program() -> torch.export.ExportedProgram:
    return torch.export.export(net().eval(), (images(5),))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("resnet18", [images()]), "model is a str; give a torch.nn.Module"),
        (
            (exported_program(), [images()]),
            "model is a ExportedProgram; give a torch.nn.Module, its module()",
        ),
        (
            (net(), images()),
            "batches is one tensor; give a list of batches, such as images.split(64)",
        ),
    ],
)
def test_what_is_no_model_and_no_batches_is_told(arguments, message):
    with pytest.raises(TypeError) as caught:
        calibrate(*arguments)

    assert message == str(caught.value)


@pytest.mark.parametrize(("mode", "where"), [("one-pass", "0 to 22"), ("sequential", "15 to 22")])
def test_a_program_for_one_batch_size_says_which(mode, where):
    """Eight images are left of 23 after three fives: they fit no batch that the program takes."""
    with pytest.raises(ModelError) as caught:
        calibrate(exported_program().module(), [images()], mode=mode)

    assert str(caught.value).startswith(f"GraphModule: fails on images {where}, ")
    assert str(caught.value).endswith(
        "; it was exported for batches of 5 only: give a multiple of 5 images in batches of 5, or export it "
        "with a dynamic batch size"
    )
