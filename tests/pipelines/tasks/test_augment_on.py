"""`train.augment_on: device` in every task that has it."""

import csv

import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console

from cnn_keras.data.transforms import deferred
from cnn_keras.errors import Fault
from pipelines.engine import recipe as recipes
from pipelines.engine import stages
from pipelines.engine.training import task_training
from tests import tiny_tasks

AUGMENT = "augment=[{affine: {rotate: 8, zoom: 0.1, fill: nearest}}, {brighten: {brightness: 0.1, contrast: 0.2}}]"
MORE = {"detect": ["train.sides=[]"], "segment": [], "verify": ["train.rotations=false"]}


def loaded(task, folder, *overrides):
    path = folder / task
    if not path.exists():
        path.mkdir()
        tiny_tasks.write(task, path)
    return recipes.load(str(path / f"{tiny_tasks.WRITERS[task][1]}.yaml"), [*MORE.get(task, []), *overrides])


@pytest.mark.parametrize(
    "task",
    ["classify", *(pytest.param(task, marks=pytest.mark.slow) for task in ("segment", "verify", "regress"))],
)
def test_a_training_is_that_of_the_host_but_for_what_its_warp_rounds(task, tmp_path):
    losses = {}
    for on in ("host", "device"):
        recipe = loaded(task, tmp_path, AUGMENT, "train.epochs=1", f"train.augment_on={on}")
        run = stages.Run(recipe, Console(quiet=True), tmp_path / "runs")
        stages.run_stages(run, "train")  # another fingerprint: trained anew in the same folder
        with (run.finished("train") / "history.csv").open(newline="") as file:
            losses[on] = {key: float(value) for key, value in next(csv.DictReader(file)).items() if "loss" in key}
    assert losses["host"]
    assert losses["device"] == pytest.approx(losses["host"], rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["detect", "localize", "steer"])  # whose losses soon differ by more than the images
def test_a_batch_is_that_of_the_host_but_for_what_its_warp_rounds(task, tmp_path):
    batches = {}
    for on in ("host", "device"):
        run = stages.Run(
            loaded(task, tmp_path, AUGMENT, f"train.augment_on={on}"), Console(quiet=True), tmp_path / "runs"
        )
        stages.run_stages(run, "prepare")
        training = task_training.inputs(run)
        model = training.compiled(task_training.initial_model(run, training), run.recipe.train)
        batch = next(iter(training.batches(model, range(1))))
        batches[on] = tf.nest.flatten(deferred.augmented(batch))
        assert model.train_step(batch)["loss"] > 0
    for one, other in zip(batches["host"], batches["device"], strict=True):
        difference = np.abs(one.numpy().astype(float) - other.numpy())
        assert difference.mean() < (0.3 if one.dtype == tf.uint8 else 1e-6)


@pytest.mark.parametrize(
    ("task", "overrides"),
    [
        ("classify", ["train.augment_on=gpu"]),
        ("classify", ["train.xla=true", "train.deterministic=auto"]),
        ("detect", ["train.sides=[64, 96]"]),
        ("verify", ["train.rotations=true"]),
        ("signals", []),
        ("volumes", []),
        ("stylize", []),
    ],
)
def test_a_recipe_that_cannot_be_augmented_on_the_device_is_refused(task, overrides, tmp_path):
    with pytest.raises(Fault, match="augment_on"):
        loaded(task, tmp_path, "train.augment_on=device", *overrides)


def test_what_exists_on_the_host_alone_is_named_before_data_is_read(tmp_path):
    recipe = loaded("classify", tmp_path, "augment=[mirror, {blur: {sigma: 1}}]", "train.augment_on=device")
    with pytest.raises(Fault, match="got blur, which exist on the host alone"):
        recipes.module_of("classify").check(recipe)
