"""What training, tuning and tracking do against expectation; docs/explanation/surprises.md has the table."""

import math
import os
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import unquote, urlsplit

import keras
import mlflow
import numpy as np
import optuna
import pytest
import tensorflow as tf


@keras.saving.register_keras_serializable(package="surprises")
class StepNumber(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that is the number the optimizer asks for."""

    def __call__(self, step):
        return tf.cast(step, tf.float32)

    def get_config(self):
        return {}


def accumulated(batches, **settings):
    """The weight after each batch, of gradient 1 at the rate of StepNumber, and its moving average."""
    weight = tf.Variable(0.0)
    optimizer = keras.optimizers.SGD(StepNumber(), gradient_accumulation_steps=4, **settings)
    optimizer.build([weight])
    seen = []
    for _ in range(batches):
        optimizer.apply([tf.constant(1.0)], [weight])
        average = optimizer._model_variables_moving_average[0].numpy() if settings else 0
        seen.append((weight.numpy(), average))
    return np.array(seen)


def test_gradient_accumulation_asks_the_schedule_at_the_number_of_the_batch():
    weights = accumulated(8)[:, 0]
    np.testing.assert_array_equal(weights, [0, 0, 0, -3, -3, -3, -3, -10])  # at 3 and 7, not at 0 and 1


def test_gradient_accumulation_moves_the_average_at_every_batch():
    weights, averages = accumulated(10, use_ema=True, ema_momentum=0.5).T
    assert weights[7] == weights[8] == weights[9]
    assert averages[7] > averages[8] > averages[9]  # though the weights stand still


def test_momentum_keeps_the_learning_rate_it_was_gained_at():
    weight = tf.Variable(0.0)
    optimizer = keras.optimizers.SGD(1.0, momentum=0.9)
    optimizer.build([weight])
    optimizer.apply([tf.constant(1.0)], [weight])
    optimizer.learning_rate = 0.1
    optimizer.apply([tf.constant(0.0)], [weight])
    assert weight.numpy() == pytest.approx(-1 - 0.9)  # PyTorch's momentum is of gradients: -1 - 0.1 · 0.9


class Killed(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            raise KeyboardInterrupt


def test_backup_and_restore_forgets_the_seeds_of_dropout(tmp_path):
    def trained(*callbacks):
        keras.utils.set_random_seed(0)
        layers = [keras.Input((50,)), keras.layers.Dropout(0.5, seed=3), keras.layers.Dense(1)]
        model = keras.Sequential(layers)
        model.compile("sgd", "mse")
        model.fit(np.ones((8, 50)), np.ones((8, 1)), epochs=4, verbose=0, shuffle=False, callbacks=list(callbacks))
        return model.get_weights()[0]

    backup = keras.callbacks.BackupAndRestore(str(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        trained(backup, Killed())
    once = trained()
    np.testing.assert_array_equal(once, trained())
    assert np.abs(once - trained(keras.callbacks.BackupAndRestore(str(tmp_path)))).max() > 1e-3


def study(folder, sampler):
    storage = f"sqlite:///{folder}/study.db"
    return optuna.create_study(study_name="all", storage=storage, load_if_exists=True, sampler=sampler)


def test_a_finished_grid_search_runs_one_trial_each_time_it_is_started_again(tmp_path):
    trials = []
    for _ in range(3):
        search = study(tmp_path, optuna.samplers.GridSampler({"depth": [1, 2]}))
        search.optimize(lambda trial: trial.suggest_int("depth", 1, 2))
        trials.append(len(search.trials))
    assert trials == [2, 3, 4]


def test_a_random_sampler_repeats_its_trials_in_a_second_process(tmp_path):
    for _ in range(2):
        search = study(tmp_path, optuna.samplers.RandomSampler(seed=1))
        search.optimize(lambda trial: trial.suggest_float("rate", 0, 1), n_trials=2)
    drawn = [trial.params["rate"] for trial in search.trials]
    assert drawn[:2] == drawn[2:]


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    folder, before = tmp_path_factory.mktemp("mlflow"), mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    mlflow.create_experiment("surprises", artifact_location=(folder / "artifacts").as_uri())
    mlflow.set_experiment("surprises")
    yield mlflow.MlflowClient()
    mlflow.set_tracking_uri(before)


@pytest.mark.slow
def test_a_metric_that_is_nan_is_found_by_unequal_alone_and_infinity_comes_back_finite(client):
    ids = {}
    for name, value in (("nan", math.nan), ("inf", math.inf), ("half", 0.5)):
        with mlflow.start_run() as run:
            mlflow.log_metric("loss", value)
            ids[run.info.run_id] = name

    def found(condition):
        experiment = client.get_experiment_by_name("surprises").experiment_id
        return {ids[run.info.run_id] for run in client.search_runs([experiment], f"metrics.loss {condition}")}

    assert found("< 1") == {"half"}
    assert found("= 0") == set()
    assert found(">= 0") == {"half", "inf"}
    assert found("!= 1") == {"half", "inf", "nan"}
    (infinite,) = (key for key, name in ids.items() if name == "inf")
    assert client.get_run(infinite).data.metrics["loss"] == sys.float_info.max


@pytest.mark.slow
def test_system_metrics_leave_no_point_in_a_short_run(client):
    with mlflow.start_run(log_system_metrics=True) as run:
        time.sleep(2)
    assert client.get_run(run.info.run_id).data.metrics == {}


@pytest.mark.slow
def test_gc_leaves_the_files_of_logged_models(client):
    class Same(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input: list[str], params=None) -> list[str]:
            return model_input

    with mlflow.start_run() as run:
        logged = mlflow.pyfunc.log_model(name="same", python_model=Same(), pip_requirements=[])
        mlflow.log_text("text", "note.txt")
    files = Path(unquote(urlsplit(run.info.artifact_uri).path))
    model = Path(unquote(urlsplit(client.get_logged_model(logged.model_id).artifact_location).path))
    assert (files / "note.txt").is_file()
    client.delete_run(run.info.run_id)
    uri = mlflow.get_tracking_uri()
    gc = [sys.executable, "-m", "mlflow", "gc", "--backend-store-uri", uri]
    subprocess.run(gc, check=True, capture_output=True, env=os.environ | {"MLFLOW_TRACKING_URI": uri})
    assert not (files / "note.txt").exists()
    assert (model / "MLmodel").is_file()
