"""Localisation: the vector y, its masked loss worked by hand, the head on any backbone, four verbs in a row."""

import csv
import json
import math

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from cnn_keras import models
from cnn_keras.data.transforms import augment
from cnn_keras.errors import Fault
from cnn_keras.models import localize
from pipelines.engine import recipe as recipes
from pipelines.tasks.localize import report as localize_report
from tests.advice import follow
from tests.conftest import WHOLE, cnn
from tests.converted import assert_converted
from tests.stored_weights import model_bytes, stored_bytes

BOXES = tf.constant([[[0.1, 0.1, 0.3, 0.2], [0.2, 0.4, 0.6, 1.0]], [[0.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.5, 0.7]]])
CLASSES = tf.constant([[2, 1], [0, 0]])
MARKS = tf.constant([[[[0.1, 0.1, 1.0]], [[0.3, 0.5, 1.0]]], [[[0.9, 0.9, 1.0]], [[0.9, 0.9, 1.0]]]])


def logit(*shares):
    return [math.log(share / (1 - share)) for share in shares]


def test_the_target_is_laid_out_as_courses_draw_it():
    target = localize.encode(BOXES, CLASSES, MARKS, names=3).numpy()
    # p_c; b_x, b_y, b_h, b_w of the larger box; its class, the second of three; its landmark and that it is visible.
    assert target[0] == pytest.approx([1, 0.4, 0.7, 0.6, 0.4, 0, 1, 0, 0.3, 0.5, 1])
    assert not target[1].any()  # padding, and a box without width
    assert localize.encode(BOXES, CLASSES, names=3).shape == (2, 8)


def test_decoding_gives_back_what_was_encoded():
    target = localize.encode(BOXES, CLASSES, MARKS, names=3)
    y = tf.constant([[5.0, *logit(0.4, 0.7, 0.6, 0.4), -9.0, 9.0, -9.0, *logit(0.3, 0.5)]])
    said, truth = localize.decode(y, classes=3), localize.decode_target(target[:1], classes=3)
    np.testing.assert_allclose(said.boxes, [[0.2, 0.4, 0.6, 1.0]], atol=1e-6)
    np.testing.assert_allclose(truth.boxes, said.boxes, atol=1e-6)
    np.testing.assert_allclose(said.landmarks, truth.landmarks[..., :2], atol=1e-6)
    np.testing.assert_allclose(said.classes, truth.classes, atol=1e-6)
    assert float(said.presence[0]) == pytest.approx(1 / (1 + math.exp(-5)))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("squared", 0.1**2 + 0.2**2),  # b_x is 0.5 for 0.4, b_w 0.6 for 0.4
        ("smooth_l1", 0.1 - 0.01 + 0.2 - 0.01),
        ("iou", 1 - 0.24 / 0.36),  # 0.2 to 0.8 for 0.2 to 0.6, both 0.6 high
        ("giou", 1 - 0.24 / 0.36),  # the hull is the larger box itself
        ("ciou", None),
    ],
)
def test_the_loss_of_a_thing_by_hand(kind, expected):
    target = localize.encode(BOXES[:1], CLASSES[:1], MARKS[:1], names=3)
    y = tf.constant([[0.0, *logit(0.5, 0.7, 0.6, 0.6), 0.0, math.log(2), 0.0, *logit(0.3, 0.9)]])
    terms = localize.loss(target, y, classes=3, box=kind, landmark="smooth_l1", box_weight=2.0, landmark_weight=3.0)
    found = {name: float(term[0]) for name, term in terms.items()}
    assert found["presence"] == pytest.approx(math.log(2))
    assert found["class"] == pytest.approx(math.log(4 / 2))
    assert found["landmark"] == pytest.approx(3 * (0.4 - 0.01), rel=1e-4)
    if expected is None:
        assert found["box"] > 2 * (1 - 0.24 / 0.36)  # the centres differ and so do the proportions
    else:
        assert found["box"] == pytest.approx(2 * expected, rel=1e-4)


@pytest.mark.parametrize("kind", localize.BOX_LOSSES)
def test_where_nothing_is_nothing_but_presence_is_asked_for(kind):
    target = localize.encode(BOXES[1:], CLASSES[1:], MARKS[1:], names=3)
    y = tf.Variable([[1.0, 0.3, -2.0, 4.0, 1.0, 7.0, -3.0, 0.5, 2.0, -1.0]])
    with tf.GradientTape() as tape:
        terms = localize.loss(target, y, classes=3, box=kind)
        whole = tf.add_n(list(terms.values()))
    assert float(whole[0]) == pytest.approx(math.log(1 + math.e))
    slopes = tape.gradient(whole, y).numpy()[0]
    assert slopes[0] == pytest.approx(1 / (1 + math.exp(-1)))
    assert not slopes[1:].any()


def test_an_unknown_box_loss_is_refused():
    target = localize.encode(BOXES, CLASSES, names=3)
    with pytest.raises(Fault, match="squared, smooth_l1, iou, giou, ciou"):
        localize.loss(target, tf.zeros((2, 8)), classes=3, box="l2")


@pytest.mark.parametrize(
    ("builder", "shape", "arguments"),
    [
        ("lenet.lenet5_modern", (40, 48, 3), {}),
        ("resnet.resnet20", (32, 32, 3), {}),
        ("nin.nin_cifar", (32, 32, 3), {}),
        ("googlenet.googlenet", (96, 96, 3), {"auxiliary": True}),
        ("mobilenet.mobilenet_v2", (64, 64, 3), {}),
    ],
)
def test_the_head_stands_on_any_backbone_and_points_to_the_middle_at_first(builder, shape, arguments):
    backbone = models.build(builder, input_shape=shape, classes=16, **arguments)
    network = localize.localizer(backbone, classes=3, landmarks=2)
    picture = tf.random.stateless_normal((2, *shape), [0, 1])
    y = network(picture)
    assert y.shape == (2, 5 + 3 + 2 * 2)
    said = localize.decode(y, classes=3)
    assert said.landmarks.shape == (2, 2, 2)
    np.testing.assert_allclose(said.boxes, [[0.25, 0.25, 0.75, 0.75]] * 2)
    assert len(network.get_layer("everywhere").input.shape) == 4
    assert network.get_layer("what").input.shape[1:3] == network.get_layer("everywhere").input.shape[1:3]


def test_a_backbone_of_signals_is_refused():
    with pytest.raises(Fault, match="classifier of images"):
        localize.localizer(models.build("conv1d.two_conv", input_shape=(14, 1), classes=4), classes=2)


def test_landmarks_of_many_things_move_with_their_boxes():
    moved = augment.compose([{"mirror": {"pairs": [[0, 1]]}}])
    example = {
        "image": np.arange(12, dtype=np.uint8).reshape(2, 6, 1),
        "boxes": np.array([[0.0, 0.0, 0.5, 1.0], [0.0, 0.0, 0.0, 0.0]], np.float32),
        "classes": np.array([4, 0]),
        "landmarks": np.array([[[0.0, 0.25, 1], [0.5, 0.75, 1]], [[0, 0, 0], [0, 0, 0]]], np.float32),
    }
    found = [moved(example, tf.constant([seed, 0])) for seed in range(8)]
    turned = next(one for one in found if one["image"][0, 0, 0] == 5)
    np.testing.assert_allclose(turned["boxes"][0], [0.5, 0, 1, 1], atol=1e-6)
    np.testing.assert_allclose(turned["landmarks"][0], [[0.5, 0.75, 1], [1.0, 0.25, 1]], atol=1e-6)  # changed places


def test_the_figures_are_over_things_except_presence():
    truth = localize.Localization(
        np.array([1.0, 1, 0, 0]),
        np.array([[0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 0, 0], [0, 0, 0, 0]], float),
        np.array([[1, 0], [0, 1], [0, 0], [0, 0]], float),
        np.array([[[5, 5, 1]], [[5, 5, 1]], [[0, 0, 0]], [[0, 0, 0]]], float),
    )
    said = localize.Localization(
        np.array([0.9, 0.4, 0.8, 0.1]),
        np.array([[0, 0, 10, 5], [0, 0, 10, 10], [0, 0, 9, 9], [0, 0, 9, 9]], float),
        np.array([[0.8, 0.2], [0.3, 0.7], [1, 0], [1, 0]], float),
        np.array([[[5, 5.4]], [[5, 8]], [[1, 1]], [[1, 1]]], float),
    )
    report = localize_report.measure(localize_report.Answers(list("abcd"), truth, said), ["x", "y"], ["middle"], 0.5)
    assert (report["images"], report["things"]) == (4, 2)
    assert report["presence_accuracy"] == 0.5
    assert report["class_accuracy"] == 1
    assert report["mean_iou"] == 0.75
    assert report["accuracy"] == 0.5  # the second is not found, because its p_c is low
    assert report["pck"] == 0.5
    assert report["nme"] == pytest.approx((0.04 + 0.3) / 2)
    assert localize_report.worst_rows(localize_report.Answers(list("abcd"), truth, said), 0.5, 9) == [2, 1, 0]


def test_the_constant_answer_is_the_mean_box_and_the_usual_class():
    boxes = tf.constant(
        [[[0.0, 0.0, 0.2, 0.2]], [[0.2, 0.2, 0.6, 0.8]], [[0.2, 0.2, 0.6, 0.8]], [[0.0, 0.0, 0.0, 0.0]]]
    )
    marks = tf.constant([[[[0.1, 0.5, 1.0]]], [[[0.9, 0.9, 0.0]]], [[[0.3, 0.7, 1.0]]], [[[0.0, 0.0, 0.0]]]])
    target = localize.encode(boxes, tf.constant([[0], [1], [1], [0]]), marks, names=2).numpy()
    said = localize.decode(tf.constant(localize_report.constant_answer(target, 2)[None]), classes=2)
    height, width, x, y = 1.4 / 3, 1 / 3, (0.1 + 0.4 + 0.4) / 3, (0.1 + 0.5 + 0.5) / 3
    expected = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
    np.testing.assert_allclose(said.boxes[0], expected, atol=1e-5)
    np.testing.assert_allclose(said.landmarks[0, 0], [0.2, 0.6], atol=1e-5)
    assert float(said.presence[0]) > 0.99
    assert int(np.argmax(said.classes[0])) == 1


RECIPE = """\
# A few cards.
task: localize
data:
  source: points
  path: points.csv
  size: [32, 32]
  anchors: 1
augment: [{affine: {rotate: 5}}]
model: {builder: lenet.lenet5_modern}
head: {hidden: 16, filters: 4}
train: {epochs: 2, batch_size: 8}
evaluate: {shown: 4, require: {presence_accuracy: 0.1}}
"""


def write_corners(root):
    """Pictures of three odd sizes, each with a bright square on noise, its corners, or nothing; a recipe for them."""
    generator = np.random.default_rng(0)
    with (root / "points.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "first_x", "first_y", "last_x", "last_y"])
        for row in range(30):
            height, width = ((40, 61), (57, 33), (36, 36))[row % 3]
            picture = generator.integers(0, 60, (height, width, 3), np.uint8)
            x, y, side = generator.integers(2, 12), generator.integers(2, 12), int(generator.integers(10, 20))
            cells = ["", "", "", "", ""]
            if row % 5:
                picture[y : y + side, x : x + side] = 255 if row % 2 else (255, 0, 0)
                cells = ["white" if row % 2 else "red", x, y, x + side, y + side]
            Image.fromarray(picture).save(root / f"{row}.png")
            writer.writerow([f"{row}.png", *cells])
    (root / "squares.yaml").write_text(RECIPE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("localize")
    write_corners(root)
    return root


@pytest.fixture(scope="module", params=WHOLE)
def run(folder):
    assert cnn("run", folder / "squares.yaml", "--runs", folder / "runs") == 0
    return folder / "runs" / "localize" / "squares"


def test_other_formats_find_the_same(folder, run):
    assert_converted(folder / "squares.yaml", run, metric="accuracy")


def test_four_verbs_leave_what_they_promise(run):
    facts = json.loads((run / "prepare" / "data.json").read_text())
    assert (facts["classes"], facts["landmarks"]) == (["red", "white"], ["first", "last"])
    assert (run / "train" / "curves.png").is_file()
    for name in ("predictions.png", "worst.png", "predictions.csv", "report.json"):
        assert (run / "evaluate" / name).is_file()
    report = json.loads((run / "evaluate" / "report.json").read_text())
    assert {"presence_accuracy", "mean_iou", "accuracy", "pck", "nme", "baseline"} <= report.keys()
    assert "PCK@0.1" in (run / "export" / "squares" / "1" / "card.md").read_text()


def test_what_comes_next_is_accepted(folder, run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    done = follow(
        folder / "squares.yaml",
        folder / "runs",
        [folder / "0.png", folder / "1.png"],
        capsys=capsys,
        monkeypatch=monkeypatch,
    )
    assert done == ["serve", "predict", "dashboard"]


def test_the_exported_graph_answers_in_pixels_of_the_picture_as_evaluate_did(run, folder):
    loaded = tf.saved_model.load(str(run / "export" / "squares" / "1"))
    assert stored_bytes(run / "export" / "squares" / "1") == model_bytes(run / "train" / "model.keras")
    with (run / "evaluate" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len({int(row["id"].removesuffix(".png")) % 3 for row in rows}) == 3  # pictures of all three sizes
    for row in rows:
        image = (folder / row["id"]).read_bytes()
        said = loaded.signatures["serving_default"](image_bytes=tf.constant([image]))
        assert float(said["presence"][0]) == pytest.approx(float(row["presence"]), abs=1e-4)
        assert int(said["count"][0]) == (float(row["presence"]) >= 0.5)
        if int(said["count"][0]):
            box = [float(row[edge]) for edge in ("left", "top", "right", "bottom")]
            np.testing.assert_allclose(said["boxes"][0, 0], box, atol=0.1)
            marks = [float(row[name]) for name in ("first_x", "first_y", "last_x", "last_y")]
            np.testing.assert_allclose(tf.reshape(said["landmarks"][0, 0], [-1]), marks, atol=0.1)
            assert said["label"][0, 0].numpy().decode() == row["prediction"]
        else:
            assert not said["boxes"].numpy().any()
            assert said["label"][0, 0].numpy() == b""
        assert said["landmark_names"][0].numpy().tolist() == [b"first", b"last"]


def test_several_pictures_of_different_sizes_make_one_request(run, folder):
    serve = tf.saved_model.load(str(run / "export" / "squares" / "1")).signatures["serving_default"]
    images = [(folder / f"{row}.png").read_bytes() for row in (1, 2, 3)]
    together = serve(image_bytes=tf.constant(images))
    for row, image in enumerate(images):
        alone = serve(image_bytes=tf.constant([image]))
        for name in ("boxes", "presence", "landmarks"):
            np.testing.assert_allclose(together[name][row], alone[name][0], atol=1e-3)


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("data.tile={size: 32}", "data.tile is for detection"),
        ("head.box=l2", "head.box"),
    ],
)
def test_settings_that_do_not_fit_are_refused(folder, setting, told):
    with pytest.raises(Fault, match=told):
        recipes.load(str(folder / "squares.yaml"), [setting])


def test_pictures_are_not_mixed(folder):
    from pipelines.tasks import localize as task

    with pytest.raises(Fault, match="must not mix"):
        task.check(recipes.load(str(folder / "squares.yaml"), ["augment=[mixup]"]))
