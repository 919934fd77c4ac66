"""Detection, from annotations to HTTP: prepare, train, evaluate, export, predict and serve agree with each other."""

import csv
import json
import warnings

import keras
import numpy as np
import pytest
from PIL import Image

from cnn_keras import models
from cnn_keras.errors import Fault
from cnn_keras.models import backbone_weights
from cnn_keras.weights import darknet_numbers
from pipelines.data import video_io
from pipelines.engine import recipe as recipes
from pipelines.engine.training import transfer
from pipelines.serving.server import application
from pipelines.tasks import detect
from pipelines.tasks.detect import model as detection_model
from pipelines.tasks.detect.training import fewer
from tests.advice import follow
from tests.conftest import WHOLE, cnn
from tests.converted import assert_converted
from tests.stored_weights import model_bytes, stored_bytes

with warnings.catch_warnings():  # Starlette would rather have httpx2
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

SIZES = ((48, 64), (71, 50), (64, 64))  # width, height: none but the last is the network's
RECIPE = """\
# Squares, white or red.
task: detect
data: {source: csv, path: boxes.csv, size: [64, 64], anchors: 2, validation: 0.2, test: 0.25}
augment: [mirror, mosaic]
model: {builder: yolo.yolo_small, filters: 4}
train: {epochs: 2, batch_size: 8, learning_rate: 5e-3, ema: 0.5, sides: [64, 96]}
evaluate: {shown: 0.01}
export: {suppress: {threshold: 0.01, limit: 20}}
"""


def write_squares(folder, count=32):
    """Pictures of three sizes with one or two squares, and the table of their boxes."""
    drawn, rows = np.random.default_rng(0), []
    for number in range(count):
        width, height = SIZES[number % 3]
        picture = drawn.integers(0, 60, (height, width, 3)).astype(np.uint8)
        for thing in range(1 + number % 2):
            side = int(drawn.integers(12, 20))
            left, top = 2 + 24 * thing, int(drawn.integers(0, height - side))
            picture[top : top + side, left : left + side] = [(255, 255, 255), (255, 0, 0)][(number + thing) % 2]
            label = ("white", "red")[(number + thing) % 2]
            rows.append((f"{number}.png", left, top, left + side, top + side, label))
        Image.fromarray(picture).save(folder / f"{number}.png")
    with (folder / "boxes.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "left", "top", "right", "bottom", "label"), *rows])
    (folder / "squares.yaml").write_text(RECIPE)


@pytest.fixture(scope="module", params=WHOLE)
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("squares")
    write_squares(folder)
    assert cnn("run", folder / "squares.yaml", "--runs", folder / "runs") == 0
    return folder


@pytest.fixture(scope="module")
def run(folder):
    return folder / "runs" / "detect" / "squares"


def test_other_formats_find_the_same(folder, run):
    assert_converted(folder / "squares.yaml", run, metric="ap50")


def evaluated(run):
    """What evaluate found in the test pictures: {file: [(left, top, right, bottom, score)]}, the best first."""
    truth = json.loads((run / "prepare" / "truth-test.json").read_text())
    found = {image["file_name"]: [] for image in truth["images"]}
    names = {image["id"]: image["file_name"] for image in truth["images"]}
    for one in json.loads((run / "evaluate" / "detections.json").read_text()):
        left, top, width, height = one["bbox"]
        found[names[one["image_id"]]].append((left, top, left + width, top + height, one["score"]))
    return {name: np.array(rows).reshape(-1, 5) for name, rows in found.items()}


def test_what_comes_next_is_accepted(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    done = follow(
        folder / "squares.yaml",
        folder / "runs",
        [folder / "0.png", folder / "1.png"],
        capsys=capsys,
        monkeypatch=monkeypatch,
    )
    assert done == ["serve", "predict", "dashboard"]


def test_every_stage_leaves_what_people_look_at(run):
    for name in ("prepare/contact_sheet.png", "train/augmented.png", "train/curves.png", "evaluate/pr_curves.png"):
        assert (run / name).is_file()
    with (run / "train" / "history.csv").open() as file:
        first, last = csv.DictReader(file)
    assert {"box_loss", "object_loss", "class_loss", "val_loss"} <= first.keys()
    assert float(last["loss"]) < float(first["loss"])
    assert "| name | type | output shape |" in (run / "export" / "squares" / "1" / "card.md").read_text()
    assert stored_bytes(run / "export" / "squares" / "1") == model_bytes(run / "train" / "model.keras")


def test_the_served_boxes_are_evaluates_in_pixels_of_pictures_of_any_size(folder, run):
    expected = evaluated(run)
    assert {int(name.removesuffix(".png")) % 3 for name in expected} == {0, 1, 2}  # pictures of all three sizes
    assert sum(map(len, expected.values())) > 20  # else nothing is compared
    with TestClient(application(run / "export" / "squares")) as client:
        for name, rows in expected.items():
            headers = {"content-type": "image/png"}
            answer = client.post("/v1/models/squares:predict", content=(folder / name).read_bytes(), headers=headers)
            (said,) = answer.json()["predictions"]
            assert said["count"] == min(len(rows), 20)
            boxes, scores = np.array(said["boxes"])[: said["count"]], np.array(said["scores"])[: said["count"]]
            rows = rows[np.argsort(-rows[:, 4], kind="stable")][: said["count"]]
            np.testing.assert_allclose(scores, rows[:, 4], atol=1e-5)
            np.testing.assert_allclose(boxes, rows[:, :4], atol=0.5)


def test_predict_lists_and_draws_each_detection(folder, run, tmp_path, capsys):
    name, rows = next((name, rows[:20]) for name, rows in evaluated(run).items() if len(rows))
    table, drawn = tmp_path / "found.csv", tmp_path / "drawn"
    arguments = ("--csv", table, "--pictures", drawn, "--json", "--runs", folder / "runs")
    assert cnn("predict", "detect/squares", folder / name, *arguments) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    assert len(answer["detections"]) == len(rows)
    assert answer["detections"][0]["label"] in ("red", "white")
    with table.open() as file:
        listed = list(csv.DictReader(file))
    assert [float(row["left"]) for row in listed] == pytest.approx(
        [one["box"][0] for one in answer["detections"]], abs=0.1
    )
    assert [path.suffix for path in drawn.iterdir()] == [".png"]


def test_a_video_is_answered_frame_by_frame_as_its_frames_are(folder, tmp_path, capsys):
    """Written by OpenCV, so that a frame is nearly the picture that it was made of."""
    names = [f"{number}.png" for number in range(2, 32, 3)]  # 64 pixels a side
    frames = [np.asarray(Image.open(folder / name)) for name in names]
    video, broken = tmp_path / "squares.mp4", tmp_path / "broken.mp4"
    assert video_io.write(video, frames, rate=10.0) == len(names)
    broken.write_bytes(video.read_bytes()[:200])
    table, drawn = tmp_path / "found.csv", tmp_path / "drawn"
    assert video_io.facts(video) == (10.0, len(names))
    arguments = ("--csv", table, "--pictures", drawn, "--json", "--runs", folder / "runs")
    assert cnn("predict", "detect/squares", tmp_path, *arguments) == 0
    told = capsys.readouterr()
    assert "1 of 2 could not be read" in told.err
    assert "10 frames" in told.err
    refused, *answers = json.loads(told.out)
    assert refused["problem"] == "no video that OpenCV can read"
    assert [answer["frame"] for answer in answers] == list(range(10))
    with table.open() as file:
        rows = [row for row in csv.DictReader(file) if row["path"].endswith("squares.mp4")]
    assert {int(row["frame"]) for row in rows} == set(range(10))
    (shown,) = drawn.iterdir()
    pictures = list(video_io.frames(shown))
    assert (shown.name, len(pictures)) == ("0001-squares.mp4", 10)
    assert all(picture.shape[0] % 2 == picture.shape[1] % 2 == 0 for picture in pictures)


def test_the_sheet_of_augmentations_has_boxes(folder, tmp_path):
    assert cnn("augment", folder / "squares.yaml", "--output", tmp_path / "sheet.png") == 0
    assert (tmp_path / "sheet.png").is_file()


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("evaluate.require={ap51: 0.5}", "require must name a metric"),
        ("train.transfer={mode: head}", "train.transfer requires model.weights"),
        ("train.regions=8", "train.regions must be null without data.proposals"),
        ("data={source: csv, path: boxes.csv, proposals: {}, tile: {}}", "data.proposals must be null with data.tile"),
    ],
)
def test_settings_that_do_not_fit_are_refused(folder, setting, told):
    with pytest.raises(Fault, match=told):
        recipes.load(str(folder / "squares.yaml"), [setting])


def test_a_classifier_is_no_detector(folder):
    from pipelines.tasks import detect

    with pytest.raises(Fault, match=r"model.builder must be"):
        detect.check(recipes.load(str(folder / "squares.yaml"), ["model={builder: lenet.lenet5_modern}"]))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (["model={builder: yolo.yolo_small, weights: imagenet}"], "model.weights must be a file for yolo.yolo_small"),
        (["model={builder: yolo.yolo, weights: imagenet}"], "imagenet; those are published for"),
        (["model={builder: rcnn.fast_rcnn}"], "data.proposals must say how regions are searched for"),
        (["data.proposals={most: 9}"], "data.proposals must be null with model.builder yolo.yolo_small"),
    ],
)
def test_what_only_the_library_can_tell_is_refused_before_any_data_is_read(folder, settings, told):
    with pytest.raises(Fault, match=told):
        detect.check(recipes.load(str(folder / "squares.yaml"), settings))


REGIONS = """\
# Squares, white or red, by Fast R-CNN.
task: detect
data: {source: csv, path: boxes.csv, size: [64, 64], anchors: null, validation: 0.2, test: 0.25,
       proposals: {most: 60, mode: single, side: 120}}
augment: [mirror]
model: {builder: rcnn.fast_rcnn, backbone: resnet.resnet20, stride: 4, hidden: 16}
train: {epochs: 2, batch_size: 8, learning_rate: 1e-3, regions: 16}
evaluate: {shown: 0.01}
export: {suppress: {threshold: 0.01, limit: 20}}
"""


def test_fast_rcnn_is_given_regions_from_prepare_to_predict(folder, tmp_path, capsys):
    """The boxes of predict, which searches the file anew, are those of evaluate."""
    (folder / "regions.yaml").write_text(REGIONS)
    assert cnn("run", folder / "regions.yaml", "--runs", tmp_path) == 0
    told = "".join(capsys.readouterr())
    assert "selective search covers" in told
    run = tmp_path / "detect" / "regions"
    wanted = evaluated(run)
    for name in sorted(wanted)[:3]:
        capsys.readouterr()
        assert cnn("predict", "detect/regions", folder / name, "--json", "--runs", tmp_path) == 0
        (answer,) = json.loads(capsys.readouterr().out)
        found = np.array([one["box"] for one in answer["detections"]]).reshape(-1, 4)
        np.testing.assert_allclose(found, wanted[name][:, :4][: len(found)], atol=0.5)
        assert len(found) == min(20, len(wanted[name]))


TILES = """\
# Squares on photographs that are larger than what the network sees.
task: detect
data: {source: csv, path: boxes.csv, size: [64, 64], anchors: 2, validation: 0.2, test: 0.25,
       tile: {size: 60, overlap: 0.4}}
model: {builder: yolo.yolo_small, filters: 4}
train: {epochs: 3, batch_size: 8, learning_rate: 5e-3}
evaluate: {suppress: {threshold: 0.01, limit: 30}, shown: 0.01}
export: {suppress: {threshold: 0.01, limit: 30}}
"""


@pytest.mark.slow
def test_a_large_photograph_is_trained_on_in_tiles_and_measured_and_served_whole(tmp_path):
    drawn, rows = np.random.default_rng(0), []
    for number in range(12):
        picture = drawn.integers(0, 60, (100 + number, 140, 3)).astype(np.uint8)
        for left in (5, 50, 100):
            top, side = int(drawn.integers(0, 70)), int(drawn.integers(12, 20))
            picture[top : top + side, left : left + side] = 255
            rows.append((f"{number}.png", left, top, left + side, top + side, "white"))
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
    with (tmp_path / "boxes.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "left", "top", "right", "bottom", "label"), *rows])
    (tmp_path / "tiles.yaml").write_text(TILES)
    assert cnn("run", tmp_path / "tiles.yaml", "--runs", tmp_path) == 0
    run = tmp_path / "detect" / "tiles"
    report = json.loads((run / "evaluate" / "report.json").read_text())
    assert (report["images"], report["objects"]) == (3, 9)
    with TestClient(application(run / "export" / "tiles")) as client:
        for name, rows in evaluated(run).items():
            headers = {"content-type": "image/png"}
            answer = client.post("/v1/models/tiles:predict", content=(tmp_path / name).read_bytes(), headers=headers)
            (said,) = answer.json()["predictions"]
            assert said["count"] == len(rows) > 0
            np.testing.assert_allclose(np.array(said["boxes"])[: said["count"]], rows[:, :4], atol=0.5)
            assert rows[:, 2].max() > 60  # beyond the first tile


def test_regions_are_drawn_for_each_batch_and_padding_only_where_there_are_no_others():
    real = np.random.default_rng(0).uniform(size=(3, 30, 4)).astype("float32")
    real[1, 5:] = 0
    batch = {"image": np.zeros((3, 1)), "proposals": real}
    first, again, other = (fewer(place, batch, regions=9, seed=4)["proposals"].numpy() for place in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.any(first != other)
    assert (first[0] != 0).all()
    assert len(np.unique(first[0], axis=0)) == 9
    np.testing.assert_array_equal(np.unique(first[1, :5], axis=0), np.unique(real[1, :5], axis=0))
    assert not np.any(first[1, 5:])


@pytest.mark.parametrize(("mode", "heads"), [({"mode": "head"}, 0), ({"mode": "partial", "blocks": 2}, 2)])
@pytest.mark.parametrize("builder", ["yolo.yolo", "rcnn.fast_rcnn"])
def test_of_a_backbone_only_what_the_recipe_says_is_trained(builder, mode, heads):
    """What is not the backbone's always is."""
    network = models.build(builder, backbone="resnet.resnet18", input_shape=(64, 64, 3), classes=2)
    plan = recipes.Transfer(**mode)
    held = {layer.name for layer in models.build("resnet.resnet18", input_shape=(64, 64, 3), classes=1).layers}
    inside = [layer for layer in network.layers if hasattr(layer, "layers")]
    layers = [layer for part in inside or [network] for layer in part.layers if layer.weights and layer.name in held]
    transfer.freeze(network, plan, fresh=[layer.name for layer in network.layers if layer not in layers])
    trained = {transfer.BLOCK.match(layer.name)[0] for layer in layers if layer.trainable}
    assert len(trained) == heads
    assert network.get_layer("conv17" if builder == "yolo.yolo" else "logits").trainable


@pytest.mark.parametrize("builder", ["yolo.yolo", "rcnn.fast_rcnn"])
def test_layers_of_the_backbone_learn_the_slower_the_further_they_are_from_its_end(builder):
    network = models.build(builder, backbone="resnet.resnet18", input_shape=(64, 64, 3), classes=2)
    inputs = network.inputs if builder == "rcnn.fast_rcnn" else network.input
    plan = recipes.Transfer(mode="full", layer_decay=0.5)
    fresh = backbone_weights.besides_backbone(network, "resnet.resnet18")
    rates = transfer.shares(keras.Model(inputs, network(network.input)), plan, fresh=fresh)
    known = {weight.path: rate for weight, rate in zip(network.trainable_variables, rates, strict=True)}
    own = {layer for path, rate in known.items() if rate == 1 for layer in fresh if f"{layer}/" in path}
    assert own == set(fresh)
    last, first = (min(rate for path, rate in known.items() if stage in path) for stage in ("stage3", "stem"))
    assert first < last <= 0.5


DARKNET = """\
# Squares, white or red, from a file of Darknet's.
task: detect
data: {source: csv, path: boxes.csv, size: [64, 64], anchors: null, validation: 0.2, test: 0.25}
model: {builder: yolo.yolov3_tiny, weights: tiny.weights}
train: {epochs: 2, batch_size: 8, learning_rate: 1e-3, transfer: {mode: full, layer_decay: 0.5}}
export: {suppress: {threshold: 0.01, limit: 20}}
"""


@pytest.fixture(scope="module")
def darknet(tmp_path_factory):
    """Squares, a recipe, and the weights of tiny YOLOv3 for COCO's 80 classes; the network of them."""
    folder = tmp_path_factory.mktemp("darknet")
    write_squares(folder, count=16)
    (folder / "tiny.yaml").write_text(DARKNET)
    network = models.build("yolo.yolov3_tiny", input_shape=(64, 64, 3), classes=80)
    (folder / "tiny.weights").write_bytes(darknet_numbers.as_weights(network))
    return folder, network


@pytest.mark.parametrize(
    ("setting", "trained"),
    [("{mode: head}", 2), ("{mode: partial, blocks: 1}", 3), ("{mode: full, layer_decay: 0.5}", 13)],
)
def test_a_darknet_file_fills_all_but_the_outputs_of_another_number_of_classes(darknet, setting, trained):
    folder, theirs = darknet
    recipe = recipes.load(str(folder / "tiny.yaml"), [f"train.transfer={setting}"])
    model = detection_model.assemble(recipe, {"classes": ["white", "red"]}, sides=(64, 64))
    network = detection_model.network_of(model)
    ours, fresh = [layer for layer in network.layers if hasattr(layer, "kernel")], []
    for layer in ours:
        mine, file = layer.get_weights()[0], theirs.get_layer(layer.name).get_weights()[0]
        if mine.shape == file.shape:
            np.testing.assert_array_equal(mine, file)
        else:
            fresh.append(layer)
    assert [layer.filters for layer in fresh] == [21, 21]  # at two scales, three anchors with 2 + 5 numbers
    assert all(layer.trainable for layer in fresh)
    assert sum(layer.trainable for layer in ours) == trained
    rates = detection_model.shares(recipe, model)
    if "full" in setting:
        paired = zip(model.trainable_variables, rates, strict=True)
        assert {weight.path.split("/")[-2] for weight, rate in paired if rate == 1} == {layer.name for layer in fresh}


def test_the_outputs_of_a_file_of_as_many_classes_are_trained_in_any_case(darknet):
    folder, theirs = darknet
    recipe = recipes.load(str(folder / "tiny.yaml"), ["train.transfer={mode: head}"])
    classes = [str(number) for number in range(80)]
    network = detection_model.network_of(detection_model.assemble(recipe, {"classes": classes}, sides=(64, 64)))
    trained = {layer.name for layer in network.layers if layer.weights and layer.trainable}
    assert trained == {"conv10", "conv13"}  # Darknet's own layers before [yolo]
    np.testing.assert_array_equal(network.get_layer("conv13").kernel, theirs.get_layer("conv13").kernel)


@pytest.mark.slow
def test_a_detector_trains_from_a_darknet_file(darknet, tmp_path, capsys):
    folder, _ = darknet
    assert cnn("run", folder / "tiny.yaml", "--runs", tmp_path) == 0
    with (tmp_path / "detect" / "tiny" / "train" / "history.csv").open() as file:
        first, last = csv.DictReader(file)
    assert float(last["loss"]) < float(first["loss"])
    (folder / "tiny.weights").write_bytes((folder / "tiny.weights").read_bytes()[:-400])
    assert cnn("train", folder / "tiny.yaml", "--force", "--runs", tmp_path) == Fault.DATA
    assert "or was cut off" in capsys.readouterr().err
