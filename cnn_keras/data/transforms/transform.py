"""Steps of an augmentation, and the chain that runs them together.

A step draws numbers from a seed and says what they mean: a `Geometry` turns them into a matrix, a `Colour` into a
change of pixel values. A `Chain` multiplies the matrices of neighbouring geometry and reads the picture once, runs
neighbouring colours in one pass without rounding in between. One example is worked on in the graph; batches of pictures
that are large enough go through OpenCV, in a fraction of the time. Both move everything else an example carries:

    boxes      float32 (…, 4): left, top, right, bottom in [0, 1]. Each becomes the box around what it held, clipped
               to the picture; one that keeps less than KEPT of its area, and padding, is all zeros. Rows stay where
               they are, so that what belongs to them (`classes`) fits.
    proposals  float32 (…, 4): as boxes.
    landmarks  float32 (…, 3): x, y in [0, 1] and 1 for visible; one that leaves the picture is no longer visible.
    mask       integers (height, width) or (height, width, channels): the nearest pixel; 0 beyond a black border.
    angle      float32 (), of a steering wheel: its sign changes where the picture is mirrored, nothing else does.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any, NamedTuple, Protocol

import numpy as np
import tensorflow as tf

from cnn_keras.data.transforms import opencv, stateless_random, warp
from cnn_keras.errors import Fault
from cnn_keras.ops.numpy_function import numpy_function

UNMOVED = frozenset({"id", "label", "classes"})  # geometry does not touch these
MOVED = frozenset({"image", "boxes", "proposals", "landmarks", "mask", "angle"})
KEPT = 0.25  # of a box's area must be inside the picture
COMPILED = 64 * 64  # pixels from which XLA or OpenCV pays: smaller pictures take no time


class Placement(NamedTuple):
    """What geometry drew: a matrix (3, 3) of `cnn_keras.data.transforms.warp` and the nodes of a field, or None."""

    matrix: tf.Tensor
    nodes: tf.Tensor | None = None


@dataclasses.dataclass(frozen=True)
class Step:
    """Anything that can be called with (example, seed)."""

    name: str
    draw: Callable[[tf.Tensor], Any]  # a seed, int32 (2,), to the numbers that the step goes by; of a batch, if a Draw

    @cached_property
    def _chain(self) -> "Chain":
        return Chain([self])

    def __call__(self, example: dict[str, Any], seed: tf.Tensor) -> dict[str, Any]:
        return self._chain(example, [seed])


@dataclasses.dataclass(frozen=True)
class Geometry(Step):
    """A step that moves pixels, and with them boxes, landmarks and masks."""

    place: Callable[..., Placement]  # of (numbers, extent, size): float32 (2,) heights and widths, before and after
    exact: bool = False  # flips and whole pixels only: nothing is blended
    upright: bool = False  # rows stay rows, as all that is exact leaves them: nothing is turned or slanted
    fill: str | None = None  # what stands beyond the border; None where a step never looks there
    size: tuple[int, int] | None = None  # of the result; None keeps it
    mirrors: bool = False  # can turn a left eye into a right one
    pairs: tuple[tuple[int, int], ...] | None = None  # the landmarks that then change places
    source: tuple[int, int] | None = None  # the size to read pictures at, so that there is more to cut from


@dataclasses.dataclass(frozen=True)
class Colour(Step):
    """A step that changes values where they are: float32 (height, width, channels), about 0–255, in and out."""

    change: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]  # of (image, numbers)
    channels: int | None = None  # what it needs; None takes grey as well
    matrix: Callable[[tf.Tensor, int], tf.Tensor] | None = None  # of (numbers (…, count), channels), if linear


class Move(NamedTuple):
    """One reading of the picture: from pixels of a source of `extent` to a result of `size`, (height, width)."""

    placement: Placement
    extent: tuple[Any, ...]
    size: tuple[Any, ...]
    steps: Sequence[Geometry]


class Decoder(Protocol):
    """Decodes encoded images to pixels of one `shape`, (height, width, channels)."""

    shape: tuple[int, int, int]

    def __call__(self, image_bytes: tf.Tensor) -> tf.Tensor:
        """An image, scalar string, in a graph: uint8 of `shape`, 0–255."""

    def decode(self, data: bytes) -> np.ndarray:
        """The same without a graph."""


class Chain:
    """Steps one after the other, as few passes over the pixels as can be.

    Args:
        steps: in their order.
        compiled: whether XLA makes a program of each pass. None lets it where the picture's size is static and of
            COMPILED pixels or more; elsewhere TensorFlow's own operations run. The two round differently in one
            value of some thousands, by one level.
    """

    def __init__(self, steps: Sequence[Step], *, compiled: bool | None = None) -> None:
        self.steps = tuple(steps)
        self.compiled = compiled
        # Colours alone or geometry alone, which is what `_grouping` sorts by.
        self.groups: list[tuple[Any, ...]] = [tuple(group) for _, group in itertools.groupby(self.steps, _grouping())]
        # A program for each group: in one for all, XLA would read the picture anew for every use of a colour.
        self._programs = [
            tf.function(partial(_passed, group), jit_compile=True, autograph=False) for group in self.groups
        ]

    @tf.autograph.experimental.do_not_convert
    def __call__(self, example: dict[str, Any], seeds: Sequence[tf.Tensor]) -> dict[str, Any]:
        """Run every step with its seed, int32 (2,) each."""
        example = {**example, "image": tf.convert_to_tensor(example["image"])}
        _check(example, self.steps)
        draws = iter([step.draw(seed) for step, seed in zip(self.steps, seeds, strict=True)])
        for group, program in zip(self.groups, self._programs, strict=True):
            numbers = list(itertools.islice(draws, len(group)))
            pixels: dict[str, Any] = {
                key: tf.convert_to_tensor(example[key]) for key in ("image", "mask") if key in example
            }
            if self._pays(pixels["image"]):
                image, placement = program(pixels, numbers)
            else:
                image, placement = _passed(group, pixels, numbers, own=True)
            if placement is not None:
                extent = _size(pixels["image"])
                image |= _followed(example, Move(placement, extent, _result(group, extent), group))
            example = {**example, **image}
        return example

    def takes_batches(self, spec: dict[str, tf.TensorSpec], *, decodes: bool = False) -> bool:
        """Whether `batch` can augment examples of this kind, and is faster than one at a time."""
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
    def batch(
        self, examples: dict[str, Any], seeds: tf.Tensor, numbers: Sequence[int], decoder: Decoder | None = None
    ) -> dict[str, Any]:
        """A batch of examples, each augmented as alone: matrices in the graph for all at once, pixels by OpenCV.

        Args:
            seeds: int32 (N, 2), one for each example.
            numbers: of the steps; each is folded into a seed.
            decoder: decodes the images, which are strings (N,) then.
        """
        shapes = {key: examples[key].shape[1:] for key in ("image", "mask") if key in examples}
        if decoder:
            shapes["image"] = tf.TensorShape(decoder.shape)
        _check({**examples, **{key: tf.TensorSpec(shape) for key, shape in shapes.items()}}, self.steps)
        size, channels = tuple(shapes["image"][:2]), shapes["image"][2]
        plan = self._plan(size, channels, self._draws(seeds, numbers))
        for group, matrices in zip(self.groups, plan, strict=True):
            if isinstance(group[0], Geometry):
                move = Move(Placement(*matrices), size, _result(group, size), group)
                examples, size = {**examples, **_all_followed(examples, move)}, move.size

        def transform(*values: np.ndarray) -> list[np.ndarray]:
            before, tensors = values[: len(shapes)], iter(values[len(shapes) :])
            steps = [(group, [next(tensors) for _ in placed]) for group, placed in zip(self.groups, plan, strict=True)]
            after = [opencv.aligned((len(before[0]), *size, _channels(shape))) for shape in shapes.values()]
            for key, sources, results in zip(shapes, before, after, strict=True):
                mine = [step for step in steps if key == "image" or isinstance(step[0][0], Geometry)]
                for row, (source, result) in enumerate(zip(sources, results, strict=True)):
                    pixels = decoder.decode(source) if decoder and key == "image" else source
                    for number, (group, matrices) in enumerate(mine, 1):
                        out = result if number == len(mine) else None
                        pixels = _transformed(pixels, key, group, [matrix[row] for matrix in matrices], out)
                    if not mine:
                        result[:] = pixels.reshape(result.shape)
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

    def _draws(self, seeds: tf.Tensor, numbers: Sequence[int]) -> list[tf.Tensor]:
        """What every step draws from each seed: float32 (N, count) each."""
        kinds = [step.draw for step in self.steps if isinstance(step.draw, stateless_random.Draw)]
        if not kinds:
            return []
        draw = partial(stateless_random.batch, numbers=numbers, draws=kinds)
        drawn = numpy_function(draw, [seeds], [tf.float32] * len(kinds))
        return [tf.ensure_shape(values, (None, kind.count)) for values, kind in zip(drawn, kinds, strict=True)]

    @tf.function(jit_compile=True, autograph=False)
    def _plan(self, extent: tuple[int, int], channels: int, draws: list[tf.Tensor]) -> list[list[tf.Tensor]]:
        """For each group a matrix for each image of a batch, and the nodes of a field if there is one."""
        plan = []
        for group in self.groups:
            numbers, draws = draws[: len(group)], draws[len(group) :]
            if isinstance(group[0], Colour):
                plan.append([_mixing_matrix(group, numbers, channels)])
                continue
            (matrix, nodes), _, extent, _ = _placed(group, numbers, extent, _floats(extent))
            matrix = tf.broadcast_to(matrix, [tf.shape(numbers[0])[0], 3, 3])  # elastic has one for all
            plan.append([matrix] if nodes is None else [matrix, nodes])
        return plan

    def _pays(self, image: tf.Tensor) -> bool:
        static = image.shape.is_fully_defined()
        if self.compiled is None:
            return static and image.shape[0] * image.shape[1] >= COMPILED
        return static and self.compiled


def _passed(
    group: Sequence[Any], pixels: dict[str, Any], numbers: Sequence[Any], own: bool = False
) -> tuple[dict[str, Any], Placement | None]:
    """One pass: the arrays of pixels after a group, and what its geometry drew."""
    if isinstance(group[0], Colour):
        return {**pixels, "image": _recoloured(pixels["image"], group, numbers)}, None
    image = pixels["image"]
    move = _placed(group, numbers, _size(image), tf.cast(tf.shape(image)[:2], tf.float32))
    return {key: _read(values, move, key, own) for key, values in pixels.items()}, move.placement


def _mixing_matrix(group: Sequence[Colour], numbers: Sequence[tf.Tensor], channels: int) -> tf.Tensor:
    """The matrices of linear colours multiplied; each also says what becomes of the means that the next one reads."""
    product, one = tf.eye(2 * channels + 1), tf.linalg.diag(tf.one_hot(2 * channels, 2 * channels + 1))
    for step, draws in zip(group, numbers, strict=True):
        pixel = step.matrix(draws, channels)  # type: ignore[misc]  # linear, as `takes_batches` has seen
        mixing, of_means, offset = tf.split(pixel, [channels, channels, 1], axis=-1)
        mean = tf.concat([tf.zeros_like(mixing), mixing + of_means, offset], axis=-1)
        both = tf.pad(tf.concat([pixel, mean], axis=-2), [[0, 0], [0, 1], [0, 0]]) + one
        product = tf.matmul(both, product)
    return product[..., :channels, :]


def _transformed(
    pixels: np.ndarray, key: str, group: Sequence[Any], matrices: Sequence[np.ndarray], out: np.ndarray | None
) -> np.ndarray:
    """An image or a mask after a group of steps, in `out` if there is one."""
    if isinstance(group[0], Colour):
        return opencv.recolour(pixels, *matrices, out=out)
    size, exact = _result(group, pixels.shape[:2]), all(step.exact for step in group)
    return opencv.warp(pixels, *matrices, size=size, fill=_fill(group), nearest=exact or key == "mask", out=out)


def _channels(shape: tf.TensorShape) -> int:
    return shape[2] if shape.rank == 3 else 1


def uniform(count: int, low: float = 0.0, high: float = 1.0) -> Callable[[tf.Tensor], tf.Tensor]:
    """A drawing of `count` numbers from a seed, even in [low, high): float32 (count,).

    A step that draws `stateless_random.Uniform` instead also takes the numbers of a batch, (N, count), and is faster.
    """
    return lambda seed: tf.random.stateless_uniform((count,), seed, low, high)


def check_amounts(name: str, **amounts: float) -> None:
    """Raise a Fault for an argument that is no finite number of at least 0."""
    for key, amount in amounts.items():
        number = isinstance(amount, int | float) and not isinstance(amount, bool)
        if not number or not 0 <= amount < math.inf:
            raise Fault(f"augment.{name}.{key} must be a number of at least 0, got {amount!r}")


def _grouping() -> Callable[[Step], tuple[Any, ...]]:
    """A key that neighbours share when one pass can do both: colours; geometry with one kind of border."""
    number, border = 0, None

    def key(step: Any) -> tuple[Any, ...]:
        nonlocal number, border
        if isinstance(step, Colour):
            border = None
            return (Colour,)
        if border and step.fill and step.fill != border:
            number, border = number + 1, None
        border = border or step.fill
        return (Geometry, number)

    return key


def _check(example: dict[str, Any], steps: Sequence[Step]) -> None:
    channels = example["image"].shape[-1]
    geometry = [step for step in steps if isinstance(step, Geometry)]
    if geometry and (unknown := sorted(example.keys() - UNMOVED - MOVED)):
        known = ", ".join(sorted(MOVED - {"image"}))
        raise Fault(
            f"augment.{geometry[0].name} must be able to move all that an example holds, and cannot move "
            f"{', '.join(unknown)}; it knows {known}"
        )
    if "mask" in example and (mask_size := example["mask"].shape[:2]) != (image_size := example["image"].shape[:2]):
        raise Fault(f"mask must have the size of its image, {list(image_size)}, got {list(mask_size)}")
    for step in steps:
        if isinstance(step, Colour) and step.channels not in (None, channels):
            raise Fault(
                f"augment.{step.name} must be given {step.channels} channels, got {channels}; "
                "leave it out, or set data.channels: 3"
            )
        if "landmarks" in example and isinstance(step, Geometry) and step.mirrors and step.pairs is None:
            raise Fault(
                f"augment.{step.name}.pairs must name the landmarks that change places with their mirror image, "
                "as in [[0, 1], [3, 4]], got nothing; [] if there are none"
            )


def _size(image: tf.Tensor) -> tuple[Any, ...]:
    """Height and width, as numbers where they are static."""
    return tuple(known or tf.shape(image)[axis] for axis, known in enumerate(image.shape[:2]))


def _result(group: Sequence[Geometry], extent: tuple[Any, ...]) -> tuple[Any, ...]:
    return next((step.size for step in reversed(group) if step.size), extent)


def _fill(group: Sequence[Geometry]) -> str:
    return next((step.fill for step in group if step.fill), "nearest")


def _placed(
    group: Sequence[Geometry], numbers: Sequence[tf.Tensor], extent: tuple[Any, ...], before: tf.Tensor
) -> Move:
    """The matrices of a group multiplied and its fields added up; a field is drawn over the group's result."""
    matrix, nodes = None, None
    for step, draws in zip(group, numbers, strict=True):
        after = _floats(step.size) if step.size else before
        placement = step.place(draws, before, after)
        matrix = placement.matrix if matrix is None else tf.matmul(matrix, placement.matrix)
        if placement.nodes is not None:
            nodes = placement.nodes if nodes is None else nodes + placement.nodes
        before = after
    return Move(Placement(matrix, nodes), extent, _result(group, extent), group)


def _floats(size: tuple[Any, ...]) -> tf.Tensor:
    return tf.stack([tf.cast(side, tf.float32) for side in size])


def _read(pixels: tf.Tensor, move: Move, key: str, own: bool) -> tf.Tensor:
    """Pixels under a move, by the cheapest way that is right."""
    if key == "mask" and pixels.shape.rank == 2:
        return _read(pixels[..., None], move, key, own)[..., 0]
    (matrix, nodes), size = move.placement, move.size
    fill = _fill(move.steps)
    if all(step.exact for step in move.steps):
        values = warp.gather(pixels, matrix, size, fill=fill)
    elif key == "mask":
        values = warp.sample_nearest(pixels, matrix, size, fill=fill, nodes=nodes)
    elif own and nodes is None:
        values = warp.resample(pixels, matrix, size, fill=fill)
    else:
        upright = all(step.exact or step.upright for step in move.steps)
        values = warp.sample(pixels, matrix, size, fill=fill, nodes=nodes, upright=upright)
    static = [side if isinstance(side, int) else None for side in size]
    return tf.ensure_shape(values, [*static, pixels.shape[-1]])


def _recoloured(image: tf.Tensor, group: Sequence[Colour], numbers: Sequence[tf.Tensor]) -> tf.Tensor:
    recoloured = tf.cast(image, tf.float32)
    for step, draws in zip(group, numbers, strict=True):
        recoloured = step.change(recoloured, draws)
    return tf.ensure_shape(tf.saturate_cast(tf.round(recoloured), tf.uint8), image.shape)


def _followed(example: dict[str, Any], move: Move) -> dict[str, Any]:
    """Boxes, proposals and landmarks, where the pixels have gone; a steering angle, the other way round in a mirror."""
    values: dict[str, Any] = {
        key: _moved_boxes(tf.convert_to_tensor(example[key], tf.float32), move)
        for key in ("boxes", "proposals")
        if key in example
    }
    if "landmarks" in example:
        values["landmarks"] = _moved_landmarks(tf.convert_to_tensor(example["landmarks"], tf.float32), move)
    if "angle" in example:
        angle = tf.convert_to_tensor(example["angle"], tf.float32)
        values["angle"] = tf.where(_is_mirrored(move), -angle, angle)
    return values


def _all_followed(examples: dict[str, Any], move: Move) -> dict[str, Any]:
    """`_followed` for each example of a batch."""
    moved = {key: examples[key] for key in ("boxes", "proposals", "landmarks", "angle") if key in examples}
    if not moved:
        return {}

    def one(row: tuple[dict[str, Any], list[tf.Tensor]]) -> dict[str, Any]:
        return _followed(row[0], move._replace(placement=Placement(*row[1])))

    placement = [values for values in move.placement if values is not None]
    found: dict[str, Any] = tf.vectorized_map(one, (moved, placement))
    return found


def _is_mirrored(move: Move) -> tf.Tensor:
    return tf.linalg.det(move.placement.matrix[:2, :2]) < 0


def _moved_points(points: tf.Tensor, move: Move) -> tf.Tensor:
    """Points (N, 2) of x and y in [0, 1] of the source, in [0, 1] of the result."""
    pixels = points * _floats(move.extent[::-1]) - 0.5
    placement, size = move.placement, move.size
    return (warp.transform_points(pixels, placement.matrix, size, placement.nodes) + 0.5) / _floats(size[::-1])


def _moved_boxes(boxes: tf.Tensor, move: Move) -> tf.Tensor:
    """A warp bends the sides of a box: then more points than the corners are followed."""
    many = 2 if move.placement.nodes is None else 9
    along, ends = tf.linspace(0.0, 1.0, many), tf.constant([0.0, 1.0])
    across = tf.concat(
        [tf.repeat(ends, many), tf.tile(along, [2])], axis=0
    )  # of the two upright sides, then the others
    down = tf.concat([tf.tile(along, [2]), tf.repeat(ends, many)], axis=0)
    left, top, right, bottom = (edge[:, None] for edge in tf.unstack(tf.reshape(boxes, [-1, 4]), axis=1))
    around = tf.stack([left + across * (right - left), top + down * (bottom - top)], axis=-1)
    points = tf.reshape(_moved_points(tf.reshape(around, [-1, 2]), move), tf.shape(around))
    low, high = tf.reduce_min(points, axis=1), tf.reduce_max(points, axis=1)
    inner_low, inner_high = tf.clip_by_value(low, 0.0, 1.0), tf.clip_by_value(high, 0.0, 1.0)
    whole, inside = tf.reduce_prod(high - low, axis=1), tf.reduce_prod(inner_high - inner_low, axis=1)
    real = (right > left)[:, 0] & (bottom > top)[:, 0]
    is_kept = real & (inside >= KEPT * whole)
    boxes_ = tf.where(is_kept[:, None], tf.concat([inner_low, inner_high], axis=1), tf.zeros([]))
    return tf.ensure_shape(tf.reshape(boxes_, tf.shape(boxes)), boxes.shape)


def _moved_landmarks(landmarks: tf.Tensor, move: Move) -> tf.Tensor:
    flat = tf.reshape(landmarks, [-1, 3])
    points = _moved_points(flat[:, :2], move)
    inside = tf.reduce_all((points >= 0) & (points <= 1), axis=1)
    visibility = tf.where(inside, flat[:, 2], tf.zeros([]))
    landmarks_ = tf.reshape(tf.concat([points, visibility[:, None]], axis=1), tf.shape(landmarks))
    mirrored = _is_mirrored(move)
    for first, second in {pair for step in move.steps for pair in step.pairs or ()}:
        order = list(range(landmarks.shape[-2]))
        order[first], order[second] = second, first
        landmarks_ = tf.where(mirrored, tf.gather(landmarks_, order, axis=-2), landmarks_)
    return tf.ensure_shape(landmarks_, landmarks.shape)
