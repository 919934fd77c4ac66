"""An embedding in training: pictures go in, identities are the targets, and its figures say how it goes."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from cnn_keras.errors import Fault
from cnn_keras.losses import embedding as embedding_losses
from cnn_keras.models import siamese

LOSSES = ("triplet", "contrastive", "siamese", "arcface", "prototypical")
FIGURES = ("active", "positive", "negative", "spread")
BINS = 400  # thresholds of the area under the ROC


class Training(keras.Model):
    """A model of images to embeddings whose loss is one of `cnn_keras.losses.embedding`; labels are identities, int64
    (batch,).

    Its metrics are those of `embedding.triplet_statistics` and `auc`, the area under the ROC of the pairs within the
    batches. People of the validation are no identities that ArcFace knows: its validation loss is that of semi-hard
    triplets.

    Args:
        embedding: a model to embeddings of length 1; the weights that are trained are its own, and the head's.
        loss: "triplet", "contrastive", "siamese", "arcface" or "prototypical", or a function of labels and embeddings,
            float32 (batch, dimension), to numbers whose mean counts.
        identities: of the training people, for arcface.
        margin: of the loss, and the one that `active` is counted by.
        mining: of triplets.
        scale: of the logits of arcface and prototypical.
        comparison: of siamese, the kind of `siamese.VerificationHead`.
    """

    def __init__(
        self,
        embedding: keras.Model,
        loss: str | Callable[..., Any],
        *,
        identities: int,
        margin: float = 0.2,
        mining: str = "semi-hard",
        scale: float = 16.0,
        comparison: str = "absolute",
    ) -> None:
        super().__init__(name=embedding.name)
        if not callable(loss) and loss not in LOSSES:
            raise Fault(f"loss must be one of {', '.join(LOSSES)}, got {loss!r}")
        self.embedding, self.kind, self.margin, self.mining, self.scale = embedding, loss, margin, mining, scale
        self.head: Any = None
        if loss == "siamese":
            self.head = siamese.VerificationHead(comparison, dtype="float32", name="head")
        elif loss == "arcface":
            self.head = embedding_losses.AngularMargin(identities, margin=margin, scale=scale, name="head")
        self.seeds = keras.random.SeedGenerator(0)  # of random triplets; saved and resumed with the weights
        self.figures = [keras.metrics.Mean(name=name) for name in FIGURES]
        self.auc = keras.metrics.AUC(BINS, name="auc")
        self.build()

    def build(self, input_shape: Any = None) -> None:
        if self.head is not None:
            self.head.build([self.embedding.output.shape] * 2)
        self.built = True

    def call(self, images: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        return self.embedding(images, training=training)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> tf.Tensor:
        embeddings = tf.cast(y_pred, tf.float32)
        statistics = embedding_losses.triplet_statistics(y, embeddings, margin=self.margin)
        for metric in self.figures:
            metric.update_state(statistics[metric.name])
        places = tf.range(tf.size(y))
        pairs = places[:, None] < places[None, :]
        same = tf.boolean_mask(y[:, None] == y[None, :], pairs)
        self.auc.update_state(same, tf.boolean_mask(self._closeness(embeddings), pairs))
        own = [tf.cast(term, tf.float32) for term in self.losses]
        return tf.add_n([self._objective(y, embeddings, training), *own])

    def _closeness(self, embeddings: tf.Tensor) -> tf.Tensor:
        """How near each pair is, in [0, 1]: float32 (batch, batch)."""
        if self.kind == "siamese":
            return tf.sigmoid(self._compared(embeddings))
        return 1 - embedding_losses.squared_distances(embeddings) / 4

    def _compared(self, embeddings: tf.Tensor) -> tf.Tensor:
        """The head's logits of all pairs, (batch, batch)."""
        return self.head([embeddings[:, None, :], embeddings[None, :, :]])

    def _objective(self, labels: tf.Tensor, embeddings: tf.Tensor, training: bool) -> tf.Tensor:
        if callable(self.kind):
            return tf.reduce_mean(self.kind(labels, embeddings))
        match self.kind:
            case "contrastive":
                return embedding_losses.contrastive_loss(labels, embeddings, margin=self.margin)
            case "siamese":
                return embedding_losses.verification_loss(labels, self._compared(embeddings))
            case "prototypical":
                return embedding_losses.prototypical_loss(labels, embeddings, scale=self.scale)
            case "arcface" if training:
                logits = self.head([embeddings, labels])
                return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
            case "arcface":
                return embedding_losses.triplet_loss(labels, embeddings)
        return embedding_losses.triplet_loss(
            labels, embeddings, margin=self.margin, mining=self.mining, seed=self.seeds
        )
