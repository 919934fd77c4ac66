"""Several hosts share a training and come to what one comes to. Two processes on this machine stand for them."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from cnn_keras.errors import Fault
from pipelines.data.run_files import read_json
from pipelines.engine.hosts import environment, local, shared_run
from pipelines.export import savedmodel
from tests.conftest import write_digits

ROOT = Path(__file__).parents[3]
BUILDER = """\
import json
import os
import signal

import keras

from cnn_keras.layers import BatchNormalization
from pipelines.engine.training import trainer


def small(*, input_shape, classes):
    image = keras.Input(input_shape)
    x = keras.layers.Conv2D(4, 3, strides=2, activation="relu", name="conv")(image)
    x = keras.layers.Flatten(name="flat")(BatchNormalization(name="norm")(x))
    x = keras.layers.Dropout(0.5, name="drop")(x)
    return keras.Model(image, keras.layers.Dense(classes, name="logits", dtype="float32")(x), name="small")


def deadly(history, folder, write=trainer.write_history):
    write(history, folder)
    if len(history) == 2:
        os.kill(os.getpid(), signal.SIGKILL)


if "KILL" in os.environ and json.loads(os.environ["TF_CONFIG"])["task"]["index"] == 1:
    trainer.write_history = deadly
"""
RECIPE = """\
task: classify
data: {source: folder, path: photos, size: [16, 16], channels: 1}
augment: [{affine: {rotate: 5}}]
model: {builder: ./net.py:small}
train: {epochs: 3, batch_size: 25, learning_rate: 3e-3, synchronize_batch_norm: true}
"""


def config(task, **cluster):
    return {"TF_CONFIG": json.dumps({"cluster": cluster, "task": task})}


def test_a_worker_is_told_by_tf_config_who_it_is():
    host = environment.host(config({"type": "worker", "index": 1}, worker=["a:1", "b:2"]))
    assert host == (("a:1", "b:2"), 1)
    assert not host.is_chief
    assert environment.host({"TF_CONFIG": environment.tf_config(host)}) == host


def test_a_chief_comes_before_the_workers():
    cluster = {"worker": ["b:2", "c:3"], "chief": ["a:1"]}
    assert environment.host(config({"type": "chief", "index": 0}, **cluster)) == (("a:1", "b:2", "c:3"), 0)
    assert environment.host(config({"type": "worker", "index": "0"}, **cluster)).rank == 1


@pytest.mark.parametrize(
    "variables",
    [{}, {"TF_CONFIG": ""}, {"TF_CONFIG": "{}"}, config({"type": "chief", "index": 0}, chief=["a:1"])],
)
def test_one_host_alone_is_none(variables):
    assert environment.host(variables) is None


@pytest.mark.parametrize(
    "variables",
    [
        {"TF_CONFIG": "{"},
        {"TF_CONFIG": "[1]"},
        config({"type": "worker", "index": 2}, worker=["a:1", "b:2"]),
        config({"type": "ps", "index": 0}, worker=["a:1", "b:2"], ps=["c:3"]),
        config({}, worker=["a:1", "b:2"]),
    ],
)
def test_a_tf_config_that_names_no_place_among_the_workers_is_refused(variables):
    with pytest.raises(Fault, match="TF_CONFIG must be"):
        environment.host(variables)


def test_tasks_of_slurm_are_read_by_the_resolver_of_tensorflow(monkeypatch):
    for name, value in {
        "SLURM_STEP_NUM_TASKS": "3",
        "SLURM_STEP_NODELIST": "node[07-08]",
        "SLURM_STEP_TASKS_PER_NODE": "2,1",
        "SLURM_PROCID": "2",
    }.items():
        monkeypatch.setenv(name, value)
    assert environment.host() == (("node07:8888", "node07:8889", "node08:8888"), 2)
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")
    assert environment.host() is None


def test_another_number_of_hosts_than_wanted_is_refused():
    environment.check_number(0, environment.Host(("a:1", "b:2"), 0))
    with pytest.raises(Fault, match="--hosts must be"):
        environment.check_number(3, environment.Host(("a:1", "b:2"), 0))


def test_what_a_local_host_is_asked_does_not_start_others():
    asked = ["train", "small.yaml", "--hosts", "2", "--local", "--hosts=3", "--set", "seed=1"]
    assert local.without_options(asked) == ["train", "small.yaml", "--set", "seed=1"]


def test_keras_hands_whole_batches_to_the_step_functions_that_a_model_has():
    """The private seam of Keras that `devices.distribute` uses: a model that was made in no scope keeps them."""
    steps = []

    def step(batches):
        steps.append([len(values) for values in next(batches)])
        return {"loss": 0.0}

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    assert model._distribute_strategy is None
    model.train_function = model.test_function = step
    rows = tf.data.Dataset.from_tensors((np.zeros((5, 2), "float32"), np.zeros((5, 1), "float32")))
    model._symbolic_build(data_batch=rows.element_spec)
    assert model.compiled
    model.fit(rows, validation_data=rows, epochs=1, shuffle=False, verbose=0)
    assert steps == [[5, 5], [5, 5]]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A recipe with augmentation, dropout and batch normalisation, trained by one process and by two."""
    folder = tmp_path_factory.mktemp("hosts")
    write_digits(folder / "photos", classes=2)
    (folder / "net.py").write_text(BUILDER)
    (folder / "small.yaml").write_text(RECIPE)
    assert train(folder, "one") == 0
    assert train(folder, "two", "--hosts", "2", "--local") == 0
    return folder


def train(folder, runs, *options, **variables):
    """The exit code of `cnn train`."""
    command = [sys.executable, "-m", "pipelines", "train", "small.yaml", "--runs", runs, *options]
    paths = {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, cwd=folder, check=False, timeout=900, env={**os.environ, **paths, **variables}
    ).returncode


def facts(folder, runs):
    return read_json(folder / runs / "classify" / "small" / "train" / "manifest.json")["facts"]


def test_ctrl_c_while_tensorflow_waits_for_another_host_is_an_interrupt():
    with pytest.raises(KeyboardInterrupt), shared_run.connected():
        raise RuntimeError("error_already_set: ORIGINAL UnavailableError REPLACED BY KeyboardInterrupt")
    with pytest.raises(RuntimeError), shared_run.connected():
        raise RuntimeError("a fault of the training")


@pytest.mark.slow
def test_ctrl_c_ends_both_hosts_as_it_ends_one(project):
    command = [sys.executable, "-m", "pipelines", "train", "small.yaml", "--runs", "stopped", "--hosts", "2", "--local"]
    environment_ = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=project, env=environment_, stdout=subprocess.PIPE, text=True) as process:
        first = next(line for line in process.stdout if "has not been run" in line)  # host 2 waits
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
    assert first
    assert process.returncode == 130
    assert "Traceback" not in rest


@pytest.mark.slow
def test_two_hosts_come_to_the_weights_of_one(project):
    one, two = (
        savedmodel.load_keras(project / runs / "classify" / "small" / "train" / "model.keras").get_weights()
        for runs in ("one", "two")
    )
    for alone, shared in zip(one, two, strict=True):
        assert np.abs(alone - shared).max() <= 1e-5 * np.abs(alone).max()


@pytest.mark.slow
def test_a_training_that_lost_a_host_ends_with_the_same_bits_when_it_is_started_again(project):
    assert train(project, "killed", "--hosts", "2", "--local", KILL="1") == Fault.HOST
    assert not (project / "killed" / "classify" / "small" / "train").exists()
    assert train(project, "killed", "--hosts", "2", "--local") == 0
    assert facts(project, "killed")["digest"] == facts(project, "two")["digest"]
