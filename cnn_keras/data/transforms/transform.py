"""Steps of an augmentation, and the chain that runs them together.

A step draws numbers from a seed and says what they mean: a `Geometry` turns them into a matrix, a `Colour` into a
change of pixel values. A `Chain` multiplies the matrices of neighbouring geometry and reads the picture once, runs
neighbouring colours in one pass without rounding in between, in the graph, one example at a time; batches of large
pictures go through `opencv_chain`, in a fraction of the time. Both move everything else an example carries:

    boxes      float32 (…, 4): left, top, right, bottom in [0, 1]. Each becomes the box around what it held, clipped
               to the picture; one that keeps less than KEPT of its area, and padding, is all zeros. Rows stay where
               they are, so that what belongs to them (`classes`) fits.
    proposals  float32 (…, 4): as boxes.
    landmarks  float32 (…, 3): x, y in [0, 1] and 1 for visible; one that leaves the picture is no longer visible.
    mask       integers (height, width) or (height, width, channels): the nearest pixel; 0 beyond a black border.
    angle      float32 (), of a steering wheel: its sign changes where the picture is mirrored, nothing else does.  A
               `throttle` stays.
    route      (height, width, channels), a patch of a map seen from above: mirrored as the picture is, else it stays.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any, NamedTuple

import tensorflow as tf

from cnn_keras.data.transforms import warp
from cnn_keras.errors import Fault

UNMOVED = frozenset({"id", "label", "classes", "throttle"})  # geometry does not touch these
MOVED = frozenset({"image", "boxes", "proposals", "landmarks", "mask", "angle", "route"})
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
    moves_pixels: bool = False  # and nothing else that an example may hold


class Move(NamedTuple):
    """One reading of the picture: from pixels of a source of `extent` to a result of `size`, (height, width)."""

    placement: Placement
    extent: tuple[Any, ...]
    size: tuple[Any, ...]
    steps: Sequence[Geometry]


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
        # Colours alone or geometry alone, which is what `_group_key` sorts by.
        self.groups: list[tuple[Any, ...]] = [tuple(group) for _, group in itertools.groupby(self.steps, _group_key())]
        # A program for each group: in one for all, XLA would read the picture anew for every use of a colour.
        self._programs = [
            tf.function(partial(_one_pass, group), jit_compile=True, autograph=False) for group in self.groups
        ]

    @tf.autograph.experimental.do_not_convert
    def __call__(self, example: dict[str, Any], seeds: Sequence[tf.Tensor]) -> dict[str, Any]:
        """Run every step with its seed, int32 (2,) each."""
        example = {**example, "image": tf.convert_to_tensor(example["image"])}
        check_example(example, self.steps)
        draws = iter([step.draw(seed) for step, seed in zip(self.steps, seeds, strict=True)])
        for group, program in zip(self.groups, self._programs, strict=True):
            numbers = list(itertools.islice(draws, len(group)))
            pixels: dict[str, Any] = {
                key: tf.convert_to_tensor(example[key]) for key in ("image", "mask") if key in example
            }
            if self._pays(pixels["image"]):
                image, placement = program(pixels, numbers)
            else:
                image, placement = _one_pass(group, pixels, numbers, own=True)
            if placement is not None:
                extent = _size(pixels["image"])
                image |= moved_annotations(example, Move(placement, extent, result_size(group, extent), group))
            example = {**example, **image}
        return example

    def _pays(self, image: tf.Tensor) -> bool:
        static = image.shape.is_fully_defined()
        if self.compiled is None:
            return static and image.shape[0] * image.shape[1] >= COMPILED
        return static and self.compiled


def _one_pass(
    group: Sequence[Any], pixels: dict[str, Any], numbers: Sequence[Any], own: bool = False
) -> tuple[dict[str, Any], Placement | None]:
    """One pass: the arrays of pixels after a group, and what its geometry drew."""
    if isinstance(group[0], Colour):
        return {**pixels, "image": _with_colours(pixels["image"], group, numbers)}, None
    image = pixels["image"]
    move = compose_move(group, numbers, _size(image), tf.cast(tf.shape(image)[:2], tf.float32))
    return {key: _read(values, move, key, own) for key, values in pixels.items()}, move.placement


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


def _group_key() -> Callable[[Step], tuple[Any, ...]]:
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


def check_example(example: dict[str, Any], steps: Sequence[Step]) -> None:
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
        if isinstance(step, Colour) and step.moves_pixels and (kept := sorted(example.keys() & MOVED - {"image"})):
            raise Fault(f"augment.{step.name} moves the picture alone, got {', '.join(kept)} too; take elastic")
        if "landmarks" in example and isinstance(step, Geometry) and step.mirrors and step.pairs is None:
            raise Fault(
                f"augment.{step.name}.pairs must name the landmarks that change places with their mirror image, "
                "as in [[0, 1], [3, 4]], got nothing; [] if there are none"
            )


def _size(image: tf.Tensor) -> tuple[Any, ...]:
    """Height and width, as numbers where they are static."""
    return tuple(known or tf.shape(image)[axis] for axis, known in enumerate(image.shape[:2]))


def result_size(group: Sequence[Geometry], extent: tuple[Any, ...]) -> tuple[Any, ...]:
    return next((step.size for step in reversed(group) if step.size), extent)


def border_fill(group: Sequence[Geometry]) -> str:
    return next((step.fill for step in group if step.fill), "nearest")


def compose_move(
    group: Sequence[Geometry], numbers: Sequence[tf.Tensor], extent: tuple[Any, ...], before: tf.Tensor
) -> Move:
    """The matrices of a group multiplied and its fields added up; a field is drawn over the group's result."""
    matrix, nodes = None, None
    for step, draws in zip(group, numbers, strict=True):
        after = as_floats(step.size) if step.size else before
        placement = step.place(draws, before, after)
        matrix = placement.matrix if matrix is None else tf.matmul(matrix, placement.matrix)
        if placement.nodes is not None:
            nodes = placement.nodes if nodes is None else nodes + placement.nodes
        before = after
    return Move(Placement(matrix, nodes), extent, result_size(group, extent), group)


def as_floats(size: tuple[Any, ...]) -> tf.Tensor:
    return tf.stack([tf.cast(side, tf.float32) for side in size])


def _read(pixels: tf.Tensor, move: Move, key: str, own: bool) -> tf.Tensor:
    """Pixels under a move, by the cheapest way that is right."""
    if key == "mask" and pixels.shape.rank == 2:
        return _read(pixels[..., None], move, key, own)[..., 0]
    (matrix, nodes), size = move.placement, move.size
    fill = border_fill(move.steps)
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


def _with_colours(image: tf.Tensor, group: Sequence[Colour], numbers: Sequence[tf.Tensor]) -> tf.Tensor:
    recoloured = tf.cast(image, tf.float32)
    for step, draws in zip(group, numbers, strict=True):
        recoloured = step.change(recoloured, draws)
    return tf.ensure_shape(tf.saturate_cast(tf.round(recoloured), tf.uint8), image.shape)


def moved_annotations(example: dict[str, Any], move: Move) -> dict[str, Any]:
    """Boxes, proposals and landmarks, where the pixels have gone; angle and route the other way round in a mirror."""
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
    if "route" in example:
        values["route"] = tf.where(_is_mirrored(move), tf.reverse(example["route"], [1]), example["route"])
    return values


def _is_mirrored(move: Move) -> tf.Tensor:
    (a, b), (c, d) = (tf.unstack(row[:2]) for row in tf.unstack(move.placement.matrix)[:2])
    return a * d - b * c < 0


def _moved_points(points: tf.Tensor, move: Move) -> tf.Tensor:
    """Points (N, 2) of x and y in [0, 1] of the source, in [0, 1] of the result."""
    pixels = points * as_floats(move.extent[::-1]) - 0.5
    placement, size = move.placement, move.size
    return (warp.transform_points(pixels, placement.matrix, size, placement.nodes) + 0.5) / as_floats(size[::-1])


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
