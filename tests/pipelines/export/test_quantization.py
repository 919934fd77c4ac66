"""Networks in int8: which of their operations are, by which scales, and how large their files are."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.lite.tools import flatbuffer_utils

from pipelines.export import formats, quantization, runtimes
from pipelines.export.quantization import Operation
from pipelines.export.runtimes import Network, Target
from tests.converted import need

SIZE = (12, 12, 3)


@pytest.fixture(scope="module")
def convertible():
    """A residual network of pictures whose answer is an exponential of what its last layer says."""
    draw = keras.initializers.RandomNormal(stddev=0.2, seed=0)
    image = keras.Input(SIZE, dtype="uint8", name="image")
    x = keras.layers.Rescaling(1 / 255)(image)
    x = keras.layers.Conv2D(16, 3, activation="relu", kernel_initializer=draw)(x)
    y = keras.layers.Conv2D(16, 3, padding="same", activation="relu", kernel_initializer=draw)(x)
    x = keras.layers.Flatten()(keras.layers.Add()([x, y]))
    x = keras.layers.Dense(64, kernel_initializer=draw)(x)
    model = keras.Model(image, keras.layers.Dense(4, kernel_initializer=draw)(x))
    return formats.Convertible(
        model=model,
        answer=lambda batch: {"sizes": tf.exp(model(batch, training=False)) * 3.0},
        tensor=tf.TensorSpec((None, *SIZE), tf.uint8, name="image"),
        about={"outputs": {"sizes": ""}},
        examples=lambda split: iter(()),
        changed=lambda one, other: (0, 0),
        score=lambda outputs, truth: None,
        measure=lambda scores: (0.0, (0.0, 0.0)),
        metric="none",
    )


@pytest.fixture(scope="module")
def rows():
    return np.random.default_rng(0).integers(0, 256, (40, *SIZE), np.uint8)


@pytest.fixture(scope="module")
def written(convertible, rows, tmp_path_factory):
    """The folder of the network in a format and a precision, made once."""
    root = tmp_path_factory.mktemp("written")

    def write(name, precision="int8"):
        need(name, precision=precision)
        target = Target(name, precision)
        folder = root / str(target)
        if not folder.exists():
            folder.mkdir()
            formats.write(convertible, folder, target, rows)
            description = {**target._asdict(), "outputs": convertible.about["outputs"]}
            (folder / "network.json").write_text(json.dumps(description))
        return folder

    return write


@pytest.mark.parametrize("name", runtimes.FORMATS)
def test_it_answers_nearly_the_same_for_any_number_of_rows_in_a_third_of_the_size(name, convertible, rows, written):
    quantized, whole = written(name), written(name, "float32")
    network = Network(quantized)
    for batch in (rows[:1], rows[:7]):
        expected = convertible.answer(tf.constant(batch))["sizes"].numpy()
        answer = network(batch)["sizes"]
        assert answer.dtype == np.float32
        assert not np.array_equal(answer, expected)  # it is another network
        np.testing.assert_allclose(np.log(answer), np.log(expected), atol=0.05 * np.ptp(np.log(expected)))
    assert runtimes.size(quantized) < runtimes.size(whole) / 3


def test_litert_computes_layers_in_int8_and_the_last_one_and_the_answer_in_float(written):
    content = flatbuffer_utils.read_model(str(written("litert") / "network.tflite"))
    graph = content.subgraphs[0]

    def kinds(tensors):
        return {flatbuffer_utils.type_to_name(graph.tensors[number].type) for number in tensors}

    seen, dense = {}, []
    for operator in graph.operators:
        name = flatbuffer_utils.opcode_to_name(content, operator.opcodeIndex)
        seen[name] = operator
        dense += [kinds(operator.outputs)] if name == "FULLY_CONNECTED" else []
    assert dense == [{"INT8"}, {"FLOAT32"}]
    for name in ("CONV_2D", "ADD"):
        assert kinds(seen[name].outputs) == {"INT8"}
    for name in ("EXP", "MUL"):
        assert kinds([*seen[name].inputs, *seen[name].outputs]) == {"FLOAT32"}
    kernel = graph.tensors[seen["CONV_2D"].inputs[1]]
    assert len(kernel.quantization.scale) == 16  # one for each channel


def test_onnx_has_a_scale_for_each_channel_and_none_from_the_last_layer_on(written):
    need("onnx")
    import onnx  # optional
    from onnx import numpy_helper

    graph = onnx.load(written("onnx") / "network.onnx").graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    makers = {output: node for node in graph.node for output in node.output}
    kernels = [makers[node.input[1]] for node in graph.node if node.op_type == "Conv"]
    assert [constants[kernel.input[1]].shape for kernel in kernels] == [(16,), (16,)]
    assert all(constants[kernel.input[0]].dtype == np.int8 for kernel in kernels)
    (last,) = [node for node in graph.node if "sizes" in node.output]
    assert makers[last.input[0]].op_type == "Exp"
    dense = [node for node in graph.node if node.op_type in ("Gemm", "MatMul")]
    assert [makers[node.input[1]].op_type for node in dense if node.input[1] in makers] == ["DequantizeLinear"]


def test_the_tail_is_the_last_layer_with_weights_of_each_path_and_what_comes_after():
    graph = [
        Operation("first", "CONV_2D", ["image"], ["a"]),
        Operation("swish", "LOGISTIC", ["a"], ["b"]),
        Operation("boxes", "CONV_2D", ["b"], ["c"]),
        Operation("placed", "MUL", ["c"], ["d"]),
        Operation("classes", "FULLY_CONNECTED", ["b"], ["e"]),
        Operation("probabilities", "SOFTMAX", ["e"], ["f"]),
    ]
    assert sorted(quantization.tail(graph)) == ["boxes", "classes", "placed", "probabilities"]
