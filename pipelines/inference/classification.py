"""Classifiers of images, signals and volumes: which classes are likeliest, or which labels an image has."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.markup import escape

from cnn_keras.data.files import dicom
from cnn_keras.data.files.file_tree import IMAGE_SUFFIXES, natural
from pipelines.data import array_dataset, run_files
from pipelines.export.savedmodel import REJECTION, as_example
from pipelines.inference.prediction import DEFAULT, Prediction, Source, ask_array, ask_images, pixels
from pipelines.plots import image_grid

RANKED = ("label", "probability")  # columns of each of the likeliest classes


@dataclass(frozen=True, kw_only=True)
class Spread:
    """How much the passes with dropout differ: the standard deviation of the probability of every class over them, and
    their mutual information in nats, see `cnn_keras.ops.monte_carlo_dropout`."""

    deviations: dict[str, float]
    mutual_information: float


@dataclass(frozen=True, kw_only=True)
class Classification(Prediction):
    """The likeliest classes with their probabilities, the likeliest first, and the probability of every class.

    `accepted` says whether the first one reaches the confidence that the model was given; None where it was given none.
    `spread` is how much the passes of a model with dropout at test time differ; None of other models.
    """

    classes: list[tuple[str, float]]
    every: dict[str, float]
    accepted: bool | None = None
    spread: Spread | None = None

    def _values(self) -> dict[str, Any]:
        values: dict[str, Any] = {
            "classes": [{"label": label, "probability": round(share, 6)} for label, share in self.classes]
        }
        if self.accepted is not None:
            values["accepted"] = self.accepted
        if self.spread:
            for row in values["classes"]:
                row["deviation"] = round(self.spread.deviations[row["label"]], 6)
            values["mutual_information"] = round(self.spread.mutual_information, 6)
        return values

    def cells(self, later: Sequence[Self] = ()) -> tuple[str, ...]:
        (label, probability), *rest = self.classes
        then = ", ".join(f"{escape(name)} {share:.1%}" for name, share in rest)
        unsure = " [yellow]not accepted[/]" if self.accepted is False else ""
        between = f" ± {100 * self.spread.deviations[label]:.1f}" if self.spread else ""
        return f"[bold]{escape(label)}[/]{unsure}", f"{probability:.1%}{between}", f"[dim]{then}[/]"

    def draw(self, path: Path, later: Sequence[Self] = ()) -> None:
        image_grid.draw_prediction(pixels(self.source), *self.classes[0], path)

    @classmethod
    def table(cls, predictions: Sequence[Prediction]) -> Iterator[Sequence[Any]]:
        """path, label, probability, label_2, probability_2, …, problem, and `p(CLASS)` of each class in its order;
        `accepted`, true or false, where the model was given a confidence for it; and of a model with dropout at test
        time `sd(CLASS)` of each class and `mutual_information`."""
        readable = [prediction for prediction in predictions if isinstance(prediction, Classification)]
        top = max(len(prediction.classes) for prediction in readable)
        names = sorted({name for prediction in readable for name in prediction.every}, key=natural)
        columns = [f"{name}{rank}" for rank in ("", *(f"_{place}" for place in range(2, top + 1))) for name in RANKED]
        rejects = any(prediction.accepted is not None for prediction in readable)
        drops = any(prediction.spread for prediction in readable)
        probabilities = (f"p({name})" for name in names)
        spreads = [*(f"sd({name})" for name in names), "mutual_information"] if drops else []
        yield ["path", *columns, "problem", *probabilities, *(["accepted"] if rejects else []), *spreads]
        for prediction in predictions:
            accepted = ""
            ranked, every, spread = [""] * len(columns), [""] * len(names), [""] * len(spreads)
            if isinstance(prediction, Classification):
                ranked = [cell for label, probability in prediction.classes for cell in (label, f"{probability:.6f}")]
                every = [f"{prediction.every[name]:.6f}" for name in names]
                accepted = str(prediction.accepted).lower()
                if own := prediction.spread:
                    numbers = (*(own.deviations[name] for name in names), own.mutual_information)
                    spread = [f"{value:.6f}" for value in numbers]
            problem = prediction.problem or ""
            yield [prediction.path, *ranked, problem, *every, *([accepted] if rejects else []), *spread]


class ImageClassifier:
    """Asks a classifier of images for its `top` classes."""

    input, suffixes = "image", (*IMAGE_SUFFIXES, dicom.SUFFIX)

    def __init__(self, loaded: Any, folder: Path, top: int) -> None:
        self.classify, self.top = _signature(loaded, "serving_classify"), top
        self.accepted_from = _accepted_from(folder)

    def predict(self, sources: Sequence[Source], console: Console) -> list[Prediction]:
        return ask_images(self._ask, sources)

    def _ask(self, sources: list[Source], encoded: list[bytes]) -> list[Classification]:
        outputs = self.classify(inputs=tf.constant([as_example(data) for data in encoded], tf.string))
        columns = {name: values.numpy() for name, values in outputs.items()}
        rows = ({name: values[row] for name, values in columns.items()} for row in range(len(sources)))
        return [_ranked(*pair, self.top, self.accepted_from) for pair in zip(sources, rows, strict=True)]


@dataclass(frozen=True, kw_only=True)
class Labels(Prediction):
    """The labels that reach their thresholds, the likeliest first, and the probability of every label."""

    COLUMNS: ClassVar[tuple[str, ...]] = ("labels", "next")  # of the terminal's table

    chosen: list[str]
    every: dict[str, float]

    def _values(self) -> dict[str, Any]:
        return {
            "labels": self.chosen,
            "probabilities": {name: round(probability, 6) for name, probability in self.every.items()},
        }

    def cells(self, later: Sequence[Self] = ()) -> tuple[str, ...]:
        """Those that are answered, and the likeliest of the others."""
        answered = ", ".join(f"[bold]{escape(name)}[/] {self.every[name]:.1%}" for name in self.chosen)
        others = [name for name in self.every if name not in self.chosen]
        best = max(others, key=self.every.__getitem__, default=None)
        return answered or "none", "" if best is None else f"[dim]{escape(best)} {self.every[best]:.1%}[/]"

    def draw(self, path: Path, later: Sequence[Self] = ()) -> None:
        names = ", ".join(f"{name} ({self.every[name]:.2f})" for name in self.chosen) or "none"
        image_grid.detections([pixels(self.source)], [[names]], path, heading="", size=4.0)

    @classmethod
    def table(cls, predictions: Sequence[Prediction]) -> Iterator[Sequence[Any]]:
        """path, labels parted by |, problem, and `p(LABEL)` of each label in its order."""
        names = next((list(prediction.every) for prediction in predictions if isinstance(prediction, Labels)), [])
        yield ["path", "labels", "problem", *(f"p({name})" for name in names)]
        for prediction in predictions:
            labels, every = "", [""] * len(names)
            if isinstance(prediction, Labels):
                labels, every = "|".join(prediction.chosen), [f"{prediction.every[name]:.6f}" for name in names]
            yield [prediction.path, labels, prediction.problem or "", *every]


class MultiLabelClassifier:
    """Asks a classifier of images that answers with any number of labels."""

    input, suffixes = "image", (*IMAGE_SUFFIXES, dicom.SUFFIX)

    def __init__(self, loaded: Any) -> None:
        self._ask_model = loaded.signatures[DEFAULT]

    def predict(self, sources: Sequence[Source], console: Console) -> list[Prediction]:
        return ask_images(self._ask, sources)

    def _ask(self, sources: list[Source], encoded: list[bytes]) -> list[Labels]:
        outputs = self._ask_model(image_bytes=tf.constant(encoded, tf.string))
        columns = (outputs[name].numpy().tolist() for name in ("label", "classes", "probabilities"))
        return [
            Labels(
                source=source,
                chosen=[name.decode() for name in labels if name],
                every=dict(zip((name.decode() for name in classes), probabilities, strict=True)),
            )
            for source, labels, classes, probabilities in zip(sources, *columns, strict=True)
        ]


class ArrayClassifier:
    """Asks a classifier of signals or volumes for its `top` classes."""

    def __init__(self, loaded: Any, folder: Path, top: int) -> None:
        self.classify, self.top = _signature(loaded, "serving_ranked"), top
        self.accepted_from = _accepted_from(folder)
        self.input = next(iter(self.classify.structured_input_signature[1]))  # signal or volume
        self.suffixes = array_dataset.library(self.input).SUFFIXES

    def predict(self, sources: Sequence[Source], console: Console) -> list[Prediction]:
        return [ask_array(source, self.classify, self.input, self._read) for source in sources]

    def _read(self, source: Source, row: dict[str, Any]) -> Classification:
        return _ranked(source, row, self.top, self.accepted_from)


def _signature(loaded: Any, usual: str) -> Any:
    """What names all classes, the likeliest first, and of a model with dropout at test time how its passes differ."""
    return loaded.signatures["serving_samples" if "serving_samples" in loaded.signatures else usual]


def _accepted_from(folder: Path) -> float | None:
    """The confidence from which the answers of the model in a version's folder are accepted."""
    path = folder / REJECTION
    return float(run_files.read_json(path)["accepted_from"]) if path.is_file() else None


def _ranked(source: Source, row: dict[str, Any], top: int, accepted_from: float | None) -> Classification:
    """One row of an answer, NumPy arrays by name: all classes, the likeliest first."""
    names = [label.decode() for label in row["classes"].tolist()]
    ranked = list(zip(names, row["scores"].tolist(), strict=True))
    accepted = None if accepted_from is None else ranked[0][1] >= np.float32(accepted_from).item()
    spread = None
    if "deviations" in row:
        deviations = dict(zip(names, row["deviations"].tolist(), strict=True))
        spread = Spread(deviations=deviations, mutual_information=float(row["mutual_information"]))
    return Classification(source=source, classes=ranked[:top], every=dict(ranked), accepted=accepted, spread=spread)
