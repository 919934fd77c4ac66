"""Which pictures to label next: those that a model is most uncertain about, or those that differ most."""

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console

from cnn_keras import inference
from cnn_keras.data.files import durable
from cnn_keras.errors import Fault
from cnn_keras.learn import visualization
from cnn_keras.learn.visualization import layer_selection, taps
from cnn_keras.ops.k_center import farthest_points
from cnn_keras.ops.resize import FITS, resize_image
from pipelines.analysis.labelling.predicted_labels import Labelled
from pipelines.data import image_io
from pipelines.data.validation import progress
from pipelines.engine import recipe as recipes
from pipelines.engine import stages
from pipelines.inference import finished_run
from pipelines.inference.prediction import batched

KINDS = ("uncertain", "diverse")
AT_ONCE = 32  # pictures


class Ranking(NamedTuple):
    """The files in the order in which to label them.

    columns: what the cells of each row are; cells: numbers, or "" where there is none.
    """

    rows: list[Labelled]
    columns: tuple[str, ...]
    cells: Sequence[tuple[float | str, ...]]


def by_uncertainty(rows: Sequence[Labelled]) -> Ranking:
    """The most uncertain first; of equals that of the larger entropy."""
    order = sorted(rows, key=lambda row: (-row.uncertainty, -(row.entropy or 0.0)))
    cells = [(row.uncertainty, "" if row.entropy is None else row.entropy) for row in order]
    return Ranking(order, ("uncertainty", "entropy"), cells)


def by_diversity(
    rows: Sequence[Labelled], limit: int | None, *, reference: str, runs: Path, console: Console
) -> Ranking:
    """Each is the one whose features are farthest from those of all before it; see `features`."""
    vectors = features(reference, [row.file for row in rows], runs=runs, console=console)
    order, distances = farthest_points(vectors, limit or len(rows))
    return Ranking([rows[row] for row in order], ("distance",), [(distance,) for distance in distances.tolist()])


def features(reference: str, files: Sequence[Path], *, runs: Path, console: Console) -> np.ndarray[Any, Any]:
    """What a run's network makes of pictures: its coarsest map, averaged over its positions: float32 (N, units).

    Args:
        reference: a run, `classify/digits-lenet5`, or its recipe.

    Raises:
        Fault: no run, or one whose network takes something else than pictures.
    """
    folder = stages.run_folder(reference, runs)
    if not (folder / "train" / "model.keras").is_file():
        raise Fault(f"--rank diverse requires a run with a trained network, found none in {folder}")
    recipe: Any = recipes.load(str(folder / "recipe.yaml"))
    model, data = finished_run.FinishedRun(folder).model, recipe.data
    if len(model.inputs) > 1 or len(data.size) != 2:
        raise Fault(f"--rank diverse requires a network of one picture alone, got {reference}")
    shape = (*data.size, getattr(data, "channels", 3))
    ask = pooled_features(model, shape)
    fit = data.fit if data.fit in FITS else "pad"  # a network of patches sees the whole picture
    parts = []
    with progress(console) as bar:
        task = bar.add_task("features", total=len(files))
        for batch in batched(files, min(AT_ONCE, inference.batch_limit(model, input_shape=shape))):
            pictures = [image_io.read(file, channels=shape[2]) for file in batch]
            images = np.stack([resize_image(picture, data.size, fit=fit).numpy() for picture in pictures])
            parts.append(ask(images).numpy())
            bar.advance(task, len(batch))
    return np.concatenate(parts)


def pooled_features(model: keras.Model, shape: tuple[int, ...]) -> Callable[[Any], Any]:
    """A function of images (batch, *shape) to the coarsest map of a model, averaged over its positions."""
    layer = visualization.bottleneck_layer(model, input_shape=shape)
    path = layer_selection.spatial_row(model, layer, shape).name

    def pooled(images: tf.Tensor) -> tf.Tensor:
        outputs: dict[str, tf.Tensor] = {}
        taps.run_layers(model, [images], outputs, {})
        return tf.reduce_mean(outputs[path], axis=(1, 2))

    return taps.compile_for(pooled, shape)


def write(ranking: Ranking, folder: Path, path: Path) -> None:
    """Write the order as a CSV file: rank from 1, path below `folder`, and the columns of the ranking."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["rank", "path", *ranking.columns])
    for rank, (row, cells) in enumerate(zip(ranking.rows, ranking.cells, strict=True), 1):
        numbers = [f"{cell:.6f}" if isinstance(cell, float) else cell for cell in cells]
        writer.writerow([rank, row.file.relative_to(folder).as_posix(), *numbers])
    durable.write_text(path, out.getvalue())
