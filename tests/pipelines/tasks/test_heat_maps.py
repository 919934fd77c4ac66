"""Every task that answers about parts of an example says what its answers rest on, in its report and in predict."""

import numpy as np
import pytest
from PIL import Image

from pipelines.engine import heat_maps
from tests.conftest import cnn

FEW = ("evaluate.require={}", "train.epochs=1")
RECIPES = {  # beside the settings the name of the picture
    "classify/digits-lenet5": ("attention.png", "evaluate.require={}", "train.epochs=1", "evaluate.beat=[]"),
    "detect/composites-faster_rcnn": (
        heat_maps.FILE,
        *FEW,
        "train.warmup_epochs=0",
        "data.composites.count=60",
        "evaluate.shown=0.001",
        "evaluate.crops=flip",
    ),
    "detect/composites-yolo_tiny": (
        heat_maps.FILE,
        *FEW,
        "train.warmup_epochs=0",
        "data.composites.count=60",
        "evaluate.shown=0.001",
        "evaluate.crops=multiscale",
    ),
    "localize/composites-lenet5": (heat_maps.FILE, *FEW, "data.composites.count=100"),
    "segment/mni-unet": (heat_maps.FILE, *FEW, "evaluate.require_dice={}", "evaluate.crops=flip"),
    "signals/gunpoint-fcn": (heat_maps.FILE, *FEW, "evaluate.beat=[]"),
    "volumes/mni152-twoconv": (heat_maps.FILE, *FEW, "evaluate.beat=[]"),
    "steer/road-pilotnet": ("saliency.png", *FEW, "evaluate.at_most={}", "evaluate.beat=[]", "data.road.drives=2"),
    "regress/digits-angle": (heat_maps.FILE, *FEW, "evaluate.beat=[]"),
    "verify/orl-triplet": (heat_maps.FILE, *FEW, "train.warmup_epochs=0", "evaluate.error_below=null"),
}


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_the_report_and_predict_draw_what_answers_rest_on_and_the_report_leaves_it_out_if_told(recipe, tmp_path):
    picture, *settings = RECIPES[recipe]
    given = [word for one in settings for word in ("--set", one)]
    assert cnn("run", recipe, "--runs", tmp_path, *given) == 0
    drawn = tmp_path / recipe / "evaluate" / picture
    assert drawn.is_file()
    if not recipe.startswith(("verify", "signals", "volumes")):
        photo, why = tmp_path / "photo.png", tmp_path / "why"
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (150, 170, 3), dtype=np.uint8)).save(photo)
        assert cnn("predict", recipe, photo, "--why", why, "--runs", tmp_path) == 0
        assert [path.name for path in why.iterdir()] == ["0000-photo.png"]
    assert cnn("evaluate", recipe, "--runs", tmp_path, *given, "--set", "evaluate.insight=false") == 0
    assert not drawn.exists()
