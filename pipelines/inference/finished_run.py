"""A run from Python: its model, what it measured, its pictures, and its predictions."""

import csv
import io
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
from pipelines.engine import fingerprint, stages
from pipelines.engine import recipe as recipes
from pipelines.engine.startup import console_for, load_tensorflow, quiet_environment
from pipelines.inference import exported_model

if TYPE_CHECKING:
    import keras

    from pipelines.inference.prediction import Prediction, Predictor, Source

Array = np.ndarray[Any, np.dtype[Any]]

BATCH_RANKS = {"image": 4, "signal": 3, "volume": 5}  # axes of an array that holds several, one of them the channels
CHANNELS = (None, 1, 3, 4)  # of arrays: none for grey, or grey, RGB and RGBA
COUNTS = ("epoch", "picture", "step")  # columns of a history that are whole numbers
WRITABLE = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")  # Pillow's modes that PNG has


class FinishedRun:
    """A run whose stages have been run.

    Attributes:
        folder: what the stages wrote, in `prepare`, `train`, `evaluate` and `export`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._exported: dict[Path, Any] = {}

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

        One-shot stylization has a row for some of its steps: `picture`, `scale`, `step`, `content`, `style` and so on.
        `pandas.DataFrame(run.history)` is a table of them.
        """
        path = self.folder / "train" / "history.csv"
        if not path.is_file():
            return []
        with path.open(encoding="utf-8", newline="") as file:
            return [
                {key: int(value) if key in COUNTS else float(value) for key, value in row.items() if value}
                for row in csv.DictReader(file)
            ]

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
            raise Fault(f"model requires a run that trains one, got {self!r}, which has none")
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
            import IPython.display  # optional
        except ImportError:
            notebook = None
        else:
            notebook = IPython.get_ipython()
        for path in self.pictures:
            if notebook:
                title = IPython.display.Markdown(f"**{path.relative_to(self.folder).with_suffix('')}**")
                IPython.display.display(title, IPython.display.Image(str(path)))
            else:
                print(path)

    def predict(self, images: Any, *, top: int = 3) -> list[dict[str, Any]]:
        """Ask the newest exported version of the model; the rows are those of `cnn predict --json`.

        Args:
            images: what the model takes, as a path, a PIL image or a NumPy array; a list of any of these; or one array
                with a first axis more. A path leads to a file or a folder of files: images, videos, CSV or NIfTI. An
                array is an image, uint8 (height, width) or (height, width, 1, 3 or 4), 0–255, grey, RGB or RGBA; a
                signal, (length, channels); or a volume, (depth, height, width) or (depth, height, width, channels).
            top: how many classes a classifier names, the likeliest first.

        Returns:
            One row for each image, or for each frame of a video, in order. `path` is None where an image had no file;
            `problem` says what is wrong with one that cannot be read, and is None otherwise.

        Raises:
            Fault: the run was not exported, a path leads nowhere, or something that the model does not take.
        """
        return [answer.as_dict() for answer in self._answers(images, top)]

    def draw(self, images: Any) -> list[Image.Image]:
        """The images with what the model says of them: boxes, masks, the likeliest class, or the painting itself.

        Args:
            images: as `predict` takes them, without videos; what cannot be read is left out.
        """
        from pipelines.inference import predict as predicting  # start-up: TensorFlow

        with tempfile.TemporaryDirectory() as folder:
            predicting.draw(self._answers(images), Path(folder))
            return [Image.open(path).convert("RGB") for path in sorted(Path(folder).glob("*.png"))]

    def _answers(self, images: Any, top: int = 1) -> "list[Prediction]":
        load_tensorflow(Console(quiet=True))
        from pipelines.inference import predict as predicting  # TensorFlow, which is loaded now

        folder = exported_model.newest(exported_model.locate(str(self.folder), Path()))
        if folder not in self._exported:  # a version is loaded once
            self._exported = {folder: predicting.load(folder)}
        predictor = predicting.predictor_of(self._exported[folder], folder, top=top)
        sources = [source for image in _each(images, predictor.input) for source in _sources(image, predictor)]
        return predictor.predict(sources, Console(quiet=True))

    def _facts(self, stage: str) -> dict[str, Any]:
        return dict(stages.finished_manifest(self.folder, stage)["facts"])


def run(reference: str, runs: str | PathLike[str], sections: Mapping[str, Any]) -> FinishedRun:
    """Bring the run of a recipe, changed by `sections`, up to date as far as export."""
    fingerprint.renew()
    recipe = recipes.load(reference, sections=sections)
    quiet_environment()
    console = console_for()
    run_ = stages.Run(recipe, console, Path(runs))
    console.print(f"[bold]{recipe.task}/{recipe.name}[/]  [dim]{run_.folder}[/]")
    with stages.tracked(run_):
        stages.run_stages(run_, "export")
    return FinishedRun(run_.folder)


def load(reference: str, runs: str | PathLike[str]) -> FinishedRun:
    """The run of this name or of this recipe, at least prepared."""
    folder = stages.run_folder(reference, Path(runs))
    if not (folder / "prepare" / run_files.MANIFEST).is_file():
        raise Fault(f"run must be a finished run, such as classify/photos, found nothing in {folder}; `cnn run` runs")
    quiet_environment()
    return FinishedRun(folder)


def _each(images: Any, kind: str) -> Iterator[Any]:
    """The images, signals or volumes one by one."""
    if isinstance(images, str | PathLike | Image.Image) or (
        isinstance(images, np.ndarray) and images.ndim != BATCH_RANKS[kind]
    ):
        yield images
    elif isinstance(images, Sequence | np.ndarray):
        yield from images
    else:
        raise Fault(f"images must be a path, a PIL image, a NumPy array or a list of them, got {type(images).__name__}")


def _sources(image: Any, predictor: "Predictor") -> "Iterator[Source]":
    """What a predictor is asked about: the file or the files of a folder, an encoded image, or an array."""
    from pipelines.inference import predict as predicting  # start-up: TensorFlow

    if isinstance(image, str | PathLike):
        yield from predicting.files_of([Path(image)], predictor.input, predictor.suffixes)
    elif isinstance(image, np.ndarray) and predictor.input != "image":
        yield _measured(image, BATCH_RANKS[predictor.input] - 1, predictor.input)
    elif isinstance(image, np.ndarray):
        yield _encoded(_pillow(image))
    elif isinstance(image, Image.Image) and predictor.input == "image":
        yield _encoded(ImageOps.exif_transpose(image))
    else:
        raise Fault(f"images must be {predictor.input}s as paths or NumPy arrays, got {type(image).__name__}")


def _measured(array: Array, rank: int, kind: str) -> Array:
    """A signal or a volume as float32, its channels last."""
    values = array if array.ndim == rank else array[..., None]
    if values.dtype.kind not in "fiu" or values.ndim != rank or not values.size or not np.isfinite(values).all():
        raise Fault(
            f"images must be {kind}s, arrays of {rank - 1} axes and channels, of finite numbers, "
            f"got {array.dtype} {array.shape}"
        )
    return values.astype(np.float32)


def _encoded(image: Image.Image) -> bytes:
    """A PNG file of an image."""
    file = io.BytesIO()
    (image if image.mode in WRITABLE else image.convert("RGB")).save(file, "PNG", compress_level=1)
    return file.getvalue()


def _pillow(image: Array) -> Image.Image:
    """A uint8 array as a PIL image."""
    channels = image.shape[2] if image.ndim == 3 else None
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or channels not in CHANNELS:
        raise Fault(
            "images must be uint8 (height, width) or (height, width, 1, 3 or 4), 0–255, or a list of such arrays, "
            f"got {image.dtype} {image.shape}"
        )
    return Image.fromarray(image.reshape(image.shape[:2]) if channels == 1 else image)
