"""What every classifier shares: objectives, auxiliary heads, weights to start from, the requirements of a recipe."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cnn_keras.errors import Fault
from pipelines.data import run_files
from pipelines.engine import recipe as recipes
from pipelines.engine.classification import classifier, classifier_config, classifier_report
from tests.conftest import write_digits

DATA = {"classes": ["a", "b", "c"], "normalization": {"axis": None, "mean": 0.0, "variance": 255.0**2}}


def recipe_of(*settings):
    return recipes.load("classify/digits-lenet5", settings)


def one_headed():
    entry = keras.Input((2,))
    return keras.Model(entry, keras.layers.Dense(3)(entry))


def two_headed():
    """A wrapped network with a head whose logits are twice the main ones."""
    image = keras.Input((2,), name="image")
    logits = keras.layers.Dense(3, name="logits")(image)
    network = keras.Model(image, {"logits": logits, "auxiliary1": keras.layers.Rescaling(2.0)(logits)}, name="network")
    entry = keras.Input((2,), dtype="uint8", name="image")
    heads = network(keras.layers.Normalization(axis=None, mean=0.0, variance=1.0, name="normalization")(entry))
    return keras.Model(entry, {name: keras.layers.Identity(name=name)(value) for name, value in heads.items()})


def test_a_baseline_to_beat_is_a_requirement():
    settings = classifier_config.Evaluate(beat=("nearest neighbour",), require={"top_5_accuracy": 0.9})
    report = {"accuracy": 0.97, "baselines": {"accuracy": {"nearest neighbour": 0.98}}}
    assert classifier_report.failed_requirements(settings, report) == [
        "evaluate.require: top_5_accuracy must be at least 0.9, got nothing: it is measured for 11 classes or more",
        "evaluate.beat: accuracy must reach the nearest neighbour's 0.9800, got 0.9700",
    ]


def test_what_is_reached_is_no_failure():
    settings = classifier_config.Evaluate(beat=("majority",), require={"accuracy": 0.97})
    report = {"accuracy": 0.97, "baselines": {"accuracy": {"majority": 0.97}}}
    assert classifier_report.failed_requirements(settings, report) == []


@pytest.mark.parametrize(
    ("recipe", "setting", "said"),
    [
        ("signals/folder-fcn", "model.builder=lenet.lenet5", "must be buildable"),
        ("signals/folder-fcn", "model.dropout=0.5", "dropout"),
        ("volumes/folder-resnet18", "model.builder=conv1d.fcn", "must be buildable"),
    ],
)
def test_a_network_for_other_examples_is_refused_before_any_data_is_read(recipe, setting, said):
    from pipelines.tasks import signals, volumes

    task = {"signals": signals, "volumes": volumes}[recipe.partition("/")[0]]
    with pytest.raises(Fault, match=said):
        task.check(recipes.load(recipe, ["data.path=.", setting]))


def test_an_auxiliary_head_counts_what_its_paper_says():
    recipe = recipe_of("model.builder=googlenet.googlenet")
    found = classifier.objective(two_headed(), recipe)
    assert found["loss_weights"] == {"logits": 1.0, "auxiliary1": 0.3}
    assert set(found["loss"]) == {"logits", "auxiliary1"}
    assert set(found["metrics"]) == {"logits"}


def test_without_its_heads_a_model_answers_the_same_logits():
    model = two_headed()
    images = np.arange(8, dtype="uint8").reshape(4, 2)
    trunk = classifier.headless(model)
    np.testing.assert_array_equal(trunk(images), model(images)["logits"])
    assert classifier.headless(trunk) is trunk


@pytest.mark.parametrize(
    ("settings", "labels"),
    [
        ([], [0, 2]),
        (["train.label_smoothing=0.1"], [[1, 0, 0], [0, 0, 1]]),
        (["train.focal_gamma=2.0"], [[1, 0, 0], [0, 0, 1]]),
    ],
)
def test_labels_are_numbers_unless_the_loss_wants_shares(settings, labels):
    recipe = recipe_of(*settings)
    model = one_headed()
    apply = classifier.targets(model, recipe, 3)
    _, wanted = apply(tf.zeros((2, 2)), tf.constant([0, 2]))
    np.testing.assert_array_equal(wanted, labels)


def test_shares_of_mixed_examples_go_to_the_loss_as_they_are_and_are_weighed_by_both_classes():
    recipe = recipe_of("augment=[mixup]")
    shares = [[0.75, 0.25, 0.0], [0.0, 0.0, 1.0]]
    apply = classifier.targets(one_headed(), recipe, 3, np.array([1.0, 2.0, 4.0], "float32"))
    _, wanted, weights = apply(tf.zeros((2, 2)), tf.constant(shares))
    np.testing.assert_array_equal(wanted, shares)
    np.testing.assert_array_equal(weights, [1.25, 4.0])


def test_the_label_smoothing_loss_is_the_cross_entropy_with_smoothed_labels():
    recipe, logits = recipe_of("train.label_smoothing=0.3"), np.array([[2.0, -1.0, 0.5]], "float32")
    model = one_headed()
    loss = classifier.objective(model, recipe)["loss"](np.array([[1.0, 0.0, 0.0]]), logits)
    log_p = logits - np.log(np.exp(logits).sum())
    assert float(loss) == pytest.approx(-(np.array([0.8, 0.1, 0.1]) * log_p).sum(), rel=1e-5)


def test_the_focal_loss_is_that_of_the_paper():
    recipe, logits = recipe_of("train.focal_gamma=2.0"), np.array([[2.0, -1.0, 0.5]], "float32")
    model = one_headed()
    loss = classifier.objective(model, recipe)["loss"](np.array([[1.0, 0.0, 0.0]]), logits)
    p = np.exp(logits[0, 0]) / np.exp(logits).sum()
    assert float(loss) == pytest.approx(-((1 - p) ** 2) * np.log(p), rel=1e-5)


def test_balanced_weights_make_every_class_count_the_same(tmp_path):
    rows = ["a,train"] * 6 + ["b,train"] * 3 + ["b,test"] * 9
    (tmp_path / "split.csv").write_text("\n".join(["label,split", *rows]) + "\n")
    weights = classifier.class_weights(tmp_path, ["a", "b"])
    assert weights[0] * 6 == pytest.approx(weights[1] * 3)
    assert (weights[0] * 6 + weights[1] * 3) / 9 == pytest.approx(1)


def test_weights_to_start_from_bring_their_normalisation(tmp_path):
    from cnn_keras import models

    network = models.build("lenet.lenet5_modern", input_shape=(28, 28, 1), classes=3)
    network.save(tmp_path / "network.keras")
    recipe = recipe_of(f"model.weights={tmp_path / 'network.keras'}")
    model = classifier.assemble(recipe, DATA, shape=(28, 28, 1))
    inner = next(layer for layer in model.layers if isinstance(layer, keras.Model))
    for ours, theirs in zip(inner.get_weights(), network.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_weights_that_are_not_there_are_refused_before_any_data_is_read(tmp_path):
    from pipelines.tasks import classify

    with pytest.raises(Fault, match="weights must be imagenet or a file"):
        classify.check(recipe_of(f"model.weights={tmp_path / 'none.h5'}"))
    with pytest.raises(Fault, match=r"got imagenet; those are published for .*vgg\.vgg16"):
        classify.check(recipe_of("model.weights=imagenet"))


def test_the_path_of_weights_is_relative_to_the_recipe(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text("task: classify\ndata: {source: digits}\nmodel: {builder: lenet.lenet5, weights: my.keras}\n")
    assert recipes.load(str(path)).model.weights == str(tmp_path / "my.keras")
    assert recipes.load(str(path), ["model.weights=imagenet"]).model.weights == "imagenet"


@pytest.mark.slow
def test_googlenet_trains_with_its_heads_and_is_exported_without_them(tmp_path, monkeypatch):
    from tests.conftest import cnn

    write_digits(tmp_path / "photos", classes=2, each=12)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "heads.yaml").write_text(
        "task: classify\ndata: {source: folder, path: photos, size: [65, 65], channels: 1}\n"
        "model: {builder: googlenet.googlenet, batch_norm: true, auxiliary: true}\n"
        "train: {epochs: 1, batch_size: 8, monitor: val_accuracy}\nevaluate: {baselines: false}\n"
    )
    assert cnn("run", "heads.yaml") == 0
    history = (tmp_path / "runs/classify/heads/train/history.csv").read_text().splitlines()[0].split(",")
    assert {"loss", "accuracy", "val_loss", "val_accuracy", "auxiliary1_loss", "auxiliary2_loss"} <= set(history)
    model = keras.saving.load_model(tmp_path / "runs/classify/heads/train/model.keras")
    assert not isinstance(model.output, dict)
    assert (
        run_files.read_json(tmp_path / "runs/classify/heads/export/manifest.json")["facts"]["agreement"]["changed"] == 0
    )


@pytest.mark.slow
def test_a_run_with_everything_that_changes_the_loss_trains_and_is_exported(tmp_path, monkeypatch):
    from tests.conftest import cnn

    write_digits(tmp_path / "photos", classes=3, each=20)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "craft.yaml").write_text(
        "task: classify\ndata: {source: folder, path: photos, size: [28, 28], channels: 1}\n"
        "augment: [{crop: {padding: 2}}, mixup, cutmix]\nmodel: {builder: lenet.lenet5_modern}\n"
        "train: {epochs: 8, batch_size: 16, learning_rate: 3e-3, label_smoothing: 0.1, class_weights: balanced, "
        "ema: 0.8}\n"
        "evaluate: {baselines: false, require: {accuracy: 0.5}}\n"
    )
    assert cnn("run", "craft.yaml") == 0
