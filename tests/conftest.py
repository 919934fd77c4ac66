"""What every test runs under – no telemetry, quiet TensorFlow – and the one exported run that several tests look at."""

import os
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, settings

# The same examples every time, however slow the machine: what is green stays green. `--hypothesis-profile=random` looks
# for new ones.
PATIENT = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("repeatable", derandomize=True, **PATIENT)
settings.register_profile("random", **PATIENT)
settings.load_profile("repeatable")

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "Agg")


# Fixtures of some test files, which other modules import as well.
pytest.register_assert_rewrite("tests.small_people")

# Of a fixture that runs all stages of a task, `params=WHOLE` makes every test that uses it slow.
WHOLE = [pytest.param(None, marks=pytest.mark.slow, id="whole")]


def cnn(*arguments) -> int:
    """Run the command line in this process; return its exit code."""
    from pipelines.cli.main import main

    before, sys.argv = sys.argv, ["cnn", *map(str, arguments)]
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    finally:
        sys.argv = before


class Exported(NamedTuple):
    """A small run on a folder of digits, from prepare to export."""

    root: Path  # the working directory
    photos: Path  # one folder of PNG files per class
    recipe: Path  # the YAML file
    run: Path  # runs/classify/small

    def cnn(self, *arguments) -> int:
        return cnn(*arguments, "--runs", self.root / "runs")


RECIPE = """\
# A few digits, a few epochs.
task: classify
data: {source: folder, path: photos, size: [28, 28], channels: 1}
augment: [{affine: {rotate: 5}}]
model: {builder: lenet.lenet5_modern, dropout: 0.1}
train: {epochs: 4, batch_size: 16, learning_rate: 3e-3}
evaluate: {require: {accuracy: 0.2}}
"""


def write_digits(folder: Path, *, classes: int = 4, each: int = 30) -> None:
    """scikit-learn's digits as PNG files, one folder per class."""
    from PIL import Image
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    for label in range(classes):
        (folder / str(label)).mkdir(parents=True)
        for row, image in enumerate(images[labels == label][:each]):
            pixels = (image.reshape(8, 8) * 15.9).astype("uint8")
            Image.fromarray(pixels).resize((24, 24)).save(folder / str(label) / f"{row:02d}.png")


@pytest.fixture(scope="session", autouse=True)
def _own_store(tmp_path_factory):
    """No test writes into the tracking store of the project."""
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{tmp_path_factory.mktemp('tracking')}/mlflow.db"


@pytest.fixture(scope="session")
def exported(tmp_path_factory) -> Exported:
    root = tmp_path_factory.mktemp("exported")
    write_digits(root / "photos")
    recipe = root / "small.yaml"
    recipe.write_text(RECIPE)
    before = Path.cwd()
    os.chdir(root)
    try:
        assert cnn("run", recipe, "--runs", root / "runs") == 0
    finally:
        os.chdir(before)
    return Exported(root, root / "photos", recipe, root / "runs" / "classify" / "small")
