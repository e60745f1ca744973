"""scripts/fold_models: the BatchNorm layers of twelve families of timm's models. Only with `--heavy`."""

from __future__ import annotations

import copy
import re
import runpy
import sys
from pathlib import Path

import pytest
import torch

from imgnorm.nn import convert, fold_batchnorm, unfolded
from imgnorm.nn.inspection import is_batchnorm

ROOT = Path(__file__).resolve().parents[1]
# A float32 has 2**-24 = 6e-8; the sums of up to a hundred layers are rounded in another place.
ROUNDING = 5e-6


@pytest.mark.heavy
@pytest.mark.filterwarnings("default::DeprecationWarning", "default::FutureWarning")
def test_the_table_of_folded_models_is_what_the_script_prints(monkeypatch, capsys):
    """Whatever is not folded is named with the reason; what is gives the outputs of the model."""
    pytest.importorskip("timm")
    monkeypatch.syspath_prepend(ROOT / "scripts")
    monkeypatch.setattr(sys, "argv", ["fold_models"])
    runpy.run_path(str(ROOT / "scripts" / "fold_models"))["main"]()
    printed = capsys.readouterr().out
    committed = (ROOT / "benchmarks" / "FOLDING.md").read_text()

    assert facts(committed) == facts(printed)
    assert 12 == len(errors(printed))
    assert max(errors(printed)) <= ROUNDING


@pytest.mark.heavy
@pytest.mark.filterwarnings("default::DeprecationWarning", "default::FutureWarning")
@torch.no_grad()
def test_frozen_synchronized_and_converted_layers_of_timm_fold_too():
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    model = timm.create_model("efficientnet_b0", pretrained=False).double()
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    model.train()(images)  # so that the running statistics are not those of a new layer
    expected = model.eval()(images)
    for change in (timm.layers.freeze_batch_norm_2d, timm.layers.convert_sync_batchnorm, convert):
        changed = change(copy.deepcopy(model)).eval()
        folded = fold_batchnorm(changed)

        assert {} == unfolded(changed)
        assert not any(map(is_batchnorm, folded.modules()))
        assert (folded(images) - expected).abs().max() <= 1e-12 * expected.abs().max()


@pytest.mark.heavy
def test_a_convolution_with_a_forward_of_its_own_is_named():
    timm = pytest.importorskip("timm")
    left = unfolded(timm.create_model("tf_efficientnet_b0", pretrained=False).eval())

    assert "follows conv_stem (Conv2dSame), whose forward is not torch's own" == left["bn1"]


def errors(text: str) -> list[float]:
    return [float(error) for error in re.findall(r"\| ([0-9.e-]+) \|$", text, re.MULTILINE)]


def facts(text: str) -> list[str]:
    """The table without its last column, and the layers that are left."""
    lines = [line for line in text.splitlines() if line.startswith(("| ", "- "))]
    return [line.rpartition(" | ")[0] if line.startswith("|") else line for line in lines]
