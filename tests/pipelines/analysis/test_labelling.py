"""`cnn label`: what a model says is read back as it said it, from every format, and files are ranked."""

import csv
import json
import shlex

import keras
import numpy as np
import pytest
from PIL import Image

from cnn_keras import models as networks
from cnn_keras.data.annotation import Item
from cnn_keras.data.sources import classification, detection, multi_label, segmentation
from cnn_keras.errors import Fault
from cnn_keras.learn import visualization
from pipelines.analysis.labelling import label_files, ranking
from pipelines.analysis.labelling.predicted_labels import Labelled
from pipelines.data import yaml_file
from tests import toy_labellers
from tests.conftest import RECIPE, cnn
from tests.pipelines.tasks import test_detect, test_segment

SIZES = {"a.png": (64, 48), "inner/a.jpg": (51, 70), "b.png": (40, 40), "b.jpg": (33, 35), "dark.png": (30, 20)}
WHERE = {"coco": "", "voc": "", "yolo": "data.yaml", "csv": "boxes.csv", "labelme": ""}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {"detect": toy_labellers.detector(folder / "detect"), "segment": toy_labellers.segmenter(folder / "segment")}


@pytest.fixture
def photos(tmp_path):
    """Pictures, width and height by name, one of them dark, one broken, and a PPM."""
    folder = tmp_path / "photos"
    generator = np.random.default_rng(0)
    for name, (width, height) in SIZES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 255 if name != "dark.png" else 9, (height, width, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / name)
    Image.fromarray(np.full((24, 36, 3), 200, np.uint8)).save(folder / "grey.ppm")
    (folder / "broken.jpg").write_text("no picture")
    return folder


def boxes_of(size):
    width, height = size
    return [np.array(box) * (width, height, width, height) for box in toy_labellers.BOXES]


def read_boxes(to, out):
    path = out / WHERE[to]
    described = {"described": yaml_file.parse(path.read_text(), where="")} if to == "yolo" else {}
    return detection.load(to, path=path, **described).items


def written_names(items):
    """The ids without the folders that formats add."""
    added = ("images", "all", "train", "JPEGImages", ".")
    return {"/".join(part for part in item.id.split("/") if part not in added): item for item in items}


@pytest.mark.parametrize("to", detection.FORMATS)
def test_boxes_are_read_back_as_the_model_said_them(to, models, photos, tmp_path, capsys):
    out = tmp_path / "out"
    assert cnn("label", models["detect"], photos, "--to", to, "--out", out) == 0
    items = written_names(read_boxes(to, out))
    sizes = {**SIZES, "b-png.png": SIZES["b.png"], "grey.png": (36, 24)}
    assert sorted(items) == sorted(["a.png", "inner/a.jpg", "b.jpg", "b-png.png", "dark.png", "grey.png"])
    for name, item in items.items():
        objects = sorted(item.objects, key=lambda one: one.name, reverse=True)
        assert [one.name for one in objects] == ([] if name == "dark.png" else list(toy_labellers.CLASSES))
        for one, box in zip(objects, boxes_of(sizes[name]), strict=False):
            assert np.abs(np.array(one.box) - box).max() <= (0.5 if to == "voc" else 0.01)
        if to not in ("voc", "yolo"):
            assert [one.score for one in objects] == pytest.approx(toy_labellers.SCORES[: len(objects)])
    said = capsys.readouterr().out
    assert "broken.jpg" in said
    assert "1 could not be read" in said
    assert ("cannot express score" in said) == (to in ("voc", "yolo"))


def test_lines_of_yolo_have_five_numbers_unless_scores_are_wanted(models, photos, tmp_path):
    for name, options, count in (("plain", (), 5), ("scored", ("--scores",), 6)):
        assert cnn("label", models["detect"], photos, "--to", "yolo", "--out", tmp_path / name, *options) == 0
        lines = (tmp_path / name / "labels/train/a.txt").read_text().splitlines()
        assert {len(line.split()) for line in lines} == {count}
        items = written_names(read_boxes("yolo", tmp_path / name))
        scores = [one.score for one in items["a.png"].objects]
        assert scores == (pytest.approx(toy_labellers.SCORES) if options else [None, None])


def test_objects_of_a_lower_score_are_left_out(models, photos, tmp_path):
    assert cnn("label", models["detect"], photos, "--to", "coco", "--out", tmp_path / "out", "--min-score", 0.5) == 0
    items = written_names(read_boxes("coco", tmp_path / "out"))
    assert {one.name for item in items.values() for one in item.objects} == {toy_labellers.CLASSES[0]}
    assert "dark.png" in items  # background


@pytest.mark.parametrize("to", ["masks", "coco", "labelme"])
def test_masks_are_read_back_pixel_by_pixel(to, models, photos, tmp_path):
    out = tmp_path / "out"
    assert cnn("label", models["segment"], photos, "--to", to, "--out", out) == 0
    maps = segmentation.load("folder" if to == "masks" else to, path=out)
    numbers = {name: number for number, name in maps.names.items()}
    items = written_names(maps.items)
    assert len(items) == 6
    for name, item in items.items():
        with Image.open(photos / ("b.png" if name == "b-png.png" else name.replace("grey.png", "grey.ppm"))) as image:
            width, height = image.size
        expected = np.full((height, width), numbers["background"])
        expected[:, : width // 2] = numbers["ant"]
        expected[:1] = numbers["mouse 2"]
        assert (item.mask((height, width)).values == expected).all()


def test_masks_of_less_confidence_are_left_out(models, photos, tmp_path, capsys):
    mean = 0.4 * 0.5 + 0.1 * 0.8 + 0.5 * 0.9  # shares times confidences
    assert cnn("label", models["segment"], photos, "--out", tmp_path / "out", "--min-score", mean - 0.01) == 0
    assert (tmp_path / "out/masks/a.png").is_file()
    assert cnn("label", models["segment"], photos, "--out", tmp_path / "no", "--min-score", mean + 0.01) == Fault.INPUT
    assert "--min-score" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def test_classes_are_read_back_as_folders_and_as_a_table(exported, tmp_path, capsys):
    assert exported.cnn("predict", "classify/small", exported.photos, "--json") == 0
    answers = json.loads(capsys.readouterr().out)
    expected = {answer["path"].removeprefix(f"{exported.photos}/"): answer["classes"][0] for answer in answers}
    assert exported.cnn("label", "classify/small", exported.photos, "--out", tmp_path / "folders") == 0
    assert exported.cnn("label", "classify/small", exported.photos, "--to", "csv", "--out", tmp_path / "csv") == 0
    folders = classification.folder(tmp_path / "folders")
    assert {item.id.partition("/")[2]: item.label for item in folders} == {
        name: answer["label"] for name, answer in expected.items()
    }
    rows = classification.csv_file(tmp_path / "csv" / "labels.csv")
    assert {item.id.removeprefix("images/"): item.label for item in rows} == {
        name: answer["label"] for name, answer in expected.items()
    }
    assert all(item.read() == (exported.photos / item.id.removeprefix("images/")).read_bytes() for item in rows)
    with (tmp_path / "csv" / "labels.csv").open() as file:
        scores = {row["path"].removeprefix("images/"): float(row["score"]) for row in csv.DictReader(file)}
    assert scores == pytest.approx({name: answer["probability"] for name, answer in expected.items()}, abs=1e-5)


def test_any_number_of_labels_is_read_back(tmp_path):
    (tmp_path / "a.png").write_bytes(b"a")
    rows = [labelled(tmp_path, "a.png", (("cat", 0.9), ("dog", 0.6))), labelled(tmp_path, "b.png", ())]
    label_files.write("csv", rows, tmp_path / "out", classes=["dog", "cat"], scores=False)
    items = multi_label.table(tmp_path / "out" / "labels.csv")
    assert {item.id: item.labels for item in items} == {"images/a.png": ("cat", "dog"), "images/b.png": ()}


def write_noise(folder, count):
    folder.mkdir()
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 255, (40, 50, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def advised(capsys):
    """The settings that the command names, to train on what it has written."""
    advice = next(line for line in capsys.readouterr().out.splitlines() if "cnn run RECIPE" in line)
    return shlex.split(advice.partition("RECIPE ")[2])


@pytest.mark.parametrize("to", ["coco", "yolo", "labelme"])
def test_what_is_advised_prepares_what_is_written(to, models, tmp_path, capsys):
    photos, out = write_noise(tmp_path / "photos", 8), tmp_path / "a folder"
    assert cnn("label", models["detect"], photos, "--to", to, "--out", out) == 0
    settings = [*advised(capsys), "--set", "data.anchors=2", "--runs", tmp_path / "runs", "--json"]
    assert cnn("prepare", "detect/folder-yolo", *settings) == 0
    facts = json.loads(capsys.readouterr().out)
    assert sum(facts["splits"].values()) == 8
    assert sorted(facts["classes"]) == sorted(toy_labellers.CLASSES)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "to"),
    [
        *(("detect", to) for to in detection.FORMATS),
        *(("segment", to) for to in ("masks", "coco", "labelme")),
        *(("classify", to) for to in ("folders", "csv")),
    ],
)
def test_what_is_written_is_trained_on_as_advised(task, to, models, exported, tmp_path, capsys, monkeypatch):
    recipes = {"detect": test_detect.RECIPE, "segment": test_segment.RECIPE, "classify": RECIPE}
    (tmp_path / "recipe.yaml").write_text(recipes[task])
    photos = exported.photos if task == "classify" else write_noise(tmp_path / "photos", 24)
    model = exported.run / "export" / "small" if task == "classify" else models[task]
    monkeypatch.chdir(tmp_path)
    assert cnn("label", model, photos, "--to", to, "--out", "out") == 0
    settings = [*advised(capsys), "--set", "train.epochs=1", "--set", "evaluate.require={}", "--json"]
    if task == "segment":
        settings += ["--set", "data.classes=null"]
    assert cnn("run", "recipe.yaml", *settings) == 0
    assert json.loads(capsys.readouterr().out)["version"] == 1


def labelled(folder, name, labels=(), uncertainty=0.0, entropy=None):
    item = Item(name, lambda: b"a", file=folder / name)
    return Labelled(folder / name, item, labels, uncertainty, entropy)


def test_the_most_uncertain_come_first_and_of_equals_the_larger_entropy(tmp_path):
    rows = [
        labelled(tmp_path, "sure", uncertainty=0.1, entropy=0.9),
        labelled(tmp_path, "unsure", uncertainty=0.8, entropy=0.2),
        labelled(tmp_path, "most", uncertainty=0.8, entropy=0.3),
    ]
    order = ranking.by_uncertainty(rows)
    assert [row.file.name for row in order.rows] == ["most", "unsure", "sure"]
    ranking.write(order, tmp_path, tmp_path / "ranking.csv")
    with (tmp_path / "ranking.csv").open() as file:
        assert list(csv.reader(file)) == [
            ["rank", "path", "uncertainty", "entropy"],
            ["1", "most", "0.800000", "0.300000"],
            ["2", "unsure", "0.800000", "0.200000"],
            ["3", "sure", "0.100000", "0.900000"],
        ]


def test_classes_are_ranked_by_the_margin_of_their_probabilities(exported, tmp_path, capsys):
    assert exported.cnn("predict", "classify/small", exported.photos, "--json", "--top", 2) == 0
    margin = {}
    for answer in json.loads(capsys.readouterr().out):
        first, second = (row["probability"] for row in answer["classes"])
        margin[answer["path"].removeprefix(f"{exported.photos}/")] = first - second
    options = ("--rank", "uncertain", "--limit", 5, "--to", "csv", "--out", tmp_path / "out")
    assert exported.cnn("label", "classify/small", exported.photos, *options) == 0
    with (tmp_path / "out-ranking.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(margin)
    assert [margin[row["path"]] for row in rows] == pytest.approx(sorted(margin.values()), abs=1e-5)
    written = {item.id.removeprefix("images/") for item in classification.csv_file(tmp_path / "out" / "labels.csv")}
    assert written == {row["path"] for row in rows[:5]}


@pytest.mark.parametrize(
    ("builder", "arguments", "sides"),
    [
        ("yolo.yolo_small", {"filters": 4, "anchors_of": (2, 2)}, (None, None)),
        ("unet.unet_small", {"filters": 4, "depth": 2}, (64, 64)),
    ],
)
def test_features_are_means_of_the_coarsest_map_of_a_network_of_any_kind(builder, arguments, sides):
    shape = (64, 64, 3)
    model = networks.build(builder, input_shape=(*sides, 3), classes=2, **arguments)
    images = np.random.default_rng(0).integers(0, 255, (3, *shape)).astype(np.float32)
    layer = model.get_layer(visualization.bottleneck_layer(model, input_shape=shape))
    expected = np.asarray(keras.Model(model.inputs[0], layer.output)(images)).mean(axis=(1, 2))
    assert np.asarray(ranking.pooled_features(model, shape)(images)) == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_copies_of_a_picture_are_the_last_of_the_diverse(exported, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(4):
        for copy in range(3):
            data = (exported.photos / str(number) / "00.png").read_bytes()
            (photos / f"{number}-{copy}.png").write_bytes(data)
    options = ("--rank", "diverse", "--limit", 4, "--out", tmp_path / "out")
    assert exported.cnn("label", "classify/small", photos, *options) == 0
    with (tmp_path / "out-ranking.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["path"][0] for row in rows) == ["0", "1", "2", "3"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--to", "masks"], "--to must be one of coco, yolo"),
        (["--rank", "best"], "--rank must be uncertain or diverse"),
        (["--limit", "3"], "--limit requires --rank"),
        (["--rank", "diverse"], "requires a run"),
    ],
)
def test_options_that_do_not_fit_are_refused_and_nothing_is_written(options, told, models, photos, tmp_path, capsys):
    assert cnn("label", models["detect"], photos, *options, "--out", tmp_path / "out") == Fault.INPUT
    assert told in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.glob("*out*"))


def test_a_folder_that_holds_something_is_kept(models, photos, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    assert cnn("label", models["detect"], photos, "--out", tmp_path / "out") == Fault.INPUT
    assert "new or empty" in " ".join(capsys.readouterr().err.split())
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_a_folder_of_broken_files_exits_3(models, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_text("no")
    assert cnn("label", models["detect"], tmp_path / "photos", "--out", tmp_path / "out") == Fault.DATA


def test_a_class_that_is_no_name_of_a_folder_is_refused(tmp_path):
    with pytest.raises(Fault, match="--to csv"):
        label_files.write(
            "folders", [labelled(tmp_path, "a.png", (("a/b", 1.0),))], tmp_path / "out", classes=[], scores=False
        )
    assert not (tmp_path / "out").exists()
