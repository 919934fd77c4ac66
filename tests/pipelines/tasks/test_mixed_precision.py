"""Tasks train, measure and export under mixed precision; what they reach after one epoch is not asked."""

import pytest

from tests.conftest import cnn

UNGATED = ("evaluate.require={}", "train.epochs=1")
RECIPES = {
    "detect/composites-faster_rcnn": (*UNGATED, "train.warmup_epochs=0", "data.composites.count=60"),
    "detect/composites-yolo_tiny": (*UNGATED, "train.warmup_epochs=0", "data.composites.count=120"),
    "localize/composites-lenet5": (*UNGATED, "data.composites.count=200"),
    "verify/orl-triplet": (*UNGATED, "train.warmup_epochs=0", "evaluate.error_below=null"),
}


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_task_goes_from_data_to_an_exported_model_in_mixed_precision(recipe, tmp_path):
    settings = ["train.mixed_precision=true", *RECIPES[recipe]]
    assert cnn("run", recipe, "--runs", tmp_path, *(word for one in settings for word in ("--set", one))) == 0
    assert list((tmp_path / recipe / "export").rglob("manifest.json"))
