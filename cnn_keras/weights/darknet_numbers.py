"""Darknet's `.weights`: nothing but numbers, copied into a network of ours and out of one."""

import math
from pathlib import Path

import keras
import numpy as np

from cnn_keras.data.files import input_file
from cnn_keras.errors import Fault

VERSION = (0, 2, 0)  # major, minor, revision, of the files we write


def read(network: keras.Model, weights: Path) -> tuple[str, ...]:
    """Copy the numbers of a `.weights` into a network of ours.

    The file may be of another number of classes, or end behind any layer, as Darknet's own files to start from do
    (`darknet53.conv.74`): what it cannot give stays fresh.

    Returns:
        The names of the convolutions that stay fresh.

    Raises:
        Fault: no such file, or it holds too few or too many numbers for this network; nothing is copied then.
    """
    data = read_file(weights)
    start = _header(data, weights)
    numbers = np.frombuffer(data, "<f4", (len(data) - start) // 4, start)
    pairs = _convolutions(network)
    lengths = _lengths(network, pairs, len(numbers))
    if lengths is None or len(data) % 4:
        expected = sum(_length(*pair) for pair in pairs)
        raise Fault(
            f"weights must hold {expected:,} numbers for {network.name}, or those of other classes or of its first "
            f"layers, got {len(numbers):,} in {weights}; it is another network's, or was cut off",
            code=Fault.DATA,
        )
    place, fresh = 0, []
    for pair, length in zip(pairs, lengths, strict=True):
        if length == _length(*pair):
            _fill(*pair, numbers[place : place + length])
        else:
            fresh.append(pair[0].name)
        place += length
    return tuple(fresh)


def _lengths(network: keras.Model, pairs: list[tuple[keras.Layer, keras.Layer | None]], total: int) -> list[int] | None:
    """How many of the file's numbers are of each convolution, if they are this network's; 0 behind its end."""
    own = [_length(*pair) for pair in pairs]
    outputs = keras.tree.flatten(network.output)[0].shape[-1]  # of an anchor or, in a classifier, of the picture
    body = sum(length for length, (_, norm) in zip(own, pairs, strict=True) if norm)
    theirs, left = divmod((total - body) * outputs, sum(own) - body)
    if not left and theirs > 0:
        return [length if norm else length // outputs * theirs for length, (_, norm) in zip(own, pairs, strict=True)]
    ends = np.cumsum(own).tolist()
    if total in ends:
        return [length if end <= total else 0 for length, end in zip(own, ends, strict=True)]
    return None


def _length(convolution: keras.Layer, norm: keras.Layer | None) -> int:
    """How many numbers a file has of a convolution and its normalisation."""
    return sum(math.prod(weight.shape) for layer in (convolution, norm) if layer for weight in layer.weights)


def _fill(convolution: keras.Layer, norm: keras.Layer | None, numbers: np.ndarray) -> None:
    """Set the weights: bias or β, γ, mean, variance, and the kernel as (filters, channels, height, width)."""
    height, width, channels, filters = kernel_shape(convolution)
    vectors, kernel = np.split(numbers, [4 * filters if norm else filters])
    bias, *statistics = vectors.reshape(-1, filters)
    if norm:
        gamma, mean, variance = statistics
        norm.set_weights([gamma, bias, mean, variance])
    kernel = kernel.reshape(filters, channels, height, width).transpose(2, 3, 1, 0).reshape(convolution.kernel.shape)
    convolution.set_weights([kernel] if norm else [kernel, bias])


def read_file(path: Path) -> bytes:
    """The bytes of a file of Darknet's, or a Fault that names it."""
    try:
        return input_file.read_bytes(Path(path))
    except OSError as error:
        raise Fault(f"{path} must be a file of Darknet's, got {error.strerror}", code=Fault.DATA) from None


def _header(data: bytes, path: Path) -> int:
    """How many bytes stand before the numbers: three of version, and the images seen, which grew to 64 bits in 0.2."""
    if len(data) < 16:
        raise Fault(f"weights must be a Darknet file, got {len(data)} bytes in {path}", code=Fault.DATA)
    major, minor, _ = np.frombuffer(data, "<i4", 3)
    return 20 if 10 * major + minor >= 2 and major < 1000 and minor < 1000 else 16


def as_weights(network: keras.Model) -> bytes:
    """The `.weights` of a network: header, then for each convolution bias, γ, mean, variance and the kernel."""
    parts = [np.array(VERSION, "<i4").tobytes(), np.array([0], "<i8").tobytes()]
    for convolution, norm in _convolutions(network):
        kernel, *bias = (np.asarray(weight) for weight in convolution.weights)
        if norm:
            gamma, beta, mean, variance = (np.asarray(weight) for weight in norm.weights)
            bias = [beta, gamma, mean, variance]
        kernel = kernel.reshape(kernel_shape(convolution)).transpose(3, 2, 0, 1)
        parts += [np.ascontiguousarray(part, "<f4").tobytes() for part in (*bias, kernel)]
    return b"".join(parts)


def kernel_shape(layer: keras.Layer) -> tuple[int, ...]:
    """Of a convolution, or of a dense layer as a 1×1 one."""
    shape = tuple(layer.kernel.shape)
    return shape if len(shape) == 4 else (1, 1, *shape)


def _convolutions(network: keras.Model) -> list[tuple[keras.Layer, keras.Layer | None]]:
    """Convolutions in Darknet's order, each with its normalisation or None; a dense layer for `logits` is the last."""
    known = {layer.name: layer for layer in network.layers}
    pairs, number = [], 1
    while f"conv{number}" in known:
        pairs.append((known[f"conv{number}"], known.get(f"conv{number}_norm")))
        number += 1
    if hasattr(known.get("logits"), "kernel"):
        pairs.append((known["logits"], None))
    return pairs
