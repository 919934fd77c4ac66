"""Cards on photographs: one in a picture or none, a handwritten digit on it, its four corners known exactly.

A card is turned, tilted in perspective, and may stick out of the picture; its corners are landmarks by the names of
CORNERS, as the digit stands, and those outside the picture are not visible. The digits are scikit-learn's, the
photographs its two. A picture is a function of the seed and its number; the splits share neither a digit nor a part of
a photograph.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from cnn_keras.data.annotation import Annotations, Item, Landmark, Object
from cnn_keras.data.files.image_file import encode_png
from cnn_keras.data.sources.synthetic import composites
from cnn_keras.errors import Fault

CORNERS = ("top left", "top right", "bottom right", "bottom left")
CARD = (112, 80)  # height, width in pixels of a card before it is put down
DIGIT = 64  # pixels of the digit's side on it
INSIDE = 0.35  # of the picture: how far from its middle the middle of a card may be


def read(
    *,
    count: int = 1000,
    side: int = 128,
    scale: tuple[float, float] = (0.4, 0.8),
    tilt: float = 40.0,
    empty: float = 0.15,
    seed: int = 0,
) -> Annotations:
    """`count` pictures: seven tenths to train on, a tenth to validate, a fifth to test.

    Args:
        side: of the square picture, in pixels.
        scale: height of a card as a share of the picture, least and most.
        tilt: degrees by which a card may be turned to either side.
        empty: share of pictures without a card.
        seed: of everything drawn.

    Raises:
        Fault: a count, side or scale out of range.
    """
    if count < 10:
        raise Fault(f"data.cards.count must be at least 10, so that each split has a picture, got {count}")
    if side < 32:
        raise Fault(f"data.cards.side must be at least 32 pixels, got {side}")
    if not 0 < scale[0] <= scale[1] <= 1:
        raise Fault(f"data.cards.scale must be [least, most], above 0 and at most 1, got {list(scale)}")
    digits, photographs = composites.cut_outs("digits", None, seed), composites.photographs_of("sklearn")
    settings: dict[str, Any] = {"side": side, "scale": tuple(scale), "tilt": tilt, "empty": empty}
    items = []
    for split, (low, high) in composites.SHARES.items():
        stock = composites.stock(digits, photographs, low, high, ink=True)
        for number in range(round(low * count), round(high * count)):
            draw = partial(_scene, stock, np.array([seed, number]), **settings)
            items.append(Item(f"{number:05d}", partial(_encoded, draw), draw()[1], split))
    return Annotations(items, tuple(digits))


def _encoded(draw: Callable[[], tuple[np.ndarray, Any]]) -> bytes:
    return encode_png(draw()[0])


def _scene(
    stock: composites.Stock, seed: np.ndarray, *, side: int, scale: tuple[float, float], tilt: float, empty: float
) -> tuple[np.ndarray, tuple[Object, ...]]:
    """The pixels of a picture, uint8 (side, side, 3), and the card in it."""
    generator = np.random.default_rng(seed)
    canvas = composites.background(stock.photographs, side, generator)
    if generator.random() < empty:
        return canvas, ()
    name = str(generator.choice(list(stock.cutouts)))
    digit = stock.cutouts[name][int(generator.integers(len(stock.cutouts[name])))]
    corners = _corners(generator, side, generator.uniform(*scale) * side, np.deg2rad(generator.uniform(-tilt, tilt)))
    laid = np.asarray(
        _card(digit, generator).transform(
            (side, side), Image.Transform.PERSPECTIVE, _homography(corners), Image.Resampling.BICUBIC
        )
    )
    alpha = laid[..., 3:].astype(np.float32) / 255
    pixels = np.round(canvas * (1 - alpha) + laid[..., :3] * alpha).astype(np.uint8)
    visible = laid[..., 3] >= composites.INK
    rows, columns = np.flatnonzero(visible.any(axis=1)), np.flatnonzero(visible.any(axis=0))
    box = (float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))
    inside = ((corners >= 0) & (corners <= side)).all(axis=1)
    landmarks = [
        Landmark(*corner) for corner in zip(CORNERS, *corners.T.tolist(), np.asarray(inside).tolist(), strict=True)
    ]
    return pixels, (Object(box, name, landmarks=tuple(landmarks)),)


def _corners(generator: np.random.Generator, side: int, height: float, angle: float) -> np.ndarray:
    """Where a card's corners lie, x and y in pixels of the picture: float64 (4, 2)."""
    half = np.array([CARD[1] / CARD[0], 1.0]) * height / 2
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half
    corners += generator.uniform(-0.08, 0.08, (4, 2)) * height  # seen from the side
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return corners @ turn + side * (0.5 + generator.uniform(-INSIDE, INSIDE, 2))


def _card(digit: np.ndarray, generator: np.random.Generator) -> Image.Image:
    """A light card with a thin frame and the digit on it, in colours of its own."""
    height, width = CARD
    pixels = np.full((height, width, 4), 255, np.uint8)
    pixels[..., :3] = generator.integers(190, 256, 3)
    ink = generator.integers(0, 110, 3)
    pixels[4:-4, 4:-4, :3] = ink
    pixels[6:-6, 6:-6, :3] = pixels[0, 0, :3]
    canvas = np.asarray(
        Image.fromarray(np.ascontiguousarray(digit[..., 3])).resize((DIGIT, DIGIT), Image.Resampling.BILINEAR)
    )
    top, left = (height - DIGIT) // 2, (width - DIGIT) // 2
    window, share = pixels[top : top + DIGIT, left : left + DIGIT, :3], canvas[..., None].astype(np.float32) / 255
    window[:] = np.round(window * (1 - share) + ink * share)
    return Image.fromarray(pixels, "RGBA")


def _homography(corners: np.ndarray) -> list[float]:
    """The eight numbers of Pillow's perspective: where on the card a pixel of the picture is taken from."""
    height, width = CARD
    rows, targets = [], []
    for (x, y), (u, v) in zip(corners, [(0, 0), (width, 0), (width, height), (0, height)], strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        targets += [u, v]
    return np.linalg.solve(np.array(rows), np.array(targets, np.float64)).tolist()
