"""A run from Python: its model, what it measured, its pictures, and its predictions."""

import csv
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps
from rich.console import Console

from cnn_keras import plugins
from cnn_keras.errors import Fault
from pipelines.data import run_files, yaml_file
from pipelines.engine import recipe as recipes
from pipelines.engine import stages
from pipelines.engine.startup import load_tensorflow, quiet_environment
from pipelines.inference import exported_model

if TYPE_CHECKING:
    import keras

CHANNELS = (None, 1, 3, 4)  # of arrays: none for grey, or grey, RGB and RGBA
WRITABLE = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")  # Pillow's modes that PNG has


class FinishedRun:
    """A run whose stages have been run.

    Attributes:
        folder: what the stages wrote, in `prepare`, `train`, `evaluate` and `export`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __repr__(self) -> str:
        return f"<run {self.folder.parent.name}/{self.folder.name} in {self.folder}>"

    @property
    def metrics(self) -> dict[str, Any]:
        """What evaluate measured, by name, as tracking has it: `test_accuracy`, for example.

        Raises:
            Fault: evaluate has not been run.
        """
        return dict(self._facts("evaluate").get("metrics", {}))

    @property
    def history(self) -> list[dict[str, float]]:
        """The epochs of the training, from 1, in order: `epoch`, `loss`, `val_loss` and so on; [] where it had none.

        `pandas.DataFrame(run.history)` is a table of them.
        """
        path = self.folder / "train" / "history.csv"
        if not path.is_file():
            return []
        with path.open(encoding="utf-8", newline="") as file:
            rows = [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]
        return [{**row, "epoch": int(row["epoch"])} for row in rows]

    @cached_property
    def model(self) -> "keras.Model":
        """The trained Keras model of the best epoch, not compiled: from what it takes to its raw outputs.

        Raises:
            Fault: train has not been run, or leaves no model: one-shot stylization, for example.
        """
        from pipelines.export import savedmodel  # start-up: Keras

        self._facts("train")
        path = self.folder / "train" / "model.keras"
        if not path.is_file():
            raise Fault(f"model must be of a run that trains one, got {self!r}, which has none")
        builder = yaml_file.read(self.folder / "recipe.yaml").get("model", {}).get("builder", "")
        if plugins.is_reference(builder):  # the user's own layers become known to Keras
            plugins.load(builder)
        return savedmodel.load_keras(path)

    @property
    def pictures(self) -> list[Path]:
        """What the stages have drawn: PNG files."""
        return [path for stage in stages.STAGES for path in sorted((self.folder / stage).glob("*.png"))]

    def show(self) -> None:
        """Show the pictures in a notebook; elsewhere print where they are."""
        try:
            from IPython import get_ipython
            from IPython.display import Image as Shown
            from IPython.display import Markdown, display
        except ImportError:
            notebook = None
        else:
            notebook = get_ipython()
        for path in self.pictures:
            if notebook:
                display(Markdown(f"**{path.relative_to(self.folder).with_suffix('')}**"), Shown(str(path)))
            else:
                print(path)

    def predict(self, images: Any, *, top: int = 3) -> list[dict[str, Any]]:
        """Ask the newest exported version of the model; the rows are those of `cnn predict --json`.

        Args:
            images: a file or a folder of files – images, videos, CSV or NIfTI, as the model wants –, a PIL image, a
                NumPy array, uint8 (height, width) or (height, width, 1, 3 or 4), 0–255, RGB or RGBA; a list of any of
                these, or one array (N, height, width, channels).
            top: how many classes a classifier names, the likeliest first.

        Returns:
            One row for each image, or for each frame of a video, in order. `path` is None where an image had no file;
            `problem` says what is wrong with one that cannot be read, and is None otherwise.

        Raises:
            Fault: the run was not exported, a path leads nowhere, or something that is no image.
        """
        model = exported_model.locate(str(self.folder), Path())
        load_tensorflow(Console(quiet=True))
        from pipelines.inference import predict as predicting

        with tempfile.TemporaryDirectory() as temporary:
            files = [_file(image, Path(temporary, f"{row}.png")) for row, image in enumerate(_each(images))]
            answers = predicting.predict(model, files, top=top, console=Console(quiet=True))
            rows = [answer.as_dict() for answer in answers]
            return [{**row, "path": None if row["path"].startswith(temporary) else row["path"]} for row in rows]

    def _facts(self, stage: str) -> dict[str, Any]:
        return dict(stages.finished(self.folder, stage)["facts"])


def run(reference: str, runs: Path, sections: Mapping[str, Any]) -> FinishedRun:
    """Bring the run of a recipe, changed by `sections`, up to date as far as export."""
    recipe = recipes.load(reference, sections=sections)
    quiet_environment()
    console = Console(highlight=False, soft_wrap=True)
    opened = stages.Run(recipe, console, runs)
    console.print(f"[bold]{recipe.task}/{recipe.name}[/]  [dim]{opened.folder}[/]")
    with stages.tracked(opened):
        stages.run_stages(opened, "export")
    return FinishedRun(opened.folder)


def load(reference: str, runs: Path) -> FinishedRun:
    """The run of this name or of this recipe, at least prepared."""
    folder = stages.run_folder(reference, runs)
    if not (folder / "prepare" / run_files.MANIFEST).is_file():
        raise Fault(f"run must be one that was run, such as classify/photos, found nothing in {folder}; `cnn run` runs")
    quiet_environment()
    return FinishedRun(folder)


def _each(images: Any) -> Iterator[Any]:
    """The images one by one."""
    if (isinstance(images, np.ndarray) and images.ndim != 4) or isinstance(images, str | PathLike | Image.Image):
        yield images
    elif isinstance(images, Sequence | np.ndarray):
        yield from images
    else:
        raise Fault(f"images must be a path, a PIL image, a NumPy array or a list of them, got {type(images).__name__}")


def _file(image: Any, path: Path) -> Path:
    """The file of an image; what has none is written to `path`."""
    if isinstance(image, str | PathLike):
        return Path(image)
    if isinstance(image, Image.Image):
        upright = ImageOps.exif_transpose(image)
    elif isinstance(image, np.ndarray):
        upright = _pillow(image)
    else:
        raise Fault(f"images must be paths, PIL images or NumPy arrays, got {type(image).__name__}")
    (upright if upright.mode in WRITABLE else upright.convert("RGB")).save(path)
    return path


def _pillow(image: np.ndarray[Any, Any]) -> Image.Image:
    """A uint8 array as a PIL image."""
    channels = image.shape[2] if image.ndim == 3 else None
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or channels not in CHANNELS:
        raise Fault(
            "images must be uint8 (height, width) or (height, width, 1, 3 or 4), 0–255, "
            f"got {image.dtype} {image.shape}"
        )
    return Image.fromarray(image.reshape(image.shape[:2]) if channels == 1 else image)
