"""Images with any number of labels: what is prepared, mixed, trained, measured, exported, answered and explained."""

import csv
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import pipelines
from cnn_keras.data import input_pipeline
from cnn_keras.data.input_pipeline import Shape
from cnn_keras.data.transforms import augment
from cnn_keras.errors import Fault
from pipelines.data import label_kind as data_kinds
from pipelines.engine import recipe as recipes
from pipelines.engine.classification import label_kind
from pipelines.engine.stages import Run
from pipelines.tasks import classify
from pipelines.tasks.classify import multi_label_exporter, multi_label_report
from tests.conftest import WHOLE, cnn

RECIPE = """\
# Coloured bands, any number of them.
task: classify
data: {source: csv, path: labels.csv, labels: multi, size: [28, 28], validation: 0.2, test: 0.25}
augment: [mirror, {mixup: {alpha: 0.2}}]
model: {builder: lenet.lenet5_modern}
train: {epochs: 4, batch_size: 16, learning_rate: 5e-3, class_weights: balanced, monitor: val_mean_average_precision}
evaluate: {require: {mean_average_precision: 0.2}, beat: [label shares]}
tune: {space: {train.learning_rate: [1e-3, 5e-3]}, metric: val_mean_average_precision, trials: 2}
"""
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
SHARES = {"red": 0.6, "green": 0.4, "blue": 0.2}


def write_bands(folder, count=96):
    """Pictures with a band of each colour that they are labelled with, one that is none, a table and a recipe."""
    generator = np.random.default_rng(0)
    rows = []
    for number in range(count):
        pixels = generator.integers(60, 120, (16, 16, 3))
        labels = [name for name, share in SHARES.items() if generator.random() < share]
        for name in labels:
            top = 5 * list(COLOURS).index(name)
            pixels[top : top + 4] = COLOURS[name]
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number:03d}.png")
        rows.append([f"{number:03d}.png", "|".join(labels)])
    (folder / "broken.png").write_bytes(b"none")
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "labels"], *rows, ["broken.png", "red"]])
    (folder / "bands.yaml").write_text(RECIPE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("labels")
    write_bands(root)
    return root


@pytest.fixture(scope="module")
def prepared(folder, tmp_path_factory):
    from rich.console import Console

    run = Run(recipes.load(str(folder / "bands.yaml")), Console(quiet=True), tmp_path_factory.mktemp("runs"))
    place = run.folder / "prepare"
    place.mkdir(parents=True)
    facts = classify.prepare(run, place)
    return place, facts


def test_records_hold_a_one_for_each_label_and_what_cannot_be_read_is_counted(folder, prepared):
    place, facts = prepared
    assert facts["classes"] == ["blue", "green", "red"]
    assert facts["problems"] == {"undecodable": 1} or sum(facts["problems"].values()) == 1
    with (folder / "labels.csv").open() as file:
        truth = {row["path"]: set(row["labels"].split("|")) - {""} for row in csv.DictReader(file)}
    for split, count in facts["splits"].items():
        arrays = input_pipeline.arrays(place, split, Shape((16, 16), 3))
        assert arrays.labels.shape == (count, 3)
        for name, label in zip(arrays.ids, arrays.labels, strict=True):
            assert {facts["classes"][k] for k in np.flatnonzero(label)} == truth[name]
        assert facts["counts"][split] == {
            name: int(total) for name, total in zip(facts["classes"], arrays.labels.sum(axis=0), strict=True) if total
        }


def test_shares_of_labels_are_those_of_the_whole_in_every_split(prepared):
    _, facts = prepared
    for name in facts["classes"]:
        whole = sum(counts[name] for counts in facts["counts"].values()) / sum(facts["splits"].values())
        for split, count in facts["splits"].items():
            assert facts["counts"][split][name] / count == pytest.approx(whole, abs=1.5 / count)


@pytest.mark.parametrize("step", ["mixup", "cutmix"])
def test_mixed_examples_have_the_shares_of_all_their_labels(prepared, step):
    place, facts = prepared
    steps = augment.compose([{step: {"alpha": 1.0}}], size=(16, 16))
    batches = input_pipeline.training(
        place, "train", Shape((16, 16), 3), count=facts["splits"]["train"], epochs=range(1), batch_size=16, seed=0,
        augment=steps, classes=3,
    )  # fmt: skip
    labels = np.concatenate([batch[1].numpy() for batch in batches])
    arrays = input_pipeline.arrays(place, "train", Shape((16, 16), 3))
    assert labels.shape == arrays.labels.shape
    assert labels.min() >= 0
    assert labels.max() <= 1
    assert ((labels > 0) & (labels < 1)).any()
    assert labels.sum() == pytest.approx(arrays.labels.sum(), rel=0.35)  # not one a picture


def test_the_weight_of_a_label_is_how_much_rarer_it_is_than_its_absence(folder, prepared):
    _, facts = prepared
    recipe = recipes.load(str(folder / "bands.yaml"))
    weights = label_kind.MULTI.positive_weights(recipe, facts)
    total, counts = facts["splits"]["train"], facts["counts"]["train"]
    np.testing.assert_allclose(weights, [(total - counts[name]) / counts[name] for name in facts["classes"]])


def test_a_label_that_the_recipe_does_not_name_is_told_and_left_out(folder):
    recipe = recipes.load(str(folder / "bands.yaml"), ["data.classes=[red, green]"])
    items = data_kinds.of(recipe.data).items(recipe.data)
    assert {name for item in items for name in item.labels} == {"red", "green"}
    problems = data_kinds.MULTI.problems(items)
    assert {(problem.kind, problem.detail) for problem in problems} == {("unknown class", "blue")}


@pytest.mark.parametrize(
    "change",
    [
        "data.source=digits",
        "train.monitor=val_accuracy",
        "evaluate.beat=[majority]",
        "tune.metric=val_accuracy",
        "data.labels=single",
        "data.composites={count: 20}",
    ],
)
def test_what_is_for_labels_of_the_other_kind_is_refused(folder, change):
    with pytest.raises(Fault):
        recipes.load(str(folder / "bands.yaml"), [change])


def test_a_search_goes_by_mean_average_precision_unless_told_otherwise(folder):
    space = "tune={space: {train.learning_rate: [1e-3, 5e-3]}}"
    assert recipes.load(str(folder / "bands.yaml"), [space]).tune.metric == "val_mean_average_precision"
    chosen = recipes.load(str(folder / "bands.yaml"), [space, "tune.metric=val_loss"])
    assert chosen.tune.metric == "val_loss"


def test_the_report_has_the_figures_of_hand_and_the_chosen_labels_are_those_above_their_thresholds():
    probabilities = np.array([[0.9, 0.2], [0.6, 0.4], [0.3, 0.45], [0.2, 0.1]])
    truth = np.array([[True, False], [False, True], [True, True], [False, False]])
    report = multi_label_report.measure(probabilities, truth, np.array([0.25, 0.3]), ["a", "b"])
    assert [row["f1"] for row in report["classes"]] == pytest.approx([0.8, 1.0])
    assert report["macro_f1"] == pytest.approx(0.9)
    assert report["micro_f1"] == pytest.approx(8 / 9)
    assert report["macro_f1_at_half"] == pytest.approx(0.25)
    assert report["mean_average_precision"] == pytest.approx((5 / 6 + 1) / 2)
    assert report["subset_accuracy"] == 0.75
    chosen = multi_label_exporter.chosen_labels(
        tf.constant(probabilities, tf.float32), thresholds=np.array([0.25, 0.3]), names=["a", "b"]
    )
    assert chosen["chosen"].numpy().tolist() == [[True, False], [True, True], [True, True], [False, False]]
    assert chosen["label"].numpy().tolist() == [[b"a", b""], [b"a", b"b"], [b"b", b"a"], [b"", b""]]


@pytest.fixture(scope="module", params=WHOLE)
def run(folder):
    assert cnn("run", folder / "bands.yaml", "--runs", folder / "runs") == 0
    return folder / "runs" / "classify" / "bands"


def test_four_verbs_leave_thresholds_pictures_and_a_card(run):
    report = json.loads((run / "evaluate" / "report.json").read_text())
    assert report["mean_average_precision"] > report["baselines"]["label shares"]["mean_average_precision"]
    low, high = report["mean_average_precision_interval"]
    assert low <= report["mean_average_precision"] <= high
    assert {"thresholds.png", "precision_recall.png", "worst.png"} <= {
        path.name for path in (run / "evaluate").iterdir()
    }
    assert "threshold" in (run / "export" / "bands" / "1" / "card.md").read_text()
    with (run / "evaluate" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    thresholds = {row["name"]: row["threshold"] for row in report["classes"]}
    assert len(rows) == report["examples"]
    for row in rows:
        reached = {name for name, threshold in thresholds.items() if float(row[f"p({name})"]) >= threshold}
        assert set(row["prediction"].split("|")) - {""} == reached


def test_python_answers_with_the_labels_that_reach_their_thresholds_and_all_probabilities(folder, run):
    report = json.loads((run / "evaluate" / "report.json").read_text())
    thresholds = {row["name"]: row["threshold"] for row in report["classes"]}
    finished = pipelines.load("classify/bands", runs=folder / "runs")
    *rows, broken = finished.predict([folder / "000.png", folder / "001.png", folder / "broken.png"])
    assert broken["problem"]
    for row in rows:
        assert set(row["labels"]) == {name for name, p in row["probabilities"].items() if p >= thresholds[name]}
        assert row["labels"] == sorted(row["labels"], key=row["probabilities"].get, reverse=True)
    assert len(finished.draw(folder / "000.png")) == 1


def test_the_server_gives_all_scores_and_the_chosen_labels(run):
    import base64
    import warnings

    from pipelines.serving.server import application

    with warnings.catch_warnings():  # Starlette would rather have httpx2
        warnings.simplefilter("ignore")
        from starlette.testclient import TestClient
    encoded = base64.b64encode((run.parents[2] / "000.png").read_bytes()).decode()
    with TestClient(application(run / "export" / "bands")) as client:
        answer = client.post("/v1/models/bands:predict", json={"instances": [{"b64": encoded}]}).json()
    (row,) = answer["predictions"]
    chosen = {name for name, is_chosen in zip(row["classes"], row["chosen"], strict=True) if is_chosen}
    assert {name for name in row["label"] if name} == chosen
    assert len(row["probabilities"]) == 3


def test_why_explains_each_label_that_is_answered(folder, run, tmp_path):
    assert cnn("predict", "classify/bands", folder / "000.png", "--why", tmp_path, "--runs", folder / "runs") == 0
    assert len(list(tmp_path.glob("*.png"))) == 1


@pytest.mark.parametrize("command", ["lr", "train --dry-run", "insight", "tune", "cross-validate --folds 2"])
def test_the_craft_of_training_takes_several_labels(folder, run, command, tmp_path, monkeypatch):
    monkeypatch.chdir(folder)
    runs = tmp_path / "runs"
    if command == "insight":
        shutil.copytree(folder / "runs", runs)
    name, *options = command.split()
    recipe = "classify/bands" if name == "insight" else folder / "bands.yaml"
    changes = [] if name == "insight" else ["--set", "train.epochs=2", "--set", "evaluate={}"]
    assert cnn(name, recipe, *options, *changes, "--runs", runs) == 0


def test_a_second_run_changes_nothing(folder, run, capsys):
    assert cnn("run", folder / "bands.yaml", "--runs", folder / "runs") == 0
    assert capsys.readouterr().out.count("skipped") == 4


def test_the_mean_of_several_networks_is_that_of_their_probabilities():
    logits = [tf.random.stateless_normal((5, 3), (0, seed), stddev=30) for seed in range(3)]
    mean = np.mean([tf.sigmoid(tf.cast(values, tf.float64)) for values in logits], axis=0)
    found = label_kind.MULTI.mean_logits(logits)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(tf.sigmoid(found), mean, rtol=1e-4, atol=1e-7)


@pytest.mark.slow
def test_crops_have_thresholds_of_their_own_which_the_export_answers_with(folder, run, tmp_path):
    settings = ("name=cropped", "evaluate.crops={kind: ten}", "export.crops=true", "train.epochs=2")
    settings += ("evaluate.require={}", "evaluate.beat=[]")
    given = [word for one in settings for word in ("--set", one)]
    assert cnn("run", folder / "bands.yaml", "--runs", folder / "runs", *given) == 0
    cropped = run.with_name("cropped")
    report = json.loads((cropped / "evaluate" / "report.json").read_text())
    crops = report["crops"]
    assert (crops["count"], len(crops["cost"]["seconds"])) == (10, 2)
    assert crops["gain"] == pytest.approx(crops["mean_average_precision"] - report["mean_average_precision"])
    serve = tf.saved_model.load(str(cropped / "export" / "cropped" / "1")).signatures["serving_default"]
    image = (folder / "000.png").read_bytes()
    answer = {name: value.numpy()[0] for name, value in serve(image_bytes=tf.constant([image])).items()}
    thresholds = np.array([row["threshold"] for row in crops["classes"]])
    assert answer["chosen"].tolist() == (answer["probabilities"] >= thresholds).tolist()
    assert cnn("compare", "classify/bands", "classify/cropped", "--runs", folder / "runs", "--json") == 0


@pytest.mark.slow
def test_an_ensemble_and_the_gap_to_the_training_split_are_measured_and_exported(tmp_path):
    write_bands(tmp_path)
    settings = ("train.ensemble={kind: seeds, members: 2}", "train.epochs=2", "evaluate.gap=true")
    settings += ("evaluate.require={}", "evaluate.beat=[]")
    given = [word for one in settings for word in ("--set", one)]
    assert cnn("run", tmp_path / "bands.yaml", "--runs", tmp_path / "runs", *given) == 0
    report = json.loads((tmp_path / "runs" / "classify" / "bands" / "evaluate" / "report.json").read_text())
    assert len(report["members"]) == 2
    assert report["gap"] == pytest.approx(
        report["train"]["mean_average_precision"] - report["mean_average_precision"], abs=1e-9
    )
