"""face-api.js' networks: their weights are read as TensorFlow.js reads them, and they answer what the original answers.

The reference beside this file is what @vladmandic/face-api 1.7.15 itself answered, run by Node on the CPU backend of
TensorFlow.js 4.22, with the weights and pictures that are drawn here: both are functions of a seed, and the file holds
answers only: of the detector's 5,118 anchors every 97th, top, left, bottom, right and score, by `forwardInput`. The
package's own weights gave differences of 4e-6 (descriptor), 2e-7 (landmarks), 6e-5 of the picture (boxes) and 3e-6
(scores).
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
from cnn_keras.models import faceapi, ssd
from cnn_keras.ops import boxes
from cnn_keras.weights import face_api, pretrained
from pipelines.export import import_face_api
from tests.conftest import cnn

REFERENCE = Path(__file__).with_name("face_api_reference.json")
SHORT = {face_api.DESCRIPTOR: "descriptor", face_api.LANDMARKS: "landmarks"}
POSITIVE = ("scale/weights", "gamma", "moving_variance")
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
    detector, before = {"MobilenetV1/Conv2d_0_pointwise/weights": (3, 3, 3, 32)}, 32
    for number, filters in enumerate(ssd.FILTERS, start=1):
        name = f"MobilenetV1/Conv2d_{number}_depthwise"
        detector[f"{name}/depthwise_weights"] = (3, 3, before, 1)
        detector |= {f"{name}/BatchNorm/{part}": (before,) for part in ("gamma", "beta", "moving_mean")}
        detector[f"{name}/BatchNorm/moving_variance"] = (before,)
        detector[f"MobilenetV1/Conv2d_{number}_pointwise/weights"] = (1, 1, before, filters)
        before = filters
    for number, filters in enumerate(sum(ssd.EXTRA, ())):
        size = 1 + 2 * (number % 2)
        detector[f"Prediction/Conv2d_{number}_pointwise/weights"] = (size, size, before, filters)
        before = filters
    for name, shape in list(detector.items()):
        if "_pointwise" in name:
            detector[name.replace("weights", "convolution_bn_offset")] = shape[-1:]
    for level, depth in enumerate((512, 1024, 512, 256, 256, 128)):
        for head, count in (("BoxEncodingPredictor", 4), ("ClassPredictor", 3)):
            outputs, name = count * (6 if level else 3), f"Prediction/BoxPredictor_{level}/{head}"
            detector |= {f"{name}/weights": (1, 1, depth, outputs), f"{name}/biases": (outputs,)}
    return {
        face_api.DESCRIPTOR: descriptor | {"fc": (256, 128)},
        face_api.LANDMARKS: landmarks | {"fc/weights": (256, 136), "fc/bias": (136,)},
        face_api.DETECTOR: detector,
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
            values = rng.uniform(0.5, 0.9, shape) if tensor.endswith(POSITIVE) else values
            entry, part = stored(number, values.astype(np.float32))
            entries.append({"name": tensor, "shape": list(shape), "dtype": "float32", **entry})
            data.append(part)
        if name == face_api.DETECTOR:
            entries.append({"name": "Output/extra_dim", "shape": [1, 5118, 4], "dtype": "float32"})
            data.append(ssd.anchors()[:, [1, 0, 3, 2]].tobytes())
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


@pytest.mark.slow
def test_the_detector_answers_what_the_original_answered(package):
    outputs = face_api.load_detector(package)(pictures(512)[:1] / 127.5 - 1)
    corners = boxes.decode(outputs["offsets"], ssd.anchors(), variances=ssd.VARIANCES).numpy()[0, ::97][:, [1, 0, 3, 2]]
    scores = tf.sigmoid(outputs["logits"]).numpy()[0, ::97]
    reference = np.array(json.loads(REFERENCE.read_text())["faces"])
    assert reference[:, 4].std() > 0.01
    np.testing.assert_allclose(np.concatenate([corners, scores], axis=-1), reference, atol=1e-4)


def test_anchors_of_a_package_that_are_others_are_refused(package, tmp_path):
    for file in (package / "model").glob(f"{face_api.DETECTOR}*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = tmp_path / f"{face_api.DETECTOR}.bin"
    weights.write_bytes(weights.read_bytes()[:-4] + np.float32(7).tobytes())
    with pytest.raises(Fault, match="must have the anchors"):
        face_api.load_detector(tmp_path)


def landmarks_of_the_dark():
    """A network whose landmarks stay where they are when the square around them is looked at, unless that is bright.

    Around their box, 1 / 1.1 of the square, stands the same square; around a smaller box a smaller one.
    """
    points = np.random.default_rng(3).uniform(0.1, 0.9, (68, 2)).astype("float32")
    points[36:42], points[42:48], points[:2] = (0.35, 0.4), (0.65, 0.4), ((0, 0), (1, 1))  # eyes, and two corners
    image = keras.Input((112, 112, 3), dtype="uint8")

    def find(pixels):
        bright = tf.reduce_mean(tf.cast(pixels, tf.float32), axis=(1, 2, 3), keepdims=True) > 100
        extent = tf.where(bright, 0.5, 1 / import_face_api.AROUND)[..., 0]
        return tf.reshape((points - 0.5) * extent + 0.5, [-1, 136])

    return keras.Model(image, keras.layers.Lambda(find, output_shape=(136,))(image))


def sure_of(*places):
    """A network that is sure of anchors, of the first most, wherever it looks: batch and padding are what is tried."""
    image = keras.Input((512, 512, 3), name="image")
    sure = np.full((5118, 1), -9.0, np.float32)
    sure[list(places), 0] = 9 - np.arange(len(places))
    zeros = keras.layers.Lambda(lambda x: tf.zeros([tf.shape(x)[0], 5118, 4]), output_shape=(5118, 4))(image)
    scored = keras.layers.Lambda(lambda x: tf.tile(sure[None], [tf.shape(x)[0], 1, 1]), output_shape=(5118, 1))(image)
    return keras.Model(image, {"offsets": zeros, "logits": scored})


def nearest_anchor(*box):
    return int(np.abs(ssd.anchors() - box).sum(axis=1).argmin())


def find(folder, network, pictures):
    """What a detector answers about pictures when it is exported."""
    import_face_api.write_faces(network, folder, landmark_network=landmarks_of_the_dark())
    exported = tf.saved_model.load(str(folder)).signatures["serving_tensor"]
    return exported(image=tf.constant(pictures))


def test_faces_come_in_pixels_of_the_picture_and_those_of_one_do_not_change_those_of_another(tmp_path):
    place = nearest_anchor(0.3, 0.3, 0.7, 0.7)
    found = find(tmp_path / "1", sure_of(place), np.zeros((2, 300, 600, 3), np.uint8))
    near = ssd.anchors()[place]
    far = (near - 0.5) * 512 / 222 + 0.5  # the same place of the picture with a border of 145 pixels
    corners = np.array([near, far]) * 600 - [0, 150, 0, 150]
    np.testing.assert_array_equal(found["count"], [2, 2])
    places = sorted(found["boxes"][1, :2].numpy().tolist(), reverse=True)
    np.testing.assert_allclose(places, np.clip(corners, 0, [600, 300, 600, 300]), atol=0.01)
    assert found["label"].numpy()[:, :2].tolist() == [[b"face"] * 2] * 2
    assert not found["boxes"][:, 2:].numpy().any()


def test_what_has_no_steady_landmarks_is_no_face_however_sure_the_detector_is(tmp_path):
    places = nearest_anchor(0.1, 0.1, 0.3, 0.3), nearest_anchor(0.6, 0.6, 0.9, 0.9)
    pictures = np.zeros((2, 512, 512, 3), np.uint8)
    left, top, right, bottom = np.round(ssd.anchors()[places[0]] * 512).astype(int)
    pictures[1, top:bottom, left:right] = 255
    found = find(tmp_path / "1", sure_of(*places), pictures)
    dark, bright = (
        [tuple(box) for box in boxes[:count]]
        for boxes, count in zip(found["boxes"].numpy().round(1).tolist(), found["count"].numpy(), strict=True)
    )
    assert set(dark) - set(bright) == {tuple((ssd.anchors()[places[0]] * 512).round(1).tolist())}
    assert len(bright) == len(dark) - 1 > 0
    assert (np.diff(found["scores"][1, : len(bright)]) <= 0).all()


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
