"""Films of cut-outs that move in front of a photograph and hide each other: every box and every identity is exact.

The cut-outs and photographs are those of `composites`. A thing comes in at the left or at the right and goes out at the
other side, on a straight line or on a curve. Of two things that meet, the later one hides the earlier one. A film is a
function of its seed, a frame one of its number.
"""

from typing import NamedTuple

import numpy as np

from cnn_keras.data.sources.synthetic import composites
from cnn_keras.data.sources.synthetic.composites import INK, Layout

CLASSES = 3  # of the cut-outs, so that things of one class meet


class Truth(NamedTuple):
    """What is in a frame, M things of which something is seen."""

    ids: np.ndarray  # int64 (M,), from 1, the same in all frames
    boxes: np.ndarray  # float64 (M, 4), left, top, right, bottom in pixels: the whole thing, cut at the border
    classes: np.ndarray  # int64 (M,), rows of `Film.classes`
    visible: np.ndarray  # float64 (M,), in (0, 1]: the share of the thing that is not hidden and in the frame


class Thing(NamedTuple):
    """Something that crosses the film."""

    pixels: np.ndarray  # uint8 (height, width, 4), RGB and alpha
    label: int
    path: np.ndarray  # float64 (3, 2), x and y of the centre: the control points of a quadratic Bézier curve
    start: int  # frame; may be before the first
    duration: int  # frames


class Film(NamedTuple):
    """A square film."""

    background: np.ndarray  # uint8 (side, side, 3)
    things: tuple[Thing, ...]  # the last one is in front
    classes: tuple[str, ...]
    frames: int

    def frame(self, number: int) -> tuple[np.ndarray, Truth]:
        """The pixels of a frame, uint8 (side, side, 3), and what is in it."""
        canvas, side = self.background.copy(), len(self.background)
        owner = np.zeros((side, side), np.int64)  # the thing that is seen at a pixel
        corners = {row: _corner(thing, number) for row, thing in enumerate(self.things, 1) if _is_on(thing, number)}
        for row, (left, top) in corners.items():
            pixels = self.things[row - 1].pixels
            height, width = pixels.shape[:2]
            inside = pixels[max(0, -top) : max(0, side - top), max(0, -left) : max(0, side - left)]
            place = slice(max(0, top), max(0, top + height)), slice(max(0, left), max(0, left + width))
            alpha = inside[..., 3:] / 255
            canvas[place] = np.round(canvas[place] * (1 - alpha) + inside[..., :3] * alpha)
            owner[place][inside[..., 3] >= INK] = row
        seen = np.bincount(owner.ravel(), minlength=len(self.things) + 1)
        ids = np.array([row for row in corners if seen[row]], np.int64)
        things = [self.things[row - 1] for row in ids]
        low = np.array([corners[row] for row in ids], np.float64).reshape(-1, 2)
        high = low + np.array([thing.pixels.shape[1::-1] for thing in things]).reshape(-1, 2)
        whole = np.array([(thing.pixels[..., 3] >= INK).sum() for thing in things])
        boxes = np.clip(np.concatenate([low, high], axis=1), 0, side)
        return canvas, Truth(ids, boxes, np.array([thing.label for thing in things], np.int64), seen[ids] / whole)


def film(*, frames: int = 150, side: int = 240, things: int = 10, seed: int = 0) -> Film:
    """A film of scikit-learn's handwritten digits in front of one of its photographs.

    Args:
        side: of the frame, in pixels.
        things: how many cross it in all.
        seed: of everything drawn.
    """
    generator = np.random.default_rng([seed, 3])
    cut_outs = composites.cut_outs("digits", None, seed)
    classes = tuple(str(name) for name in generator.permutation(list(cut_outs))[:CLASSES])
    background = composites.background(composites.photographs_of("sklearn"), side, generator)
    layout = Layout(side, (things, things), (0.12, 0.22))
    drawn = []
    for _ in range(things):
        label = int(generator.integers(CLASSES))
        options = cut_outs[classes[label]]
        pixels = composites.resized(options[int(generator.integers(len(options)))], layout, generator)
        duration = int(generator.integers(frames // 3, frames))
        start = int(generator.integers(-duration // 2, frames - duration // 2))
        drawn.append(Thing(pixels, label, _path(max(pixels.shape), side, generator), start, duration))
    return Film(background, tuple(drawn), classes, frames)


def _path(longer: int, side: int, generator: np.random.Generator) -> np.ndarray:
    """From beyond one side to beyond the other; half of the paths are bent."""
    beyond = longer / 2 + 1
    ends = np.array([[-beyond, 0], [side + beyond, 0]])[:: generator.choice([1, -1])]
    ends[:, 1] = generator.uniform(0.2, 0.8, 2) * side
    bend = [0, generator.choice([0, 1]) * generator.uniform(-0.6, 0.6) * side]
    return np.array([ends[0], ends.mean(axis=0) + bend, ends[1]])


def _is_on(thing: Thing, number: int) -> bool:
    return 0 <= number - thing.start <= thing.duration


def _corner(thing: Thing, number: int) -> tuple[int, int]:
    """Left and top of a thing in a frame."""
    time = (number - thing.start) / thing.duration
    middle = np.array([(1 - time) ** 2, 2 * time * (1 - time), time**2]) @ thing.path
    left, top = np.round(middle - np.array(thing.pixels.shape[1::-1]) / 2).astype(int)
    return int(left), int(top)
