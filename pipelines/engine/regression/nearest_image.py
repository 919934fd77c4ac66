"""The nearest training image: what answers with its numbers, without any network."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from sklearn.neighbors import KNeighborsRegressor

from pipelines.engine.baselines import shrink
from pipelines.plots.image_grid import Array

NUMBERS = 1024  # values of one image that are compared


def answers(
    train: Iterable[Mapping[str, Any]], tested: Iterable[Mapping[str, Any]], key: str, *, crop: tuple[int, int] = (0, 0)
) -> Array:
    """The numbers of the training image whose pixels are nearest to each tested one's: (N,) or (N, K).

    Args:
        train, tested: batches of `image`, uint8 (batch, height, width, channels), and `key`.
        key: of the numbers.
        crop: rows at the top and at the bottom that are not looked at.
    """
    features, numbers = _features(train, key, crop)
    neighbour = KNeighborsRegressor(1, algorithm="brute").fit(features, numbers)
    return np.asarray(neighbour.predict(_features(tested, key, crop)[0]))


def _features(batches: Iterable[Mapping[str, Any]], key: str, crop: tuple[int, int]) -> tuple[Array, Array]:
    """Visible pixels averaged to NUMBERS, and the numbers."""
    (top, bottom), features, numbers = crop, [], []
    for batch in batches:
        visible = np.asarray(batch["image"])[:, top : batch["image"].shape[1] - bottom]
        side = int((NUMBERS / visible.shape[-1]) ** 0.5)
        features.append(shrink(visible, side).reshape(len(visible), -1) / np.float32(255))
        numbers.append(np.asarray(batch[key]))
    return np.concatenate(features), np.concatenate(numbers)


def failed(beat: Iterable[str], baselines: Mapping[str, Mapping[str, Any]], mae: float) -> list[str]:
    """The baselines of `evaluate.beat` whose mean absolute error a network is not below."""
    return [
        f"evaluate.beat: mae must be below that of the {name}, {baselines[name]['mae']:.4f}, got {mae:.4f}"
        for name in beat
        if not mae < baselines[name]["mae"]
    ]
