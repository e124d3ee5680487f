"""A Keras network of the layers of `layers.py` as ONNX, written node by node: no framework is needed to run it."""

from typing import TYPE_CHECKING, Any

import numpy as np

from mlaas.runtimes.tabular.onnx_model import OPSET, of_estimator

if TYPE_CHECKING:
    from mlaas.runtimes.tabular.network import Network

# Keras's activations as (operator, attributes); ONNX's operators are those of its opset 20.
_ACTIVATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "relu": ("Relu", {}),
    "leaky_relu": ("LeakyRelu", {"alpha": 0.2}),
    "elu": ("Elu", {"alpha": 1.0}),
    "selu": ("Selu", {}),
    "gelu": ("Gelu", {"approximate": "none"}),
    "mish": ("Mish", {}),
    "tanh": ("Tanh", {}),
    "sigmoid": ("Sigmoid", {}),
    "softmax": ("Softmax", {"axis": -1}),
    "softplus": ("Softplus", {}),
    "softsign": ("Softsign", {}),
    "exponential": ("Exp", {}),
}


class _Graph:
    """Nodes and weights, one after the other."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.last = "x"

    def weight(self, value: Any) -> str:
        from onnx import numpy_helper

        name = f"weight-{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(value, dtype=np.float32), name))
        return name

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        from onnx import helper

        name = f"node-{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, [*inputs], [name], **attributes))
        self.last = name
        return name

    def activate(self, name: str) -> None:
        if name in ("silu", "swish"):
            before = self.last
            self.node("Mul", before, self.node("Sigmoid", before))
        elif name != "linear":
            operator, attributes = _ACTIVATIONS[name]
            self.node(operator, self.last, **attributes)


def of_network(network: "Network") -> Any:
    """The network, behind the preparation of columns where there is one, as `onnx.ModelProto`."""
    from onnx import TensorProto, compose, helper

    graph = _Graph()
    for layer in network.model.layers:
        _LAYERS[type(layer).__name__](graph, layer)
    width = network.model.input_shape[1]
    units = network.parameters.output[0]
    made = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "network",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, width])],
            [helper.make_tensor_value_info(graph.last, TensorProto.FLOAT, [None, units])],
            graph.weights,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        producer_name="mlaas",
        ir_version=9,
    )
    if network.prepare is None:
        return made
    before = of_estimator(network.prepare, network.plan)
    before.ir_version = 9
    made = compose.add_prefix(made, "network-")
    wanted = {before.graph.output[0].name: "network-x"}
    return compose.merge_models(before, made, io_map=[next(iter(wanted.items()))])


def _dense(graph: _Graph, layer: Any) -> None:
    kernel, *bias = layer.get_weights()
    graph.node("MatMul", graph.last, graph.weight(kernel))
    if bias:
        graph.node("Add", graph.last, graph.weight(bias[0]))
    graph.activate(layer.activation.__name__)


def _activation(graph: _Graph, layer: Any) -> None:
    graph.activate(layer.activation.__name__)


def _normalization(graph: _Graph, layer: Any) -> None:
    graph.node("Sub", graph.last, graph.weight(np.asarray(layer.input_mean).reshape(-1)))
    deviation = np.sqrt(np.asarray(layer.input_variance, dtype=np.float32)).reshape(-1)
    graph.node("Div", graph.last, graph.weight(np.maximum(deviation, 1e-7)))


def _batch_normalization(graph: _Graph, layer: Any) -> None:
    """(x - mean) / sqrt(variance + epsilon) * gamma + beta, of the moving statistics."""
    weights = [*layer.get_weights()]
    gamma = weights.pop(0) if layer.scale else 1.0
    beta = weights.pop(0) if layer.center else 0.0
    mean, variance = weights
    factor = gamma / np.sqrt(variance + layer.epsilon)
    graph.node("Mul", graph.last, graph.weight(factor))
    graph.node("Add", graph.last, graph.weight(beta - mean * factor))


def _layer_normalization(graph: _Graph, layer: Any) -> None:
    weights = [*layer.get_weights()]
    width = int(np.prod(layer.input.shape[1:]))
    gamma = weights.pop(0) if layer.scale else np.ones(width)
    beta = weights.pop(0) if layer.center else np.zeros(width)
    inputs = (graph.last, graph.weight(gamma), graph.weight(beta))
    graph.node("LayerNormalization", *inputs, axis=-1, epsilon=layer.epsilon)


def _nothing(graph: _Graph, layer: Any) -> None:
    """A layer that only does something in training."""


_LAYERS = {
    "Dense": _dense,
    "Activation": _activation,
    "Normalization": _normalization,
    "BatchNormalization": _batch_normalization,
    "LayerNormalization": _layer_normalization,
    "Dropout": _nothing,
    "GaussianNoise": _nothing,
    "InputLayer": _nothing,
}
