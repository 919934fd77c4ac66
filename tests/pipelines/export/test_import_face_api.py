"""face-api.js' networks: their weights are read as TensorFlow.js reads them, and they answer what the original answers.

The reference beside this file is what @vladmandic/face-api 1.7.15 itself answered, run by Node on the CPU backend of
TensorFlow.js 4.22, with the weights and pictures that are drawn here: both are functions of a seed, and the file holds
answers only. The package's own weights gave differences of 4e-6 (descriptor) and 2e-7 (landmarks).
"""

import contextlib
import io
import json
import math
import tarfile
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from cnn_keras.errors import Fault
from cnn_keras.models import faceapi
from cnn_keras.weights import face_api, pretrained
from tests.conftest import cnn

REFERENCE = Path(__file__).with_name("face_api_reference.json")
SHORT = {face_api.DESCRIPTOR: "descriptor", face_api.LANDMARKS: "landmarks"}
LICENCE = "MIT License\n\nCopyright (c) Somebody\n"


def shapes():
    """The tensors of both models, in the order of their files."""
    residual, before = {"conv32_down": (7, 3, 32)}, 32
    for filters, blocks in faceapi.STAGES:
        for block in blocks:
            residual |= {f"{block}/conv1": (3, before, filters), f"{block}/conv2": (3, filters, filters)}
            before = filters
    descriptor = {}
    for name, (size, given, filters) in residual.items():
        descriptor[f"{name}/conv/filters"] = (size, size, given, filters)
        descriptor |= {f"{name}/{part}": (filters,) for part in ("conv/bias", "scale/weights", "scale/biases")}
    landmarks, before = {"dense0/conv0/filters": (3, 3, 3, 32), "dense0/conv0/bias": (32,)}, 32
    for block, filters in enumerate(faceapi.BLOCKS):
        for conv in range(block == 0, 4):
            name = f"dense{block}/conv{conv}"
            landmarks[f"{name}/depthwise_filter"] = (3, 3, before, 1)
            landmarks |= {f"{name}/pointwise_filter": (1, 1, before, filters), f"{name}/bias": (filters,)}
            before = filters
    return {
        face_api.DESCRIPTOR: descriptor | {"fc": (256, 128)},
        face_api.LANDMARKS: landmarks | {"fc/weights": (256, 136), "fc/bias": (136,)},
    }


def stored(number, values):
    """Values as one of the ways in which TensorFlow.js keeps them: (entry of the manifest, bytes)."""
    kind = (None, "uint8", "uint16", "float16")[number % 4]
    if kind is None:
        return {}, values.astype("<f4").tobytes()
    if kind == "float16":
        return {"quantization": {"dtype": kind}}, values.astype("<f2").tobytes()
    low, high = float(values.min()), float(values.max())
    scale = (high - low) / np.iinfo(kind).max
    numbers = np.round((values - low) / scale).astype(np.dtype(kind).newbyteorder("<"))
    return {"quantization": {"dtype": kind, "scale": scale, "min": low}}, numbers.tobytes()


def write_package(folder):
    """A package with drawn weights whose maps neither vanish nor explode."""
    rng = np.random.default_rng(0)
    (folder / "model").mkdir(parents=True)
    for name, tensors in shapes().items():
        entries, data = [], []
        for number, (tensor, shape) in enumerate(tensors.items()):
            fan = math.prod(shape[:-1]) if "depthwise" not in tensor else 9
            values = rng.uniform(-1.7, 1.7, shape) / math.sqrt(fan) if len(shape) > 1 else rng.normal(0, 0.1, shape)
            values = rng.uniform(0.5, 0.9, shape) if tensor.endswith("scale/weights") else values
            entry, part = stored(number, values.astype(np.float32))
            entries.append({"name": tensor, "shape": list(shape), "dtype": "float32", **entry})
            data.append(part)
        (folder / "model" / f"{name}.bin").write_bytes(b"".join(data))
        manifest = [{"paths": [f"{name}.bin"], "weights": entries}]
        (folder / "model" / f"{name}-weights_manifest.json").write_text(json.dumps(manifest))
    (folder / "LICENSE").write_text(LICENCE)


def pictures(side):
    """Two pictures, uint8 (2, side, side, 3): blocks of colour with noise on them."""
    rng = np.random.default_rng(side)
    coarse = rng.integers(0, 200, (2, 10, 10, 3)).repeat(-(-side // 10), axis=1).repeat(-(-side // 10), axis=2)
    return (coarse[:, :side, :side] + rng.integers(0, 56, (2, side, side, 3))).astype(np.uint8)


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    folder = tmp_path_factory.mktemp("package")
    write_package(folder)
    return folder


@pytest.fixture(scope="module")
def imported(package, tmp_path_factory):
    folder, said = tmp_path_factory.mktemp("imported") / "face-api", io.StringIO()
    with contextlib.redirect_stdout(said):
        assert cnn("import-weights", "face-api", package, "-o", folder) == 0
    (folder / "said.txt").write_text(said.getvalue())
    return folder


@pytest.mark.parametrize("name", SHORT.values())
def test_a_converted_network_answers_what_the_original_answered(imported, name):
    network = keras.models.load_model(imported / f"{name}.keras", compile=False)
    answers = np.asarray(network(pictures(network.input.shape[1])))
    reference = np.array(json.loads(REFERENCE.read_text())[name])
    assert np.abs(reference).max() > 0.1
    assert np.abs(reference[0] - reference[1]).max() > 0.01
    np.testing.assert_allclose(answers, reference, atol=2e-5)


def test_landmarks_come_in_pixels_of_the_picture_as_it_was_sent(imported):
    from PIL import Image

    exported = tf.saved_model.load(str(imported / "landmarks" / "1")).signatures
    reference = np.array(json.loads(REFERENCE.read_text())["landmarks"])[0].reshape(68, 2)
    picture = pictures(112)[0]
    wide = np.zeros((112, 160, 3), np.uint8)
    wide[:, 24:136] = picture
    found = exported["serving_tensor"](image=tf.constant(picture[None]))
    np.testing.assert_allclose(found["landmarks"][0, 0], reference * 112, atol=0.01)
    assert [name.decode() for name in found["landmark_names"][0].numpy()] == list(faceapi.NAMES)
    buffer = io.BytesIO()
    Image.fromarray(picture).resize((224, 224), Image.Resampling.BICUBIC).save(buffer, "PNG")
    larger = exported["serving_default"](image_bytes=tf.constant([buffer.getvalue()]))["landmarks"][0, 0]
    assert np.abs(larger - 2 * found["landmarks"][0, 0]).max() < 20
    padded = exported["serving_tensor"](image=tf.constant(wide[None]))
    assert (padded["boxes"][0, 0, 2:] > padded["boxes"][0, 0, :2]).numpy().all()


def test_the_descriptor_starts_a_recipes_network(imported):
    weights = imported / "descriptor.keras"
    network = faceapi.descriptor()
    assert pretrained.load(network, "faceapi.descriptor", weights) == ()
    found = pretrained.normalization("faceapi.descriptor", weights)
    np.testing.assert_allclose(found["mean"], faceapi.MEAN, rtol=1e-6)
    images = pictures(150).astype("float32")
    scaled = keras.layers.Normalization(**found)(images)
    reference = json.loads(REFERENCE.read_text())["descriptor"]
    np.testing.assert_allclose(network(scaled), reference, atol=2e-5)


def test_the_licence_is_shown_and_kept(imported):
    assert "MIT License, Copyright (c) Somebody" in (imported / "said.txt").read_text()
    kept = (imported / "LICENSE").read_text()
    assert kept.endswith(LICENCE)
    assert "dlib" in kept


def test_the_archive_of_npm_is_read_like_its_folder(package, tmp_path):
    with tarfile.open(tmp_path / "face-api.tgz", "w:gz") as archive:
        archive.add(package, "package")
    read, opened = (face_api.opened(path, "@vladmandic/face-api") for path in (tmp_path / "face-api.tgz", package))
    for name in SHORT:
        packed, plain = face_api.tensors(read, name), face_api.tensors(opened, name)
        assert packed.keys() == plain.keys()
        for tensor, values in plain.items():
            np.testing.assert_array_equal(packed[tensor], values)


@pytest.mark.parametrize("damage", ["cut", "longer", "manifest", "missing"])
def test_a_damaged_package_is_refused_with_its_reason(package, tmp_path, damage):
    name = face_api.LANDMARKS
    files = {file: (package / "model" / file).read_bytes() for file in (f"{name}.bin", f"{name}-weights_manifest.json")}
    if damage in ("cut", "longer"):
        files[f"{name}.bin"] = files[f"{name}.bin"][:-8] if damage == "cut" else files[f"{name}.bin"] + b"12345678"
    elif damage == "manifest":
        files[f"{name}-weights_manifest.json"] = b"[{}]"
    else:
        del files[f"{name}.bin"]
    for file, data in files.items():
        (tmp_path / file).write_bytes(data)
    read = face_api.opened(tmp_path, "@vladmandic/face-api")
    with pytest.raises(Fault, match="lacks face_landmark" if damage == "missing" else "must be whole"):
        face_api.tensors(read, name)


def test_what_is_no_package_is_refused(tmp_path):
    (tmp_path / "text.tgz").write_text("hello")
    for path, message in ((tmp_path / "text.tgz", "must be a whole .tgz"), (tmp_path / "nothing", "which is none")):
        with pytest.raises(Fault, match=message):
            face_api.load(path)
    with pytest.raises(Fault, match="npm pack @vladmandic/face-api"):
        face_api.load(tmp_path)
