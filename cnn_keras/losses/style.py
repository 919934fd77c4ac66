"""Style and content as numbers: what neural style transfer keeps of one picture and takes of another.

Gatys, Ecker and Bethge, "Image style transfer using convolutional neural networks", 2016: content is what a layer of a
trained network answers, style the Gram matrices of several layers; J = α·J_content + β·J_style. Gatys et al.,
"Controlling perceptual factors in neural style transfer", 2017: regions by masked Gram matrices, colours by their mean
and covariance or by keeping the luminance alone. Risser, Wilmot and Barnes, "Stable and controllable neural texture
synthesis and style transfer using histogram losses", 2017. Total variation is Rudin, Osher and Fatemi's, 1992.

Differs from the papers: a layer's features are divided by their root mean square on the style's pictures – one number
for each layer, where Gatys scaled the network's filters to a mean of 1 – and content and total variation are
means over their elements in `Objective`, not sums, so that one set of weights does for every network and size. A Gram
matrix is divided by the number of positions, so that pictures of other sizes compare; for equal sizes J_style is the
paper's. Histograms are compared at some quantiles.

Features are floats (batch, height, width, channels); sums are float32 whatever the features are.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

QUANTILES = 256  # of a channel's values, by which histograms are compared
LUMA = np.array([[0.299, 0.587, 0.114], [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])  # YIQ


def gram_matrix(features: tf.Tensor, masks: tf.Tensor | None = None) -> tf.Tensor:
    """G = FᵀF / (HW), F the features as (HW, channels): which channels are active together, wherever that is.

    Args:
        masks: float32 (regions, height, width), of which the features of a single image are multiplied by each.

    Returns:
        Float32 (batch, channels, channels), or (regions, channels, channels) divided by the sums of the squared masks.
    """
    size = tf.shape(features)
    flat = tf.reshape(tf.cast(features, tf.float32), [size[0], size[1] * size[2], features.shape[-1]])
    if masks is None:
        return tf.matmul(flat, flat, transpose_a=True) / tf.cast(size[1] * size[2], tf.float32)
    weights = tf.reshape(masks, [tf.shape(masks)[0], size[1] * size[2], 1])
    masked = flat * weights
    return tf.matmul(masked, masked, transpose_a=True) / (tf.reduce_sum(weights**2, axis=1, keepdims=True) + 1e-6)


def content_loss(features: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """½‖F − P‖², the sum over all elements: (batch,)."""
    return tf.reduce_sum(tf.square(tf.cast(features, tf.float32) - tf.cast(target, tf.float32)), axis=[1, 2, 3]) / 2


def style_loss(grams: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """‖G − A‖²_F / (4C²) of `gram_matrix`s: 1/(2HWC)² of the products that are not divided by HW. (batch,)."""
    return tf.reduce_sum(tf.square(grams - target), axis=[1, 2]) / (4.0 * grams.shape[-1] ** 2)


def total_variation(images: tf.Tensor) -> tf.Tensor:
    """Σ|differences of neighbours| along both axes: (batch,)."""
    down, right = images[:, 1:] - images[:, :-1], images[:, :, 1:] - images[:, :, :-1]
    return tf.reduce_sum(tf.abs(down), axis=[1, 2, 3]) + tf.reduce_sum(tf.abs(right), axis=[1, 2, 3])


def quantiles(features: tf.Tensor) -> tf.Tensor:
    """Each channel's values in their order, at QUANTILES places evenly apart: float32 (batch, QUANTILES, channels)."""
    size = tf.shape(features)
    flat = tf.reshape(tf.cast(features, tf.float32), [size[0], size[1] * size[2], features.shape[-1]])
    places = tf.linspace(0.0, tf.cast(size[1] * size[2] - 1, tf.float32), QUANTILES)
    return tf.gather(tf.sort(flat, axis=1), tf.cast(tf.round(places), tf.int32), axis=1)


def histogram_loss(features: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """The mean squared distance of `quantiles`: 0 where every channel takes the same values as often. (batch,)."""
    return tf.reduce_mean(tf.square(quantiles(features) - target), axis=[1, 2])


class Weights(NamedTuple):
    """What each term counts: the paper's α and β, and those of total variation and of histograms."""

    content: float = 1.0
    style: float = 1.0
    variation: float = 0.0
    histogram: float = 0.0


class Style(NamedTuple):
    """What is wanted of the style: by layer, `grams` and `quantiles` of each region, or of each image of a batch.

    `masks` are those of the regions by layer, (regions, height, width), and `shares` of the picture that they have.
    """

    grams: dict[str, tf.Tensor]
    quantiles: dict[str, tf.Tensor]
    masks: dict[str, tf.Tensor] | None = None
    shares: np.ndarray | None = None


class Objective:
    """J of pictures against targets that are computed once.

    Args:
        tower: of `cnn_keras.models.stylize`: from images, float32 (batch, height, width, 3), RGB 0–255, to a dictionary
            of features by layer.
        content, style: layers and what each counts, the paper's λ; they are divided by their sum.
        weights: of the terms.
        reference: pictures of the style, float32 (1, height, width, 3) each, on which features get unit mean square.
    """

    def __init__(
        self,
        tower: Callable[[tf.Tensor], dict[str, tf.Tensor]],
        content: dict[str, float],
        style: dict[str, float],
        weights: Weights,
        *,
        reference: Iterable[tf.Tensor],
    ) -> None:
        self.tower, self.weights = tower, weights
        self.content, self.style = _shares(content), _shares(style)
        squares = [
            {
                layer: tf.reduce_mean(tf.square(tf.cast(features, tf.float32)))
                for layer, features in tower(image).items()
            }
            for image in reference
        ]
        self.scales = {layer: float(np.sqrt(np.mean([row[layer] for row in squares]))) for layer in squares[0]}

    def features(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Scaled features, (batch, height, width, channels), of images by layer; one pass for content and style."""
        return {
            layer: tf.cast(features, tf.float32) / (self.scales[layer] + 1e-12)
            for layer, features in self.tower(images).items()
        }

    def content_of(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """The target of the content loss: features (batch, height, width, channels) by layer."""
        features = self.features(images)
        return {layer: features[layer] for layer in self.content}

    def style_of(self, images: tf.Tensor) -> Style:
        """The style, `Style`, of images (batch, height, width, channels): of one picture, or of each of a batch."""
        features = self.features(images)
        spread = {layer: quantiles(features[layer]) for layer in self.style} if self.weights.histogram else {}
        return Style({layer: gram_matrix(features[layer]) for layer in self.style}, spread)

    def terms(self, images: tf.Tensor, content: dict[str, tf.Tensor], style: Style) -> dict[str, tf.Tensor]:
        """What J is the sum of, each already times its weight: {"content", "style", …}, float32 (batch,).

        With regions the images are one.
        """
        features = self.features(images)
        pixels = tf.cast(tf.reduce_prod(tf.shape(images)[1:]), tf.float32)
        terms = {
            "content": tf.add_n([share * self._kept(features[at], content[at]) for at, share in self.content.items()]),
            "style": tf.add_n([share * self._taken(features[at], style, at) for at, share in self.style.items()]),
            "variation": total_variation(images) / pixels,
        }
        if self.weights.histogram:
            losses = [share * histogram_loss(features[at], style.quantiles[at]) for at, share in self.style.items()]
            terms["histogram"] = tf.add_n(losses)
        weights = self.weights._asdict()
        return {name: weights[name] * term for name, term in terms.items() if weights[name]}

    def _kept(self, features: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
        return content_loss(features, target) / tf.cast(tf.reduce_prod(tf.shape(features)[1:]), tf.float32)

    def _taken(self, features: tf.Tensor, style: Style, layer: str) -> tf.Tensor:
        if style.masks is None:
            return style_loss(gram_matrix(features), style.grams[layer])
        losses = style_loss(gram_matrix(features, style.masks[layer]), style.grams[layer])
        return tf.reduce_sum(losses * style.shares, keepdims=True)


def blend(styles: Sequence[Style], shares: Sequence[float]) -> Style:
    """One style of several: the one whose loss is the mean of theirs, but for a constant; shares are divided by their
    sum. It is the mean of the Gram matrices."""
    shares = np.asarray(shares, np.float32) / np.sum(shares)

    def mean(parts: Sequence[dict[str, tf.Tensor]]) -> dict[str, tf.Tensor]:
        return {layer: tf.add_n([share * part[layer] for share, part in zip(shares, parts, strict=True)])
                for layer in parts[0]}  # fmt: skip

    return Style(mean([style.grams for style in styles]), mean([style.quantiles for style in styles]))


def combine_regions(styles: Sequence[Style], masks: np.ndarray, sizes: dict[str, tuple[int, int]]) -> Style:
    """Styles side by side, each where its mask is.

    Args:
        styles: one for each region.
        masks: float32 (regions, height, width), of the picture, from 0 to 1.
        sizes: (height, width) of the features of each layer.
    """

    def joined(parts: Sequence[dict[str, tf.Tensor]]) -> dict[str, tf.Tensor]:
        return {layer: tf.concat([part[layer] for part in parts], axis=0) for layer in parts[0]}

    small = {layer: tf.image.resize(masks[..., None], size, method="area")[..., 0] for layer, size in sizes.items()}
    area = np.mean(masks, axis=(1, 2))
    grams, spread = joined([style.grams for style in styles]), joined([style.quantiles for style in styles])
    return Style(grams, spread, small, (area / area.sum()).astype(np.float32))


def _shares(layers: dict[str, float]) -> dict[str, float]:
    total = sum(layers.values())
    return {layer: share / total for layer, share in layers.items()}


def match_colors(image: np.ndarray, like: np.ndarray) -> np.ndarray:
    """The image with the mean and covariance of another's colours, by the symmetric map.

    Args:
        image, like: uint8 (height, width, 3), RGB, of any size.

    Returns:
        uint8, of the image's shape.
    """
    pixels, target = (part.reshape(-1, 3).astype(np.float64) for part in (image, like))
    from_, to = (_root(np.cov(part.T) + 1e-3 * np.eye(3)) for part in (pixels, target))
    result = (pixels - pixels.mean(axis=0)) @ np.linalg.inv(from_) @ to + target.mean(axis=0)
    return np.clip(np.round(result), 0, 255).astype(np.uint8).reshape(image.shape)


def with_colors_of(image: np.ndarray, content: np.ndarray) -> np.ndarray:
    """The luminance of the image with the colours of another of the same size: uint8 (height, width, 3) all."""
    luminance = content.astype(np.float64) @ LUMA.T
    luminance[..., 0] = image.astype(np.float64) @ LUMA[0]
    return np.clip(np.round(luminance @ np.linalg.inv(LUMA).T), 0, 255).astype(np.uint8)


def _root(matrix: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(matrix)
    return vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
