"""An ONNX graph whose matrix products are computed in half precision. Knows nothing of versions or of engines.

Only the products change, between a cast down and a cast up: standardising, missing values, links and softmax stay in
float32, as torch's autocast has them. For runtimes that take types from the graph, as TensorRT does.
"""

from typing import Any, Literal

from raymlops.engine.quantize import PRODUCTS

__all__ = ["halved"]


def halved(graph: bytes, kind: Literal["fp16", "bf16"]) -> bytes:
    """Return the graph with its products in ``kind``, weights stored so; input and output stay float32.

    A weight beyond 65,504 becomes infinite in fp16. Equal graphs give equal bytes.
    """
    import onnx
    from onnx import helper, numpy_helper

    to = {"fp16": onnx.TensorProto.FLOAT16, "bf16": onnx.TensorProto.BFLOAT16}[kind]
    model = onnx.load_model_from_string(graph)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes, casts = list(model.graph.node), dict[str, str]()
    del model.graph.node[:]

    def down(name: str) -> str:
        if name in casts or not name:
            return casts.get(name, name)
        casts[name] = f"{name}.{kind}"
        if name in weights:
            value: Any = numpy_helper.to_array(weights[name]).astype(helper.tensor_dtype_to_np_dtype(to))
            model.graph.initializer.append(numpy_helper.from_array(value, casts[name]))
        else:
            model.graph.node.append(helper.make_node("Cast", [name], [casts[name]], to=to))
        return casts[name]

    for node in nodes:
        if node.op_type not in PRODUCTS:
            model.graph.node.append(node)
            continue
        inputs, output = [down(name) for name in node.input], node.output[0]
        node.input[:], node.output[0] = inputs, f"{output}.{kind}.product"
        model.graph.node.append(node)
        model.graph.node.append(helper.make_node("Cast", [node.output[0]], [output], to=onnx.TensorProto.FLOAT))
    _drop_unused(model)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _drop_unused(model: Any) -> None:
    used = {name for node in model.graph.node for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:], model.graph.value_info[:]
    model.graph.initializer.extend(kept)
