"""The tiny recipes of the tasks' own tests, each with its data: what holds for every task is tried on them."""

from pathlib import Path

from tests import small_people
from tests.cnn_keras.data.sources.test_signals import write_signals
from tests.cnn_keras.data.sources.test_volumes import write_volumes
from tests.conftest import RECIPE, write_digits
from tests.pipelines.tasks import test_segment
from tests.pipelines.tasks.stylize.test_stylize_task import write_pictures
from tests.pipelines.tasks.test_detect import write_squares
from tests.pipelines.tasks.test_localize import write_corners
from tests.pipelines.tasks.test_regress import write_bars
from tests.pipelines.tasks.test_segmentation_dataset import write_scenes
from tests.pipelines.tasks.test_steer import write_drive


def _classify(folder: Path) -> None:
    write_digits(folder / "photos")
    (folder / "small.yaml").write_text(RECIPE)


def _segment(folder: Path) -> None:
    write_scenes(folder / "source", count=18)
    (folder / "shapes.yaml").write_text(test_segment.RECIPE)


WRITERS = {
    "classify": (_classify, "small"),
    "signals": (write_signals, "waves"),
    "volumes": (write_volumes, "shapes"),
    "localize": (write_corners, "squares"),
    "detect": (write_squares, "squares"),
    "segment": (_segment, "shapes"),
    "steer": (write_drive, "short"),
    "regress": (write_bars, "bars"),
    "verify": (small_people.write, "small"),
    "stylize": (write_pictures, "network"),
}


def write(task: str, folder: Path) -> Path:
    """Write a task's data and its recipe into a folder; return the recipe's path."""
    writer, name = WRITERS[task]
    writer(folder)
    return folder / f"{name}.yaml"
