"""People and their joints of @vladmandic/human: weights are read, MoveNet answers what its graph answers, and joints
come in pixels of the picture.

The reference beside this file is what the graph of @vladmandic/human 3.3.6 answered, run by `human_pose_reference.js`
on the CPU backend of TensorFlow.js 4.22, with the weights and the picture that are drawn here; of each map it has every
211th number. With the package's own weights a photograph of 192×192 gave joints within 2.5e-4 of the picture's side,
because the graph holds 1/48 and 1/127.5 as float16.
"""

import csv
import itertools
import json
import math
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from cnn_keras.errors import Fault
from cnn_keras.models import centernet, movenet
from cnn_keras.weights import human_pose
from pipelines.export import import_human_pose, savedmodel
from pipelines.inference import predict
from tests.cnn_keras.models import test_centernet
from tests.conftest import cnn

REFERENCE = Path(__file__).with_name("human_pose_reference.json")
NAME, EACH = "movenet-lightning", 211
NECK = "StatefulPartitionedCall/center_net_mobile_net_v2fpn_feature_extractor/model_1"
# Channels of MobileNet-V2 before and after each of its seventeen units, and between.
CHANNELS = (32, 16, 24, 24, 32, 32, 32, 64, 64, 64, 64, 96, 96, 96, 160, 160, 160, 320)


def shapes():
    """The tensors of the graph that are weights."""
    tensors = {}

    def folded(place, depthwise, kernel):
        kind, count = ("depthwise", kernel[2]) if depthwise else ("Conv2D", kernel[3])
        tensors.update(
            {f"{NECK}/model/{place}/{kind}_weights": kernel, f"{NECK}/model/{place}/{kind}_bn_offset": (count,)}
        )

    folded("Conv1", False, (3, 3, 3, 32))
    for number, (before, after) in enumerate(itertools.pairwise(CHANNELS)):
        unit, wide = (f"block_{number}", 6 * before) if number else ("expanded_conv", before)
        if number:
            folded(f"{unit}_expand", False, (1, 1, before, wide))
        folded(f"{unit}_depthwise", True, (3, 3, wide, 1))
        folded(f"{unit}_project", False, (1, 1, wide, after))
    folded("Conv_1", False, (1, 1, 320, 1280))

    def plain(place, before, after):
        tensors.update(
            {f"{place}/Conv2D/ReadVariableOp": (1, 1, before, after), f"{place}/BiasAdd/ReadVariableOp": (after,)}
        )

    for number, (before, after) in enumerate(((1280, 64), (64, 64), (32, 32), (24, 24))):
        plain(f"{NECK}/conv2d{f'_{number}' if number else ''}", before, after)
    for number, (before, after) in enumerate(((64, 32), (32, 24), (24, 24))):
        place = f"{NECK}/separable_conv2d{f'_{number}' if number else ''}/separable_conv2d"
        tensors |= {f"{place}/ReadVariableOp": (3, 3, before, 1), f"{place}_weights": (1, 1, before, after)}
        tensors[f"{place}_bn_offset"] = (after,)
    for number, (head, depth) in enumerate(
        (("center", 1), ("kpt_heatmap", 17), ("kpt_regress", 34), ("kpt_offset", 34))
    ):
        place = f"StatefulPartitionedCall/{head}_0"
        hidden = f"{place}/separable_conv2d_{number + 3}"
        tensors[f"{hidden}/separable_conv2d/ReadVariableOp"] = (3, 3, 24, 1)
        tensors[f"{hidden}/separable_conv2d/ReadVariableOp_1"] = (1, 1, 24, 96)
        tensors[f"{hidden}/BiasAdd/ReadVariableOp"] = (96,)
        plain(f"{place}/conv2d_{number + 4}", 96, depth)
    return tensors


def write_package(folder):
    """MoveNet's drawn weights, whose maps neither vanish nor explode, and the picture that they are tried on."""
    rng, entries, data = np.random.default_rng(0), [], b""
    folder.mkdir(exist_ok=True)
    for tensor, shape in shapes().items():
        fan = 9 if shape[-1] == 1 and len(shape) == 4 and shape[0] == 3 else math.prod(shape[:-1])
        scale = (1.2 if "project" in tensor else 2.2) / math.sqrt(fan)
        values = rng.uniform(-scale, scale, shape) if len(shape) > 1 else rng.normal(0.1, 0.1, shape)
        half = {"quantization": {"dtype": "float16", "original_dtype": "float32"}}
        entries.append({"name": tensor, "shape": list(shape), "dtype": "float32", **half})
        data += values.astype("<f2").tobytes()
    manifest = {"weightsManifest": [{"paths": [f"{NAME}.bin"], "weights": entries}]}
    (folder / f"{NAME}.json").write_text(json.dumps(manifest))
    (folder / f"{NAME}.bin").write_bytes(data)
    (folder / f"{NAME}.rgb").write_bytes(picture().tobytes())


def picture():
    """Blocks of colour with noise on them, uint8 (192, 192, 3)."""
    rng = np.random.default_rng(192)
    coarse = rng.integers(0, 200, (8, 8, 3)).repeat(24, axis=0).repeat(24, axis=1)
    return (coarse + rng.integers(0, 56, (192, 192, 3))).astype(np.uint8)


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    folder = tmp_path_factory.mktemp("package") / "models"
    write_package(folder)
    return folder


def test_movenet_answers_what_the_packages_graph_answered(package):
    network = movenet.movenet()
    human_pose.load(network, package)
    outputs = network(picture()[None] / np.float32(127.5) - 1)
    expected = json.loads(REFERENCE.read_text())
    for name, values in outputs.items():
        assert np.std(expected[name]) > 1
        np.testing.assert_allclose(np.ravel(values)[::EACH], expected[name], atol=5e-4)
    points, scores = movenet.decode(outputs)
    joints = np.reshape(expected["joints"], (17, 3))
    np.testing.assert_allclose(points[0], joints[:, 1::-1], atol=3e-4)
    np.testing.assert_allclose(scores[0], joints[:, 2], atol=5e-5)


@pytest.mark.slow
def test_a_package_becomes_one_model_of_both_networks(package, tmp_path, capsys):
    test_centernet.write_package(package)
    assert cnn("import-weights", "human-pose", package, "-o", tmp_path) == 0
    assert "MIT License, Copyright (c) Somebody" in capsys.readouterr().out
    kept = (tmp_path / "LICENSE").read_text()
    assert kept.endswith("Copyright (c) Somebody\n")
    assert "movenet" in kept
    assert "mobilenetv3_centernet" in kept
    alone = savedmodel.load_keras(tmp_path / "movenet.keras")(picture()[None])
    network = movenet.movenet()
    human_pose.load(network, package)
    for name, values in network(picture()[None] / np.float32(127.5) - 1).items():
        np.testing.assert_allclose(alone[name], values, atol=1e-4)
    exported = tf.saved_model.load(str(tmp_path / "pose" / "1")).signatures["serving_tensor"]
    assert exported(image=tf.constant(picture()[None]))["landmarks"].shape == (1, import_human_pose.MOST, 17, 2)


def constant(shape, outputs):
    """A network that answers the same, wherever it looks."""
    image = keras.Input(shape, name="image")

    def answer(name, values):
        repeat = keras.layers.Lambda(
            lambda x: tf.tile(values[None], [tf.shape(x)[0], 1, 1, 1]), output_shape=values.shape, name=name
        )
        return repeat(image)

    return keras.Model(image, {name: answer(name, np.float32(values)) for name, values in outputs.items()})


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """A model that finds two people in a frame of 512×512, and two joints of each.

    One is 128 to 384 down and 192 to 256 across; the other, less sure, 240 to 304 down and 400 to 432 across.
    """
    heatmap, distances = np.full((128, 128, 80), -9.0), np.full((128, 128, 4), 1.0)
    heatmap[64, 56, 0], distances[64, 56] = 2.0, np.array([32, 128, 32, 128]) / centernet.SCALE
    heatmap[68, 104, 0], distances[68, 104] = 1.0, np.array([16, 32, 16, 32]) / centernet.SCALE
    heatmap[10, 10, 1] = 4.0  # no person
    maps = {"center": np.full((48, 48, 1), -9.0), "heatmap": np.full((48, 48, 17), -9.0)}
    maps |= {"regression": np.zeros((48, 48, 34)), "offsets": np.zeros((48, 48, 34))}
    maps["center"][24, 24], maps["heatmap"][12, 24, 0], maps["heatmap"][36, 30, 16] = 3.0, 3.0, 3.0
    maps["offsets"][12, 24, :2] = 0.5, 0.25  # y, x
    folder = tmp_path_factory.mktemp("pose") / "pose"
    detector = constant((512, 512, 3), {"heatmap": heatmap, "distances": distances})
    import_human_pose.write(detector, constant((192, 192, 3), maps), folder / "1")
    return folder


def test_people_and_their_joints_come_in_pixels_of_the_picture_as_it_was_sent(found):
    exported = tf.saved_model.load(str(found / "1")).signatures["serving_tensor"]
    answers = {
        name: value.numpy()
        for name, value in exported(image=tf.constant(np.zeros((2, 256, 1024, 3), np.uint8))).items()
    }
    assert answers["count"].tolist() == [2, 2]
    # the frame is half as large as the picture, which begins at its row 192; the person is cut at the picture's border
    np.testing.assert_allclose(answers["boxes"][1, :2], [[384, 0, 512, 256], [800, 96, 864, 224]], atol=1e-3)
    # squares have 1.25 · 256 and 1.25 · 64 pixels of the frame around (224, 256) and (416, 272), and 48 cells
    for row, side, x, y in ((0, 320, 224, 256), (1, 80, 416, 272)):
        cell, left, top = 2 * side / 48, 2 * (x - side / 2), 2 * (y - side / 2 - 192)
        nose, ankle = [left + 24.25 * cell, top + 12.5 * cell], [left + 30 * cell, top + 36 * cell]
        for picture_number in range(2):
            marks = answers["landmarks"][picture_number, row]
            np.testing.assert_allclose(marks[[0, 16]], [nose, ankle], atol=1e-2)
            assert not marks[1:16].any()
        scores = answers["landmark_scores"][0, row, [0, 5, 16]]
        np.testing.assert_allclose(scores, 1 / (1 + np.exp([-3, 9, -3])), atol=1e-5)
    assert not answers["landmarks"][:, 2:].any()
    assert answers["label"][0, :3].tolist() == [b"person", b"person", b""]


def test_a_picture_without_people_has_none(tmp_path):
    nobody = {"heatmap": np.full((128, 128, 80), -9.0), "distances": np.ones((128, 128, 4))}
    maps = {"center": 1, "heatmap": 17, "regression": 34, "offsets": 34}
    joints = constant((192, 192, 3), {name: np.zeros((48, 48, depth)) for name, depth in maps.items()})
    import_human_pose.write(constant((512, 512, 3), nobody), joints, tmp_path / "1")
    exported = tf.saved_model.load(str(tmp_path / "1")).signatures["serving_tensor"]
    answers = exported(image=tf.constant(np.zeros((1, 64, 64, 3), np.uint8)))
    assert answers["count"].numpy().tolist() == [0]
    assert not answers["landmarks"].numpy().any()


def test_predict_draws_limbs_and_leaves_out_what_is_not_seen(found, tmp_path):
    tf.io.write_file(str(tmp_path / "grey.png"), tf.io.encode_png(np.full((256, 1024, 3), 90, np.uint8)))
    table, pictures = tmp_path / "joints.csv", tmp_path / "pictures"
    assert cnn("predict", found, tmp_path / "grey.png", "--csv", table, "--pictures", pictures) == 0
    with table.open() as file:
        row, _ = csv.DictReader(file)
    assert float(row["nose_x"]) == pytest.approx(128 + 24.25 * 320 / 24, abs=0.1)
    assert row["left_eye_x"] == row["left_eye_y"] == ""
    folder, loaded = found / "1", predict.load(found / "1")
    [answer] = predict.predictor_of(loaded, folder, top=1).watch(Path("film"), [np.zeros((256, 1024, 3), np.uint8)], 0)
    assert answer.landmarks[0]["left_eye"] is None
    assert ("left_knee", "left_ankle") in answer.lines
    joined = replace(answer, landmarks=[{name: [500.0, 60.0] for name in movenet.JOINTS} | {"nose": [900.0, 200.0]}])
    plain = np.full((256, 1024, 3), 90, np.uint8)
    on_limb = joined.drawn(plain)[130, 700]  # between the nose and the eyes
    assert on_limb.tolist() == [255, 255, 255]
    assert answer.drawn(plain)[130, 700].tolist() == [90, 90, 90]


@pytest.mark.parametrize("damage", ["cut", "missing"])
def test_a_damaged_package_is_refused_with_its_reason(package, tmp_path, damage):
    for file in package.iterdir():
        if damage != "missing" or file.name != f"{NAME}.bin":
            (tmp_path / file.name).write_bytes(file.read_bytes()[: -8 if damage == "cut" else None])
    message = {"cut": "must be whole", "missing": rf"lacks {NAME}\.bin"}[damage]
    with pytest.raises(Fault, match=message):
        human_pose.load(movenet.movenet(), tmp_path)
