"""Scenes made up of cut-outs on photographs: boxes and masks are exact, because the things were put there.

Cut-outs are scikit-learn's handwritten digits, MNIST's, or a folder of pictures with transparency, such as Tux Paint's
stamps; backgrounds are windows of the photographs in scikit-learn or scikit-image. A scene is a function of the seed
and its number. The splits share neither a cut-out nor a part of a photograph.
"""

import importlib.util
import io
import zlib
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from cnn_keras.data import run_length
from cnn_keras.data.annotation import Annotations, Item, Object
from cnn_keras.data.files import image_file, input_file
from cnn_keras.data.files.file_tree import describe_path, natural
from cnn_keras.data.files.image_file import encode_png
from cnn_keras.data.sources import classification
from cnn_keras.errors import Fault, Unreadable

SHARES = {"train": (0.0, 0.7), "validation": (0.7, 0.8), "test": (0.8, 1.0)}  # of cut-outs and photographs alike
INK = 128  # alpha from which a pixel belongs to the thing
APART = 0.1  # of the smaller of two things may be hidden
TRIES = 20  # of a place where a thing does not hide another
SKIMAGE = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png", "brick.png", "grass.png",
           "gravel.png")  # fmt: skip


class Stock(NamedTuple):
    """What the scenes of one split are made of."""

    cutouts: dict[str, Sequence[np.ndarray]]  # by class: uint8 (height, width, 4), RGB and alpha
    ink: bool  # handwriting: light on what is dark and dark on what is light, as people write
    photographs: Sequence[np.ndarray]  # uint8 (height, width, 3)


class Layout(NamedTuple):
    """How a scene is laid out."""

    side: int  # pixels of the square canvas
    things: tuple[int, int]  # fewest and most
    scale: tuple[float, float]  # longer side of a thing, as a share of the canvas, least and most


def read(
    *,
    count: int = 1000,
    side: int = 160,
    things: Sequence[int] = (1, 5),
    scale: Sequence[float] = (0.15, 0.4),
    cutouts: str = "digits",
    backgrounds: str = "sklearn",
    path: Path | None = None,
    seed: int = 0,
) -> Annotations:
    """`count` scenes: seven tenths to train on, a tenth to validate, a fifth to test.

    Args:
        side: of the square canvas, in pixels.
        things: fewest and most in a scene; one that finds no place is left out.
        scale: least and largest longer side of a thing, as a share of the canvas.
        cutouts: "digits" (scikit-learn, 8×8 made larger), "mnist5k" (`make samples`), or "folder": pictures with
            transparency below `path`, a sub-folder for each class.
        backgrounds: "sklearn" (two photographs) or "skimage" (eight; `make samples`).
        seed: of everything drawn.
    """
    _check(count, side, things, scale)
    layout = Layout(side, (things[0], things[1]), (scale[0], scale[1]))
    cutouts_of, photographs = cut_outs(cutouts, path, seed), photographs_of(backgrounds)
    items: list[Item] = []
    for split, (low, high) in SHARES.items():
        draw = partial(_scene, stock(cutouts_of, photographs, low, high, ink=cutouts != "folder"), layout, seed)
        numbers = range(round(low * count), round(high * count))
        items += [Item(f"{number:05d}", partial(_encoded, draw, number), draw(number)[1], split) for number in numbers]
    return Annotations(items, tuple(cutouts_of))


def stock(
    cutouts_of: dict[str, list[np.ndarray]], photographs: Sequence[np.ndarray], low: float, high: float, *, ink: bool
) -> Stock:
    """What a split is made of that takes the share from `low` to `high` of every class and of every photograph."""
    widths = [photograph.shape[1] for photograph in photographs]
    parts = [
        photograph[:, int(low * width) : int(high * width)]
        for photograph, width in zip(photographs, widths, strict=True)
    ]
    return Stock({name: _part(options, low, high) for name, options in cutouts_of.items()}, ink, parts)


def _check(count: int, side: int, things: Sequence[int], scale: Sequence[float]) -> None:
    if count < 10:
        raise Fault(f"data.composites.count must be at least 10, so that each split has a scene, got {count}")
    if side < 32:
        raise Fault(f"data.composites.side must be at least 32 pixels, got {side}")
    if not 0 <= things[0] <= things[1] or things[1] < 1:
        raise Fault(f"data.composites.things must be [fewest, most], got {list(things)}")
    if not 0 < scale[0] <= scale[1] <= 1:
        raise Fault(f"data.composites.scale must be [least, most], above 0 and at most 1, got {list(scale)}")


def _scene(stock: Stock, layout: Layout, seed: int, number: int) -> tuple[np.ndarray, tuple[Object, ...]]:
    """The pixels of a scene, uint8 (side, side, 3), and what is in it."""
    generator = np.random.default_rng([seed, number])
    canvas = background(stock.photographs, layout.side, generator).astype(np.float32)
    owner = np.zeros((layout.side, layout.side), np.int32)  # the number of the thing that is seen at a pixel
    names: list[str] = []
    for _ in range(generator.integers(layout.things[0], layout.things[1] + 1)):
        name = str(generator.choice(list(stock.cutouts)))
        options = stock.cutouts[name]
        thing = resized(options[int(generator.integers(len(options)))], layout, generator)
        place = _place(thing[..., 3] >= INK, owner, generator)
        if place is None:
            continue
        names.append(name)
        window = tuple(slice(start, start + size) for start, size in zip(place, thing.shape, strict=False))
        alpha = thing[..., 3:].astype(np.float32) / 255
        colours = _contrasting(thing, canvas[window]) if stock.ink else thing[..., :3]
        canvas[window] = canvas[window] * (1 - alpha) + colours * alpha
        owner[window][thing[..., 3] >= INK] = len(names)
    objects = tuple(_object(owner == row, name) for row, name in enumerate(names, 1))
    return np.round(canvas).astype(np.uint8), objects


def _contrasting(thing: np.ndarray, ground: np.ndarray) -> np.ndarray:
    """A thing's colours, or their complements where both it and the ground are light, or both dark."""
    colours, visible = thing[..., :3], thing[..., 3] >= INK
    return 255 - colours if (colours[visible].mean() > 127) == (ground[visible].mean() > 127) else colours


def _object(mask: np.ndarray, name: str) -> Object:
    """What is seen of a thing: the box around its pixels, edges on the outside."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = (float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))
    return Object(box, name, mask=run_length.encode(mask))


def _place(mask: np.ndarray, owner: np.ndarray, generator: np.random.Generator) -> tuple[int, int] | None:
    """Top and left of a place where the thing hides little of what is there; None if none was found."""
    sizes = np.bincount(owner.ravel())
    for _ in range(TRIES):
        top, left = (int(generator.integers(0, owner.shape[axis] - mask.shape[axis] + 1)) for axis in (0, 1))
        under = owner[top : top + mask.shape[0], left : left + mask.shape[1]][mask]
        hidden = np.bincount(under, minlength=len(sizes))[1:]
        if (hidden <= APART * np.minimum(sizes[1:], mask.sum())).all():
            return top, left
    return None


def resized(cutout: np.ndarray, layout: Layout, generator: np.random.Generator) -> np.ndarray:
    """A cut-out at the size it has in a scene, cut to what can be seen of it."""
    longer = generator.uniform(*layout.scale) * layout.side
    factor = longer / max(cutout.shape[:2])
    size = tuple(max(4, round(length * factor)) for length in cutout.shape[1::-1])
    pixels = np.asarray(Image.fromarray(cutout, "RGBA").resize(size, Image.Resampling.BICUBIC))
    visible = pixels[..., 3] >= INK
    if not visible.any():
        return pixels
    rows, columns = np.flatnonzero(visible.any(axis=1)), np.flatnonzero(visible.any(axis=0))
    return pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def background(photographs: Sequence[np.ndarray], side: int, generator: np.random.Generator) -> np.ndarray:
    """A window of a photograph at a random scale, uint8 (side, side, 3)."""
    photograph = photographs[int(generator.integers(len(photographs)))]
    window = int(generator.uniform(0.4, 1.0) * min(photograph.shape[:2]))
    top, left = (int(generator.integers(0, photograph.shape[axis] - window + 1)) for axis in (0, 1))
    image = Image.fromarray(photograph[top : top + window, left : left + window])
    return np.asarray(image.resize((side, side), Image.Resampling.BILINEAR))


def cut_outs(kind: str, path: Path | None, seed: int) -> dict[str, list[np.ndarray]]:
    """Cut-outs by class, uint8 (height, width, 4), in an order that the seed shuffles.

    Raises:
        Fault: an unknown kind, a `path` with another kind than "folder", or fewer than three of a class.
    """
    if kind == "folder":
        cutouts_of = _folder(path)
    elif path is not None:
        raise Fault("data.path goes with data.composites.cutouts: folder, and only with it")
    elif kind in ("digits", "mnist5k"):
        cutouts_of = _digits(kind, np.random.default_rng([seed, 1]))
    else:
        raise Fault(f"data.composites.cutouts must be digits, mnist5k or folder, got {kind!r}")
    if scarce := [name for name, options in cutouts_of.items() if len(options) < 3]:
        raise Fault(
            f"cut-outs of {scarce[0]!r} must be at least 3, one for each split, got {len(cutouts_of[scarce[0]])}"
        )
    for name, options in cutouts_of.items():
        order = np.random.default_rng([seed, zlib.crc32(name.encode())]).permutation(len(options))
        cutouts_of[name] = [options[row] for row in order]
    return cutouts_of


def _part(options: Sequence[np.ndarray], low: float, high: float) -> Sequence[np.ndarray]:
    """A share of the cut-outs, at least one for each split."""
    count = len(options)
    bounds = {0.0: 0, 0.7: min(max(1, round(0.7 * count)), count - 2), 1.0: count}
    bounds[0.8] = min(max(bounds[0.7] + 1, round(0.8 * count)), count - 1)
    return options[bounds[low] : bounds[high]]


def _digits(kind: str, generator: np.random.Generator) -> dict[str, list[np.ndarray]]:
    """Handwriting as cut-outs: its ink is the alpha; its colour is drawn, dark or light."""
    if kind == "digits":
        from sklearn.datasets import load_digits  # start-up: for these cut-outs alone

        images, labels = load_digits(return_X_y=True)
        images = np.round(images.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    else:
        items = classification.mnist5k()
        images = np.stack([np.asarray(Image.open(_stream(item.read))) for item in items])
        labels = np.array([int(item.label) for item in items])
    cutouts_of: dict[str, list[np.ndarray]] = {str(label): [] for label in range(10)}
    for image, label in zip(images, labels, strict=True):
        large = np.asarray(Image.fromarray(image).resize((64, 64), Image.Resampling.BICUBIC))
        alpha = np.clip((large.astype(np.float32) - 64) * 2, 0, 255).astype(np.uint8)
        colour = generator.integers(0, 90, 3) + (165 if generator.random() < 0.5 else 0)
        pixels = np.broadcast_to(colour.astype(np.uint8), (64, 64, 3))
        cutouts_of[str(label)].append(np.concatenate([pixels, alpha[..., None]], axis=-1))
    return cutouts_of


def _stream(read: Callable[[], bytes]) -> io.BytesIO:
    return io.BytesIO(read())


def _folder(path: Path | None) -> dict[str, list[np.ndarray]]:
    """Pictures with transparency, a sub-folder for each class."""
    if path is None or not path.is_dir():
        path_there = "nothing" if path is None else describe_path(path)
        raise Fault(f"data.path must be a folder with a sub-folder of cut-outs for each class, got {path_there}")
    cutouts_of: dict[str, list[np.ndarray]] = {}
    for folder in sorted((inner for inner in path.iterdir() if inner.is_dir()), key=lambda inner: natural(inner.name)):
        options = [np.asarray(_opened(file)) for file in sorted(folder.rglob("*.png"))]
        options = [pixels for pixels in options if 0 < (pixels[..., 3] >= INK).mean() < 1]  # else it is no cut-out
        if options:
            cutouts_of[folder.name] = options
    if not cutouts_of:
        raise Fault(f"data.path must hold PNG files with transparency, got {describe_path(path)}", code=Fault.DATA)
    return cutouts_of


def _opened(file: Path) -> Image.Image:
    try:
        data, _ = image_file.normalize(input_file.read_bytes(file))
        with Image.open(io.BytesIO(data)) as image:
            return image.convert("RGBA")
    except (Unreadable, *image_file.BROKEN) as error:
        raise Fault(f"{file} must be a readable picture: {image_file.reason(error)}", code=Fault.DATA) from error


@cache
def photographs_of(kind: str) -> list[np.ndarray]:
    """Photographs for backgrounds, "sklearn" or "skimage": uint8 (height, width, 3), RGB.

    Raises:
        Fault: an unknown kind, or its package is not installed.
    """
    if kind == "sklearn":
        from sklearn.datasets import load_sample_images  # start-up: for these backgrounds alone

        return [np.asarray(image) for image in load_sample_images().images]
    if kind != "skimage":
        raise Fault(f"data.composites.backgrounds must be sklearn or skimage, got {kind!r}")
    package = importlib.util.find_spec("skimage")  # found, not imported: its own needs may be missing
    if package is None or package.origin is None:
        raise Fault("data.composites.backgrounds: skimage needs scikit-image; `make samples` installs it")
    folder = Path(package.origin).parent / "data"
    return [np.asarray(_opened(folder / name).convert("RGB")) for name in SKIMAGE]


def _encoded(draw: Callable[[int], tuple[Any, ...]], number: int) -> bytes:
    return encode_png(draw(number)[0])
