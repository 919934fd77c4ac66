"""Ensembles: what is averaged, that a member is trained once, and that every later stage sees the mean."""

import csv
import json
from typing import NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console

from cnn_keras.data import input_pipeline
from cnn_keras.errors import Fault
from cnn_keras.ops import test_time_augmentation
from pipelines.data import run_files
from pipelines.data.run_files import STATE
from pipelines.engine import recipe as recipes
from pipelines.engine import stages
from pipelines.engine.classification import ensemble, ensemble_gain
from pipelines.engine.training.task_training import Training
from pipelines.tracking.journal import Journal
from pipelines.tracking.tracker import PARENT_TAG
from tests.conftest import WHOLE, write_digits
from tests.stored_weights import model_bytes, stored_bytes

RECIPE = """\
task: classify
data: {source: folder, path: photos, size: [28, 28], channels: 1, test: 0.4}
augment: [{crop: {padding: 1}}]
model: {builder: lenet.lenet5_modern, dropout: 0.2}
train: {epochs: 2, batch_size: 8, learning_rate: 1e-3, ensemble: 2}
evaluate: {baselines: false, gap: true, crops: {kind: ten, mirror: false}}
export: {crops: true}
"""


class Work(NamedTuple):
    recipe: str
    runs: object

    def run(self, *settings):
        return stages.Run(recipes.load(self.recipe, settings), Console(quiet=True), self.runs)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    root = tmp_path_factory.mktemp("ensemble")
    write_digits(root / "photos", classes=4, each=12)
    (root / "pair.yaml").write_text(RECIPE)
    return Work(str(root / "pair.yaml"), root / "runs")


@pytest.fixture(scope="module", params=WHOLE)
def pair(work):
    """An ensemble of two, from prepare to export."""
    run = work.run()
    stages.run_stages(run, "export")
    run.tracker.finish("FINISHED")
    return run


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def networks(*kernels):
    """Linear models of two inputs and three classes with these kernels."""
    found = []
    for kernel in kernels:
        entry = keras.Input((2,), name="values")
        found.append(keras.Model(entry, keras.layers.Dense(3, use_bias=False, name="logits")(entry), name="network"))
        found[-1].set_weights([np.array(kernel, "float32")])
    return found


def test_the_mean_is_that_of_the_probabilities_not_of_the_logits(tmp_path):
    kernels = np.random.default_rng(0).normal(size=(3, 2, 3)).astype("float32") * 3
    values = np.random.default_rng(1).normal(size=(5, 2)).astype("float32")
    model = ensemble.average(networks(*kernels), "three")
    wanted = np.mean([softmax(values @ kernel) for kernel in kernels], axis=0)
    np.testing.assert_allclose(softmax(model(values).numpy()), wanted, rtol=1e-5)
    model.save(tmp_path / "three.keras")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "three.keras")(values), model(values))
    each = ensemble.aloud(model)(values).numpy()
    np.testing.assert_allclose(each[:, 0], wanted, rtol=1e-5)
    for number, kernel in enumerate(kernels):
        np.testing.assert_allclose(each[:, 1 + number], softmax(values @ kernel), rtol=1e-5)


def test_members_that_are_certain_of_different_classes_leave_no_infinity():
    model = ensemble.average(networks([[1000, 0, 0]] * 2, [[0, 1000, 0]] * 2), "sure")
    assert np.isfinite(model(np.ones((1, 2), "float32"))).all()
    np.testing.assert_allclose(softmax(model(np.ones((1, 2), "float32")).numpy()), [[0.5, 0.5, 0]], atol=1e-6)


def test_a_single_network_has_no_members_and_says_only_its_own():
    (model,) = networks([[1, 2, 3], [4, 5, 6]])
    values = np.ones((4, 2), "float32")
    assert ensemble.members(model) == []
    np.testing.assert_allclose(ensemble.aloud(model)(values)[:, 0], softmax(model(values).numpy()), rtol=1e-6)


def test_a_cycle_goes_on_with_the_batches_and_the_last_weights_of_the_one_before(tmp_path):
    asked = []
    training = Training(
        lambda: networks(np.zeros((2, 3)))[0], None, lambda model, epochs: asked.append(epochs), None, 1
    )
    np.savez(tmp_path / STATE, **{"0": np.full((2, 3), 7.0), "1": 3})
    first = ensemble._cycle(training, 0, tmp_path / "none")
    second = ensemble._cycle(training, 4, tmp_path / STATE)
    first.batches(None, range(0, 4))
    second.batches(None, range(1, 4))
    assert asked == [range(0, 4), range(5, 8)]
    assert first.assembled().get_weights()[0].max() == 0
    np.testing.assert_array_equal(second.assembled().get_weights()[0], np.full((2, 3), 7.0))


def test_every_member_has_its_folder_and_the_model_is_their_mean(pair):
    folder = pair.folder / "train"
    facts = pair.facts("train")
    digests = {json.loads((folder / f"member-{n}" / "member.json").read_text())["digest"] for n in range(2)}
    assert digests == {each["digest"] for each in facts["members"]}
    assert len(digests) == 2
    with (folder / "history.csv").open() as file:
        assert [float(row["member"]) for row in csv.DictReader(file)] == [0, 0, 1, 1]


def test_the_report_and_the_predictions_are_those_of_the_mean(pair):
    test = input_pipeline.arrays(pair.folder / "prepare", "test", input_pipeline.Shape((28, 28), 1))
    members = [keras.saving.load_model(pair.folder / f"train/member-{n}/model.keras") for n in range(2)]
    each = [softmax(member(test.images).numpy()) for member in members]
    mean = np.mean(each, axis=0)
    with (pair.folder / "evaluate" / "predictions.csv").open() as file:
        said = [float(row["confidence"]) for row in csv.DictReader(file)]
    np.testing.assert_allclose(said, mean.max(axis=1), atol=2e-6)
    report = run_files.read_json(pair.folder / "evaluate" / "report.json")
    right = [one.argmax(axis=1) == test.labels for one in (*each, mean)]
    assert report["ensemble"]["members"] == pytest.approx([right[0].mean(), right[1].mean()])
    wanted = ensemble_gain.gain(np.mean(right[:2], axis=0), right[2])
    for key, value in wanted.items():
        assert report["ensemble"][key] == pytest.approx(value)
    assert report["ensemble"]["cost"]["parameters"][1] == 2 * report["ensemble"]["cost"]["parameters"][0]
    assert report["ensemble"]["cost"]["multiply_adds"][1] == 2 * report["ensemble"]["cost"]["multiply_adds"][0]
    assert pair.facts("evaluate")["metrics"]["test_ensemble_gain"] == pytest.approx(wanted["gain"])


def test_the_gap_is_that_of_the_training_split_as_it_is(pair):
    model = keras.saving.load_model(pair.folder / "train/model.keras")
    train = input_pipeline.arrays(pair.folder / "prepare", "train", input_pipeline.Shape((28, 28), 1))
    seen = (model(train.images).numpy().argmax(axis=1) == train.labels).mean()
    metrics = pair.facts("evaluate")["metrics"]
    assert metrics["train_accuracy"] == pytest.approx(seen)
    assert metrics["test_gap"] == pytest.approx(seen - metrics["test_accuracy"])


def test_the_exported_graph_averages_members_and_crops_as_evaluate_did(pair):
    (saved,) = pair.folder.glob("export/pair/1")
    frames = input_pipeline.arrays(pair.folder / "prepare", "test", input_pipeline.Shape((32, 32), 1))
    views = test_time_augmentation.views(frames.images, (28, 28), mirror=False)
    members = [keras.saving.load_model(pair.folder / f"train/member-{n}/model.keras") for n in range(2)]
    each = np.mean([softmax(member(views).numpy()) for member in members], axis=0)
    wanted = each.reshape(len(frames.labels), 5, 4).mean(axis=1)
    loaded = tf.saved_model.load(str(saved))
    assert stored_bytes(saved) == model_bytes(pair.folder / "train/model.keras")
    answers = loaded.signatures["serving_tensor"](image=tf.constant(frames.images))
    np.testing.assert_allclose(answers["probabilities"], wanted, atol=1e-6)
    report = run_files.read_json(pair.folder / "evaluate" / "report.json")
    assert report["crops"]["accuracy"] == pytest.approx((wanted.argmax(axis=1) == frames.labels).mean())
    centre = each.reshape(len(frames.labels), 5, 4)[:, 4]
    assert report["crops"]["centre_accuracy"] == pytest.approx((centre.argmax(axis=1) == frames.labels).mean())
    assert report["crops"]["single_accuracy"] == pytest.approx(report["accuracy"])
    assert report["crops"]["cost"]["multiply_adds"][1] == 5 * report["crops"]["cost"]["multiply_adds"][0]
    register = pair.facts("export")["register"]
    assert register["metrics"]["test_accuracy"] == pytest.approx(report["crops"]["accuracy"])
    assert "5 crops" in (saved / "card.md").read_text()


def test_members_are_runs_below_that_of_the_pipeline(pair):
    started = [next(Journal.last(pair.folder / f"members/{n}/tracking").events())[1] for n in range(2)]
    assert {event["tags"][PARENT_TAG] for event in started} == {pair.tracker.identity}
    assert [event["name"] for event in started] == ["pair-member0", "pair-member1"]


def test_a_killed_ensemble_goes_on_with_the_unfinished_member_to_the_same_weights(pair, work, monkeypatch):
    run, told = work.run("name=killed"), []

    def killed(self, number, row):
        told.append(self.recipe.name)
        if self.recipe.name == "killed-member1":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(stages.Run, "on_epoch", killed)
        with pytest.raises(KeyboardInterrupt):
            stages.run_stages(run, "train")
    assert told == ["killed-member0", "killed-member0", "killed-member1"]
    again = []
    monkeypatch.setattr(stages.Run, "on_epoch", lambda self, number, row: again.append((self.recipe.name, number)))
    run = work.run("name=killed")
    stages.run_stages(run, "train")
    run.tracker.finish("FINISHED")
    assert again == [("killed-member1", 1), ("killed-member1", 2)]  # the first was lost before it was told
    assert run.facts("train")["digest"] == pair.facts("train")["digest"]
    stages.run_stages(run, "train", extend=1)
    run.tracker.finish("FINISHED")
    assert [told for told in again if told[1] == 3] == [("killed-member0", 3), ("killed-member1", 3)]


@pytest.mark.slow
def test_snapshots_are_one_training_whose_rate_starts_again(work):
    run = work.run(
        "name=cycles", "train.ensemble={members: 2, kind: snapshots}", "train.epochs=6", "train.schedule=cosine"
    )
    stages.run_stages(run, "evaluate")
    run.tracker.finish("FINISHED")
    with (run.folder / "train" / "history.csv").open() as file:
        rates = [float(row["learning_rate"]) for row in csv.DictReader(file)]
    assert rates[:3] == rates[3:]
    assert rates[0] > rates[1] > rates[2]
    for number in range(2):
        place = run.folder / "train" / f"member-{number}"
        with np.load(place / STATE) as state:
            for row, variable in enumerate(keras.saving.load_model(place / "model.keras").variables):
                if "seed_generator" not in variable.path:  # a file of a model does not hold the state of its dropout
                    np.testing.assert_array_equal(variable.numpy(), state[str(row)])
    assert run_files.read_json(run.folder / "evaluate" / "report.json")["ensemble"]["members"]
    with pytest.raises(Fault, match="extend"):
        stages.run_stages(run, "train", extend=1)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("train.ensemble=1", "ensemble.members: must be greater than or equal to 2"),
        ("train.ensemble={member: 3}", "did you mean members"),
        ("train={epochs: 5, schedule: cosine, ensemble: {members: 2, kind: snapshots}}", "must be a multiple of"),
        ("train={epochs: 4, ensemble: {members: 2, kind: snapshots}}", "snapshots require schedule: cosine"),
        ("train={epochs: 4, schedule: cosine, ema: 0.9, ensemble: {members: 2, kind: snapshots}}", "neither ema"),
        ("evaluate.crops=nine", "evaluate.crops.kind"),
        ("evaluate.crops=null", "export.crops requires evaluate.crops"),
    ],
)
def test_what_does_not_go_together_is_refused(work, setting, said):
    with pytest.raises(Fault, match=said):
        recipes.load(work.recipe, [setting])


def test_a_number_is_an_ensemble_of_seeds_and_a_word_a_kind_of_crops(work):
    recipe = recipes.load(work.recipe, ["train.ensemble=5", "evaluate.crops=multiscale"])
    assert recipe.train.ensemble.model_dump() == {"members": 5, "kind": "seeds"}
    assert recipe.evaluate.crops.model_dump() == {"kind": "multiscale", "mirror": True}
