"""Computed prints and screens of a picture, and what a camera makes of it: stand-ins for a presentation attack.

Pictures are uint8 (height, width, 3), RGB. They are no substitute for real paper, real screens or masks.
"""

import cv2
import numpy as np

SIDE = 448  # pixels of the height of what is photographed anew


def enlarged(image: np.ndarray) -> np.ndarray:
    """The picture, SIDE pixels high."""
    size = (round(SIDE * image.shape[1] / image.shape[0]), SIDE)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_CUBIC))


def printed(image: np.ndarray, pitch: float = 6.0) -> np.ndarray:
    """A halftone: the darker, the larger the dots, which stand in rows of 45°; black is not black, white not white."""
    y, x = np.mgrid[: image.shape[0], : image.shape[1]] * (np.pi / pitch)
    dots = (np.cos(x + y) * np.cos(x - y) + 1) / 2
    ink = 1 / (1 + np.exp(-12 * (image / 255 - dots[..., None])))
    return (255 * (0.15 + 0.75 * ink)).astype(np.uint8)


def screen(image: np.ndarray, pitch: int = 3) -> np.ndarray:
    """A display: each of its pixels has a red, a green and a blue stripe, and a dark line below."""
    grid = np.full(image.shape, 0.35)
    for channel in range(3):
        grid[:, channel::pitch, channel] = 1
    grid[::pitch] *= 0.5
    return np.clip(image * grid * (1.1 / grid.mean()), 0, 255).astype(np.uint8)


def photographed(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """As a camera sees a flat picture: a bit turned and nearer or farther, out of focus, with noise."""
    height, width = image.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), rng.uniform(-3, 3), rng.uniform(0.93, 1.07))
    moved = cv2.warpAffine(image, turn, (width, height), borderMode=cv2.BORDER_REFLECT)
    blurred = cv2.GaussianBlur(moved, (0, 0), rng.uniform(0.6, 1.2)).astype(float)
    return np.clip(blurred + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8)
