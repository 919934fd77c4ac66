"""Anchors: a few widths and heights that stand for all, found by k-means with 1 − IoU.

Redmon and Farhadi, "YOLO9000: better, faster, stronger", 2017, section 2. A size is (width, height) in any unit; two
sizes overlap as boxes do that share a corner. Differs from the paper: the best of several starts is taken.
"""

import numpy as np

STARTS = 5
ROUNDS = 300


def iou(sizes: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """IoU of every size, float (N, 2), with every anchor, (K, 2), as if they shared a corner: (N, K), in [0, 1]."""
    common = np.minimum(sizes[:, None], anchors[None]).prod(axis=-1)
    return common / (sizes.prod(axis=-1)[:, None] + anchors.prod(axis=-1)[None] - common)


def best_iou(sizes: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """IoU of every size with the anchor that fits it best: (N,), in [0, 1]."""
    return iou(sizes, anchors).max(axis=1)


def kmeans(sizes: np.ndarray, count: int, *, seed: int = 0) -> np.ndarray:
    """`count` anchors for the sizes, float64 (K, 2), the smallest area first; fewer where fewer sizes differ.

    Args:
        sizes: float (N, 2), widths and heights above 0, at least one.
    """
    sizes = np.asarray(sizes, np.float64)
    count = min(count, len(np.unique(sizes, axis=0)))
    tries = [_clustered(sizes, count, np.random.default_rng([seed, start])) for start in range(STARTS)]
    best = max(tries, key=lambda anchors: best_iou(sizes, anchors).mean())
    return best[np.lexsort((best[:, 0], best.prod(axis=1)))]


def _clustered(sizes: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """One run of k-means from starts that lie apart (k-means++)."""
    anchors = sizes[[generator.integers(len(sizes))]]
    while len(anchors) < count:
        far = np.maximum(1 - best_iou(sizes, anchors), 0) ** 2
        far = far if far.sum() > 0 else np.ones(len(sizes))
        anchors = np.concatenate([anchors, sizes[[generator.choice(len(sizes), p=far / far.sum())]]])
    nearest = None
    for _ in range(ROUNDS):
        owner = iou(sizes, anchors).argmax(axis=1)
        if nearest is not None and (owner == nearest).all():
            break
        nearest = owner
        members = [sizes[nearest == number] for number in range(count)]
        anchors = np.stack([own.mean(axis=0) if len(own) else anchors[number] for number, own in enumerate(members)])
    return anchors
