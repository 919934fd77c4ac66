"""People to calibrate thresholds on – the ORL faces, and made-up ones – and how often strangers pass then."""

import numpy as np
import tensorflow as tf

from cnn_keras.data.sources import classification
from cnn_keras.metrics import verification

REPARTITIONS = 200


def synthetic(people, each, seed):
    """Embeddings, real (people · each, 12) of length 1, and whose they are: some people look alike, some vary a lot."""
    generator = np.random.default_rng(seed)
    families = np.repeat(generator.normal(size=(people // 4, 12)), 4, axis=0)
    centres = families + 0.8 * generator.normal(size=families.shape)
    blur = 0.42 * np.exp(0.5 * generator.normal(size=people))
    labels = np.repeat(np.arange(people), each)
    rows = centres[labels] + blur[labels, None] * generator.normal(size=(len(labels), 12))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True), labels


def orl():
    """The pixels of the ORL faces, real (400, 644) in [0, 1], averaged down to 28×23, and whose they are."""
    items = classification.items("orl")
    pictures = [tf.io.decode_image(item.read()).numpy().astype(float) for item in items]
    rows = np.stack([picture.reshape(28, 4, 23, 4).mean(axis=(1, 3)).ravel() for picture in pictures])
    return rows / 255, np.unique([item.label for item in items], return_inverse=True)[1]


def distances_between(rows):
    lengths = np.square(rows).sum(axis=1)
    return np.maximum(lengths[:, None] + lengths[None] - 2 * rows @ rows.T, 0)


def chosen(distances, labels, people):
    """The pairs of the pictures of some of the people, and whose these pictures are."""
    rows = np.flatnonzero(np.isin(labels, people))
    return verification.all_pairs(distances[np.ix_(rows, rows)], labels[rows]), labels[rows]


def point_estimate(pairs, labels):
    """The rule that takes the rates of the pairs for those of everybody: a FAR to a threshold."""
    found = verification.rates(pairs.distance, pairs.same)
    return lambda far: float(found.threshold[found.far <= far][-1])


def upper_bound(pairs, labels):
    """The product's rule."""
    table = verification.false_accept_bounds(pairs, labels)
    return lambda far: verification.threshold_for(table, far)


def held_out(rows, labels, *, calibrating, fars, rules, gallery=0):
    """The FAR that other people measure: float64 (rules, fars, REPARTITIONS).

    In every repartition some of the people, drawn at random, calibrate the thresholds of every rule, and the pairs of
    all others are measured; with a `gallery` of so many others, enrolled with one picture each, the share of pictures
    of the rest that are taken for somebody, at the threshold of a rate that is shared among the enrolled.
    """
    distances, generator = distances_between(rows), np.random.default_rng(0)
    found = np.zeros((len(rules), len(fars), REPARTITIONS))
    for repartition in range(REPARTITIONS):
        people = generator.permutation(labels.max() + 1)
        calibrated = [rule(*chosen(distances, labels, people[:calibrating])) for rule in rules]
        others = people[calibrating:]
        if gallery:
            known = [generator.choice(np.flatnonzero(labels == person)) for person in others[:gallery]]
            strangers = np.flatnonzero(np.isin(labels, others[gallery:]))
            wrong = distances[np.ix_(strangers, known)].min(axis=1)
        else:
            pairs, _ = chosen(distances, labels, others)
            wrong = pairs.distance[~pairs.same]
        for row, threshold in enumerate(calibrated):
            for column, far in enumerate(fars):
                found[row, column, repartition] = (wrong <= threshold(far / max(1, gallery))).mean()
    return found
