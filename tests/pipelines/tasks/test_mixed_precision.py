"""Every task trains, measures and exports in half precision; what it reaches after one epoch is not asked.

The export itself compares its answers with those of the model that was evaluated, and fails above `export.tolerance`.
"""

import json

import pytest

from pipelines.engine import recipe as recipes
from tests.conftest import cnn

UNGATED = ("evaluate.require={}", "train.epochs=1")
RECIPES = {
    "classify/digits-lenet5": (*UNGATED, "evaluate.beat=[]"),
    "detect/composites-faster_rcnn": (*UNGATED, "train.warmup_epochs=0", "data.composites.count=60"),
    "detect/composites-yolo_tiny": (*UNGATED, "train.warmup_epochs=0", "data.composites.count=120"),
    "localize/composites-lenet5": (*UNGATED, "data.composites.count=200"),
    "regress/digits-angle": (*UNGATED, "evaluate.beat=[]"),
    "segment/nuclei-unet": (
        "train.epochs=1",
        "evaluate.require_dice={}",
        "data.size=[64, 64]",
        "data.patches=8",
        "model.filters=4",
    ),
    "signals/gunpoint-fcn": (*UNGATED, "evaluate.beat=[]"),
    "steer/road-pilotnet": (*UNGATED, "evaluate.beat=[]", "data.road={drives: 4, frames: 40}"),
    "stylize/feedforward-starry_night": ("train.epochs=1", "data.size=64", "data.windows=2", "evaluate.steps=2"),
    "verify/orl-triplet": (*UNGATED, "train.warmup_epochs=0", "evaluate.error_below=null"),
    "volumes/mni152-twoconv": (*UNGATED, "evaluate.beat=[]", "data.size=[10, 10, 10]"),
}
PAINTING = ("evaluate.require={}", "train.steps=2", "data.size=64")


def test_every_task_has_a_recipe_here():
    assert {name.partition("/")[0] for name in RECIPES} == set(recipes.built_in())


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_task_goes_from_data_to_an_exported_model_in_half_precision(recipe, precision, tmp_path):
    run(recipe, tmp_path, f"train.precision={precision}", *RECIPES[recipe])
    manifest = json.loads((tmp_path / recipe / "train" / "manifest.json").read_text())
    assert manifest["numerics"]["precision"] == precision
    assert list((tmp_path / recipe / "export").rglob("manifest.json"))


@pytest.mark.slow
def test_a_picture_is_painted_in_half_precision(tmp_path):
    run("stylize/astronaut-starry_night", tmp_path, "train.precision=bfloat16", *PAINTING)


def run(recipe, folder, *settings):
    """Run all stages of a recipe under these settings."""
    assert cnn("run", recipe, "--runs", folder, *(word for one in settings for word in ("--set", one))) == 0
