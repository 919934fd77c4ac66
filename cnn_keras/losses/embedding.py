"""Losses on batches of embeddings with identities, and figures that tell how such a training goes.

Schroff, Kalenichenko and Philbin, "FaceNet", 2015 (triplets, semi-hard negatives); Hermans, Beyer and Leibe, "In
defense of the triplet loss", 2017 (the hardest of a batch); Hadsell, Chopra and LeCun, "Dimensionality reduction
by learning an invariant mapping", 2006 (contrastive); Deng, Guo, Xue and Zafeiriou, "ArcFace", 2019 (angular margin);
Snell, Swersky and Zemel, "Prototypical networks for few-shot learning", 2017 (prototypes).

Everywhere `labels` are the identities, integers (batch,), and `embeddings` are float32 (batch, dimension), rows of
length 1, in a batch that holds several pictures of each identity; distances are squared, between 0 and 4.
"""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from cnn_keras import addons
from cnn_keras.errors import Fault

MININGS = ("random", "semi-hard", "hard")
register = keras.saving.register_keras_serializable(package="cnn_keras")


def triplet_loss(
    labels: tf.Tensor,
    embeddings: tf.Tensor,
    *,
    margin: float = 0.2,
    mining: str = "semi-hard",
    seed: int | keras.random.SeedGenerator | None = None,
) -> tf.Tensor:
    """max(d(A, P) − d(A, N) + margin, 0), the mean over the triplets that are mined.

    Args:
        mining: "random" draws a negative for every pair of an identity; "semi-hard" takes, for every pair, the nearest
            negative that is farther than the positive, or else the farthest; "hard" takes for every anchor its
            farthest positive and nearest negative.
        seed: of the draws of "random": an integer, the same draws each time, or a `keras.random.SeedGenerator`.

    Returns:
        A scalar, float32; 0, with a gradient of 0, for a batch without a triplet: no two pictures of one identity, or
        no second identity. `semi-hard` and `hard` are tensorflow-addons', which are NaN or made up there.

    Raises:
        Fault: an unknown `mining`.
    """
    if mining not in MININGS:
        raise Fault(f"mining must be one of {', '.join(MININGS)}, got {mining!r}")

    def loss() -> tf.Tensor:
        if mining == "random":
            return _random_triplets(labels, embeddings, margin, seed)
        mined = addons.losses.triplet_hard_loss if mining == "hard" else addons.losses.triplet_semihard_loss
        return mined(labels, embeddings, margin=margin, distance_metric=squared_distances)

    same, pairs = _relations(labels)
    whole = tf.reduce_any(pairs) & ~tf.reduce_all(same)
    return tf.cond(whole, loss, lambda: 0 * tf.reduce_sum(embeddings))


def _random_triplets(
    labels: tf.Tensor, embeddings: tf.Tensor, margin: float, seed: int | keras.random.SeedGenerator | None
) -> tf.Tensor:
    distances = squared_distances(embeddings)
    same, pairs = _relations(labels)
    # The largest of uniform draws is a draw among all; those of the same identity are out of the question.
    size = tf.shape(distances)[0]
    priorities = keras.random.uniform((size, size, size), seed=seed)
    negatives = tf.argmax(tf.where(same[:, None, :], -1.0, priorities), axis=-1)
    against = tf.gather(distances, negatives, batch_dims=1)
    return _mean_over(tf.nn.relu(distances - against + margin), pairs)


def contrastive_loss(labels: tf.Tensor, embeddings: tf.Tensor, *, margin: float = 1.0) -> tf.Tensor:
    """d² of pairs of one identity, max(margin − d, 0)² of others, d the distance itself, not its square.

    Differs from the paper: all pairs of the batch are used, and those of one identity, although fewer, count as much
    as the others. The terms are tensorflow-addons'.
    """
    same, pairs = _relations(labels)
    distances = tf.sqrt(squared_distances(embeddings) + 1e-12)
    terms = addons.losses.contrastive_loss(tf.cast(same, tf.float32), distances, margin=margin)
    return (_mean_over(terms, pairs) + _mean_over(terms, ~same)) / 2


def verification_loss(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Binary cross-entropy of a verification head over all pairs of a batch, both kinds counting the same.

    Args:
        logits: of "the same", float32 (batch, batch).
    """
    same, pairs = _relations(labels)
    terms = tf.nn.sigmoid_cross_entropy_with_logits(tf.cast(same, tf.float32), logits)
    return (_mean_over(terms, pairs) + _mean_over(terms, ~same)) / 2


def prototypical_loss(labels: tf.Tensor, embeddings: tf.Tensor, *, scale: float = 16.0) -> tf.Tensor:
    """Softmax cross-entropy of every picture over the identities of its batch, by the distance to their prototypes.

    Snell, Swersky and Zemel, "Prototypical networks for few-shot learning", 2017: the logit of an identity is −scale
    times the squared distance to the mean of its pictures.

    Differs from the paper: every picture is asked about once, against the mean of its identity's *other* pictures,
    where there the first few of each identity are the support and the rest the queries; embeddings have length 1, for
    which `scale` makes up. Pictures without another one of their identity are not asked about.

    Returns:
        A scalar, float32; 0 for a batch without such a picture.
    """
    same, pairs = _relations(labels)
    is_first = tf.argmax(same, axis=1, output_type=tf.int32) == tf.range(tf.size(labels))
    members = tf.boolean_mask(same, is_first)  # (identities, batch)
    prototypes = _means(members, embeddings)
    own = tf.reduce_sum(tf.square(embeddings - _means(pairs, embeddings)), axis=1)
    others = tf.reduce_sum(tf.square(embeddings[:, None, :] - prototypes[None, :, :]), axis=2)
    logits = -scale * tf.where(tf.transpose(members), own[:, None], others)
    return _mean_over(scale * own + tf.reduce_logsumexp(logits, axis=1), tf.reduce_any(pairs, axis=1))


@register
class AngularMargin(keras.layers.Layer):
    """ArcFace's head: scale · cos(θ + margin) for the own identity, scale · cos θ for the others.

    A list of embeddings, float32 (batch, dimension) of length 1, and labels, integers (batch,), to logits, float32
    (batch, identities), for softmax cross-entropy. θ is the angle to the centre of an identity, which is a weight.
    Where θ + margin would pass π the logit goes on falling in a straight line, as the authors' code has it.

    Args:
        identities: of the training people.
        margin: in radians.
        scale: of the logits; the paper's 64 is for many thousands of people.
    """

    def __init__(self, identities: int, *, margin: float = 0.3, scale: float = 16.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.identities, self.margin, self.scale = identities, margin, scale

    def build(self, input_shape: list[tuple[Any, ...]]) -> None:
        self.centres = self.add_weight(name="centres", shape=(input_shape[0][-1], self.identities))

    def call(self, inputs: Sequence[tf.Tensor]) -> tf.Tensor:
        embeddings, labels = inputs
        centres = self.centres / (ops.norm(self.centres, axis=0, keepdims=True) + 1e-12)
        cosine = ops.clip(ops.matmul(embeddings, centres), -1 + 1e-6, 1 - 1e-6)
        angle = ops.arccos(cosine)
        straight = cosine - self.margin * ops.sin(self.margin)
        further = ops.where(angle + self.margin < 3.14159265, ops.cos(angle + self.margin), straight)
        return self.scale * ops.where(ops.one_hot(labels, self.identities) > 0, further, cosine)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"identities": self.identities, "margin": self.margin, "scale": self.scale}


def triplet_statistics(labels: tf.Tensor, embeddings: tf.Tensor, *, margin: float = 0.2) -> dict[str, tf.Tensor]:
    """How the embeddings of a batch lie.

    Returns:
        A dictionary of float32 scalars: `active`, the share of all possible triplets that the margin is not kept in;
        `positive` and `negative`, the mean distance of pairs of one and of two identities; `spread`, the mean
        squared distance from the centre of all: 0 where every embedding is the same, 1 where they point everywhere.
    """
    distances = squared_distances(embeddings)
    same, pairs = _relations(labels)
    triplets = pairs[:, :, None] & ~same[:, None, :]
    broken = distances[:, :, None] - distances[:, None, :] + margin > 0
    return {
        "active": _mean_over(tf.cast(broken, tf.float32), triplets),
        "positive": _mean_over(distances, pairs),
        "negative": _mean_over(distances, ~same),
        "spread": tf.reduce_mean(tf.reduce_sum(tf.square(embeddings - tf.reduce_mean(embeddings, axis=0)), axis=1)),
    }


def squared_distances(embeddings: tf.Tensor) -> tf.Tensor:
    """‖f − f′‖² of all pairs: float32 (batch, dimension) to (batch, batch), exactly 0 on the diagonal."""
    lengths = tf.reduce_sum(tf.square(embeddings), axis=1)
    distances = lengths[:, None] + lengths[None, :] - 2 * tf.matmul(embeddings, embeddings, transpose_b=True)
    return tf.linalg.set_diag(tf.nn.relu(distances), tf.zeros_like(lengths))


def _relations(labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Booleans (batch, batch): which pairs are of one identity, and which of these are of two pictures."""
    same = labels[:, None] == labels[None, :]
    return same, same & ~tf.eye(tf.shape(labels)[0], dtype=tf.bool)


def _means(members: tf.Tensor, embeddings: tf.Tensor) -> tf.Tensor:
    """The mean embedding of each row's members, bool (rows, batch): float32 (rows, dimension); 0 of none."""
    weights = tf.cast(members, tf.float32)
    return tf.math.divide_no_nan(tf.matmul(weights, embeddings), tf.reduce_sum(weights, axis=1, keepdims=True))


def _mean_over(values: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """The mean of the chosen values; 0 where none is."""
    return tf.math.divide_no_nan(tf.reduce_sum(tf.where(mask, values, 0.0)), tf.reduce_sum(tf.cast(mask, tf.float32)))
