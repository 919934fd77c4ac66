"""Convolution, by the numbers: the layers of a CNN in plain NumPy, forward and backward, to read and to check with.

Goodfellow, Bengio and Courville, *Deep Learning* (2016), chapter 9; for sizes and transposition Dumoulin and Visin, *A
guide to convolution arithmetic for deep learning* (2016). As there and in every framework, "convolution" does not turn
the filter: to a mathematician it is cross-correlation.

Maps are arrays (N, H, W, C), filters (f, g, C, K); everything is computed in float64. A `..._backward` takes the loss's
gradient with respect to what the forward function returned, then the forward function's arguments, and returns the
gradients with respect to x and to the weights, each in the shape of its own.

Along each axis, with n pixels, f taps, p of padding at each end, stride s and dilation d:

    reach r = d(f - 1) + 1        output size n' = floor((n + 2p - r) / s) + 1        (Dumoulin, relationship 15)

`strides`, `dilation` and a pool's `window` are one number or (vertical, horizontal). `padding` is "valid" (none),
"same" (n' = ceil(n / s); an odd one goes to the end, as in TensorFlow), the number p or ((top, bottom), (left, right)).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from cnn_keras.errors import Fault

# One number, or (vertical, horizontal).
Both = int | Sequence[int]
Padding = str | int | Sequence[Sequence[int]]


def convolution(
    x: np.ndarray,
    filters: np.ndarray,
    bias: float | np.ndarray = 0.0,
    *,
    strides: Both = 1,
    padding: Padding = "valid",
    dilation: Both = 1,
) -> np.ndarray:
    """Lay the filters over x, place by place, multiply and add up (Goodfellow, equations 9.6 to 9.8).

        y[n, i, j, k] = b[k] + sum over u, v, c of x[n, s·i + d·u - p, s·j + d·v - p, c] · w[u, v, c, k]

    Args:
        x: (N, H, W, C).
        filters: w, (f, g, C, K).
        bias: b, (K,), or one number.

    Returns:
        (N, H', W', K).

    Raises:
        Fault: when the shapes do not fit, or a filter reaches over more than the padded x.
    """
    windows = _windows(x, filters.shape[:2], strides, padding, dilation)
    if x.shape[3] != filters.shape[2]:
        raise Fault(f"filters must have shape (f, g, {x.shape[3]}, K) for this x, got {filters.shape}")
    return np.einsum("nijcuv,uvck->nijk", windows, filters, optimize=True) + bias


def convolution_backward(
    gradient: np.ndarray,
    x: np.ndarray,
    filters: np.ndarray,
    *,
    strides: Both = 1,
    padding: Padding = "valid",
    dilation: Both = 1,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the gradients (x, filters, bias) (Goodfellow, section 9.5).

    A weight met one pixel at every place: its gradient sums pixel times gradient over the places. For x, see
    `transposed_convolution`.
    """
    settings: dict[str, Any] = {"strides": strides, "padding": padding, "dilation": dilation}
    windows = _windows(x, filters.shape[:2], **settings)
    return (
        transposed_convolution(gradient, filters, x.shape[1:3], **settings),
        np.einsum("nijcuv,nijk->uvck", windows, gradient, optimize=True),
        gradient.sum(axis=(0, 1, 2)),
    )


def transposed_convolution(
    y: np.ndarray,
    filters: np.ndarray,
    size: Sequence[int],
    *,
    strides: Both = 1,
    padding: Padding = "valid",
    dilation: Both = 1,
) -> np.ndarray:
    """Send y back through a convolution: multiply by its matrix, transposed (Dumoulin, relationship 14).

    The pixel that tap u met on the way to y[i] gets w[u]·y[i] back. Seen from the pixel, taps further right belong to
    places further left: it collects a convolution of y with the inverted filter, turned by 180°, input and output
    channels exchanged.

    1. A stride skips places: put zeros there, as if the filter had been everywhere.
    2. Pixels at the border met few places: pad, so that the inverted filter passes over every one of them.
    3. The convolution's own padding gets its share too: cut it off.

    Args:
        y: (N, H', W', K), usually the gradient with respect to the convolution's output.
        filters: (f, g, C, K), and the other settings, as the convolution has them.
        size: (H, W) of the convolution's x; a stride gives several sizes the same output.

    Returns:
        (N, H, W, C).

    Raises:
        Fault: y has not the shape of the convolution's output.
    """
    (top, bottom), (left, right) = _pads(size, filters.shape[:2], strides, padding, dilation)
    tall, wide = (reach - 1 for reach in _reaches(filters.shape[:2], dilation))
    everywhere = np.zeros((len(y), top + size[0] + bottom - tall, left + size[1] + right - wide, filters.shape[3]))
    rows, columns = _pair(strides)
    visited = everywhere[:, ::rows, ::columns]
    if y.shape != visited.shape:
        raise Fault(f"y must have the shape of the convolution's output, {visited.shape}, got {y.shape}")
    visited[:] = y
    inverted = filters[::-1, ::-1].swapaxes(2, 3)
    collected = convolution(everywhere, inverted, padding=((tall, tall), (wide, wide)), dilation=dilation)
    return collected[:, top : top + size[0], left : left + size[1]]


def toeplitz(
    filters: np.ndarray, size: Sequence[int], *, strides: Both = 1, padding: Padding = "valid", dilation: Both = 1
) -> np.ndarray:
    """Return the matrix that a convolution is: `toeplitz(w, (H, W)) @ x.ravel() == convolution(x, w).ravel()`, N = 1.

    A row holds the weights at the pixels under the filter at one place, and zeros; at the next place it is the same,
    moved on. In one dimension that makes a Toeplitz matrix, in two a block Toeplitz matrix of such blocks (Goodfellow,
    section 9.1). A dense layer's matrix has neither the zeros nor the repetition.

    Args:
        filters: (f, g, C, K).
        size: (H, W) of the image.

    Returns:
        (H'·W'·K, H·W·C).
    """
    channels, answers = filters.shape[2:]
    numbers = 1 + np.arange(size[0] * size[1] * channels).reshape(1, *size, channels)  # of the pixels; 0 is padding
    under = _windows(numbers, filters.shape[:2], strides, padding, dilation)[0].astype(int)  # (H', W', C, f, g)
    matrix = np.zeros((*under.shape[:2], answers, 1 + numbers.size))
    weights = filters.transpose(3, 2, 0, 1).reshape(1, 1, answers, -1)
    np.put_along_axis(matrix, under.reshape(*under.shape[:2], 1, -1), weights, axis=3)
    return matrix[..., 1:].reshape(-1, numbers.size)


def max_pooling(
    x: np.ndarray, window: Both = 2, *, strides: Both | None = None, padding: Padding = "valid"
) -> np.ndarray:
    """Return the largest value under each window, channel by channel: (N, H', W', C) (Goodfellow, section 9.3).

    Windows lie side by side unless `strides` says otherwise. Padding never wins.
    """
    return _pooled(x, window, strides, padding, fill=-np.inf).max(axis=(4, 5))


def max_pooling_backward(
    gradient: np.ndarray, x: np.ndarray, window: Both = 2, *, strides: Both | None = None, padding: Padding = "valid"
) -> np.ndarray:
    """Route each gradient (N, H', W', C) to the pixel of x (N, H, W, C) that won, the first of equals: (N, H, W, C)."""
    windows = _pooled(x, window, strides, padding, fill=-np.inf)
    rivals = windows.reshape(*windows.shape[:4], -1)
    winner = np.arange(rivals.shape[4]) == rivals.argmax(axis=4)[..., np.newaxis]
    routed = np.where(winner, gradient[..., np.newaxis], 0)
    return _overlaid(routed.reshape(windows.shape), x.shape, window, strides, padding)


def average_pooling(
    x: np.ndarray, window: Both = 2, *, strides: Both | None = None, padding: Padding = "valid"
) -> np.ndarray:
    """Return the mean under each window, channel by channel: (N, H', W', C). Padding does not count."""
    return (_pooled(x, window, strides, padding) * _shares(x, window, strides, padding)).sum(axis=(4, 5))


def average_pooling_backward(
    gradient: np.ndarray, x: np.ndarray, window: Both = 2, *, strides: Both | None = None, padding: Padding = "valid"
) -> np.ndarray:
    """Hand each gradient (N, H', W', C) out in equal shares to the pixels under its window: (N, H, W, C), as x."""
    shares = gradient[..., np.newaxis, np.newaxis] * _shares(x, window, strides, padding)
    return _overlaid(shares, x.shape, window, strides, padding)


def relu(x: np.ndarray) -> np.ndarray:
    """Return max(x, 0), elementwise (Nair and Hinton, 2010)."""
    return np.maximum(x, 0)


def relu_backward(gradient: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The gradient of `relu`, of the shape of x: it passes where x > 0; at x = 0, by convention, it does not."""
    return np.where(x > 0, gradient, 0)


def moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and the (biased) variance of each channel of x (..., C): two arrays (C,)."""
    return x.mean(axis=_all_but_channels(x)), x.var(axis=_all_but_channels(x))


def batch_norm(
    x: np.ndarray,
    scale: np.ndarray,
    offset: np.ndarray,
    statistics: tuple[np.ndarray, np.ndarray] | None = None,
    *,
    epsilon: float = 1e-3,
) -> np.ndarray:
    """Return scale · (x - mean) / sqrt(variance + epsilon) + offset (Ioffe and Szegedy, 2015, algorithm 1).

    Args:
        x: (..., C).
        scale, offset: γ and β of the paper, (C,).
        statistics: mean and variance, (C,) each. In training None, for the batch's own: `moments(x)`. In inference
            the running ones, which every training step moves: running ← m·running + (1 - m)·batch.
    """
    return scale * _normalized(x, statistics, epsilon)[0] + offset


def batch_norm_backward(
    gradient: np.ndarray,
    x: np.ndarray,
    scale: np.ndarray,
    statistics: tuple[np.ndarray, np.ndarray] | None = None,
    *,
    epsilon: float = 1e-3,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the gradients (x, scale, offset) (Ioffe and Szegedy, section 3).

    In training, what x does to the batch's mean and variance takes out of its gradient the mean and the part along
    the normalised x. Running statistics stand still.
    """
    axes = _all_but_channels(x)
    normalized, deviation = _normalized(x, statistics, epsilon)
    along = gradient * normalized
    back = gradient
    if statistics is None:
        back = gradient - gradient.mean(axis=axes) - normalized * along.mean(axis=axes)
    return scale * back / deviation, along.sum(axis=axes), gradient.sum(axis=axes)


def layer_norm(x: np.ndarray, scale: np.ndarray, offset: np.ndarray, *, epsilon: float = 1e-3) -> np.ndarray:
    """Return `batch_norm` with the moments of each position over its channels, whatever else is in the batch.

    Ba, Kiros and Hinton, "Layer normalization", 2016, equation 3; x (..., C), scale and offset (C,).
    """
    return scale * _layer_normalized(x, epsilon)[0] + offset


def layer_norm_backward(
    gradient: np.ndarray, x: np.ndarray, scale: np.ndarray, *, epsilon: float = 1e-3
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the gradients (x, scale, offset): as `batch_norm_backward` in training, along the channels."""
    normalized, deviation = _layer_normalized(x, epsilon)
    scaled = gradient * scale
    along = (scaled * normalized).mean(axis=-1, keepdims=True)
    back = (scaled - scaled.mean(axis=-1, keepdims=True) - normalized * along) / deviation
    axes = _all_but_channels(x)
    return back, (gradient * normalized).sum(axis=axes), gradient.sum(axis=axes)


def dense(x: np.ndarray, weights: np.ndarray, bias: float | np.ndarray = 0.0) -> np.ndarray:
    """Return x·W + b: (N, D) by (D, K) gives (N, K). A convolution whose filters are as large as the image."""
    return x @ weights + bias


def dense_backward(
    gradient: np.ndarray, x: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the gradients (x, weights, bias) (Rumelhart, Hinton and Williams, 1986)."""
    return gradient @ weights.T, x.T @ gradient, gradient.sum(axis=0)


def _windows(
    x: np.ndarray, window: Sequence[int], strides: Both, padding: Padding, dilation: Both = 1, fill: float = 0.0
) -> np.ndarray:
    """Return what is under the window at each of its places: (N, H', W', C, f, g)."""
    if x.ndim != 4:
        raise Fault(f"x must have shape (N, H, W, C), got {x.shape}")
    pads = _pads(x.shape[1:3], window, strides, padding, dilation)
    return _view(np.pad(x.astype(float), ((0, 0), *pads, (0, 0)), constant_values=fill), window, strides, dilation)


def _view(
    padded: np.ndarray, window: Sequence[int], strides: Both, dilation: Both = 1, *, writeable: bool = False
) -> np.ndarray:
    """Look through the windows without copying a number: overlapping ones show the same pixel."""
    (rows, columns), (down, right) = _pair(strides), _pair(dilation)
    view = np.lib.stride_tricks.sliding_window_view(
        padded, _reaches(window, dilation), axis=(1, 2), writeable=writeable
    )
    return view[:, ::rows, ::columns, :, ::down, ::right]


def _pooled(x: np.ndarray, window: Both, strides: Both | None, padding: Padding, fill: float = 0.0) -> np.ndarray:
    pads = _pads(x.shape[1:3], _pair(window), strides or window, padding)
    if any(max(ends) >= taps for ends, taps in zip(pads, _pair(window), strict=True)):
        raise Fault(f"padding must be smaller than the window, {_pair(window)}, at every end, got {padding}")
    return _windows(x, _pair(window), strides or window, padding, fill=fill)


def _overlaid(
    windows: np.ndarray, shape: Sequence[int], window: Both, strides: Both | None, padding: Padding
) -> np.ndarray:
    """Add windows up where they overlap, in a map of `shape`: what `_pooled` does, transposed."""
    (top, bottom), (left, right) = _pads(shape[1:3], _pair(window), strides or window, padding)
    padded = np.zeros((shape[0], top + shape[1] + bottom, left + shape[2] + right, shape[3]))
    np.add.at(_view(padded, _pair(window), strides or window, writeable=True), ..., windows)  # type: ignore[arg-type]  # an ellipsis is an index, too
    return padded[:, top : top + shape[1], left : left + shape[2]]


def _shares(x: np.ndarray, window: Both, strides: Both | None, padding: Padding) -> np.ndarray:
    """Return the weight of each pixel in the mean of its window; padding has none."""
    inside = _pooled(np.ones(x.shape), window, strides, padding)
    return inside / inside.sum(axis=(4, 5), keepdims=True)


def _normalized(
    x: np.ndarray, statistics: tuple[np.ndarray, np.ndarray] | None, epsilon: float
) -> tuple[np.ndarray, np.ndarray]:
    mean, variance = moments(x) if statistics is None else statistics
    deviation = np.sqrt(variance + epsilon)
    return (x - mean) / deviation, deviation


def _layer_normalized(x: np.ndarray, epsilon: float) -> tuple[np.ndarray, np.ndarray]:
    deviation = np.sqrt(x.var(axis=-1, keepdims=True) + epsilon)
    return (x - x.mean(axis=-1, keepdims=True)) / deviation, deviation


def _all_but_channels(x: np.ndarray) -> tuple[int, ...]:
    return tuple(range(x.ndim - 1))


def _pair(value: Both) -> tuple[int, int]:
    """Return (vertical, horizontal) of one number for both, or of such a pair."""
    return tuple(np.broadcast_to(value, 2).tolist())


def _reaches(window: Sequence[int], dilation: Both) -> tuple[int, ...]:
    return tuple(d * (taps - 1) + 1 for taps, d in zip(window, _pair(dilation), strict=True))


def _pads(
    size: Sequence[int], window: Sequence[int], strides: Both, padding: Padding, dilation: Both = 1
) -> Sequence[Sequence[int]]:
    """Return ((top, bottom), (left, right)) in pixels."""
    reaches = _reaches(window, dilation)
    if padding == "same":
        axes = zip(size, reaches, _pair(strides), strict=True)
        missing = [max((-(-n // s) - 1) * s + reach - n, 0) for n, reach, s in axes]
        pads: Sequence[Sequence[int]] = [(pixels // 2, pixels - pixels // 2) for pixels in missing]
    elif padding == "valid" or np.shape(padding) == (2, 2) or isinstance(padding, int):
        pads = np.broadcast_to(0 if padding == "valid" else padding, (2, 2)).tolist()
    else:
        raise Fault(f"padding must be valid, same, a number or ((top, bottom), (left, right)), got {padding!r}")
    room = tuple(n + before + after for n, (before, after) in zip(size, pads, strict=True))
    if any(reach > n for reach, n in zip(reaches, room, strict=True)):
        raise Fault(f"window must reach over at most the {room} padded pixels, got {reaches}; pad more")
    return pads
