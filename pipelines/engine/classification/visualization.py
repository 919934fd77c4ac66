"""Pictures of what a trained classifier's units have learnt to see, and of what its answers were made of.

`draw` draws the quick ones for an evaluation; `cnn insight` draws them all. The mathematics, and the papers, are in
`cnn_keras.learn.visualization`.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
from matplotlib.colors import to_rgb
from rich.console import Console

from cnn_keras import inference
from cnn_keras.data import input_pipeline as batch
from cnn_keras.data.input_pipeline import Shape
from cnn_keras.learn import visualization
from cnn_keras.metrics import classification
from pipelines.data.validation import progress
from pipelines.engine.classification import label_kind
from pipelines.plots import image_grid
from pipelines.plots.image_grid import BLUE, ORANGE, Array
from pipelines.plots.overlays import HEAT, coloured, grey, paint_heat_map

QUICK_IMAGES = 1000  # when an evaluation asks
MEMORY = 2**28  # bytes that those images may take
UNITS = 8  # of a layer, in a picture
ASKED = 24  # units of a layer that are looked at to find so many that answer to anything
MAPS = 10  # of a layer, in the picture of feature maps
RIGHT, WRONG = 4, 4  # answers that are explained
FAINTEST = 1.0  # a change of the logarithm of the odds that is drawn in full colour, where none is larger


Drawing = Callable[[Path], Path]  # writes a picture to the path and returns it


class Asked(NamedTuple):
    """Images, and what the model answers: the labels are None for images that nobody has labelled, or with several."""

    images: Array  # uint8 (N, height, width, channels)
    ids: Sequence[str]
    labels: Array | None  # int64 (N,)
    probabilities: Array  # float32 (N, classes)

    def row(self, number: int) -> tuple[int, float]:
        """The answer to an image, and its probability."""
        answer = int(self.probabilities[number].argmax())
        return answer, float(self.probabilities[number, answer])


class Trained(NamedTuple):
    """A classifier: from uint8 images to logits; what its classes are called; logits to probabilities."""

    model: keras.Model
    names: Sequence[str]
    activation: Callable[[Any], Any] = label_kind.SINGLE.activation


def draw(
    model: keras.Model,
    prepared: Path,
    *,
    split: str,
    shape: Shape,
    names: Sequence[str],
    folder: Path,
    console: Console,
    activation: Callable[[Any], Any] = label_kind.SINGLE.activation,
) -> list[Path]:
    """Draw what takes seconds, for an evaluation: filters, patches of the last layer, some answers explained.

    A network without convolutions over two axes has none of them: the list is empty.

    Args:
        model: from uint8 images of this shape to logits.
        prepared: the folder of the stage prepare; `split` is the one whose images are drawn.
        names: of the classes.
        activation: of logits to probabilities.
    """
    if len(shape.size) != 2 or not (features := visualization.feature_layers(model)):
        return []
    trained = Trained(model, names, activation)
    tested = ask(trained, prepared, split, shape, QUICK_IMAGES)
    drawings: dict[str, Drawing] = {
        "filters": partial(filters, trained),
        f"patches-{file_stem(features[-1])}": partial(patches, trained, tested, features[-1], None),
        "attention": partial(attention, trained, representative(tested), None, coarse=True),
    }
    return draw_all(drawings, folder, console)


def filters(trained: Trained, path: Path) -> Path:
    """Draw the kernels of the first convolution."""
    kernels = list(visualization.first_layer_filters(trained.model))
    height, width = kernels[0].shape[:2]
    heading = f"First layer: {len(kernels)} filters of {height} × {width}; mid-grey is a weight of 0"
    titles = [str(number) for number in range(len(kernels))]
    columns = 8 if len(kernels) <= 32 else 16
    return image_grid.contact_sheet(kernels, titles, path, columns=columns, heading=heading, size=0.7)


def feature_maps(trained: Trained, examples: Asked, layers: Sequence[str], unit: int | None, path: Path) -> Path:
    """Draw what the units of some layers answer to the first image, at each position."""
    image = examples.images[:1]
    rows = [image_grid.Strip("image", str(examples.ids[0]), [image[0]])]
    for layer in layers:
        maps = visualization.feature_maps(trained.model, image, layer)[0]
        height, width, units = maps.shape
        channels = np.sort(np.argsort(-maps.std(axis=(0, 1)), kind="stable")[:MAPS]) if unit is None else [unit]
        low, high = float(maps.min()), float(np.percentile(maps, 99.8))
        pictures = [coloured((maps[..., k] - low) / max(high - low, 1e-12), "viridis") for k in channels]
        rows.append(image_grid.Strip(layer, f"{height} × {width} × {units}", pictures))
    which = f"the {MAPS} most variable of each layer" if unit is None else f"unit {unit}"
    scale = image_grid.Scale("the layer's minimum to its maximum", _colours("viridis"))
    return image_grid.strips(rows, path, heading=f"Feature maps: {which}", scales=[scale])


def patches(trained: Trained, tested: Asked, layer: str, unit: int | None, path: Path) -> Path:
    """Draw the nine pieces of images that excite each of some units of a layer most."""
    units = [unit] if unit is not None else evenly_spaced(unit_count(trained, layer), ASKED)
    patches_ = visualization.exciting_patches(trained.model, layer, tested.images, units=units)
    patches_ = [patch for patch in patches_ if patch.activations[0] > 0] or patches_
    rows = [
        image_grid.Strip(
            f"unit {patch.unit}", f"{patch.activations[0]:.1f} to {patch.activations[-1]:.1f}", _within(patch, tested)
        )
        for patch in (patches_[k] for k in evenly_spaced(len(patches_), UNITS))
    ]
    height, width = patches_[0].pieces.shape[1:3]
    heading = (
        f"{layer}: what excites each unit most in {len(tested.images):,} images; it sees {height} × {width} pixels"
    )
    if height > tested.images.shape[1] or width > tested.images.shape[2]:
        heading += ", cut at the border of the image"
    return image_grid.strips(rows, path, heading=heading)


def maximised(trained: Trained, tested: Asked, layer: str, unit: int | None, path: Path) -> Path:
    """Draw images that were made to excite some units of a layer, cut to what these see."""
    width, classes = unit_count(trained, layer), layer == visualization.logits_layer(trained.model)
    units = [unit] if unit is not None else evenly_spaced(width, 2 * UNITS)
    start = tested.images.mean(axis=(0, 1, 2))
    result = visualization.maximize_activation(trained.model, layer, units=units, start=start)
    pictures = []
    for image, (left, top, right, bottom) in zip(result.images, result.boxes, strict=True):
        field = image[max(top, 0) : bottom, max(left, 0) : right]
        low, high = np.percentile(field, [1, 99])  # what excites a unit need not be of strong contrast
        pictures.append((np.clip((field - low) / max(high - low, 1), 0, 1) * 255).round().astype(np.uint8))
    names = [trained.names[k] if classes else f"unit {k}" for k in units]
    titles = [f"{name} · {activation:.1f}" for name, activation in zip(names, result.activations, strict=True)]
    noun = "class" if classes else "unit"
    heading = f"{layer}: images that maximise one {noun} each, by gradient ascent, drawn at full contrast"
    return image_grid.contact_sheet(pictures, titles, path, heading=heading, size=1.0)


def attention(trained: Trained, examples: Asked, layer: str | None, path: Path, *, coarse: bool = False) -> Path:
    """Draw where the evidence for each answer lies; beside a mistake, where that for the truth would.

    The map of occlusion asks the network about 169 images for each one; a coarse one about 49.
    """
    answers = examples.probabilities.argmax(axis=1)
    truths = answers if examples.labels is None else examples.labels
    wrong = np.flatnonzero(truths != answers)
    images, classes = (
        np.concatenate([examples.images, examples.images[wrong]]),
        np.concatenate([answers, truths[wrong]]),
    )
    overlays = _overlays(trained, images, classes, layer, coarse=coarse)
    further = {int(row): overlays[len(answers) + k] for k, row in enumerate(wrong)}
    rows = []
    for number, image in enumerate(examples.images):
        answer, probability = examples.row(number)
        truth = examples.ids[number] if examples.labels is None else f"true {trained.names[truths[number]]}"
        predicted = f"predicted {trained.names[answer]} ({probability:.2f})"
        rows.append(image_grid.Strip(str(truth), predicted, [image, *overlays[number], *further.get(number, [])]))
    columns = ["image", "Grad-CAM", "occlusion", *(["Grad-CAM, truth", "occlusion, truth"] if further else [])]
    scales = [
        image_grid.Scale("evidence, up to the most of this image", _colours(HEAT)),
        image_grid.Scale("odds when this is occluded: higher (blue), lower (orange)", _hidden_colours()),
    ]
    layer = layer or visualization.grad_cam_layer(trained.model)
    heading = f"What the predictions depend on; Grad-CAM at {layer}"
    return image_grid.strips(rows, path, heading=heading, columns=columns, scales=scales, size=1.1)


def _overlays(trained: Trained, images: Array, classes: Array, layer: str | None, *, coarse: bool) -> list[list[Array]]:
    """Each image under its Grad-CAM, and under its occlusion map, for its class."""
    heat = visualization.grad_cam(trained.model, images, visualization.class_logit, classes, layer=layer)
    grey = images.mean(axis=(0, 1, 2))
    patch = max(1, round(min(images.shape[1:3]) / 4))
    hiding = {"patch": patch, "stride": max(1, patch // (2 if coarse else 4)), "fill": grey}
    falls = visualization.occlusion_map(trained.model, images, classes, odds=True, **hiding)
    return [
        [paint_heat_map(image, heat_map), _hidden(image, fall)]
        for image, heat_map, fall in zip(images, heat, falls, strict=True)
    ]


def draw_all(drawings: dict[str, Drawing], folder: Path, console: Console) -> list[Path]:
    """Make the drawings, with a bar; return the paths of their files."""
    paths = []
    with progress(console) as bar:
        task = bar.add_task("drawing", total=len(drawings))
        for name, drawing in drawings.items():
            bar.update(task, description=f"drawing {name}")
            paths.append(drawing(folder / f"{name}.png"))
            bar.advance(task)
    return paths


def ask(trained: Trained, prepared: Path, split: str, shape: Shape, most: int) -> Asked:
    """The first images of a split, as many as memory allows, and what the model answers."""
    limit = max(1, min(most, MEMORY // (shape.size[0] * shape.size[1] * shape.channels)))
    sample = batch.arrays(prepared, split, shape, limit=limit)
    labels = sample.labels if sample.labels.ndim == 1 else None
    return Asked(sample.images, sample.ids.tolist(), labels, predict(trained, sample.images))


def predict(trained: Trained, images: Array) -> Array:
    """The probabilities of the classes, float32 (N, classes), of images uint8 (N, height, width, channels)."""

    def answer(batch: Any) -> Any:
        logits = trained.model(batch, training=False)
        return trained.activation(logits["logits"] if isinstance(logits, dict) else logits)

    probabilities: Array = inference.predictor(trained.model, answer)(images)
    return probabilities


def representative(tested: Asked) -> Asked:
    """Some right answers, of different classes, then the most confident mistakes; without labels some images."""
    if tested.labels is None:
        few = evenly_spaced(len(tested.images), RIGHT + WRONG)
        return Asked(tested.images[few], [tested.ids[row] for row in few], None, tested.probabilities[few])
    labels = np.asarray(tested.labels)
    right = np.flatnonzero(tested.probabilities.argmax(axis=1) == labels)
    _, first = np.unique(labels[right], return_index=True)  # of each class
    rows = [int(right[first[k]]) for k in evenly_spaced(len(first), RIGHT)]
    rows += classification.confident_mistakes(tested.probabilities, labels, WRONG).tolist()
    return Asked(tested.images[rows], [tested.ids[row] for row in rows], labels[rows], tested.probabilities[rows])


def evenly_spaced(count: int, most: int) -> list[int]:
    """At most so many of the numbers below `count`, evenly spread, the first and the last among them."""
    return [int(number) for number in np.unique(np.linspace(0, count - 1, min(count, most)).round())]


def unit_count(trained: Trained, layer: str) -> int:
    """How many units a layer has, by its name or path."""
    return int(visualization.layer_row(trained.model, layer).output_shape[-1])


def file_stem(layer: str) -> str:
    """A layer's name as part of a file's."""
    return layer.replace("/", "-")


def _within(values: Any, tested: Asked) -> list[Array]:
    """The pieces; where a field is larger than the images, what of it lies in the image."""
    height, width = tested.images.shape[1:3]
    if values.pieces.shape[1] <= height and values.pieces.shape[2] <= width:
        return list(values.pieces)
    parts = []
    for piece, (left, top, _, _) in zip(values.pieces, values.boxes, strict=True):
        parts.append(piece[max(-top, 0) : height - top, max(-left, 0) : width - left])
    return parts


def _colours(colours: str) -> Array:
    return coloured(np.linspace(0, 1, 256)[None], colours)


def _hidden(image: Array, fall: Array) -> Array:
    """The image, pale, under the colours of an occlusion map that is scaled by its largest value."""
    share = fall / max(float(np.abs(fall).max()), FAINTEST)
    return _tinted(195 + 0.23 * grey(image), share)


def _hidden_colours() -> Array:
    return _tinted(np.full((1, 256, 1), 220.0), np.linspace(-1, 1, 256)[None])


def _tinted(grey: Array, share: Array) -> Array:
    """Grey, (height, width, 1), the more orange the nearer `share` is to 1, the more blue the nearer to -1."""
    colours = np.where(share[..., None] > 0, to_rgb(ORANGE), to_rgb(BLUE)) * 255
    strength = 0.9 * np.abs(share)[..., None]
    tinted: Array = np.round((1 - strength) * grey + strength * colours).astype(np.uint8)
    return tinted
