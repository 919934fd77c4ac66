"""Transfer learning: what each mode trains and leaves alone, cached features, rates by layer, resuming."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console

from cnn_keras import models
from cnn_keras.errors import Fault
from pipelines.engine import recipe as recipes
from pipelines.engine.classification import classifier
from pipelines.engine.experiments import dry_run
from pipelines.engine.recipe import Train, Transfer
from pipelines.engine.training import optimizers, step_timing, trainer, transfer
from pipelines.tracking.tracker import Tracker
from tests.conftest import cnn, write_digits

RECIPE = """\
task: classify
data: {source: folder, path: photos, size: [28, 28], channels: 1}
model: {builder: lenet.lenet5_modern, batch_norm: true, dropout: 0.0, weights: start.keras}
train: {epochs: 3, batch_size: 16, learning_rate: 1e-2}
evaluate: {baselines: false}
"""
NORMS = {"c1_norm", "c3_norm", "c5_norm", "f6_norm"}
FAST = step_timing.Step(seconds=1e-6, waited=0.0, cpu=0.0, examples=1, loss=0.0)
LAYERS = {"c1", "c3", "c5", "f6", "logits"}


class Trials:
    """One prepared folder of digits; every mode is trained in it."""

    def __init__(self, root):
        self.root = root
        self.run = root / "runs" / "classify" / "small"
        self.start = start_network()
        self.start.save(root / "start.keras")
        (root / "small.yaml").write_text(RECIPE)
        write_digits(root / "photos", each=20)

    def cnn(self, verb, *settings, force=()):
        options = [each for setting in settings for each in ("--set", setting)]
        return cnn(verb, self.root / "small.yaml", "--runs", self.root / "runs", *options, *force)

    def trained(self, *settings):
        """Train anew; the model and the history, without the clock's figures."""
        assert self.cnn("train", *settings, force=["--force"]) == 0
        rows = [line.split(",") for line in (self.run / "train/history.csv").read_text().splitlines()]
        kept = [place for place, name in enumerate(rows[0]) if name not in trainer.TIMINGS]
        history = np.array([[float(row[place]) for place in kept] for row in rows[1:]])
        return keras.models.load_model(self.run / "train/model.keras"), history

    def digest(self):
        return json.loads((self.run / "train/manifest.json").read_text())["facts"]["digest"]

    def changed(self, model):
        """Names of the layers that no longer have the weights they started from."""
        network = inner(model)
        return {
            layer.name
            for layer in network.layers
            for ours, theirs in zip(layer.get_weights(), self.start.get_layer(layer.name).get_weights(), strict=True)
            if ours.shape != theirs.shape or not np.array_equal(ours, theirs)
        }


def start_network():
    """Ten classes, so that `logits` starts afresh, and statistics that are not the initial ones."""
    keras.utils.set_random_seed(1)
    network = models.build("lenet.lenet5_modern", input_shape=(28, 28, 1), classes=10, batch_norm=True)
    network(np.random.default_rng(0).normal(size=(64, 28, 28, 1)).astype("float32"), training=True)
    return network


def inner(model):
    return next(layer for layer in model.layers if isinstance(layer, keras.Model))


@pytest.fixture(scope="module")
def trials(tmp_path_factory):
    return Trials(tmp_path_factory.mktemp("trials"))


@pytest.mark.parametrize(
    ("plan", "changed"),
    [
        ("{mode: head}", {"logits"}),
        pytest.param("{mode: partial, blocks: 2}", {"logits", "f6", "c5"}, marks=pytest.mark.slow),
        pytest.param("{mode: full}", LAYERS | NORMS, marks=pytest.mark.slow),
        pytest.param("{mode: full, layer_decay: 0.5}", LAYERS | NORMS, marks=pytest.mark.slow),
    ],
)
def test_a_mode_trains_its_layers_and_all_others_stand_still(trials, plan, changed):
    model, history = trials.trained(f"train.transfer={plan}")
    assert trials.changed(model) == changed
    assert len(history) == 3


def test_a_dry_run_of_cached_features_times_the_classifier_and_counts_the_features_once(trials, monkeypatch, capsys):
    timed = []
    monkeypatch.setattr(step_timing, "steps", lambda model, *_, **__: timed.append(model) or [FAST])
    assert trials.cnn("train", "train.transfer={mode: cached}", "train.epochs=7", force=["--dry-run", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert timed[0].input.shape == (None, 84)
    assert found["seconds_of_features"] > 0
    wanted = found["seconds_of_features"] + 7 * found["seconds_per_epoch"]
    assert found["seconds"] == pytest.approx(wanted, abs=0.2)
    assert not (trials.run / "features").exists()
    dry_run.show(found, Console())
    assert "for the features (once) and 7 epochs of" in capsys.readouterr().out


@pytest.mark.slow
def test_cached_features_give_the_history_and_the_model_of_the_head(trials, capsys):
    head, history = trials.trained("train.transfer={mode: head}")
    capsys.readouterr()
    cached, cached_history = trials.trained("train.transfer={mode: cached}")
    assert "340 of them trained (cached)" in capsys.readouterr().out  # 84 units and a bias to each of four classes
    np.testing.assert_allclose(cached_history, history, rtol=1e-4, atol=1e-5)
    images = np.random.default_rng(0).integers(0, 256, (8, 28, 28, 1)).astype("uint8")
    np.testing.assert_allclose(cached(images), head(images), rtol=1e-4, atol=1e-5)
    assert trials.changed(cached) == {"logits"}


@pytest.mark.slow
def test_features_are_written_once_and_anew_for_other_weights(trials, capsys):
    trials.trained("train.transfer={mode: cached}")
    (folder,) = (trials.run / "features").iterdir()
    capsys.readouterr()
    trials.trained("train.transfer={mode: cached}", "train.epochs=1")
    assert "exist already" in capsys.readouterr().out
    other = start_network()
    other.get_layer("c1").kernel.assign(other.get_layer("c1").kernel + 0.1)
    other.save(trials.root / "other.keras")
    trials.trained("train.transfer={mode: cached}", f"model.weights={trials.root / 'other.keras'}")
    said = capsys.readouterr().out
    assert "exist already" not in said
    assert [path.name for path in (trials.run / "features").iterdir()] != [folder.name]


def test_interrupted_features_go_on_with_the_file_that_is_missing(tmp_path, monkeypatch):
    from rich.console import Console

    class Run:
        console = Console(quiet=True)

    monkeypatch.setattr(transfer, "ROWS", 8)
    monkeypatch.setattr(transfer, "BATCH", 4)
    entry = keras.Input((3,), dtype="uint8")
    trunk = keras.Model(entry, keras.layers.Rescaling(2.0)(entry))
    values = np.arange(60, dtype="uint8").reshape(20, 3)
    examples = tf.data.Dataset.from_tensor_slices((values, np.arange(20))).batch(7)
    for name in ("whole", "torn"):
        (tmp_path / name).mkdir()
        transfer.store(trunk, examples, tmp_path / name, split="train", count=20, run=Run)
    torn = tmp_path / "torn"
    before = (torn / "train-00000.npy").stat().st_mtime_ns
    (torn / "train-00001.npy").unlink()
    (torn / "train-00002.npy").unlink()
    transfer.store(trunk, examples, torn, split="train", count=20, run=Run)
    assert (torn / "train-00000.npy").stat().st_mtime_ns == before
    features = transfer.Features(torn, "train")
    np.testing.assert_array_equal(features.rows(np.array([19, 0, 8])), 2.0 * values[[19, 0, 8]])
    np.testing.assert_array_equal(features.labels, np.arange(20))


@pytest.mark.slow
def test_staged_trains_the_classifier_first_and_then_everything_at_the_lower_rate(trials):
    model, _ = trials.trained("train.transfer={mode: staged, head_epochs: 2, unfrozen_rate: 0.1}")
    rows = (trials.run / "train/history.csv").read_text().splitlines()
    rate = rows[0].split(",").index("learning_rate")
    assert [float(row.split(",")[rate]) for row in rows[1:]] == pytest.approx([1e-2, 1e-2, 1e-3])
    best = json.loads((trials.run / "train/manifest.json").read_text())["facts"]["best_epoch"]
    assert trials.changed(model) == (LAYERS | NORMS if best == 3 else {"logits"})


@pytest.mark.parametrize("epoch", [pytest.param(1, marks=pytest.mark.slow), 2, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize("mode", ["staged, head_epochs: 2, layer_decay: 0.7", "cached"])
@pytest.mark.slow
def test_an_interrupted_transfer_ends_with_the_same_weights(trials, monkeypatch, mode, epoch):
    settings = [f"train.transfer={{mode: {mode}}}", "train.epochs=4", "model.dropout=0.3"]
    trials.trained(*settings)
    whole, metrics = trials.digest(), Tracker.metrics

    def stopping(self, row, step=0):
        metrics(self, row, step=step)
        if step == epoch:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Tracker, "metrics", stopping)
        assert trials.cnn("train", *settings, force=["--force"]) == 130
    assert trials.cnn("train", *settings) == 0
    assert trials.digest() == whole
    assert len((trials.run / "train/history.csv").read_text().splitlines()) == 5


@pytest.mark.slow
def test_the_model_of_a_trained_head_is_measured_and_exported(trials):
    assert trials.cnn("run", "train.transfer={mode: cached}", "name=whole") == 0
    manifest = trials.root / "runs/classify/whole/export/manifest.json"
    assert json.loads(manifest.read_text())["facts"]["agreement"]["changed"] == 0


def test_each_variable_moves_by_its_share_of_the_rate():
    recipe = recipes.load("classify/digits-lenet5", ["train.transfer={mode: full, layer_decay: 0.5}"])
    data = {"classes": ["a", "b"], "normalization": {"axis": None, "mean": 0.0, "variance": 1.0}}
    model = classifier.assemble(recipe, data, shape=(28, 28, 1))
    settings = Train(optimizer="sgd", learning_rate=0.1, momentum=0.0, weight_decay=0.2)
    shares = transfer.shares(model, recipe.train.transfer)
    trainer.compile_model(model, settings, loss="mse", metrics=[], steps=1, shares=shares)
    before = [weight.numpy() for weight in model.trainable_variables]
    model.optimizer.apply([tf.ones_like(weight) for weight in model.trainable_variables], model.trainable_variables)
    wanted = {"logits": 1, "f6": 0.5, "c5": 0.25, "c3": 0.125, "c1": 0.0625}
    for weight, old in zip(model.trainable_variables, before, strict=True):
        rate = 0.1 * wanted[weight.path.split("/")[-2]]
        decayed = old * (1 - 0.2 * rate) if weight.name == "kernel" else old
        np.testing.assert_allclose(weight.numpy(), decayed - rate, rtol=1e-5, atol=1e-7)


def test_shares_are_of_what_adam_does_too():
    weights = [keras.Variable([1.0]), keras.Variable([1.0])]
    optimizer = optimizers.layerwise(keras.optimizers.Adam, [1.0, 0.25])(0.1)
    optimizer.build(weights)
    for _ in range(3):
        optimizer.apply([tf.constant([1.0]), tf.constant([1.0])], weights)
    full, quarter = (1 - float(weight.numpy()[0]) for weight in weights)
    assert full == pytest.approx(0.3, rel=1e-3)
    assert quarter == pytest.approx(full / 4, rel=1e-4)


def test_a_network_that_branches_behind_its_frozen_part_has_no_features_to_keep():
    image = keras.Input((4,), name="image")
    x = keras.layers.Dense(3, name="f6")(image)
    logits = keras.layers.Add(name="sum")(
        [keras.layers.Dense(2, name="logits")(x), keras.layers.Dense(2, name="f7")(x)]
    )
    network = keras.Model(image, logits, name="network")
    entry = keras.Input((4,), name="image")
    model = keras.Model(entry, network(keras.layers.Normalization(axis=None, mean=0.0, variance=1.0)(entry)))
    transfer.freeze(network, Transfer(mode="cached"), fresh=("logits",))
    with pytest.raises(Fault, match="network, which branches at"):
        transfer.split_model(model)


@pytest.mark.parametrize(
    ("builder", "shape", "first", "last"),
    [
        ("resnet.resnet20", (32, 32, 3), ["stem", "stage1_unit1"], ["stage3_unit3", "logits"]),
        ("resnet.resnet20v2", (32, 32, 3), ["stem", "stage1_unit1"], ["stage3_unit3", "logits"]),
        ("vgg.vgg11", (32, 32, 3), ["conv1_1", "conv2_1"], ["conv5_2", "fc6", "fc7", "logits"]),
        ("efficientnet.efficientnet_lite0", (64, 64, 3), ["stem", "stage1_unit1"], ["stage7_unit1", "features"]),
        ("googlenet.googlenet", (64, 64, 3), ["conv1", "conv2", "inception3a"], ["inception5b", "logits"]),
        ("nin.nin_cifar", (32, 32, 3), ["mlp1", "mlp2"], ["mlp2", "mlp3"]),
    ],
)
def test_blocks_are_what_the_names_of_the_family_group(builder, shape, first, last):
    names = [name for name in transfer.blocks(models.build(builder, input_shape=shape, classes=3)) if name]
    assert names[: len(first)] == first
    assert [name for name in names if name in last] == last


def test_dense_layers_that_weights_could_not_fill_belong_to_the_classifier():
    network = models.build("vgg.vgg11", input_shape=(32, 32, 3), classes=3, hidden=8)
    transfer.freeze(network, Transfer(mode="head"), fresh=("fc6", "fc7", "logits"))
    assert {layer.name for layer in network.layers if layer.trainable_variables} == {"fc6", "fc7", "logits"}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["train.transfer={mode: head}"], "requires model.weights"),
        (["train.transfer={mode: cached}", "augment=[mirror]", "model.weights=W"], "augment must be empty"),
        (
            ["train.transfer={mode: partial, blocks: 9}", "model.weights=W"],
            "at most 4, got 9; the blocks are c1",
        ),
    ],
)
def test_what_cannot_be_trained_so_is_refused_before_any_data_is_read(trials, settings, said):
    from pipelines.tasks import classify

    given = [setting.replace("=W", f"={trials.root / 'start.keras'}") for setting in settings]
    recipe = recipes.load("classify/digits-lenet5", given if "augment" in str(given) else ["augment=[]", *given])
    with pytest.raises(Fault, match=said):
        classify.check(recipe)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["train.transfer={mode: partial}"], "mode: partial"),
        (["train.transfer={mode: head, layer_decay: 0.5}"], "layer_decay .*mode: head"),
        (["train.transfer={mode: staged}", "train.epochs=5"], "epochs must be above"),
    ],
)
def test_a_transfer_section_that_contradicts_itself_is_refused(settings, said):
    with pytest.raises(Fault, match=said):
        recipes.load("classify/digits-lenet5", settings)
