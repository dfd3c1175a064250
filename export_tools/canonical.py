"""The one way of writing down a traced graph: operators, weights, and names of our own.

A tracer leaves source lines, module paths, counters and its own version in what it writes. None of
that is computed with, and all of it differs from one machine or run to the next.
"""

from __future__ import annotations

import onnx
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from edge_sdk.engines.tensors import TensorSpec
from edge_sdk.errors import InputError

BATCH = "batch"
"""Name of the dynamic axis of pictures."""
ROWS = "rows"
"""Name of the dynamic axis of a reference memory."""


def canonical_graph(traced: ModelProto, opset: int, title: str = "encoder") -> ModelProto:
    """Rebuild a graph with nothing in it but operators, weights and names of our own.

    Values are named after the operator that gives them, weights after the first that takes them.

    Args:
        traced: a graph without branches, of standard operators, whose inputs and outputs are
            tensors with a dynamic first axis, ``BATCH`` or ``ROWS``.
        opset: the standard operator set it was written in.
        title: name of the graph.

    Raises:
        InputError: it is not such a graph.
    """
    graph = traced.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    names = {value.name: value.name for value in (*graph.input, *graph.output)}
    names[""] = ""  # how ONNX writes an optional input that is left out
    nodes: list[NodeProto] = []
    initializers: list[TensorProto] = []
    for index, node in enumerate(graph.node):
        own_name = f"{node.op_type.lower()}_{index}"
        for position, name in enumerate(node.input):
            if name not in names:
                names[name] = f"{own_name}_in{position}"
                array = numpy_helper.to_array(weights[name])
                initializers.append(numpy_helper.from_array(array, names[name]))
        for position, name in enumerate(node.output):
            names.setdefault(name, f"{own_name}_out{position}")
        nodes.append(_canonical_node(node, own_name, names))
    rebuilt = helper.make_graph(
        nodes,
        title,
        [_canonical_value(value) for value in graph.input],
        [_canonical_value(value) for value in graph.output],
        initializers,
    )
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(
        rebuilt, opset_imports=opsets, ir_version=helper.find_min_ir_version_for(opsets)
    )


def tensor_spec(value: ValueInfoProto) -> TensorSpec:
    """Read name, type and shape of an input or output.

    Raises:
        InputError: it is not a tensor of a known type and rank.
    """
    tensor = value.type.tensor_type
    if tensor.elem_type == TensorProto.UNDEFINED or not tensor.HasField("shape"):
        raise InputError(f"graph: {value.name}: expected a tensor with a type and a shape")
    return TensorSpec(
        name=value.name,
        dtype=helper.tensor_dtype_to_np_dtype(tensor.elem_type).name,
        shape=tuple(
            dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim
        ),
    )


def _canonical_node(node: NodeProto, own_name: str, names: dict[str, str]) -> NodeProto:
    if node.domain not in ("", "ai.onnx"):
        raise InputError(f"model: {node.domain}.{node.op_type}: expected standard operators only")
    rebuilt = NodeProto(
        op_type=node.op_type,
        name=own_name,
        input=[names[name] for name in node.input],
        output=[names[name] for name in node.output],
    )
    for attribute in sorted(node.attribute, key=lambda one: one.name):
        value = helper.get_attribute_value(attribute)
        if isinstance(value, onnx.GraphProto):
            raise InputError(f"model: {node.op_type}: expected no branches or loops in the graph")
        if isinstance(value, TensorProto):
            value = numpy_helper.from_array(numpy_helper.to_array(value))
        rebuilt.attribute.append(
            helper.make_attribute(attribute.name, value, attr_type=attribute.type)
        )
    return rebuilt


def _canonical_value(value: ValueInfoProto) -> ValueInfoProto:
    spec = tensor_spec(value)
    dims = value.type.tensor_type.shape.dim
    if not dims or dims[0].dim_param not in (BATCH, ROWS) or None in spec.shape[1:]:
        raise InputError(
            f"model: {spec.name}: expected the batch as its first axis and every other axis fixed, "
            f"got {[dim.dim_param or dim.dim_value for dim in dims]}"
        )
    return helper.make_tensor_value_info(
        spec.name, value.type.tensor_type.elem_type, [dims[0].dim_param, *spec.shape[1:]]
    )
