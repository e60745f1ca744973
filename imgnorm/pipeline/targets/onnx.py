"""ONNX: a model of two nodes, Sub and Div, for float32 images (N, C, H, W)."""

from __future__ import annotations

from imgnorm.errors import MissingDependency
from imgnorm.pipeline.targets.target import Normalization, Target

_OPSET, _IR = 13, 8  # read by what is years old


def _render(numbers: Normalization) -> bytes:
    try:
        from onnx import TensorProto, helper
    except ImportError as error:
        raise MissingDependency(
            "--to onnx needs onnx; install it with `pip install onnx`"
        ) from error
    count = len(numbers.mean)
    constants = [
        helper.make_tensor(name, TensorProto.FLOAT, (1, count, 1, 1), values)
        for name, values in (("mean", numbers.mean), ("std", numbers.std))
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ("N", count, "H", "W"))
        for name in ("images", "normalized")
    ]
    nodes = [
        helper.make_node("Sub", ["images", "mean"], ["centered"]),
        helper.make_node("Div", ["centered", "std"], ["normalized"]),
    ]
    graph = helper.make_graph(nodes, "normalization", ends[:1], ends[1:], constants)
    model = helper.make_model(
        graph,
        producer_name="imgnorm",
        doc_string=numbers.note(),
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR,
    )
    helper.set_model_props(model, {"unit": numbers.unit, "channel_order": numbers.order})
    return bytes(model.SerializeToString(deterministic=True))


ONNX = Target("onnx", "ONNX", "normalization.onnx", "Sub, Div", _render)
