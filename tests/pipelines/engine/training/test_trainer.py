"""The training loop: schedules, the best epoch, patience, divergence, and a resume that is exact to the bit."""

import csv
import math

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console
from tensorflow.python.framework import config

from cnn_keras.data import input_pipeline, records
from cnn_keras.data.files.image_file import encode_png
from cnn_keras.data.transforms import augment
from cnn_keras.errors import Fault
from cnn_keras.layers import BatchNormalization
from pipelines.data import run_files
from pipelines.engine import startup
from pipelines.engine.classification.classifier_config import Train as ClassifierTrain
from pipelines.engine.recipe import Train
from pipelines.engine.training import trainer
from pipelines.tasks.stylize.config import Paint

SHAPE = input_pipeline.Shape((8, 8), 1)
IMAGES = 48


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Two classes of 8×8 pictures, bright above or bright below."""
    folder = tmp_path_factory.mktemp("prepared")
    generator = np.random.default_rng(0)
    for split, count in (("train", IMAGES), ("validation", 16)):
        rows = []
        for number in range(count):
            image = generator.integers(0, 100, (8, 8, 1), dtype=np.uint8)
            image[4 * (number % 2) :][:4] += 100
            rows.append((str(number), encode_png(image), number % 2))
        records.write(folder, split, rows)
    return folder


def small_network():
    """With dropout, so that a resume has to restore a random generator."""
    image = keras.Input((8, 8, 1), dtype="uint8")
    x = keras.layers.Rescaling(1 / 255)(image)
    x = keras.layers.Conv2D(4, 3, activation="relu")(x)
    x = BatchNormalization()(x)
    x = keras.layers.Dropout(0.5)(keras.layers.Flatten()(x))
    return keras.Model(image, keras.layers.Dense(2)(x))


def trained(folder, prepared, settings, *, on_epoch=lambda number, row: None, extend_to=None, model=None):
    """Train as the classify task does; return the model and its history."""
    keras.backend.clear_session()
    trainer.set_up(0, settings)
    model = model or small_network()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    metric = keras.metrics.SparseCategoricalAccuracy(name="accuracy")
    steps = math.ceil(IMAGES / settings.batch_size)
    trainer.compile_model(model, settings, loss=loss, metrics=[metric], steps=steps)
    augmented = augment.compose([{"affine": {"rotate": 10, "shift": 0.1}}])

    def batches(epochs):
        return input_pipeline.training(
            prepared,
            "train",
            SHAPE,
            count=IMAGES,
            epochs=epochs,
            batch_size=settings.batch_size,
            seed=0,
            augment=augmented,
        )

    folder.mkdir(exist_ok=True)
    history = trainer.fit(
        model,
        settings,
        folder,
        batches=batches,
        validation=input_pipeline.batches(prepared, "validation", SHAPE, count=16, batch_size=16),
        images=IMAGES,
        console=Console(quiet=True),
        on_epoch=on_epoch,
        extend_to=extend_to,
    )
    return model, history


def measured(history):
    """The history without what a clock says."""
    return [{key: value for key, value in row.items() if key not in trainer.TIMINGS} for row in history]


def killed_after(epoch):
    def on_epoch(number, row):
        if number == epoch:
            raise KeyboardInterrupt

    return on_epoch


@pytest.mark.parametrize(
    "settings",
    [
        Train(epochs=5, batch_size=10, schedule="cosine", warmup_epochs=1),
        pytest.param(
            Train(epochs=5, batch_size=10, optimizer="sgd", schedule="plateau", plateau_patience=1, weight_decay=5e-4),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            Train(epochs=5, batch_size=10, optimizer="adamw", ema=0.9, clip_norm=0.1, accumulate=2),
            marks=pytest.mark.slow,
        ),
    ],
    ids=["adam-cosine", "sgd-plateau", "adamw-average"],
)
def test_a_resumed_training_ends_bit_identical_to_an_uninterrupted_one(tmp_path, prepared, settings):
    whole, history = trained(tmp_path / "whole", prepared, settings)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "killed", prepared, settings, on_epoch=killed_after(2))
    resumed, resumed_history = trained(tmp_path / "killed", prepared, settings)
    assert trainer.weights_digest(resumed) == trainer.weights_digest(whole)
    assert measured(resumed_history) == measured(history)


def test_the_same_seed_gives_the_same_weights(tmp_path, prepared):
    settings = Train(epochs=2, batch_size=16)
    first, _ = trained(tmp_path / "first", prepared, settings)
    second, _ = trained(tmp_path / "second", prepared, settings)
    assert trainer.weights_digest(first) == trainer.weights_digest(second)


@pytest.mark.slow
def test_an_extended_training_goes_on_from_the_last_epoch(tmp_path, prepared):
    settings = Train(epochs=2, batch_size=16)
    _, first = trained(tmp_path, prepared, settings)
    _, extended = trained(tmp_path, prepared, settings, extend_to=4)
    assert len(extended) == 4
    assert measured(extended[:2]) == measured(first)


@pytest.mark.slow
def test_the_model_is_left_with_the_weights_of_the_best_epoch(tmp_path, prepared):
    settings = Train(epochs=4, batch_size=16, learning_rate=0.05)
    model, history = trained(tmp_path, prepared, settings)
    best = trainer.best_epoch(history, "val_loss")
    loss, _ = model.evaluate(input_pipeline.batches(prepared, "validation", SHAPE, count=16, batch_size=16), verbose=0)
    assert loss == pytest.approx(history[best - 1]["val_loss"], rel=1e-5)
    assert [path.name for path in tmp_path.glob("best-*")] == [trainer.best_file(best)]


def test_patience_stops_a_training_that_no_longer_improves(tmp_path, prepared):
    settings = ClassifierTrain(epochs=50, batch_size=16, learning_rate=1e-12, monitor="val_accuracy", patience=3)
    _, history = trained(tmp_path, prepared, settings)
    assert len(history) == trainer.best_epoch(history, "val_accuracy") + 3 < 50


def test_a_loss_that_is_not_a_number_stops_with_advice(tmp_path, prepared):
    image = keras.Input((8, 8, 1), dtype="uint8")
    x = keras.layers.Flatten()(keras.layers.Rescaling(float("inf"))(image))
    model = keras.Model(image, keras.layers.Dense(2)(x))
    with pytest.raises(Fault, match=r"not a number in epoch 1.*train.learning_rate") as fault:
        trained(tmp_path, prepared, Train(epochs=2), model=model)
    assert fault.value.code == Fault.DIVERGED


@pytest.mark.slow
def test_history_csv_has_a_row_for_every_epoch(tmp_path, prepared):
    _, history = trained(tmp_path, prepared, Train(epochs=3, batch_size=16))
    with (tmp_path / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert float(rows[-1]["val_loss"]) == history[-1]["val_loss"]


def test_the_best_epoch_is_the_first_of_equals():
    history = [{"val_loss": loss, "val_accuracy": -loss} for loss in (0.5, 0.3, 0.3, 0.4)]
    assert trainer.best_epoch(history, "val_loss") == 2
    assert trainer.best_epoch(history, "val_accuracy") == 2
    assert trainer.best_epoch([], "val_loss") == 0


def test_the_plateau_rate_falls_tenfold_each_time_patience_runs_out():
    settings = Train(schedule="plateau", plateau_patience=2, learning_rate=1.0)
    losses = [0.5, 0.6, 0.6, 0.4, 0.5, 0.5, 0.5, 0.5]
    rates = [
        trainer.plateau_rate([{"val_loss": loss} for loss in losses[:epochs]], settings)
        for epochs in range(len(losses) + 1)
    ]
    assert rates == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.001])


@pytest.mark.parametrize(
    ("settings", "rates"),
    [
        ({"schedule": "constant"}, {0: 1, 99: 1}),
        ({"schedule": "constant", "warmup_epochs": 1}, {0: 0.1, 4: 0.5, 9: 1, 50: 1}),
        ({"schedule": "step", "milestones": (2, 4)}, {0: 1, 20: 1, 21: 0.1, 40: 0.1, 41: 0.01}),
        ({"schedule": "cosine"}, {0: 1, 50: 0.5, 100: 0}),
        ({"schedule": "cosine", "warmup_epochs": 1}, {0: 0.1, 50: 0.5, 100: 0}),
    ],
)
def test_a_schedule_has_its_rate_at_known_steps(settings, rates):
    schedule = trainer.schedule(Train(epochs=10, learning_rate=1.0, **settings), steps=10)
    for step, rate in rates.items():
        assert float(schedule(step) if callable(schedule) else schedule) == pytest.approx(rate, abs=1e-6)


@pytest.mark.skipif(bool(tf.config.list_physical_devices("GPU")), reason="is about machines without a GPU")
@pytest.mark.parametrize(("precision", "warned"), [("float16", True), ("bfloat16", False), ("float32", False)])
def test_float16_without_a_gpu_is_warned_of(precision, warned, caplog):
    with startup.numerics():
        trainer.set_up(0, Train(precision=precision))
    assert ("train.precision" in caplog.text) == warned


@pytest.mark.parametrize(("precision", "scaled"), [("float32", False), ("bfloat16", False), ("float16", True)])
def test_the_loss_is_scaled_in_float16_alone(precision, scaled):
    model = small_network()
    trainer.compile_model(model, Train(precision=precision), loss="mse", metrics=[], steps=1)
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer) == scaled


@pytest.mark.skipif(bool(tf.config.list_physical_devices("GPU")), reason="is about machines without a GPU")
@pytest.mark.parametrize(
    ("settings", "deterministic", "told"),
    [
        (Train(), True, False),
        (Train(xla=True), False, True),
        (Train(deterministic=False), False, False),
        (Train(deterministic=True), True, False),
    ],
    ids=["auto", "auto-with-xla", "false", "true"],
)
def test_determinism_is_on_unless_xla_or_the_recipe_says_otherwise(settings, deterministic, told, caplog):
    with startup.numerics() as used:
        trainer.set_up(0, settings)
    assert used["deterministic"] == deterministic
    assert ("train.deterministic" in caplog.text) == told


def test_what_a_training_sets_in_the_process_ends_with_it():
    with startup.numerics():
        keras.config.set_dtype_policy("float32")
        config.disable_op_determinism()
        with startup.numerics():
            trainer.set_up(0, Train(precision="float16"))
            assert (keras.config.dtype_policy().name, config.is_op_determinism_enabled()) == ("mixed_float16", True)
        assert (keras.config.dtype_policy().name, config.is_op_determinism_enabled()) == ("float32", False)
        config.enable_op_determinism()
        trainer.set_up(0, Train(deterministic=False))
        assert not config.is_op_determinism_enabled()


def test_xla_is_refused_where_keras_would_leave_it_out_and_used_elsewhere():
    for section in (Train, Paint):
        with pytest.raises(ValueError, match="xla does not go with deterministic: true"):
            section(xla=True, deterministic=True)
    with startup.numerics():
        settings = Train(xla=True)
        trainer.set_up(0, settings)
        model = small_network()
        trainer.compile_model(model, settings, loss="mse", metrics=[], steps=1)
        assert model.jit_compile


def test_biases_and_normalisation_are_not_decayed():
    settings = Train(optimizer="sgd", learning_rate=1.0, momentum=0.0, weight_decay=0.1)
    model = small_network()
    trainer.compile_model(model, settings, loss="mse", metrics=[], steps=1)
    before = {weight.path: weight.numpy() for weight in model.trainable_weights}
    model.optimizer.apply([tf.zeros_like(weight) for weight in model.trainable_weights], model.trainable_weights)
    for weight in model.trainable_weights:
        factor = 0.9 if weight.name == "kernel" else 1.0
        np.testing.assert_allclose(weight.numpy(), before[weight.path] * factor, rtol=1e-6)


def test_what_is_measured_and_kept_is_the_moving_average_of_the_weights(tmp_path, prepared):
    settings = Train(epochs=4, batch_size=IMAGES, optimizer="sgd", learning_rate=0.5, ema=0.8)  # a step an epoch
    network, steps = small_network(), []

    def on_epoch(number, row):
        steps.append([weight.numpy() for weight in network.trainable_variables])

    _, history = trained(tmp_path, prepared, settings, on_epoch=on_epoch, model=network)
    averages = [steps[0]]
    for step in steps[1:]:
        averages.append([0.8 * old + 0.2 * new for old, new in zip(averages[-1], step, strict=True)])
    kept = averages[trainer.best_epoch(history, "val_loss") - 1]
    for weight, average in zip(network.trainable_variables, kept, strict=True):
        np.testing.assert_allclose(weight.numpy(), average, rtol=1e-5, atol=1e-7)
    loss, _ = network.evaluate(
        input_pipeline.batches(prepared, "validation", SHAPE, count=16, batch_size=16), verbose=0
    )
    assert loss == pytest.approx(min(row["val_loss"] for row in history), rel=1e-5)


def test_gradients_are_averaged_over_accumulated_batches():
    settings = Train(optimizer="sgd", learning_rate=1.0, momentum=0.0, accumulate=2)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    trainer.compile_model(model, settings, loss="mse", metrics=[], steps=2)
    (weight,), start = model.trainable_weights, model.trainable_weights[0].numpy()
    model.optimizer.apply([tf.constant([[1.0]])], [weight])
    np.testing.assert_array_equal(weight.numpy(), start)
    model.optimizer.apply([tf.constant([[2.0]])], [weight])
    np.testing.assert_allclose(weight.numpy(), start - 1.5, rtol=1e-6)


def test_a_large_gradient_is_shortened_to_the_norm():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, use_bias=False)])
    settings = Train(optimizer="sgd", learning_rate=1.0, momentum=0.0, clip_norm=0.5)
    trainer.compile_model(model, settings, loss="mse", metrics=[], steps=1)
    (weight,), start = model.trainable_weights, model.trainable_weights[0].numpy()
    model.optimizer.apply([tf.constant([[30.0], [40.0]])], [weight])
    np.testing.assert_allclose(weight.numpy(), start - [[0.3], [0.4]], rtol=1e-5)


def test_the_figures_of_the_main_head_go_by_the_plain_names():
    logs = {"loss": 5.0, "logits_loss": 2.0, "auxiliary1_loss": 3.0, "val_loss": 6.0, "val_logits_accuracy": 0.5}
    logs |= {"val_logits_loss": 1.0}
    assert trainer._figures(logs) == {"loss": 2.0, "auxiliary1_loss": 3.0, "val_accuracy": 0.5, "val_loss": 1.0}


class Toy:
    """A training of a number or two that takes no time; `validation` are the losses of the epochs in turn."""

    def __init__(self, folder, settings, validation=()):
        self.folder, self.settings, self.validation = folder, settings, list(validation)
        self.told = []

    def train(self, *, killed=None, extend_to=None, console=None):
        """Train, up to the end of the epoch `killed` if there is one; return the model and its history."""
        values = iter(self.validation)
        keras.backend.clear_session()
        trainer.set_up(0, self.settings)
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        images, steps = 8, math.ceil(8 / self.settings.batch_size)
        trainer.compile_model(model, self.settings, loss="mse", metrics=[], steps=steps)
        examples = tf.data.Dataset.from_tensor_slices(
            (tf.ones((images, 1)), tf.range(images, dtype=tf.float32)[:, None])
        )
        measured = tf.data.Dataset.from_generator(
            lambda: iter([([[1.0]], [[next(values, 1.0)]])]),
            output_signature=(tf.TensorSpec((1, 1)), tf.TensorSpec((1, 1))),
        ).apply(tf.data.experimental.assert_cardinality(1))

        def on_epoch(number, row):
            self.told.append((number, row))
            if number == killed:
                raise KeyboardInterrupt

        self.folder.mkdir(exist_ok=True)
        history = trainer.fit(
            model,
            self.settings,
            self.folder,
            batches=lambda epochs: examples.batch(self.settings.batch_size).repeat(len(epochs)),
            validation=measured,
            images=images,
            console=console or Console(quiet=True),
            on_epoch=on_epoch,
            extend_to=extend_to,
        )
        return model, history


@pytest.mark.parametrize("name", ["state", "weights"])
def test_a_damaged_state_is_set_aside_and_training_begins_anew(tmp_path, name, caplog):
    settings = Train(epochs=2, batch_size=4)
    whole, _ = Toy(tmp_path / "whole", settings).train()
    toy = Toy(tmp_path / "killed", settings)
    with pytest.raises(KeyboardInterrupt):
        toy.train(killed=1)
    path = toy.folder / {"state": run_files.STATE, "weights": trainer.best_file(1)}[name]
    if name == "state":
        place = path.stat().st_size // 2
    else:
        with h5py.File(path) as file:
            place = file["layers/dense/vars/0"].id.get_offset()
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    toy.told.clear()
    again, _ = toy.train()
    assert [number for number, _ in toy.told] == [1, 2]
    assert f"{path.name}.damaged" in caplog.text
    assert trainer.weights_digest(again) == trainer.weights_digest(whole)


def test_a_training_that_goes_on_tells_the_epochs_before_again_and_writes_their_history(tmp_path):
    toy = Toy(tmp_path, Train(epochs=2))
    with pytest.raises(KeyboardInterrupt):
        toy.train(killed=2)
    (tmp_path / "history.csv").unlink()  # it is written after the state
    toy.told.clear()
    _, history = toy.train()
    assert toy.told == list(enumerate(history, 1))
    with (tmp_path / "history.csv").open() as file:
        assert [float(row["loss"]) for row in csv.DictReader(file)] == [row["loss"] for row in history]


def test_an_epoch_without_a_value_is_never_the_best():
    losses = [math.nan, 0.5, math.nan, 0.4, math.inf, 0.6]
    history = [{"val_loss": loss, "val_accuracy": -loss} for loss in losses]
    for monitor in ("val_loss", "val_accuracy"):
        assert [trainer.best_epoch(history[:epochs], monitor) for epochs in range(7)] == [0, 0, 2, 2, 4, 4, 4]
    settings = Train(schedule="plateau", plateau_patience=2, patience=3)
    assert not trainer.patience_is_over(history, settings)
    assert trainer.patience_is_over(history[:1] * 3, settings)
    assert trainer.plateau_rate(history[:1] * 2, settings) == pytest.approx(1e-4)


def test_the_weights_of_an_epoch_with_a_value_are_kept_and_one_without_is_told(tmp_path, capsys):
    toy = Toy(tmp_path, Train(epochs=3, learning_rate=1e-9), validation=[math.nan, 1.0, math.nan])
    _, history = toy.train(console=Console(width=200))
    assert [math.isnan(row["val_loss"]) for row in history] == [True, False, True]
    assert trainer.best_epoch(history, "val_loss") == 2
    assert [path.name for path in tmp_path.glob("best-*")] == [trainer.best_file(2)]
    assert "val_loss of epoch 1 is not a number: this epoch cannot be the best" in capsys.readouterr().out


def test_a_training_none_of_whose_epochs_has_a_value_fails(tmp_path):
    toy = Toy(tmp_path, Train(epochs=5, patience=2), validation=[math.nan] * 5)
    with pytest.raises(Fault, match="must give a val_loss that is a number, got none in 2 epochs") as fault:
        toy.train()
    assert fault.value.code == Fault.DIVERGED


@pytest.mark.parametrize(
    ("settings", "rates"),
    [
        pytest.param({"schedule": "constant"}, [1, 1, 1, 1, 1, 1], marks=pytest.mark.slow),
        pytest.param(
            {"schedule": "step", "milestones": (1, 3)}, [1, 0.1, 0.1, 0.01, 0.01, 0.01], marks=pytest.mark.slow
        ),
        ({"schedule": "plateau", "plateau_patience": 1}, [1, 1, 0.1, 0.01, 0.001, 0.0001]),
        ({"schedule": "cosine"}, [0.5, 0, 0.5, 0, 0.5, 0]),
        pytest.param({"schedule": "cosine", "warmup_epochs": 1}, [0.5, 0, 0.5, 0, 0.5, 0], marks=pytest.mark.slow),
    ],
    ids=["constant", "step", "plateau", "cosine", "cosine after a climb"],
)
def test_what_extending_does_to_the_rate(tmp_path, settings, rates):
    """After each epoch: two that were planned, two more, interrupted between them, and two more.

    The plateau schedule sets the rate of an epoch before it, step after its boundary; a training that improves in its
    first epoch alone loses patience in every one after the second.
    """
    losses = [1.0, *range(2, 9)]
    toy = Toy(tmp_path, Train(epochs=2, batch_size=2, learning_rate=1.0, optimizer="sgd", clip_norm=1e-9, **settings))
    toy.validation = losses[:2]
    toy.train()
    toy.validation = losses[2:]
    with pytest.raises(KeyboardInterrupt):
        toy.train(extend_to=4, killed=3)
    toy.validation = losses[3:]
    toy.train(extend_to=4)
    toy.validation = losses[4:]
    _, history = toy.train(extend_to=6)
    assert [row["learning_rate"] for row in history] == pytest.approx(rates, abs=1e-6)


def test_a_cosine_with_accumulated_batches_ends_in_the_last_epoch(tmp_path):
    settings = Train(epochs=4, batch_size=2, accumulate=4, schedule="cosine", learning_rate=1.0, clip_norm=1e-6)
    _, history = Toy(tmp_path, settings).train()
    wanted = [(1 + math.cos(math.pi * epoch / 4)) / 2 for epoch in (1, 2, 3, 4)]
    assert [row["learning_rate"] for row in history] == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_the_moving_average_is_over_steps_not_over_accumulated_batches(optimizer):
    """Four updates at a momentum of 0.5: the same average as without accumulation."""

    def average(accumulate):
        settings = Train(optimizer=optimizer, learning_rate=0.1, ema=0.5, accumulate=accumulate)
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")])
        trainer.compile_model(model, settings, loss="mse", metrics=[], steps=1)
        model.optimizer.build(model.trainable_variables)
        for step in range(4):
            for _ in range(accumulate):
                model.optimizer.apply([tf.constant([[1.0 + step]])], model.trainable_weights)
        return float(model.optimizer._model_variables_moving_average[0].numpy()[0, 0])

    assert average(4) == pytest.approx(average(1), rel=1e-6)
    if optimizer == "sgd":
        weights, velocity = [1.0], 0.0
        for step in range(4):
            velocity = 0.9 * velocity - 0.1 * (1 + step)
            weights.append(weights[-1] + velocity)
        wanted = weights[1]
        for weight in weights[2:]:
            wanted = (wanted + weight) / 2
        assert average(4) == pytest.approx(wanted, rel=1e-5)
