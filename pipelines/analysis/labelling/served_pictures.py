"""What `cnn serve --keep` has kept: pictures, and what clients were answered.

Each picture has its answer beside it in a JSON file; see `pipelines.serving.archive`.
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cnn_keras.data.files import durable, file_tree
from cnn_keras.errors import Fault
from pipelines.analysis.labelling.predicted_labels import Labelled

COLUMNS = ("path", "time", "version", "kept", "confidence", "served", "answer")
SUFFIXES = (".jpg", ".png")


class Served(NamedTuple):
    """A kept picture, and what was answered.

    names: of the class, the labels or the objects, in the order of the answer. kept: why, `share` or `unsure`.
    """

    file: Path
    time: str
    version: int
    kept: str
    confidence: float | None
    names: tuple[str, ...]


def read(folder: Path) -> tuple[list[Served], dict[Path, str]]:
    """The kept pictures of a folder in the order in which they were served, and what is wrong with others.

    Raises:
        Fault: no folder, or nothing that was kept in it.
    """
    if not folder.is_dir():
        raise Fault(f"--from-served must be a folder of `cnn serve --keep`, got {file_tree.describe_path(folder)}")
    pictures, problems = [], {}
    for answer in sorted(folder.glob("*.json")):
        file = next((path for suffix in SUFFIXES if (path := answer.with_suffix(suffix)).is_file()), None)
        if file is None:
            problems[answer] = "its picture is not there"
            continue
        try:
            pictures.append(_read(file, json.loads(answer.read_bytes())))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            problems[answer] = f"it is no answer that was kept: {error!r}"
    if not pictures:
        raise Fault(
            f"--from-served must be a folder of `cnn serve --keep`, found no picture with its answer in {folder}"
        )
    return sorted(pictures, key=lambda served: served.time), problems


def names_of(row: Labelled) -> tuple[str, ...]:
    """What a model answers now, as `Served.names`."""
    return tuple(name for name, _ in row.labels) or tuple(object_.name for object_ in row.item.objects)


def write(pictures: Sequence[Served], rows: Sequence[Labelled], path: Path) -> int:
    """Write a table of the written files: when and why each was kept, what was served and what is answered now.

    Returns:
        How many get another answer, as a set of names; of masks none, because no names are served with them.
    """
    of = {served.file: served for served in pictures}
    out, others = io.StringIO(), 0
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        served, now = of[row.file], names_of(row)
        is_mask = any(object_.mask is not None for object_ in row.item.objects)
        others += not is_mask and sorted(served.names) != sorted(now)
        facts = [served.time, served.version, served.kept, "" if served.confidence is None else served.confidence]
        writer.writerow([row.item.id, *facts, "|".join(served.names), "|".join(now)])
    durable.write_text(path, out.getvalue())
    return others


def _read(file: Path, content: Mapping[str, Any]) -> Served:
    answer, confidence = content["answer"], content["confidence"]
    label = answer.get("label", ())
    names = (label,) if isinstance(label, str) else tuple(name for name in label[: answer.get("count")] if name)
    return Served(file, str(content["time"]), int(content["version"]), str(content["kept"]), confidence, names)
