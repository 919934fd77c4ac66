"""What turns pictures of people into embeddings, and what compares two of them.

The model is any network of the catalogue with its logits brought to length 1; what compares two embeddings – their
squared distance or a trained head – is a second, small model, `matcher.keras`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from cnn_keras import embedding, inference, models, plugins
from cnn_keras.data.transforms import augment
from cnn_keras.errors import Fault
from cnn_keras.models import siamese
from cnn_keras.weights import pretrained
from pipelines.data import image_normalization
from pipelines.engine.stages import Run
from pipelines.export import savedmodel
from pipelines.tasks.verify.config import Recipe, Train

MODELS = ("model", "matcher")


def check(recipe: Recipe) -> None:
    """Raise a Fault for anything wrong that only the library can tell, before any data is read."""
    composed = augment.compose(recipe.augment, size=recipe.data.size, on=recipe.train.augment_on)
    if composed is not None and composed.mixes:
        raise Fault("augment must not mix images for verification: a mixture shows no person")
    assemble(recipe, {"normalization": {"axis": None, "mean": 0.0, "variance": 1.0}}, loaded=False)
    keras.utils.clear_session()


def assemble(recipe: Any, data: Mapping[str, Any], prepared: Path | None = None, *, loaded: bool = True) -> keras.Model:
    """The network of the recipe from pixels, uint8 (height, width, channels), 0–255, to its logits.

    `data["normalization"]` is what `image_normalization.fit` gave, with a file in the folder `prepared`. Unless
    `loaded`, the network starts from chance whatever the recipe says, to see whether it can be built.
    """
    builder, weights, shape = recipe.model.builder, recipe.model.weights, (*recipe.data.size, recipe.data.channels)
    arguments = {"input_shape": shape, "classes": recipe.model.dimension, **recipe.model.arguments}
    models.check(builder, weights=weights, **arguments)
    network = models.build(builder, **arguments)
    if weights and loaded:
        pretrained.load(network, builder, weights)
    if recipe.model.frozen:
        for layer in network.layers[:-1]:
            layer.trainable = False  # normalisation too: it then runs as in inference
    if tap := recipe.model.tap:
        network = siamese.arcface_head(network, tap.layer, dimension=recipe.model.dimension, dropout=tap.dropout)
    entry = keras.Input(shape, dtype="uint8", name="image")
    normalization = (weights and pretrained.normalization(builder, weights)) or data["normalization"]
    x = image_normalization.layer(normalization, prepared)(entry)
    if recipe.model.standardised:
        x = keras.layers.GroupNormalization(1, center=False, scale=False, name="standardised")(x)
    logits = network(x)
    if isinstance(logits, dict):
        raise Fault(f"model.builder must be a network with one output, got {builder} with {', '.join(logits)}")
    return keras.Model(entry, logits, name=recipe.name)


def trainable(network: keras.Model, settings: Train, identities: int) -> keras.Model:
    """The network's embedding as a model whose loss is the recipe's; see `cnn_keras.embedding.Training`."""
    return embedding.Training(
        siamese.embedding(network),
        plugins.load(settings.loss) if plugins.is_reference(settings.loss) else settings.loss,
        identities=identities,
        margin=settings.kept_margin,
        mining=settings.mining,
        scale=settings.scale,
        comparison=settings.head,
    )


def load_trained(run: Run) -> tuple[keras.Model, keras.Model]:
    """Load the two models that the stage train wrote: pictures to embeddings, and two embeddings to their distance."""
    folder = run.finished("train")
    embedding, matcher = (savedmodel.load_keras(folder / f"{name}.keras") for name in MODELS)
    return embedding, matcher


def distances(matcher: keras.Model, left: np.ndarray[Any, Any], right: np.ndarray[Any, Any]) -> Any:
    """The distance of every left embedding, float32 (N, dimension), to every right one, (M, dimension): (N, M)."""
    ask, columns = inference.compiled(matcher), len(right)
    rows = []
    for own in np.array_split(left, max(1, len(left) * columns // 2**18)):
        pairs = {"left": np.repeat(own, columns, axis=0), "right": np.tile(right, (len(own), 1))}
        rows.append(np.asarray(ask(pairs)).reshape(len(own), columns))
    return np.concatenate(rows)
