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

import numpy as np

from cnn_keras.errors import Fault


def convolution(x, filters, bias=0.0, *, strides=1, padding="valid", dilation=1):
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


def convolution_backward(gradient, x, filters, *, strides=1, padding="valid", dilation=1):
    """Return the gradients (x, filters, bias) (Goodfellow, section 9.5).

    A weight met one pixel at every place: its gradient sums pixel times gradient over the places. For x, see
    `transposed_convolution`.
    """
    settings = {"strides": strides, "padding": padding, "dilation": dilation}
    windows = _windows(x, filters.shape[:2], **settings)
    return (
        transposed_convolution(gradient, filters, x.shape[1:3], **settings),
        np.einsum("nijcuv,nijk->uvck", windows, gradient, optimize=True),
        gradient.sum(axis=(0, 1, 2)),
    )


def transposed_convolution(y, filters, size, *, strides=1, padding="valid", dilation=1):
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


def toeplitz(filters, size, *, strides=1, padding="valid", dilation=1):
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


def max_pooling(x, window=2, *, strides=None, padding="valid"):
    """Return the largest value under each window, channel by channel: (N, H', W', C) (Goodfellow, section 9.3).

    Windows lie side by side unless `strides` says otherwise. Padding never wins.
    """
    return _pooled(x, window, strides, padding, fill=-np.inf).max(axis=(4, 5))


def max_pooling_backward(gradient, x, window=2, *, strides=None, padding="valid"):
    """Route each gradient to the pixel that won, the first of equals; to change the others would change nothing."""
    windows = _pooled(x, window, strides, padding, fill=-np.inf)
    rivals = windows.reshape(*windows.shape[:4], -1)
    winner = np.arange(rivals.shape[4]) == rivals.argmax(axis=4)[..., np.newaxis]
    routed = np.where(winner, gradient[..., np.newaxis], 0)
    return _overlaid(routed.reshape(windows.shape), x.shape, window, strides, padding)


def average_pooling(x, window=2, *, strides=None, padding="valid"):
    """Return the mean under each window, channel by channel: (N, H', W', C). Padding does not count."""
    return (_pooled(x, window, strides, padding) * _shares(x, window, strides, padding)).sum(axis=(4, 5))


def average_pooling_backward(gradient, x, window=2, *, strides=None, padding="valid"):
    """Hand each gradient out in equal shares to the pixels under its window."""
    handed = gradient[..., np.newaxis, np.newaxis] * _shares(x, window, strides, padding)
    return _overlaid(handed, x.shape, window, strides, padding)


def relu(x):
    """Return max(x, 0), elementwise (Nair and Hinton, 2010)."""
    return np.maximum(x, 0)


def relu_backward(gradient, x):
    """Gate: the gradient passes where x did; at x = 0, by convention, it does not."""
    return np.where(x > 0, gradient, 0)


def moments(x):
    """Return the mean and the (biased) variance of each channel of x (..., C): two arrays (C,)."""
    return x.mean(axis=_all_but_channels(x)), x.var(axis=_all_but_channels(x))


def batch_norm(x, scale, offset, statistics=None, *, epsilon=1e-3):
    """Return scale · (x - mean) / sqrt(variance + epsilon) + offset (Ioffe and Szegedy, 2015, algorithm 1).

    Args:
        x: (..., C).
        scale, offset: γ and β of the paper, (C,).
        statistics: mean and variance, (C,) each. In training None, for the batch's own: `moments(x)`. In inference
            the running ones, which every training step moves: running ← m·running + (1 - m)·batch.
    """
    return scale * _normalized(x, statistics, epsilon)[0] + offset


def batch_norm_backward(gradient, x, scale, statistics=None, *, epsilon=1e-3):
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


def dense(x, weights, bias=0.0):
    """Return x·W + b: (N, D) by (D, K) gives (N, K). A convolution whose filters are as large as the image."""
    return x @ weights + bias


def dense_backward(gradient, x, weights):
    """Return the gradients (x, weights, bias) (Rumelhart, Hinton and Williams, 1986)."""
    return gradient @ weights.T, x.T @ gradient, gradient.sum(axis=0)


def _windows(x, window, strides, padding, dilation=1, fill=0.0):
    """Return what is under the window at each of its places: (N, H', W', C, f, g)."""
    if x.ndim != 4:
        raise Fault(f"x must have shape (N, H, W, C), got {x.shape}")
    pads = _pads(x.shape[1:3], window, strides, padding, dilation)
    return _view(np.pad(x.astype(float), ((0, 0), *pads, (0, 0)), constant_values=fill), window, strides, dilation)


def _view(padded, window, strides, dilation=1, *, writeable=False):
    """Look through the windows without copying a number: overlapping ones show the same pixel."""
    (rows, columns), (down, right) = _pair(strides), _pair(dilation)
    view = np.lib.stride_tricks.sliding_window_view(
        padded, _reaches(window, dilation), axis=(1, 2), writeable=writeable
    )
    return view[:, ::rows, ::columns, :, ::down, ::right]


def _pooled(x, window, strides, padding, fill=0.0):
    pads = _pads(x.shape[1:3], _pair(window), strides or window, padding)
    if any(max(ends) >= taps for ends, taps in zip(pads, _pair(window), strict=True)):
        raise Fault(f"padding must be smaller than the window, {_pair(window)}, at every end, got {padding}")
    return _windows(x, _pair(window), strides or window, padding, fill=fill)


def _overlaid(windows, shape, window, strides, padding):
    """Add windows up where they overlap, in a map of `shape`: what `_pooled` does, transposed."""
    (top, bottom), (left, right) = _pads(shape[1:3], _pair(window), strides or window, padding)
    padded = np.zeros((shape[0], top + shape[1] + bottom, left + shape[2] + right, shape[3]))
    np.add.at(_view(padded, _pair(window), strides or window, writeable=True), ..., windows)
    return padded[:, top : top + shape[1], left : left + shape[2]]


def _shares(x, window, strides, padding):
    """Return the weight of each pixel in the mean of its window; padding has none."""
    inside = _pooled(np.ones(x.shape), window, strides, padding)
    return inside / inside.sum(axis=(4, 5), keepdims=True)


def _normalized(x, statistics, epsilon):
    mean, variance = moments(x) if statistics is None else statistics
    deviation = np.sqrt(variance + epsilon)
    return (x - mean) / deviation, deviation


def _all_but_channels(x):
    return tuple(range(x.ndim - 1))


def _pair(value):
    """Return (vertical, horizontal) of one number for both, or of such a pair."""
    return tuple(np.broadcast_to(value, 2).tolist())


def _reaches(window, dilation):
    return tuple(d * (taps - 1) + 1 for taps, d in zip(window, _pair(dilation), strict=True))


def _pads(size, window, strides, padding, dilation=1):
    """Return ((top, bottom), (left, right)) in pixels."""
    reaches = _reaches(window, dilation)
    if padding == "same":
        axes = zip(size, reaches, _pair(strides), strict=True)
        missing = [max((-(-n // s) - 1) * s + reach - n, 0) for n, reach, s in axes]
        pads = [(pixels // 2, pixels - pixels // 2) for pixels in missing]
    elif padding == "valid" or np.shape(padding) == (2, 2) or isinstance(padding, int):
        pads = np.broadcast_to(0 if padding == "valid" else padding, (2, 2)).tolist()
    else:
        raise Fault(f"padding must be valid, same, a number or ((top, bottom), (left, right)), got {padding!r}")
    room = tuple(n + before + after for n, (before, after) in zip(size, pads, strict=True))
    if any(reach > n for reach, n in zip(reaches, room, strict=True)):
        raise Fault(f"window must reach over at most the {room} padded pixels, got {reaches}; pad more")
    return pads
