"""The face networks of @vladmandic/human: their weights are read, and they answer what the package's graphs answer.

The reference beside this file is what the graphs of @vladmandic/human 3.3.6 answered, run by `human_faces_reference.js`
on the CPU backend of TensorFlow.js 4.22, with the weights and pictures that are drawn here: both are functions of a
seed, and the file holds answers only, of BlazeFace's 896 anchors every 29th. The package's own weights gave differences
of 0 (BlazeFace), 1e-7 (antispoof) and 1e-7 (liveness).
"""

import contextlib
import io
import json
import math
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from cnn_keras.errors import Fault
from cnn_keras.models import blazeface, liveness
from cnn_keras.weights import human_faces
from pipelines.export import import_human_faces, savedmodel
from pipelines.faces import detector
from pipelines.faces.encoder import Guard
from tests.conftest import cnn

REFERENCE = Path(__file__).with_name("human_faces_reference.json")
SIDES = {"blazeface": 256, "antispoof": 128, "liveness": 32}
EACH = 29  # of how many anchors the reference has one


def shapes():
    """The tensors of the three graphs that are weights."""
    blaze, before = {"unknown": (5, 5, 3, 24), "unknown_0": (24,)}, 24
    filters = [24] * 15 + [48] * 8 + [96] * 9  # the last one is the coarse map's
    for block, after in enumerate(filters):
        blaze |= {f"unknown_{4 * block + 1}": (3, 3, before, 1), f"unknown_{4 * block + 3}": (1, 1, before, after)}
        blaze[f"unknown_{4 * block + 4}"] = (after,)
        before = after
    for number, count in ((129, 96), (131, 32), (133, 6), (135, 2)):
        blaze |= {f"unknown_{number}": (1, 1, 96, count), f"unknown_{number + 1}": (count,)}
    antispoof = {}
    kernels = ((3, 3, 3, 64), (3, 3, 64, 32), (3, 3, 32, 16), (3136, 128), (128, 1))
    for number, kernel in enumerate(kernels):
        names = [f"unknown_{2 * number - 1}" if number else "unknown", f"unknown_{2 * number}"]
        antispoof |= dict(zip(names, (kernel, kernel[-1:]), strict=True))
    live, place = {}, "StatefulPartitionedCall/sequential_1"
    for number, filters in enumerate((16, 16, 32, 32), start=1):
        before = (3, 16, 16, 32)[number - 1]
        live[f"{place}/conv2d_{number}/Conv2D/ReadVariableOp"] = (3, 3, before, filters)
        live[f"{place}/conv2d_{number}/BiasAdd/ReadVariableOp"] = (filters,)
        for part in ("Scaled", "Offset"):
            live[f"{place}/batch_normalization_{number}/FusedBatchNormV3/{part}"] = (filters,)
    for part in ("mul", "sub"):
        live[f"{place}/batch_normalization_5/batchnorm/{part}"] = (64,)
    for number, kernel in ((1, (2048, 64)), (2, (64, 2))):
        live[f"{place}/dense_{number}/MatMul/ReadVariableOp"] = kernel
        live[f"{place}/dense_{number}/BiasAdd/ReadVariableOp"] = kernel[-1:]
    return {"blazeface": blaze, "antispoof": antispoof, "liveness": live}


def write_package(folder):
    """A package with drawn weights whose maps neither vanish nor explode, and the pictures that they are tried on."""
    rng = np.random.default_rng(0)
    folder.mkdir(exist_ok=True)
    for name, tensors in shapes().items():
        entries, data = [], b""
        for tensor, shape in tensors.items():
            fan = 9 if shape[-1] == 1 and len(shape) == 4 else math.prod(shape[:-1])
            scale = (0.4 if shape[:2] == (1, 1) else 1.7) / math.sqrt(fan)
            values = rng.uniform(-scale, scale, shape) if len(shape) > 1 else rng.normal(0.05, 0.1, shape)
            values = rng.uniform(0.5, 0.9, shape) if tensor.endswith(("Scaled", "mul")) else values
            half = {"quantization": {"dtype": "float16", "original_dtype": "float32"}} if name == "antispoof" else {}
            entries.append({"name": tensor, "shape": list(shape), "dtype": "float32", **half})
            data += values.astype("<f2" if half else "<f4").tobytes()
        manifest = {"weightsManifest": [{"paths": [f"{name}.bin"], "weights": entries}]}
        (folder / f"{name}.json").write_text(json.dumps(manifest))
        (folder / f"{name}.bin").write_bytes(data)
        (folder / f"{name}.rgb").write_bytes(picture(SIDES[name]).tobytes())
    (folder / "LICENSE").write_text("MIT License\n\nCopyright (c) Somebody\n")


def picture(side):
    """Blocks of colour with noise on them, uint8 (side, side, 3)."""
    rng = np.random.default_rng(side)
    coarse = rng.integers(0, 200, (10, 10, 3)).repeat(-(-side // 10), axis=0).repeat(-(-side // 10), axis=1)
    return (coarse[:side, :side] + rng.integers(0, 56, (side, side, 3))).astype(np.uint8)


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    folder = tmp_path_factory.mktemp("package") / "models"
    write_package(folder)
    return folder


@pytest.fixture(scope="module")
def imported(package, tmp_path_factory):
    folder, said = tmp_path_factory.mktemp("imported") / "human-faces", io.StringIO()
    with contextlib.redirect_stdout(said):
        assert cnn("import-weights", "human-faces", package, "-o", folder) == 0
    (folder / "said.txt").write_text(said.getvalue())
    return folder


@pytest.fixture(scope="module")
def reference():
    return json.loads(REFERENCE.read_text())


def asked(folder, name, picture):
    """What an exported model answers about one picture, without the dimension of the batch."""
    loaded = tf.saved_model.load(str(folder / name / "1"))
    answers = loaded.signatures["serving_tensor"](image=tf.constant(picture[None]))
    return {key: value.numpy()[0] for key, value in answers.items()}


def test_blazeface_answers_what_the_packages_graph_answered(imported, reference):
    model = savedmodel.load_keras(imported / "blazeface.keras")
    outputs = {key: np.asarray(value)[0, ::EACH] for key, value in model(picture(256)[None]).items()}
    expected = reference["blazeface"]
    assert np.std(expected["logits"]) > 0.1
    np.testing.assert_allclose(outputs["logits"][:, 0], expected["logits"], atol=2e-5)
    np.testing.assert_allclose(outputs["offsets"], expected["offsets"], atol=2e-5)


@pytest.mark.parametrize(("name", "known"), [("antispoof", ["live"]), ("liveness", ["live", "spoof"])])
def test_a_classifier_answers_what_the_packages_graph_answered(imported, reference, name, known):
    answers = asked(imported, name, picture(SIDES[name]))
    expected = dict(zip(known, reference[name], strict=True))
    assert 0.02 < expected["live"] < 0.98
    probabilities = dict(zip(import_human_faces.NAMES, answers["probabilities"], strict=True))
    assert {name: probabilities[name] for name in known} == pytest.approx(expected, abs=1e-5)


def test_a_liveness_classifier_guards_a_gallery(imported, tmp_path):
    encoded = tf.io.encode_png(picture(128)).numpy()
    for name in ("antispoof", "liveness"):
        probability = Guard(str(imported / name), tmp_path)(encoded)
        if SIDES[name] == 128:
            expected = asked(imported, name, picture(128))["probabilities"]
            assert probability == pytest.approx(expected[import_human_faces.NAMES.index("live")], abs=1e-5)
        assert 0 < probability < 1


def test_the_networks_start_recipes(imported):
    for name, builder in (("antispoof", liveness.antispoof), ("liveness", liveness.livenessnet)):
        saved = savedmodel.load_keras(imported / f"{name}.keras")
        assert [layer.name for layer in saved.get_layer(builder().name).layers] == [
            layer.name for layer in builder().layers
        ]


def sure_of(anchor, offsets):
    """A network that is sure of one anchor, wherever it looks: frames and borders are what is tried."""
    image = keras.Input((256, 256, 3), dtype="uint8", name="image")
    sure, told = np.full((896, 1), -9.0, np.float32), np.zeros((896, 16), np.float32)
    sure[anchor], told[anchor] = 9, offsets

    def constant(values, name):
        return keras.layers.Lambda(
            lambda x: tf.tile(values[None], [tf.shape(x)[0], 1, 1]), output_shape=values.shape, name=name
        )(image)

    return keras.Model(image, {"offsets": constant(told, "offsets"), "logits": constant(sure, "logits")})


def test_faces_and_their_landmarks_come_in_pixels_of_the_picture_as_it_was_sent(tmp_path):
    points = np.arange(12) - 6.0
    network = sure_of(2 * (16 * 8 + 8), [-8, -8, 64, 64, *points])  # from the middle of the picture, (136, 136) - 8
    import_human_faces.write_blazeface(network, tmp_path / "1")
    exported = tf.saved_model.load(str(tmp_path / "1")).signatures["serving_tensor"]
    answers = exported(image=tf.constant(np.zeros((2, 256, 512, 3), np.uint8)))
    # the second look, at half the size, finds the same place twice as large
    assert answers["count"].numpy().tolist() == [2, 2]
    corners = [192, 64, 320, 192], [128, 0, 384, 256]
    found = {tuple(box): row for row, box in enumerate(answers["boxes"][1, :2].numpy().round(2).tolist())}
    assert set(found) == {tuple(map(float, box)) for box in corners}
    marks = answers["landmarks"].numpy()[1]
    for scale, box in zip((2, 4), corners, strict=True):
        middle = np.array([256, 128]) + 8 * scale
        expected = middle + scale * points.reshape(6, 2)
        np.testing.assert_allclose(marks[found[tuple(map(float, box))]], expected, atol=0.01)
    assert not answers["boxes"][:, 2:].numpy().any()
    assert not marks[2:].any()
    assert [name.decode() for name in answers["landmark_names"][0].numpy()] == list(blazeface.POINTS)
    assert answers["label"].numpy()[0, :3].tolist() == [b"face", b"face", b""]


def test_the_detector_is_named_by_a_word(imported, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Fault, match="`cnn import-weights human-faces PACKAGE` writes it"):
        detector.resolve("blazeface", tmp_path)
    monkeypatch.chdir(imported.parent)
    assert Path(detector.resolve("blazeface", tmp_path)) == (imported / "blazeface").resolve()
    find = detector.open_detector(detector.resolve("blazeface", tmp_path))
    assert all(isinstance(face, detector.Face) for face in find(picture(300)))


def test_the_licence_is_shown_and_kept_with_the_sources(imported):
    assert "MIT License, Copyright (c) Somebody" in (imported / "said.txt").read_text()
    kept = (imported / "LICENSE").read_text()
    assert kept.endswith("Copyright (c) Somebody\n")
    for source in ("google/mediapipe", "fake-face-detection", "livenessnet"):
        assert source in kept


@pytest.mark.parametrize("damage", ["cut", "missing", "other"])
def test_a_damaged_package_is_refused_with_its_reason(package, tmp_path, damage):
    for file in package.iterdir():
        if damage != "missing" or file.name != "liveness.bin":
            (tmp_path / file.name).write_bytes(file.read_bytes()[: -8 if damage == "cut" else None])
    if damage == "other":
        (tmp_path / "blazeface.json").write_bytes((package / "liveness.json").read_bytes())
    message = {"cut": "must be whole", "missing": r"lacks liveness\.bin", "other": "must fit blazeface"}[damage]
    with pytest.raises(Fault, match=message):
        human_faces.load(tmp_path)
