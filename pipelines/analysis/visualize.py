"""`cnn insight`: all pictures of what a run's network has learnt to see.

See `pipelines.engine.classification.visualization`.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from cnn_keras.data.input_pipeline import Shape
from cnn_keras.errors import Fault
from cnn_keras.learn import visualization as network_visualization
from cnn_keras.ops.resize import resize_image
from pipelines.data import image_dataset, image_io, run_files
from pipelines.engine import recipe as recipes
from pipelines.engine import stages
from pipelines.engine.classification import label_kind, visualization
from pipelines.engine.classification.visualization import Asked, Drawing, Trained, file_stem
from pipelines.export import savedmodel
from pipelines.plots.image_grid import Array

IMAGES = 2000  # of the test split, that units are asked about
LAYERS = 6  # in the picture of feature maps


def insight(
    reference: str,
    *,
    runs: Path,
    console: Console,
    images: Sequence[Path] = (),
    layer: str | None = None,
    unit: int | None = None,
    output: Path | None = None,
) -> list[Path]:
    """Draw all pictures of a run whose training is finished; return their paths.

    Args:
        reference: a run, `classify/digits-lenet5`, or its recipe.
        images: image files to explain; none takes some of the test split, right answers and confident mistakes.
        layer: the one to look into; None takes the first, the middle and the last with a non-linearity, and what the
            classes look like.
        unit: the one of that layer; None takes some that answer to anything.
        output: the folder for the pictures; None takes `insight` in the run's folder, or `insight-images` for images.

    Raises:
        Fault: no such run, layer or unit; an image that cannot be read; a SavedModel.
    """
    if unit is not None and layer is None:
        raise Fault(f"--unit must come with --layer, got {unit} alone; --layer names the layer that it is counted in")
    folder, recipe = _found(reference, runs)
    shape = image_dataset.shape_of(recipe.data)
    data = run_files.read_json(folder / "prepare" / "data.json")
    model, activation = savedmodel.load_keras(folder / "train" / "model.keras"), label_kind.of(recipe).activation
    trained = Trained(model, data["classes"], activation)
    if layer is not None:
        layer = _checked(trained, layer, unit)
    tested = visualization.ask(trained, folder / "prepare", image_dataset.test_split(data), shape, IMAGES)
    examples = _given(trained, images, shape) if images else visualization.representative(tested)
    drawings = _drawings(trained, tested, examples, layer=layer, unit=unit)
    return visualization.draw_all(drawings, output or folder / ("insight-images" if images else "insight"), console)


def _drawings(
    trained: Trained,
    tested: Asked,
    examples: Asked,
    *,
    layer: str | None,
    unit: int | None,
) -> dict[str, Drawing]:
    """The pictures by the names of their files; nothing is drawn yet."""
    rows = network_visualization.spatial_layers(trained.model)
    features, answer = (
        network_visualization.feature_layers(trained.model),
        network_visualization.logits_layer(trained.model),
    )
    wide = [name for name, row in rows.items() if max(row.output_shape[:2]) > 1]
    mapped = [name for name in wide if name in features]
    if len(mapped) < LAYERS:
        mapped = [name for name in wide if name in features or "Pooling" in rows[name].type]
    mapped, examined_layers = (_some(mapped, LAYERS), _some(features, 3)) if layer is None else ([layer], [layer])
    mapped = [name for name in mapped if name in wide]
    drawings: dict[str, Drawing] = {"filters": partial(visualization.filters, trained)}
    if mapped:
        drawings["feature_maps"] = partial(visualization.feature_maps, trained, examples, mapped, unit)
    for name in examined_layers:
        if name in rows:
            drawings[f"patches-{file_stem(name)}"] = partial(visualization.patches, trained, tested, name, unit)
        drawings[f"maximised-{file_stem(name)}"] = partial(visualization.maximised, trained, tested, name, unit)
    if layer is None:
        drawings[f"maximised-{file_stem(answer)}"] = partial(visualization.maximised, trained, tested, answer, None)
    return {
        **drawings,
        "attention": partial(visualization.attention, trained, examples, layer if layer in wide else None),
    }


def _found(reference: str, runs: Path) -> tuple[Path, Any]:
    """The folder of a run whose training is finished, and its recipe."""
    folder = stages.run_folder(reference, runs)
    for candidate in (Path(reference), folder):
        if (candidate / "saved_model.pb").is_file() or any(candidate.glob("[0-9]*/saved_model.pb")):
            raise Fault(
                f"RUN must be a run such as classify/digits-lenet5, got the SavedModel {candidate}, a graph for "
                "serving without layers; name the run that it was exported from"
            )
    for stage, name in (("prepare", "data.json"), ("train", "model.keras")):
        if not (folder / stage / name).is_file():
            raise Fault(f"RUN must be a run whose {stage} is finished, found nothing in {folder / stage}")
    recipe: Any = recipes.load(str(folder / "recipe.yaml"))
    if recipe.task != "classify":
        raise Fault(f"RUN must be a run of the task classify, got {recipe.task}")
    return folder, recipe


def _given(trained: Trained, files: Sequence[Path], shape: Shape) -> Asked:
    """Image files, framed as those of the run."""
    images = np.stack([_framed(file, shape) for file in files])
    return Asked(images, [file.name for file in files], None, visualization.predict(trained, images))


def _framed(file: Path, shape: Shape) -> Array:
    pixels = image_io.read(file, what="--image", channels=shape.channels)
    resized: Array = resize_image(pixels, shape.size, fit=shape.fit).numpy()
    return resized


def _some(names: list[str], most: int) -> list[str]:
    return [names[number] for number in visualization.evenly_spaced(len(names), most)]


def _checked(trained: Trained, layer: str, unit: int | None) -> str:
    """The layer's name; a Fault when there is no such layer, or no such unit of it."""
    name = str(network_visualization.layer_name(trained.model, layer))
    if unit is not None and not 0 <= unit < (width := visualization.unit_count(trained, name)):
        raise Fault(f"--unit must lie in 0 to {width - 1}, as {name} has {width} units, got {unit}")
    return name
