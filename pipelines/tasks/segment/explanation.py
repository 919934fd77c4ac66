"""What the classes of a segmenter's pixels rest on: Seg-Grad-CAM."""

from collections.abc import Sequence

import numpy as np

from cnn_keras import inference
from cnn_keras.learn import visualization
from cnn_keras.ops.resize import resize_image
from pipelines.engine import heat_maps
from pipelines.engine.stages import Run
from pipelines.plots import overlays
from pipelines.plots.image_grid import Array, Strip
from pipelines.tasks.segment import records
from pipelines.tasks.segment.config import Data
from pipelines.tasks.segment.model import load_trained

CLASSES = 3  # of one picture, the largest


def explainer(run: Run) -> heat_maps.Explainer:
    """What explains the largest classes of pictures or volumes, each as the network sees it at once.

    That is the whole picture, framed; of what is seen in patches it is the one in the middle.
    """
    model, data, names = load_trained(run), run.recipe.data, run.facts("prepare")["classes"]
    ask, layer = inference.predictor(model), visualization.bottleneck_layer(model)

    def explain(examples: Sequence[Array]) -> list[list[Strip]]:
        images = np.stack([framed(example, data) for example in examples])
        labels = ask(images).argmax(axis=-1)
        classes_asked = [(row, number) for row, own in enumerate(labels) for number in largest(own, names)]
        strips: list[list[Strip]] = [[] for _ in examples]
        if classes_asked:
            rows, numbers = np.array(classes_asked).T
            heat = visualization.grad_cam(model, images[rows], visualization.mask_logits, numbers, layer=layer)
            for row, number, own in zip(rows, numbers, heat, strict=True):
                share = (labels[row] == number).mean()
                pictures = _pictured(images[row], labels[row], own, names)
                strips[row].append(Strip(f"{names[number]} ({share:.0%})", "", pictures))
        return strips

    return explain


def framed(values: Array, data: Data) -> Array:
    """A picture or volume (*sizes, channels) as the network takes it, or the patch in the middle of it."""
    if data.fit != "patch":
        picture: Array = resize_image(values, data.size, fit=data.fit).numpy()
        return picture
    return heat_maps.middle_window(records.standard(values) if data.normalize == "each" else values, data.size)


def largest(labels: Array, names: Sequence[str]) -> list[int]:
    """The classes with the most pixels of a label map, integers (*sizes,): at least one, without the background."""
    counts = np.bincount(labels.ravel(), minlength=len(names))
    if names[0].lower() in overlays.GROUND:
        counts[0] = 0
    order = np.argsort(-counts, kind="stable")[:CLASSES]
    return [int(number) for number in order if counts[number]]


def _pictured(image: Array, labels: Array, heat: Array, names: Sequence[str]) -> list[Array]:
    """The picture, the answer over what it is of, and the heat map; of a volume planes without the answer."""
    plain, heat_picture = heat_maps.draw_heat_map(image, heat)
    if image.ndim > 3:
        return [plain, heat_picture]
    return [plain, overlays.paint_classes(heat_maps.middle_window(image, labels.shape), labels, names), heat_picture]
