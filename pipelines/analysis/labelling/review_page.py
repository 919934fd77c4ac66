"""Findings as a folder: a table, and a page to look through them in a browser, without a server or a network."""

import csv
import io
import json
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps
from rich.console import Console

from cnn_keras.data.files import durable, file_tree
from pipelines.analysis.labelling import findings as labelled
from pipelines.analysis.labelling.finding import RIGHT, Finding, Findings, Picture
from pipelines.data import run_files
from pipelines.data.validation import progress

PAGE = Path(__file__).with_name("review.html")
TABLE = "findings.csv"
COLUMNS = ("rank", "path", "kind", "label", "prediction", "score", "quality", "left", "top", "right", "bottom")
SIDE = 800  # pixels of the longer side of a picture
TINY = 96  # pixels up to which a picture is kept as it is


def write(findings: Findings, folder: Path, *, limit: int, console: Console) -> None:
    """Write `findings.csv` with all findings, and `index.html` with the first `limit` and their pictures.

    There is the whole folder or none.

    Args:
        folder: new or empty.

    Raises:
        Fault: a folder that holds something.
    """
    rows = findings.rows[:limit]
    numbers = sorted({row.picture for row in rows})
    file_tree.check_new_folder(folder)
    with durable.atomic_folder(folder) as temporary, progress(console) as bar:
        (temporary / TABLE).write_text(_csv(findings), encoding="utf-8")
        (temporary / "pictures").mkdir()
        sizes = {}
        for number, data in bar.track(labelled.encoded(findings, numbers), total=len(numbers), description="pictures"):
            side = 2 * SIDE if findings.pictures[number].classes else SIDE  # two beside one another
            sizes[number] = _save(data, temporary / _file(number), side=side)
        place = {number: index for index, number in enumerate(numbers)}
        content = {
            "name": findings.name,
            "digest": run_files.digest([row._asdict() for row in rows]),
            "classes": findings.classes,
            "hidden": RIGHT,
            "pictures": [_picture(findings.pictures[number], number, sizes[number]) for number in numbers],
            "rows": [row._asdict() | {"picture": place[row.picture]} for row in rows],
        }
        text = json.dumps(content, ensure_ascii=False).replace("<", "\\u003c")  # no text of a file ends the script
        page = PAGE.read_text(encoding="utf-8").replace("__DATA__", text)
        (temporary / "index.html").write_text(page, encoding="utf-8")


def _file(number: int) -> str:
    return f"pictures/{number:06d}.webp"


def _picture(picture: Picture, number: int, size: tuple[int, int]) -> list[Any]:
    """What the page is told of a picture, in the order that it reads."""
    return [picture.id, _file(number), *size, picture.truth, picture.found]


def _save(data: bytes, path: Path, *, side: int = SIDE) -> tuple[int, int]:
    """Write a picture, a large one smaller; return the width and height that it had."""
    with Image.open(io.BytesIO(data)) as image:
        upright = ImageOps.exif_transpose(image).convert("RGB")
    size = upright.size
    upright.thumbnail((side, side))
    upright.save(path, "WEBP", quality=80, lossless=max(size) <= TINY)
    return size


def _csv(findings: Findings) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    has_boxes = any(picture.truth or picture.found for picture in findings.pictures)
    writer.writerow(COLUMNS if has_boxes else COLUMNS[:7])
    for rank, row in enumerate(findings.rows, 1):
        picture = findings.pictures[row.picture]
        box = [f"{edge:.1f}" for edge in _box(row, picture)] if has_boxes else []
        figures = [f"{row.score:.6f}", f"{row.quality:.6f}"]
        writer.writerow([rank, picture.id, row.kind, row.label, row.prediction, *figures, *box])
    return out.getvalue()


def _box(row: Finding, picture: Picture) -> tuple[float, ...]:
    """Of the box that is found or, where nothing is, of the one that is annotated."""
    if row.found is not None:
        return picture.found[row.found][:4]
    return picture.truth[row.truth][:4] if row.truth is not None else ()
