"""Darknet's networks, brought in as models of ours."""

from pathlib import Path

import keras

from cnn_keras.errors import Fault
from cnn_keras.weights import darknet
from pipelines.export import savedmodel


def import_weights(cfg: Path, weights: Path, output: Path) -> str:
    """Write the network of Darknet's two files as Keras saves it: `image`, uint8 RGB 0–255, to what it answers.

    Returns:
        What was done, in a sentence.

    Raises:
        Fault: files that are not there or are no network of ours, or an output of another kind.
    """
    if output.suffix != ".keras":
        raise Fault(f"--output must be a .keras file, got {output}")
    name, arguments, network = darknet.load(cfg, weights)
    image = keras.Input(arguments["input_shape"], dtype="uint8", name="image")
    rescaled = keras.layers.Normalization(axis=None, mean=0.0, variance=255.0**2, name="normalization")(image)
    savedmodel.save_keras(keras.Model(image, network(rescaled), name=network.name), output)
    size = "×".join(str(side) for side in arguments["input_shape"][:2])
    return f"{output}: {name}, {network.count_params():,} parameters, {arguments['classes']} classes, images of {size}"
