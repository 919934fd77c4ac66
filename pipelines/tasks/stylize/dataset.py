"""NamedImages and styles: the pictures of a style transfer, read, checked and brought to size.

`prepare` leaves `content/` (the pictures to paint, or a video's frames, PNG), `styles/` and `masks/`, `problems.csv`,
`data.json` and a contact sheet. For a network it also leaves TFRecord shards of windows cut from the training and
validation pictures, and `content/` holds the test pictures alone, whole: no picture is both learnt from and tested on.
"""

import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image
from rich.console import Console

from cnn_keras.data import records
from cnn_keras.data.files import durable
from cnn_keras.data.files.file_tree import IMAGE_SUFFIXES, describe_path, natural
from cnn_keras.data.files.image_file import normalize
from cnn_keras.data.image_decoding import decode
from cnn_keras.data.sources.classification import Item
from cnn_keras.data.sources.samples import artworks
from cnn_keras.errors import Fault, Unreadable
from pipelines.data import image_io, run_files, video_io
from pipelines.data import validation as data_validation
from pipelines.plots import image_grid
from pipelines.plots.image_grid import Array
from pipelines.tasks.stylize.config import Data, Picture

ALL = "photographs"  # the name of every photograph that is installed
SHOWN = 24  # pictures on the contact sheet
SMALLEST = 32  # pixels of a side: what a tower needs to have something to say


class NamedImage(NamedTuple):
    """A prepared picture: uint8 (height, width, 3), RGB."""

    name: str
    pixels: Array


def prepare(data: Data, folder: Path, *, learns: bool, seed: int, console: Console) -> dict[str, Any]:
    """Read and check the pictures; cut windows where a network learns from them."""
    names = _write_styles(data, folder)
    video = is_video(data.content)
    if video and learns:
        raise Fault("data.content must be a folder of pictures to train a network, got a video")
    facts: dict[str, Any] = {"kind": "video" if video else "pictures", "styles": names, "problems": {}}
    if video:
        facts |= _write_frames(data, folder / "content", console)
    else:
        parts, kinds = _write_pictures(data, folder, seed if learns else None, console)
        facts |= {"splits": parts, "problems": kinds}
    what = data.content.path or data.content.name
    paths = [path for kind in ("content", "styles", "masks") for path in sorted((folder / kind).glob("*"))]
    paths += sorted(folder.glob("*.tfrecord"))
    facts |= {"source": str(data.content.name or "files"), "location": str(what)}
    facts["digest"] = run_files.digest([[path.name, run_files.file_digest(path)] for path in paths])
    run_files.write_json(folder / "data.json", facts)
    _draw(folder, facts)
    counted = ", ".join(f"{count:,} {split}" for split, count in facts["splits"].items())
    console.print(f"          {counted}; styles {', '.join(names)}")
    return facts


def contents(folder: Path) -> list[NamedImage]:
    """The prepared pictures to paint, in order."""
    return [NamedImage(path.stem.partition("-")[2], load(path)) for path in sorted((folder / "content").glob("*.png"))]


def styles(folder: Path) -> list[NamedImage]:
    """The prepared styles, in the order of the recipe."""
    return [NamedImage(path.stem.partition("-")[2], load(path)) for path in sorted((folder / "styles").glob("*.png"))]


def masks(folder: Path) -> list[Array]:
    """The masks of the styles, uint8 (height, width, 3); none where they are blended."""
    return [load(path) for path in sorted((folder / "masks").glob("*.png"))]


def is_video(content: Picture) -> bool:
    """Whether the content is one file that is a video, by the ending of its name."""
    return content.path is not None and content.path.is_file() and content.path.name.lower().endswith(video_io.SUFFIXES)


def load(path: Path) -> Array:
    """A PNG that this project wrote: uint8 (height, width, 3)."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def save(pixels: Array, path: Path) -> None:
    """Write uint8 (height, width, 3) as a PNG: the whole of it or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with durable.atomic_write(path) as temporary:
        Image.fromarray(pixels).save(temporary, "PNG")


def resize(pixels: Array, size: tuple[int, int]) -> Array:
    """The picture with this (height, width), by Lanczos's filter: uint8."""
    if pixels.shape[:2] == size:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize(size[::-1], Image.Resampling.LANCZOS))


def scale_to(pixels: Array, longer: float, *, enlarge: bool = False) -> Array:
    """The picture, uint8 (height, width, 3), its longer side `longer` pixels; a smaller one only with `enlarge`."""
    factor = longer / max(pixels.shape[:2])
    if factor >= 1 and not enlarge:
        return pixels
    height, width = (max(SMALLEST, round(side * factor)) for side in pixels.shape[:2])
    return resize(pixels, (height, width))


def file_of(picture: Picture) -> Path:
    """The file of a picture that is named or given."""
    return picture.path if picture.path is not None else artworks.picture(str(picture.name))


def _write_styles(data: Data, folder: Path) -> list[str]:
    names = []
    for number, style in enumerate(data.styles):
        if style.path is None and style.name is None:
            raise Fault(f"data.styles.{number} must have a name or a path")
        path = file_of(style)
        name = re.sub(r"\W", "_", style.name or path.stem)  # a signature of the exported network bears it
        names.append(name if name not in names else f"{name}_{number}")
        pixels = scale_to(image_io.read(path, what=f"data.styles.{number}"), data.size * data.style_scale, enlarge=True)
        save(pixels, folder / "styles" / f"{number:02d}-{names[-1]}.png")
        if style.mask:
            save(
                image_io.read(style.mask.path, what=f"data.styles.{number}.mask"),
                folder / "masks" / f"{number:02d}-mask.png",
            )
    return names


def items(content: Picture) -> list[Item]:
    """The pictures that are to be painted or learnt from, unread."""
    if content.name == ALL:
        return [Item(name, "", path.read_bytes) for name, path in artworks.photographs().items()]
    path = file_of(content)
    if not path.exists():
        raise Fault(f"data.content must be a picture, a video or a folder of pictures, got {describe_path(path)}")
    if path.is_file():
        return [Item(content.name or path.stem, "", path.read_bytes)]
    files = [file for file in path.rglob("*") if file.name.lower().endswith(tuple(IMAGE_SUFFIXES))]
    if not files:
        raise Fault(f"data.content must contain images, got {describe_path(path)}", code=Fault.DATA)
    names = {file.relative_to(path).as_posix(): file for file in files if file.is_file()}
    return [Item(name, "", names[name].read_bytes) for name in sorted(names, key=natural)]


def _write_pictures(data: Data, folder: Path, seed: int | None, console: Console) -> Any:
    """Check every picture; write those that are painted, and the windows of those that are learnt from, if there is a
    seed to draw them by. What went where, and the problems by kind."""
    items_there = items(data.content)
    examined = data_validation.examine(items_there, console=console)
    examined = [_large_enough(item, result) for item, result in zip(items_there, examined, strict=True)]
    problems = [problem for result in examined for problem in result.problems] + data_validation.duplicates(
        items_there, examined
    )
    data_validation.report(
        problems, len(items_there), path=folder / "problems.csv", max_bad=data.max_bad, console=console
    )
    copies = {problem.id for problem in problems if problem.kind.startswith("duplicate")}
    usable = [
        item for item, result in zip(items_there, examined, strict=True) if result.digest and item.id not in copies
    ]
    if not usable:
        raise Fault(f"data.content must contain a readable image, got none of {len(items_there)}", code=Fault.DATA)
    kinds = {kind: len(group) for kind, group in data_validation.group_by_kind(problems).items()}
    parts = {"test": usable} if seed is None else _split(usable, data, seed)
    for number, item in enumerate(parts["test"]):
        save(scale_to(pixels(item), data.size), folder / "content" / f"{number:05d}-{stem(item.id)}.png")
    learnt = {split: part for split, part in parts.items() if split != "test"}
    counts = {split: _write_windows(data, folder, split, part, seed, console) for split, part in learnt.items()}
    return {**counts, "test": len(parts["test"])}, kinds


def _large_enough(item: Item, result: data_validation.Examined) -> data_validation.Examined:
    if result.digest is None or min(result.size) >= SMALLEST:
        return result
    detail = f"a side of {min(result.size)} pixels; the minimum is {SMALLEST}"
    return result._replace(
        digest=None, problems=[*result.problems, data_validation.Problem("small", item.id, detail, "dropped")]
    )


def _split(usable: list[Item], data: Data, seed: int) -> dict[str, list[Item]]:
    """Which pictures are learnt from, which choose the epoch, and which are painted at the end."""
    if len(usable) < 3:
        raise Fault(f"data.content must contain at least three training images, got {len(usable)}", code=Fault.DATA)
    order = [usable[row] for row in np.random.default_rng(seed).permutation(len(usable))]
    test, validation = (max(1, round(share * len(usable))) for share in (data.test, data.validation))
    return {"train": order[test + validation :], "validation": order[test : test + validation], "test": order[:test]}


def _write_windows(
    data: Data, folder: Path, split: str, items: Sequence[Item], seed: int | None, console: Console
) -> int:
    """Record square windows of the pictures of a split, `data.windows` of each."""
    count = len(items) * data.windows
    with data_validation.progress(console) as bar:
        task = bar.add_task(f"cutting windows to {split}", total=count)

        def rows() -> Iterator[tuple[str, bytes, int]]:
            for number, item in enumerate(items):
                whole = pixels(item)
                for window in range(data.windows):
                    window_pixels = _window(whole, data.window, [seed or 0, ord(split[0]), number, window])
                    yield f"{item.id}#{window}", _encoded(window_pixels), 0
                    bar.advance(task)

        records.write(folder, split, rows())
    return count


def _window(pixels: Array, size: int, seed: list[int]) -> Array:
    """A square of the picture, of a side between size and all of it, brought to size."""
    generator = np.random.default_rng(seed)
    shorter = min(pixels.shape[:2])
    side = int(generator.integers(min(size, shorter), shorter + 1))
    top, left = (int(generator.integers(0, extent - side + 1)) for extent in pixels.shape[:2])
    return resize(pixels[top : top + side, left : left + side], (size, size))


def _encoded(pixels: Array) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=95)
    return out.getvalue()


def _write_frames(data: Data, folder: Path, console: Console) -> dict[str, Any]:
    """The frames of a video as pictures, and how many of them make a second."""
    path, count = Path(str(data.content.path)), 0
    try:
        facts = video_io.facts(path)
        with data_validation.progress(console) as bar:
            task = bar.add_task("reading frames", total=facts.frames or None)
            for count, frame in enumerate(video_io.frames(path), 1):
                save(scale_to(frame, data.size), folder / f"{count - 1:05d}-frame.png")
                bar.advance(task)
    except Unreadable as error:
        raise Fault(f"data.content must be a readable video, got {path}: {error}", code=Fault.DATA) from error
    if not count:
        raise Fault(f"data.content must be a video with frames, got none in {path}", code=Fault.DATA)
    return {"splits": {"test": count}, "frames_per_second": facts.rate}


def pixels(item: Item) -> Array:
    """The pixels of a picture, uint8 (height, width, 3)."""
    image: Array = decode(tf.constant(normalize(item.read())[0]), channels=3).numpy()
    return image


def stem(name: str) -> str:
    """A name of one picture that can be one of a file: folders and odd letters become dashes."""
    stem = name.rpartition(".")[0] or name
    return "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in stem)[:80]


def _draw(folder: Path, facts: dict[str, Any]) -> None:
    pictures = [*styles(folder), *contents(folder)[:SHOWN]]
    titles = [f"style {name}" for name in facts["styles"]] + [
        picture.name for picture in pictures[len(facts["styles"]) :]
    ]
    image_grid.contact_sheet(
        [picture.pixels for picture in pictures], titles, folder / "contact_sheet.png", columns=4, size=2.0
    )
