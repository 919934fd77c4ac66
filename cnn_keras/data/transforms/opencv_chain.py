"""A chain of steps for a batch of pictures: matrices in the graph for all at once, pixels by OpenCV.

Or the pixels of the images are left to the training step, which gets the same matrices: `deferred` says how.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from cnn_keras.data.transforms import opencv, stateless_random
from cnn_keras.data.transforms.deferred import COLOUR, DeferredImages
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
from cnn_keras.errors import Fault
from cnn_keras.ops.numpy_function import numpy_function


class Decoder(Protocol):
    """Decodes encoded images to pixels of one `shape`, (height, width, channels)."""

    shape: tuple[int, int, int]

    def __call__(self, image_bytes: tf.Tensor) -> tf.Tensor:
        """An image, scalar string, in a graph: uint8 of `shape`, 0–255."""

    def decode(self, data: bytes) -> np.ndarray:
        """The same without a graph."""


class OpenCVChain:
    """The steps of a `Chain` for batches of examples, each augmented as alone.

    Args:
        defers: whether images become `DeferredImages`. Every step must be one of `is_deferrable`.
    """

    def __init__(self, chain: Chain, *, defers: bool = False) -> None:
        self.steps, self.groups, self.defers = chain.steps, chain.groups, defers

    def takes(self, spec: dict[str, tf.TensorSpec], *, decodes: bool = False) -> bool:
        """Whether examples of this kind can be augmented, or decoded and augmented, by a batch, and faster.

        Raises:
            Fault: the chain defers images, and these are not uint8 of one size.
        """
        if self.defers and self.steps:
            image = spec["image"]
            if image.dtype != tf.uint8 or image.shape.rank != 3 or not image.shape.is_fully_defined():
                raise Fault(
                    "train.augment_on must be host unless examples are images of one size, uint8 (height, width, "
                    f"channels), got {image.dtype.name} {image.shape}"
                )
            return True
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

        Returns:
            The examples, uint8 images and masks of the size that the steps leave; or `DeferredImages`.
        """
        shapes = {key: examples[key].shape[1:] for key in ("image", "mask") if key in examples}
        if decoder:
            shapes["image"] = tf.TensorShape(decoder.shape)
        check_example({**examples, **{key: tf.TensorSpec(shape) for key, shape in shapes.items()}}, self.steps)
        size, channels = tuple(shapes["image"][:2]), shapes["image"][2]
        plan, sizes, whole = self._plan(size, channels, seeds, tuple(numbers)), [], size
        for group, matrices in zip(self.groups, plan, strict=True):
            if isinstance(group[0], Geometry):
                move = Move(Placement(*matrices), size, result_size(group, size), group)
                examples, size = {**examples, **_all_moved(examples, move)}, move.size
            sizes.append(size)
        ends = {"image": whole if self.defers else size, "mask": size}
        worked = {key: shape for key, shape in shapes.items() if key == "mask" or decoder or not self.defers}

        def transform(*values: np.ndarray) -> list[np.ndarray]:
            before, tensors = values[: len(worked)], iter(values[len(worked) :])
            matrices = [[next(tensors) for _ in placed] for placed in plan]
            after = []
            for (key, shape), sources in zip(worked.items(), before, strict=True):
                passes = [
                    _pass(key, group, result, given)
                    for group, result, given in zip(self.groups, sizes, matrices, strict=True)
                    if (not self.defers if key == "image" else isinstance(group[0], Geometry))
                ]
                decode = decoder.decode if decoder and key == "image" else None
                after.append(_all_passed(sources, passes, (*ends[key], _channels(shape)), decode))
            return after

        if worked:
            inputs = [examples[key] for key in worked] + [tensor for placed in plan for tensor in placed]
            pixels = numpy_function(transform, inputs, [tf.uint8] * len(worked))
            for (key, shape), values in zip(worked.items(), pixels, strict=True):
                examples = {**examples, key: tf.reshape(values, [-1, *ends[key], *shape[2:]])}
        if self.defers:
            fills = tuple(COLOUR if isinstance(group[0], Colour) else border_fill(group) for group in self.groups)
            matrices = tuple(matrix for (matrix,) in plan)
            examples = {**examples, "image": DeferredImages(examples["image"], matrices, fills, tuple(sizes))}
        return examples

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


def is_deferrable(step: Any) -> bool:
    """Whether a step is a matrix, drawn for a whole batch, and so can be left to the training step.

    TensorFlow's operation wraps a picture around with its last row and column left out, so `fill: wrap` cannot.
    """
    if not isinstance(step, Geometry | Colour) or not isinstance(step.draw, stateless_random.Draw):
        return False
    if isinstance(step, Colour):
        return step.matrix is not None
    if step.fill == "wrap":
        return False
    extent = tf.ones([2])
    nodes = step.place(step.draw(tf.zeros([2], tf.int32)), extent, extent).nodes
    return nodes is None  # a field is more than a matrix


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
    moved = {key: examples[key] for key in ("boxes", "proposals", "landmarks", "angle", "route") if key in examples}
    if not moved:
        return {}

    def one(row: tuple[dict[str, Any], list[tf.Tensor]]) -> dict[str, Any]:
        return moved_annotations(row[0], move._replace(placement=Placement(*row[1])))

    placement = [values for values in move.placement if values is not None]
    found: dict[str, Any] = tf.vectorized_map(one, (moved, placement))
    return found


def _channels(shape: tf.TensorShape) -> int:
    return shape[2] if shape.rank == 3 else 1
