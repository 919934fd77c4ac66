"""`cnn bench input`: every step of the input pipeline has its speed, and the slowest has a name."""

import itertools
import json
import types

import pytest
import tensorflow as tf

from cnn_keras.data.transforms.transform import Colour, uniform
from pipelines.engine import recipe as recipes
from pipelines.engine.training import input_benchmark
from pipelines.engine.training.input_benchmark import Speed
from tests.conftest import cnn, write_digits

RECIPE = """\
task: classify
data: {source: folder, path: photos, size: [28, 28], channels: 1}
augment: [{affine: {rotate: 20}}, mirror, mixup]
model: {builder: lenet.lenet5_modern}
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    write_digits(folder / "photos", classes=2, each=20)
    path = folder / "small.yaml"
    path.write_text(RECIPE)
    return path


def test_every_step_is_measured(recipe, capsys):
    assert cnn("bench", "input", recipe, "--seconds", "0.05", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    names = ["read", "decode", "frame", "affine", "mirror", "mixup", "all augmentations", "whole pipeline"]
    assert [step["step"] for step in found["steps"]] == names
    assert all(step["images_per_second"] > 0 for step in found["steps"])
    assert found["slowest"] in names[:-2]


def test_a_recipe_without_augmentations_is_measured_too(recipe, capsys):
    assert cnn("bench", "input", recipe, "--seconds", "0.05", "--set", "augment=[]") == 0
    said = capsys.readouterr().out
    assert "the slowest step is" in said
    assert "affine" not in said


BURNT = []  # an entry for each picture


def slow():
    """An augmentation of one's own that takes long."""

    def burn(image):
        BURNT.append(1)
        return image

    def change(image, drawn):
        return tf.ensure_shape(tf.numpy_function(burn, [image], image.dtype, stateful=False), image.shape)

    return Colour("slow", uniform(1), change)


def test_a_slow_augmentation_is_found(recipe, monkeypatch):
    """The clock counts only what the augmentation says it takes, so no other work of the machine is measured."""
    ticks = itertools.count()
    clock = types.SimpleNamespace(perf_counter=lambda: next(ticks), process_time=lambda: 0.004 * len(BURNT))
    monkeypatch.setattr(input_benchmark, "time", clock)
    steps = f"augment=[mirror, {__name__}:slow]"
    speeds = input_benchmark.measure(recipes.load(str(recipe), [steps]), seconds=100)
    assert {speed.step for speed in speeds[:-2] if speed.milliseconds} == {f"{__name__}:slow"}
    assert input_benchmark.slowest(speeds).step == f"{__name__}:slow"


def test_a_steps_own_time_is_what_it_adds():
    measured = [
        Speed("read", 9, 1.0), Speed("decode", 8, 3.0), Speed("frame", 7, 7.0), Speed(input_benchmark.MEMORY, 9, 0.5),
        Speed("mirror", 6, 1.5), Speed("all augmentations", 6, 1.5), Speed("whole pipeline", 5, 8.5),
    ]  # fmt: skip
    found = {speed.step: speed.milliseconds for speed in input_benchmark._apart(measured)}
    assert found == {
        "read": 1.0, "decode": 2.0, "frame": 4.0, "mirror": 1.0, "all augmentations": 1.0, "whole pipeline": 8.5,
    }  # fmt: skip
    assert input_benchmark.slowest(input_benchmark._apart(measured)).step == "frame"
