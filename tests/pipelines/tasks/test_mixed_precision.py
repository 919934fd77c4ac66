"""Every task trains, measures and exports under mixed precision; what it reaches after one epoch is not asked."""

import pytest

from tests.conftest import cnn

UNGATED = ("evaluate.require={}", "train.epochs=1")
RECIPES = {
    "classify/digits-lenet5": (*UNGATED, "evaluate.beat=[]"),
    "detect/composites-faster_rcnn": (*UNGATED, "train.warmup_epochs=0", "data.composites.count=40"),
    "detect/composites-yolo_tiny": (*UNGATED, "train.warmup_epochs=0", "data.composites.count=60"),
    "localize/composites-lenet5": (*UNGATED, "data.composites.count=100"),
    "segment/composites-fcn8s": (*UNGATED, "data.composites.count=60"),
    "signals/gunpoint-fcn": (*UNGATED, "evaluate.beat=[]"),
    "steer/road-pilotnet": (*UNGATED, "evaluate.beat=[]", "data.road.frames=60"),
    "stylize/astronaut-starry_night": ("evaluate.require={}", "data.size=96", "train.steps=3"),
    "verify/orl-triplet": (*UNGATED, "train.warmup_epochs=0", "evaluate.error_below=null"),
}  # Of volumes a CPU convolves a few in a second in half precision; their network differs from that of signals in rank.


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_task_goes_from_data_to_an_exported_model_in_mixed_precision(recipe, tmp_path):
    settings = ["train.mixed_precision=true", *RECIPES[recipe]]
    assert cnn("run", recipe, "--runs", tmp_path, *(word for one in settings for word in ("--set", one))) == 0
    assert list((tmp_path / recipe / "export").rglob("manifest.json"))
