"""OpenVINO: a Python module that puts the normalization in front of a model."""

from __future__ import annotations

from imgnorm.pipeline.targets.target import Normalization, Target, list_lines

_FUNCTION = '''\
def with_normalization(model, layout="NCHW"):
    """The model with the normalization in front of its input, which takes these values then."""
    steps = PrePostProcessor(model)
    steps.input().tensor().set_layout(Layout(layout))
    steps.input().preprocess().mean(mean_values).scale(scale_values)
    return steps.build()
'''


def _render(numbers: Normalization) -> str:
    lines = [
        "from openvino import Layout",
        "from openvino.preprocess import PrePostProcessor",
        "",
        *list_lines("mean_values = ", numbers.mean),
        *list_lines("scale_values = ", numbers.std),
        "",
        "",
        _FUNCTION,
    ]
    return "\n".join([*numbers.comments(), "", *lines])


OPENVINO = Target("openvino", "OpenVINO", "normalization.py", "mean_values, scale_values", _render)
