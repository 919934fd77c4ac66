"""CenterNet against the npm package it is from: what the package's own graph answered, and where its tensors go.

`centernet_reference.json` was written by `node centernet_reference.js MODELS PICTURE OUTPUT`, with @tensorflow/tfjs
4.22.0 and the folder `models` of @vladmandic/human 3.3.6, for the picture of `picture()`, as bytes. The test that
compares with it needs the package, which `CNN_HUMAN_PACKAGE` names: the .tgz of `npm pack @vladmandic/human@3.3.6`.
"""

import csv
import json
import os
import re
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from cnn_keras import models
from cnn_keras.data.input_pipeline import Shape
from cnn_keras.errors import Fault
from cnn_keras.models import centernet
from cnn_keras.ops.resize import resize_image
from cnn_keras.weights import catalog, human, pretrained
from pipelines.export.formats import Convertible, check, image_preprocessing, write
from pipelines.export.runtimes import Network, Target
from pipelines.serving.converted.model import ConvertedModel
from pipelines.tasks.detect.config import Suppress
from pipelines.tasks.detect.decode import Reader
from tests.conftest import cnn
from tests.converted import FORMATS, need
from tests.pipelines.tasks.test_detect import write_squares

PACKAGE = os.environ.get("CNN_HUMAN_PACKAGE")
RECIPE = """\
# Squares, white or red.
task: detect
data: {source: csv, path: boxes.csv, size: [64, 64], validation: 0.2, test: 0.25}
model: {builder: centernet.centernet}
train: {epochs: 3, batch_size: 4, learning_rate: 5e-4}
export: {suppress: {threshold: 0.01, limit: 20}}
"""
REFERENCE = Path(__file__).with_name("centernet_reference.json")


def picture():
    """Blocks of colour with discs on them, uint8 (512, 512, 3)."""
    rng = np.random.default_rng(7)
    image = rng.integers(0, 256, (4, 4, 3)).repeat(128, axis=0).repeat(128, axis=1)
    y, x = np.mgrid[:512, :512]
    for radius in (90, 60, 30):
        row, column = rng.integers(100, 412, 2)
        image[(x - column) ** 2 + (y - row) ** 2 < radius**2] = rng.integers(0, 256, 3)
    return image.astype("uint8")


@pytest.mark.skipif(not PACKAGE, reason="CNN_HUMAN_PACKAGE names no package")
def test_the_network_answers_what_the_packages_graph_answered():
    network = centernet.centernet()
    licence = human.load(network, Path(PACKAGE))
    boxes, scores = centernet.decode(network, network(picture()[None].astype("float32") / 255))
    expected = np.array(json.loads(REFERENCE.read_text())).reshape(100, 6)  # left, top, right, bottom, score, class
    best = np.max(scores[0], axis=-1)[:100]
    np.testing.assert_allclose(best, expected[:, 4], atol=2e-6)
    assert (np.argmax(scores[0], axis=-1)[:100] == expected[:, 5]).all()
    np.testing.assert_allclose(boxes[0][:100] * 512, expected[:, :4].clip(0, 512), atol=2e-3)
    assert licence.startswith("MIT License")


def write_package(folder):
    """A package whose tensors are drawn, float16, under the names of the file."""
    rng, network, entries, data = np.random.default_rng(0), centernet.centernet(), [], b""

    for layer in [layer for layer in network.layers if layer.weights]:
        for name, weight in zip(names_of(layer.name), layer.weights, strict=True):
            values = rng.normal(size=weight.shape).astype("<f2")
            kind = {"dtype": "float16", "original_dtype": "float32"}
            entries.append({"name": name, "shape": list(weight.shape), "dtype": "float32", "quantization": kind})
            data += values.tobytes()
    manifest = {"weightsManifest": [{"paths": ["centernet.bin"], "weights": entries}]}
    folder.mkdir(exist_ok=True)
    (folder / "centernet.json").write_text(json.dumps(manifest))
    (folder / "centernet.bin").write_bytes(data)
    (folder / "LICENSE").write_text("MIT License\n\nCopyright (c) Somebody\n")
    return folder


def names_of(layer):
    """Kernel and bias of a layer in the file, read off the file's own list."""
    unit = re.fullmatch(r"unit(\d+)_(\w+)", layer)
    if unit and unit[2] in ("squeeze", "excite"):
        place = f"MobilenetV3/expanded_conv_{unit[1]}/squeeze_excite/Conv" + ("_1" if unit[2] == "excite" else "")
        return [f"{place}/weights", f"{place}/biases"]
    if unit or layer in ("stem", "features", "head_squeeze") or layer.endswith("_tap"):
        number = f"_{unit[1]}" if unit and unit[1] != "0" else ""
        place = {
            "stem": "MobilenetV3/Conv",
            "features": "extern1",
            "head_squeeze": "CenternetHead/conv1x1_se_a",
        }.get(layer) or (
            f"MobilenetV3/expanded_conv{number}/{unit[2]}" if unit else f"CenternetHead/{layer[:2]}_reverse/1x1"
        )
        kernel, bias = (
            ("depthwise_weights", "depthwise_bn_offset")
            if layer.endswith("depthwise")
            else ("Conv2D_weights", "Conv2D_bn_offset")
        )
        return [f"tower_0/{place}/{kernel}", f"tower_0/{place}/{bias}"]
    if layer == "head_excite":
        return ["CenternetHead/conv1x1_se_b/weights"]
    head = re.fullmatch(r"(distances|heatmap)(_depthwise)?", layer)
    if head:
        place = f"CenternetHead/centernet_{'wh' if head[1] == 'distances' else 'cls'}_output"
        return [f"{place}/depthwise_weights"] if head[2] else [f"{place}/pointwise_weights", f"{place}/biases"]
    level, kind, depthwise = re.fullmatch(r"c(\d)_(lateral|small|large)(_depthwise)?", layer).groups()
    branch = {"small": "branch_x_upsample_resize", "large": "branch_y_upsample_resize"}
    place = (
        f"CenternetHead/c{level}_reverse/3x3"
        if kind == "lateral"
        else f"CenternetHead/c{int(level) + 1}_upsample/{branch[kind]}"
    )
    if depthwise:
        return [f"{place}/depthwise_weights"]
    return [f"tower_0/{place}/separable_conv2d_weights", f"tower_0/{place}/separable_conv2d_bn_offset"]


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    return write_package(tmp_path_factory.mktemp("human") / "models")


def test_every_tensor_of_the_file_has_its_layer(package):
    network = centernet.centernet()
    licence = human.load(network, package)
    stored = np.frombuffer((package / "centernet.bin").read_bytes(), "<f2").astype("float32")
    loaded = [weight for layer in network.layers for weight in layer.get_weights()]
    loaded[0] = loaded[0] / 255  # the first filters, for pixels of [0, 1]
    np.testing.assert_allclose(np.concatenate([weight.ravel() for weight in loaded]), stored, rtol=1e-6)
    assert licence.startswith("MIT License")


def test_a_package_cut_off_is_refused(package, tmp_path):
    for file in package.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes()[:-2])
    with pytest.raises(Fault) as caught:
        human.load(centernet.centernet(), tmp_path)
    assert caught.value.code == Fault.DATA


def test_weights_of_coco_fill_all_but_the_classes_of_another_number(package, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    with pytest.raises(Fault, match="import-weights human"):
        pretrained.load(models.build("centernet.centernet", classes=3), "centernet.centernet", "coco")
    network = centernet.centernet()
    human.load(network, package)
    catalog.coco_folder().mkdir(parents=True)
    network.save(catalog.coco_folder() / "centernet.keras")
    other = models.build("centernet.centernet", input_shape=(64, 64, 3), classes=3)
    assert pretrained.load(other, "centernet.centernet", "coco") == ("heatmap",)
    for name in ("stem", "unit14_project", "distances", "heatmap_depthwise"):
        for mine, theirs in zip(other.get_layer(name).weights, network.get_layer(name).weights, strict=True):
            np.testing.assert_array_equal(mine, theirs)
    for mine, theirs in zip(other.get_layer("heatmap").weights, network.get_layer("heatmap").weights, strict=True):
        for number in range(3):  # each class begins as an object of any class
            np.testing.assert_allclose(mine[..., number], np.mean(theirs, axis=-1), rtol=1e-5, atol=1e-7)
    assert pretrained.load(models.build("centernet.centernet"), "centernet.centernet", "coco") == ()


def test_the_promises_of_detectors():
    """Of "centernet.centernet": any size, finite losses, gradients everywhere, a saved model that loads."""
    network = models.build("centernet.centernet", input_shape=(None, None, 3), classes=3)
    outputs = network(np.zeros((2, 64, 96, 3), "float32"))
    assert {name: tuple(output.shape) for name, output in outputs.items()} == {
        "distances": (2, 16, 24, 4),
        "heatmap": (2, 16, 24, 3),
    }
    boxes, scores = centernet.decode(network, outputs)
    assert boxes.shape == (2, 500, 4)
    assert scores.shape == (2, 500, 3)
    terms = centernet.loss(
        network, outputs, np.array([[[0.1, 0.2, 0.5, 0.9]], [[0, 0, 0, 0]]], "f"), np.zeros((2, 1), "i8")
    )
    assert set(terms) == {"heatmap", "size"}
    assert all(np.isfinite(term) for term in terms.values())
    again = keras.Model.from_config(network.get_config())
    assert [layer.name for layer in again.layers] == [layer.name for layer in network.layers]


def test_sides_that_the_strides_do_not_divide_are_refused():
    with pytest.raises(Fault, match="multiples of 32"):
        models.build("centernet.centernet", input_shape=(100, 64, 3))


def test_openvino_keeps_the_sixth_of_the_file(tmp_path):
    need("openvino")
    network = models.build("centernet.centernet", input_shape=(32, 32, 3), classes=2)
    swish = network.get_layer("stem_swish")  # a product of x and its hard sigmoid
    model = keras.Model(network.inputs, {"x": swish.input[0], "y": swish.output})
    tensor = tf.TensorSpec((None, 32, 32, 3), tf.float32, name="image")
    no = {"examples": None, "changed": None, "score": None, "measure": None, "metric": ""}
    convertible = Convertible(model=model, answer=model, tensor=tensor, about={}, **no)
    write(convertible, tmp_path, Target("openvino", "float32"))
    description = {"format": "openvino", "precision": "float32", "outputs": {"x": "", "y": ""}}
    (tmp_path / "network.json").write_text(json.dumps(description))
    found = Network(tmp_path)(np.random.default_rng(0).uniform(-50, 50, (2, 32, 32, 3)).astype("f"))
    assert np.min(found["x"]) < -3 < 3 < np.max(found["x"])
    sixth = np.float32(np.float16(1 / 6))
    expected = found["x"] * np.clip(found["x"] + 3, 0, 6) * sixth
    np.testing.assert_allclose(found["y"], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", FORMATS)
def test_maps_grow_in_float16_too(name, tmp_path):
    need(name)
    image = keras.Input((8, 8, 3), name="image")
    model = keras.Model(image, keras.layers.Conv2D(4, 3)(centernet.CornerUpSampling2D()(image)))
    tensor = tf.TensorSpec((None, 8, 8, 3), tf.float32, name="image")
    no = dict.fromkeys(("examples", "changed", "score", "measure", "metric"))
    convertible = Convertible(model=model, answer=lambda x: {"y": model(x)}, tensor=tensor, about={}, **no)
    write(convertible, tmp_path, Target(name, "float16"))
    (tmp_path / "network.json").write_text(json.dumps({"format": name, "precision": "float16", "outputs": {"y": ""}}))
    x = np.random.default_rng(0).uniform(0, 1, (2, 8, 8, 3)).astype("f")
    np.testing.assert_allclose(Network(tmp_path)(x)["y"], model(x), atol=5e-3)


@pytest.mark.parametrize("name", FORMATS)
def test_another_engine_serves_what_the_network_finds(name, tmp_path):
    """Drawn weights of the heat map make peaks of distinct scores: their order is no matter of rounding."""
    need(name)
    keras.utils.set_random_seed(0)
    network, shape = centernet.centernet(input_shape=(64, 64, 3), classes=2), Shape((64, 64), 3, "pad")
    kernel = network.get_layer("heatmap").kernel
    kernel.assign(np.random.default_rng(0).normal(0, 300, kernel.shape))

    def candidates(images, proposals=None):
        return centernet.decode(network, network(tf.cast(images, tf.float32) / 255))

    suppress = {"threshold": 0.24, "limit": 20, "soft": None, "iou_threshold": 0.5}
    about = {"preprocessing": image_preprocessing(shape), "outputs": {"boxes": "", "scores": ""}}
    convertible = Convertible(
        model=network,
        answer=lambda images: dict(zip(("boxes", "scores"), candidates(images), strict=True)),
        tensor=tf.TensorSpec((None, 64, 64, 3), tf.uint8, name="image"),
        about=about,
        **dict.fromkeys(("examples", "changed", "score", "measure", "metric")),
    )
    write(convertible, tmp_path, Target(name, "float32"))
    facts = {"task": "detect", "name": "peaks", "version": 1, "format": name, "precision": "float32"}
    taken = {"name": "image", "dtype": "uint8", "shape": [None, 64, 64, 3]}
    description = {**facts, **about, "input": taken, "classes": ["red", "white"], "suppress": suppress}
    (tmp_path / "network.json").write_text(json.dumps(description))
    image = picture()[:256, :384]
    answer = ConvertedModel(tmp_path)("serving_tensor", {"image": image[None]})
    reader = Reader(candidates, Suppress(threshold=0.24, limit=20, overlap=0.5), shape=shape)
    expected = reader(resize_image(image, shape.size, fit="pad")[None], tf.constant([[256, 384]]))
    assert answer["count"] == expected.count > 3
    np.testing.assert_array_equal(answer["class_id"], expected.classes)
    np.testing.assert_allclose(answer["boxes"], expected.boxes, atol=0.5)
    np.testing.assert_allclose(answer["scores"], expected.scores, atol=2e-3)


@pytest.mark.slow
def test_a_detector_goes_through_the_four_verbs_and_its_loss_falls(tmp_path):
    write_squares(tmp_path, count=16)
    recipe = tmp_path / "squares.yaml"
    recipe.write_text(RECIPE)
    assert cnn("run", recipe, "--runs", tmp_path / "runs") == 0
    run = tmp_path / "runs" / "detect" / "squares"
    with (run / "train" / "history.csv").open(newline="") as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    assert losses[-1] < losses[0]
    answers = tmp_path / "answers.csv"
    assert cnn("predict", run / "export" / "squares", tmp_path / "0.png", "--csv", answers) == 0
    assert answers.read_text().startswith("path,label,probability,left,top,right,bottom")
    need()
    assert cnn("export", recipe, "--format", ",".join(FORMATS), "--runs", tmp_path / "runs") == 0
    for name in FORMATS:  # after three epochs all scores are nearly one, so that their order is left to rounding
        proof = json.loads((run / "formats" / f"{name}-float32" / "network.json").read_text())["proof"]
        assert proof["value"] == pytest.approx(proof["original"], abs=0.02)


def test_int8_of_litert_is_refused_before_anything_is_computed():
    network = centernet.centernet(input_shape=(64, 64, 3), classes=2)
    with pytest.raises(Fault, match="take openvino-int8"):
        check(network, Target("litert", "int8"))
    check(network, Target("openvino", "int8"))
    check(network, Target("litert", "float32"))
