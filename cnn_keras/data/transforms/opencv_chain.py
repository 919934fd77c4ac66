"""A chain of steps for a batch of pictures: matrices in the graph for all at once, pixels by OpenCV."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from cnn_keras.data.transforms import opencv, stateless_random
from cnn_keras.data.transforms.transform import (
    COMPILED,
    Chain,
    Colour,
    Geometry,
    Move,
    Placement,
    as_floats,
    border_fill,
    check_example,
    compose_move,
    moved_annotations,
    result_size,
)
from cnn_keras.ops.numpy_function import numpy_function


class Decoder(Protocol):
    """Decodes encoded images to pixels of one `shape`, (height, width, channels)."""

    shape: tuple[int, int, int]

    def __call__(self, image_bytes: tf.Tensor) -> tf.Tensor:
        """An image, scalar string, in a graph: uint8 of `shape`, 0–255."""

    def decode(self, data: bytes) -> np.ndarray:
        """The same without a graph."""


class OpenCVChain:
    """The steps of a `Chain` for batches of examples, each augmented as alone."""

    def __init__(self, chain: Chain) -> None:
        self.steps, self.groups = chain.steps, chain.groups

    def takes(self, spec: dict[str, tf.TensorSpec], *, decodes: bool = False) -> bool:
        """Whether examples of this kind can be augmented, or decoded and augmented, by a batch, and faster."""
        pixels = [spec[key] for key in ("image", "mask") if key in spec]
        sizes = [
            spec["image"].shape[:2],
            *(step.size for step in self.steps if isinstance(step, Geometry) and step.size),
        ]
        return (
            (decodes or bool(self.steps))
            and all(isinstance(step, Geometry) or getattr(step, "matrix", None) for step in self.steps)
            and all(isinstance(step.draw, stateless_random.Draw) for step in self.steps)
            and all(values.dtype == tf.uint8 and values.shape.is_fully_defined() for values in pixels)
            and all(values.shape.rank == 2 or values.shape[-1] <= opencv.CHANNELS for values in pixels)
            and math.prod(sizes[0]) >= COMPILED
            and all(max(size) < opencv.SIDE for size in sizes)
        )

    @tf.autograph.experimental.do_not_convert
    def __call__(
        self, examples: dict[str, Any], seeds: tf.Tensor, numbers: Sequence[int], decoder: Decoder | None = None
    ) -> dict[str, Any]:
        """Augment a batch of examples.

        Args:
            seeds: int32 (N, 2), one for each example.
            numbers: of the steps; each is folded into a seed.
            decoder: decodes the images, which are strings (N,) then.
        """
        shapes = {key: examples[key].shape[1:] for key in ("image", "mask") if key in examples}
        if decoder:
            shapes["image"] = tf.TensorShape(decoder.shape)
        check_example({**examples, **{key: tf.TensorSpec(shape) for key, shape in shapes.items()}}, self.steps)
        size, channels = tuple(shapes["image"][:2]), shapes["image"][2]
        plan, sizes = self._plan(size, channels, seeds, tuple(numbers)), []
        for group, matrices in zip(self.groups, plan, strict=True):
            if isinstance(group[0], Geometry):
                move = Move(Placement(*matrices), size, result_size(group, size), group)
                examples, size = {**examples, **_all_moved(examples, move)}, move.size
            sizes.append(size)

        def transform(*values: np.ndarray) -> list[np.ndarray]:
            before, tensors = values[: len(shapes)], iter(values[len(shapes) :])
            matrices = [[next(tensors) for _ in placed] for placed in plan]
            after = []
            for (key, shape), sources in zip(shapes.items(), before, strict=True):
                passes = [
                    _pass(key, group, result, given)
                    for group, result, given in zip(self.groups, sizes, matrices, strict=True)
                    if key == "image" or isinstance(group[0], Geometry)
                ]
                decode = decoder.decode if decoder and key == "image" else None
                after.append(_all_passed(sources, passes, (*size, _channels(shape)), decode))
            return after

        inputs = [examples[key] for key in shapes] + [tensor for placed in plan for tensor in placed]
        pixels = numpy_function(transform, inputs, [tf.uint8] * len(shapes))
        return {
            **examples,
            **{
                key: tf.reshape(values, [-1, *size, *shape[2:]])
                for (key, shape), values in zip(shapes.items(), pixels, strict=True)
            },
        }

    @tf.function(jit_compile=True, autograph=False)
    def _plan(
        self, extent: tuple[int, int], channels: int, seeds: tf.Tensor, numbers: tuple[int, ...]
    ) -> list[list[tf.Tensor]]:
        """For each group a matrix for each image of a batch, and the nodes of a field if there is one."""
        kinds = [step.draw for step in self.steps if isinstance(step.draw, stateless_random.Draw)]
        draws: Sequence[tf.Tensor] = stateless_random.batch(seeds, numbers, kinds)
        plan = []
        for group in self.groups:
            drawn, draws = draws[: len(group)], draws[len(group) :]
            if isinstance(group[0], Colour):
                plan.append([_mixing_matrix(group, drawn, channels)])
                continue
            (matrix, nodes), _, extent, _ = compose_move(group, drawn, extent, as_floats(extent))
            matrix = tf.broadcast_to(matrix, [tf.shape(drawn[0])[0], 3, 3])  # elastic has one for all
            plan.append([matrix] if nodes is None else [matrix, nodes])
        return plan


def _mixing_matrix(group: Sequence[Colour], numbers: Sequence[tf.Tensor], channels: int) -> tf.Tensor:
    """The matrices of linear colours multiplied; each also says what becomes of the means that the next one reads."""
    product, one = tf.eye(2 * channels + 1), tf.linalg.diag(tf.one_hot(2 * channels, 2 * channels + 1))
    for step, draws in zip(group, numbers, strict=True):
        pixel = step.matrix(draws, channels)  # type: ignore[misc]  # linear, as `takes` has seen
        mixing, of_means, offset = tf.split(pixel, [channels, channels, 1], axis=-1)
        mean = tf.concat([tf.zeros_like(mixing), mixing + of_means, offset], axis=-1)
        both = tf.pad(tf.concat([pixel, mean], axis=-2), [[0, 0], [0, 1], [0, 0]]) + one
        product = tf.matmul(both, product)
    return product[..., :channels, :]


def _pass(
    key: str, group: Sequence[Any], size: tuple[int, int], matrices: Sequence[np.ndarray]
) -> opencv.Warp | opencv.Recolour:
    """What a group of steps does to the images or masks of a batch."""
    if isinstance(group[0], Colour):
        return opencv.Recolour(*matrices)
    nearest = key == "mask" or all(step.exact for step in group)
    return opencv.Warp(*matrices, size=size, fill=border_fill(group), nearest=nearest)


def _all_passed(
    sources: np.ndarray,
    passes: Sequence[opencv.Warp | opencv.Recolour],
    shape: tuple[int, int, int],
    decode: Callable[[bytes], np.ndarray] | None,
) -> np.ndarray:
    """Images or masks, decoded or as they are, after all passes: uint8 (N, *shape), one image after the other.

    The last warp writes the result; the colours that follow it are changed in place.
    """
    results = opencv.aligned((len(sources), *shape))
    warps = [number for number, one in enumerate(passes) if isinstance(one, opencv.Warp)]
    last = warps[-1] if warps else 0
    for row, source in enumerate(sources):
        pixels, result = decode(source) if decode else source, results[row]
        for one in passes[:last]:
            pixels = one(pixels, row)
        for one in passes[last:]:
            pixels = one(pixels, row, result)
        if not passes:
            result[:] = pixels.reshape(shape)
    return results


def _all_moved(examples: dict[str, Any], move: Move) -> dict[str, Any]:
    """`moved_annotations` of each example of a batch."""
    moved = {key: examples[key] for key in ("boxes", "proposals", "landmarks", "angle") if key in examples}
    if not moved:
        return {}

    def one(row: tuple[dict[str, Any], list[tf.Tensor]]) -> dict[str, Any]:
        return moved_annotations(row[0], move._replace(placement=Placement(*row[1])))

    placement = [values for values in move.placement if values is not None]
    found: dict[str, Any] = tf.vectorized_map(one, (moved, placement))
    return found


def _channels(shape: tf.TensorShape) -> int:
    return shape[2] if shape.rank == 3 else 1
