"""Alphabets: letters of five of them in the typefaces that matplotlib brings, for learning to tell characters apart.

A letter is a class and a typeface's way to draw it an example, so that there are hundreds of classes with a dozen
examples each, as of Omniglot's handwritten characters. Nothing is needed that is not installed.
"""

import importlib.util
import unicodedata
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

FACES = ("DejaVuSans", "DejaVuSansMono", "DejaVuSerif", "STIXGeneral")  # families; each has four styles
PLAIN = "DejaVuSans.ttf"  # the typeface by which letters are judged to look alike
COMMON = 12  # typefaces that must have a letter
ALIKE = 0.9  # the correlation from which two letters are one: A of Latin, Greek and Cyrillic, and c of C
SIDE, INNER = 28, 20  # pixels of a picture, and of the longer side of the letter in its middle, as MNIST has them


def letters() -> list[str]:
    """The letters, without accents, that COMMON typefaces have; of those that look alike, the first."""
    characters_of = [_characters(file) for file in typefaces()]
    candidates = sorted(set().union(*characters_of))
    common = [
        letter
        for letter in candidates
        if _is_plain(letter) and sum(letter in characters for characters in characters_of) >= COMMON
    ]
    distinct: list[str] = []
    patterns = np.zeros((0, SIDE * SIDE))
    plain = next(file for file in typefaces() if file.name == PLAIN)
    for letter in common:
        if letter not in _characters(plain):
            continue
        pixels = draw(letter, plain).astype(float).ravel()
        pixels = (pixels - pixels.mean()) / np.linalg.norm(pixels - pixels.mean())
        if not len(patterns) or (patterns @ pixels).max() < ALIKE:
            distinct, patterns = [*distinct, letter], np.vstack([patterns, pixels])
    return distinct


def examples() -> Iterator[tuple[str, Path]]:
    """Every letter with each typeface that has it."""
    for letter in letters():
        yield from ((letter, file) for file in typefaces() if letter in _characters(file))


@cache
def typefaces() -> tuple[Path, ...]:
    """The font files."""
    spec: Any = importlib.util.find_spec("matplotlib")
    (root,) = spec.submodule_search_locations
    files = sorted(Path(root, "mpl-data", "fonts", "ttf").glob("*.ttf"))
    return tuple(file for file in files if file.stem.split("-")[0].startswith(FACES) and "Display" not in file.stem)


def draw(letter: str, typeface: Path) -> np.ndarray:
    """The letter, white on black, in the middle: uint8 (SIDE, SIDE, 1). Its longer side is INNER pixels."""
    font = _font(typeface, 4 * INNER)
    left, top, right, bottom = font.getbbox(letter)
    canvas = Image.new("L", (int(right - left), int(bottom - top)))
    ImageDraw.Draw(canvas).text((-left, -top), letter, fill=255, font=font)
    scale = INNER / max(canvas.size)
    small = canvas.resize([max(1, round(side * scale)) for side in canvas.size], Image.Resampling.LANCZOS)
    picture = Image.new("L", (SIDE, SIDE))
    picture.paste(small, ((SIDE - small.width) // 2, (SIDE - small.height) // 2))
    return np.asarray(picture)[..., None]


def _is_plain(letter: str) -> bool:
    return unicodedata.category(letter) in ("Lu", "Ll", "Lo") and not unicodedata.decomposition(letter)


@cache
def _characters(typeface: Path) -> frozenset[str]:
    from matplotlib.ft2font import FT2Font  # start-up: for this source alone

    return frozenset(map(chr, FT2Font(str(typeface)).get_charmap()))


@cache
def _font(typeface: Path, points: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(typeface, points)
