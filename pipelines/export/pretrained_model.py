"""A published network as an exported model: to serve and to ask at once, without a run."""

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console

from cnn_keras import inference, models
from cnn_keras.data.files import durable
from cnn_keras.data.files.durable import write_text
from cnn_keras.data.files.image_file import encode_png
from cnn_keras.data.input_pipeline import Shape
from cnn_keras.errors import Fault
from cnn_keras.learn import model_profile
from cnn_keras.weights import catalog, imagenet, pretrained
from pipelines.data.run_files import versions
from pipelines.export import savedmodel

SIZE, BORDER = 256, 16  # as ImageNet is measured: the shorter side becomes 256 pixels, of which the middle 224 are seen
TOLERANCE = 1e-5


def export(name: str, *, weights: str, output: Path | None, runs: Path, console: Console) -> Path:
    """Write the next version of a network with ImageNet's classes, and its card.

    Args:
        name: of the builder, without its family where only one has such a builder.
        weights: imagenet, or the path of a file for its thousand classes.
        output: the folder of the versions; below `runs` if None.
        runs: the folder that holds the runs.
        console: where to say what is done.

    Returns:
        The folder of the versions.

    Raises:
        Fault: no such builder, or weights that cannot be had or do not fill the network, or whose normalisation nobody
            knows.
    """
    name = resolve(name)
    folder = output or runs / "pretrained" / name.partition(".")[2]
    model = assemble(name, weights)
    version = savedmodel.next_version(folder)
    unfinished = folder / f".{version}.tmp"
    if unfinished.exists():
        shutil.rmtree(unfinished)
    difference = _write(model, unfinished)
    write_text(unfinished / "card.md", _card(name, weights, model, difference))
    durable.sync(unfinished)
    durable.rename(unfinished, folder / str(version))
    console.print(f"          {name} version {version}: largest difference to the network in memory {difference:.1e}")
    return folder


def assemble(name: str, weights: str) -> keras.Model:
    """The network behind what its images need: uint8 (256, 256, 3), RGB from 0 to 255, to logits of ImageNet's classes.

    Raises:
        Fault: see `export`.
    """
    models.check(name, weights=weights)
    figures = pretrained.normalization(name, weights)
    if figures is None:
        raise Fault(f"--weights must include the normalisation of images, got {weights}; use a .keras file")
    network = models.build(name, input_shape=(SIZE - 2 * BORDER, SIZE - 2 * BORDER, 3), classes=1000)
    if fresh := pretrained.load(network, name, weights):
        raise Fault(f"--weights must cover all layers of {name}, got {weights}, which lacks {', '.join(fresh)}")
    image = keras.Input((SIZE, SIZE, 3), dtype="uint8", name="image")
    middle = keras.layers.Cropping2D(BORDER, dtype="uint8", name="middle")(image)
    logits = network(keras.layers.Normalization(**figures, name="normalization")(middle))
    return keras.Model(image, logits, name=network.name)


def _write(model: keras.Model, folder: Path) -> float:
    """The SavedModel, asked about noise, of which requests for the warm-up are made; its difference to the network."""
    savedmodel.write_classifier(model, folder, shape=Shape((SIZE, SIZE), 3, "crop"), names=imagenet.class_names())
    noise = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3), np.uint8)
    encoded = encode_png(noise[0])
    requests = {
        "serving_default": ("image_bytes", [[encoded]]),
        "serving_tensor": ("image", [noise[:1]]),
        "serving_classify": ("inputs", [[savedmodel.as_example(encoded)]]),
    }
    savedmodel.record_requests(folder, requests)
    return _compared(model, folder, noise)


def _compared(model: keras.Model, folder: Path, images: Any) -> float:
    """Ask the network and its export about the same images; raise a Fault if they disagree."""
    loaded = tf.saved_model.load(str(folder))
    exported = loaded.signatures["serving_tensor"](image=tf.constant(images))["probabilities"]
    probabilities = inference.predictor(model, partial(savedmodel.probabilities, model))(images)
    difference = float(np.abs(exported.numpy() - probabilities).max())
    if difference > TOLERANCE:
        raise Fault(f"the exported model must agree within {TOLERANCE}, got {difference:.2e}", code=Fault.GATE)
    return difference


def _card(name: str, weights: str, model: keras.Model, difference: float) -> str:
    """What it is, where its weights are from, what it is given, how it is built."""
    network: Any = model.layers[-1]
    figures = model.get_layer("normalization").get_config()
    source = catalog.published(name).whole.place if weights == "imagenet" else Path(weights).name
    mean, variance = (", ".join(f"{figure:g}" for figure in figures[key]) for key in ("mean", "variance"))
    lines = [
        f"# {network.name}",
        "",
        f"`{name}` for the 1,000 classes of ImageNet, with the weights of `{source}`. They were published by others, "
        "under their terms, and nothing was measured here; the exported model differs from the network by at most "
        f"{difference:.1e} on two images of noise.",
        "",
        "## Images",
        "",
        f"The shorter side becomes {SIZE} pixels, of which the network sees the middle {SIZE - 2 * BORDER}×"
        f"{SIZE - 2 * BORDER}, RGB, less {mean}, divided by the roots of {variance}. " + savedmodel.IMAGES,
        "",
        "## Anatomy",
        "",
        model_profile.as_markdown(model_profile.rows(network)),
        "",
        "Made with " + ", ".join(f"{package} {version}" for package, version in versions().items()) + ".",
    ]
    return "\n".join(lines) + "\n"


def resolve(name: str) -> str:
    """The full name of a builder that is named without its family.

    Raises:
        Fault: when several families have one.
    """
    full = [known for known in models.catalogue() if known.partition(".")[2] == name]
    if len(full) > 1:
        raise Fault(f"NAME must be one builder, got {name!r}, which is {' or '.join(full)}; give the full name")
    return full[0] if full else name
