"""What makes two pictures alike to an embedder: Grad-CAM of their similarity, in each of them."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cnn_keras.learn import visualization
from pipelines.engine import heat_maps
from pipelines.plots.image_grid import Array, Strip
from pipelines.tasks.verify.embeddings import Embeddings

PAIRS = 3  # of one person, and as many of two


def similarity(matcher: keras.Model) -> Callable[[Any, Any], Any]:
    """The score that is explained: a function of an embedding and the other's, (batch, dimension), to minus their
    distance, (batch,).
    """
    return lambda embedding, other: -tf.reshape(matcher({"left": embedding, "right": other}), [-1])


def strips(models: tuple[keras.Model, keras.Model], embeddings: Embeddings) -> list[Strip]:
    """Pairs of one person that are typical, and pairs of two people that are closest, each picture beside its map."""
    embedder, matcher = models
    pairs, images = embeddings.pairs, embeddings.pictures.images
    pair_places = [(place, "one person") for place in _middle(pairs.distance, np.flatnonzero(pairs.same))]
    pair_places += [(place, "two people") for place in _nearest(pairs.distance, np.flatnonzero(~pairs.same))]
    sides = np.array([(pairs.left[place], pairs.right[place]) for place, _ in pair_places])
    own, other = sides.ravel(), sides[:, ::-1].ravel()
    heat = visualization.grad_cam(embedder, images[own], similarity(matcher), embeddings.embeddings[other])
    pictures = [heat_maps.draw_heat_map(images[row], heat_map) for row, heat_map in zip(own, heat, strict=True)]
    return [
        Strip(f"{caption}: {pairs.distance[place]:.3f}", "", [*pictures[2 * number], *pictures[2 * number + 1]])
        for number, (place, caption) in enumerate(pair_places)
    ]


def _middle(distance: Array, places: Array) -> Sequence[int]:
    order = places[np.argsort(distance[places], kind="stable")]
    start = max(0, (len(order) - PAIRS) // 2)
    return [int(place) for place in order[start : start + PAIRS]]


def _nearest(distance: Array, places: Array) -> Sequence[int]:
    return [int(place) for place in places[np.argsort(distance[places], kind="stable")][:PAIRS]]
