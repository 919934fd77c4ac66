"""A whole LeNet-5 in plain NumPy: what a training computes, from the pixels to the next weights.

LeCun et al., 1998, as it is built today (`cnn_keras.models.lenet.lenet5_modern`, whose layers and weights have the same
names): two convolutions with pooling, a third that sees all that is left, two dense layers. The layers are those of
`cnn_keras.learn.convolution`; softmax, cross-entropy and dropout stand here. Everything is computed in float64.
"""

from typing import Any

import numpy as np

from cnn_keras.learn import convolution as nn

CONVOLUTIONS, DENSE = ("c1", "c3", "c5"), ("f6", "logits")
Weights = dict[str, tuple[np.ndarray, np.ndarray]]  # a kernel and a bias for each layer


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return exp(z) over their sum along the last axis, the largest taken off first: (..., K), sums of 1."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    """The mean of −log softmax(z)[label] over a batch.

    Args:
        logits: z, (N, K).
        labels: integers (N,), 0 to K − 1.
    """
    shifted = logits - logits.max(axis=1, keepdims=True)
    logarithms = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return -float(logarithms[np.arange(len(labels)), labels].mean())


def cross_entropy_backward(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The gradient of `cross_entropy` with respect to the logits: (softmax − one-hot) / N, (N, K)."""
    return (softmax(logits) - np.eye(logits.shape[1])[labels]) / len(labels)


def dropout(x: np.ndarray, rate: float, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Drop each unit with probability `rate` and scale the others up by 1 / (1 − rate) (Srivastava et al., 2014).

    Scaled in training ("inverted"), so that nothing is left to do at test time.

    Returns:
        (x · factors, factors), of the shape of x; the gradient of x is that of the output times the factors.
    """
    factors = (generator.random(x.shape) >= rate) / (1 - rate)
    return x * factors, factors


def initial(classes: int, *, channels: int = 1, seed: int = 0) -> Weights:
    """Weights for images of 32×32: kernels uniform in ±sqrt(6 / fan-in) (He et al., 2015), biases 0."""
    generator = np.random.default_rng(seed)
    shapes = [(5, 5, channels, 6), (5, 5, 6, 16), (5, 5, 16, 120), (120, 84), (84, classes)]
    weights = {}
    for name, shape in zip((*CONVOLUTIONS, *DENSE), shapes, strict=True):
        bound = np.sqrt(6 / np.prod(shape[:-1]))
        weights[name] = generator.uniform(-bound, bound, shape), np.zeros(shape[-1])
    return weights


def forward(images: np.ndarray, weights: Weights) -> dict[str, np.ndarray]:
    """Every map by name, from `image` (N, 32, 32, C), floats, to `logits` (N, classes); `c1` is before its ReLU."""
    maps = {"image": images}
    maps["c1"] = nn.convolution(images, *weights["c1"])
    maps["s2"] = nn.max_pooling(nn.relu(maps["c1"]))
    maps["c3"] = nn.convolution(maps["s2"], *weights["c3"])
    maps["s4"] = nn.max_pooling(nn.relu(maps["c3"]))
    maps["c5"] = nn.convolution(maps["s4"], *weights["c5"])
    maps["flatten"] = nn.relu(maps["c5"]).reshape(len(images), -1)
    maps["f6"] = nn.dense(maps["flatten"], *weights["f6"])
    maps["logits"] = nn.dense(nn.relu(maps["f6"]), *weights["logits"])
    return maps


def backward(maps: dict[str, np.ndarray], labels: np.ndarray, weights: Weights) -> Weights:
    """The gradients of the mean cross-entropy with respect to all weights: the forward pass in reverse."""
    gradients: Weights = {}

    def passed(back: np.ndarray, way: Any, layer: str, x: np.ndarray) -> np.ndarray:
        """The gradient of the layer's input; those of its weights are kept."""
        back, *own = way(back, x, weights[layer][0])
        gradients[layer] = (own[0], own[1])
        return back

    back = passed(cross_entropy_backward(maps["logits"], labels), nn.dense_backward, "logits", nn.relu(maps["f6"]))
    back = passed(nn.relu_backward(back, maps["f6"]), nn.dense_backward, "f6", maps["flatten"])
    back = nn.relu_backward(back.reshape(maps["c5"].shape), maps["c5"])
    back = passed(back, nn.convolution_backward, "c5", maps["s4"])
    for layer, before in (("c3", "s2"), ("c1", "image")):
        back = nn.max_pooling_backward(back, nn.relu(maps[layer]))
        back = passed(nn.relu_backward(back, maps[layer]), nn.convolution_backward, layer, maps[before])
    return gradients


def step(
    images: np.ndarray, labels: np.ndarray, weights: Weights, velocities: Weights, *, rate: float, momentum: float = 0.9
) -> float:
    """One step of gradient descent with momentum, as Keras's SGD, in place; the loss before it.

    v ← momentum · v − rate · gradient, w ← w + v.

    Args:
        images: (N, 32, 32, C), floats.
        labels: integers (N,).
        weights, velocities: changed; the velocities begin as zeros of the shapes of the weights.
    """
    maps = forward(images, weights)
    for name, gradients in backward(maps, labels, weights).items():
        for value, velocity, gradient in zip(weights[name], velocities[name], gradients, strict=True):
            velocity *= momentum
            velocity -= rate * gradient
            value += velocity
    return cross_entropy(maps["logits"], labels)
