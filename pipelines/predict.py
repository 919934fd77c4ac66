"""Predict: an exported model's answers about files and folders, as a table, CSV and pictures.

A model of images is asked about image files, one of signals about CSV files, one of volumes about NIfTI files.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cnn_keras.fault import Fault
from pipelines.stages import write_text

BATCH = 32


class Answer(NamedTuple):
    """What the model says of one file: classes with their probabilities, likeliest first, or what is wrong with it."""

    path: Path
    classes: list[tuple[str, float]]
    problem: str | None = None

    def as_dict(self) -> dict[str, Any]:
        classes = [{"label": label, "probability": round(probability, 6)} for label, probability in self.classes]
        return {"path": str(self.path), "classes": classes, "problem": self.problem}


def predict(model: Path, images: Sequence[Path], *, top: int, console: Console) -> list[Answer]:
    """Ask the newest version of `model` about every file; what cannot be read is answered with its problem."""
    import tensorflow as tf

    from cnn_keras.data.read import IMAGE_SUFFIXES
    from pipelines import measurements
    from pipelines.savedmodel import newest

    loaded = tf.saved_model.load(str(newest(model)))
    if ranked := loaded.signatures.get("serving_ranked"):
        noun = next(iter(ranked.structured_input_signature[1]))
        files = _files(images, measurements.library(noun).SUFFIXES, f"{noun}s")
        answers = [_ask_about(file, ranked, noun, top) for file in files]
    else:
        found = list(_files(images, tuple(IMAGE_SUFFIXES), "image files"))
        batches = (found[start : start + BATCH] for start in range(0, len(found), BATCH))
        answers = [answer for batch in batches for answer in _ask(loaded.signatures["serving_classify"], batch, top)]
    _show(answers, console)
    return answers


def write_csv(answers: Sequence[Answer], path: Path) -> None:
    """One row per file: path, label, probability, problem."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["path", "label", "probability", "problem"])
    for answer in answers:
        label, probability = answer.classes[0] if answer.classes else ("", 0.0)
        writer.writerow([answer.path, label, f"{probability:.6f}" if label else "", answer.problem or ""])
    write_text(path, out.getvalue())


def draw(answers: Sequence[Answer], folder: Path) -> int:
    """Draw each readable picture with its answer below it; return how many."""
    from pipelines import pictures

    folder.mkdir(parents=True, exist_ok=True)
    for number, answer in enumerate(answers):
        if answer.classes:
            pictures.drawn(_pixels(answer.path), *answer.classes[0], folder / f"{number:04d}-{answer.path.stem}.png")
    return sum(bool(answer.classes) for answer in answers)


def _pixels(path: Path) -> Any:
    """A picture of what is in a file: uint8 (height, width, 3), or (height, width) of a volume."""
    import numpy as np
    from PIL import Image, ImageOps

    from pipelines import measurements

    for noun in ("signal", "volume"):
        library = measurements.library(noun)
        if path.name.lower().endswith(library.SUFFIXES):
            return measurements.pictured(library.read(path)[0])
    with Image.open(path) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def _files(images: Sequence[Path], suffixes: tuple[str, ...], what: str) -> Iterator[Path]:
    for path in images:
        if path.is_dir():
            found = sorted(inner for inner in path.rglob("*") if inner.name.lower().endswith(suffixes))
            if not found:
                raise Fault(f"IMAGES must be {what} or folders of them, found none in {path}", code=Fault.DATA)
            yield from found
        elif path.is_file():
            yield path
        else:
            raise Fault(f"IMAGES must be files or folders, found nothing at {path}")


def _ask(classify: Any, files: Sequence[Path], top: int) -> list[Answer]:
    """One batch; when the graph refuses it, its files are asked about one by one."""
    import tensorflow as tf

    from cnn_keras.data.encoded import Unreadable, plain, reason
    from pipelines.savedmodel import as_example

    answers: dict[Path, Answer] = {}
    examples: dict[Path, bytes] = {}
    for file in files:
        try:
            examples[file] = as_example(plain(file.read_bytes())[0])
        except (Unreadable, OSError) as error:
            answers[file] = Answer(file, [], str(error))
    try:
        found = classify(inputs=tf.constant(list(examples.values()), tf.string)) if examples else {}
    except (tf.errors.InvalidArgumentError, UnicodeDecodeError) as error:
        if len(files) > 1:
            return [answer for file in files for answer in _ask(classify, [file], top)]
        return [Answer(files[0], [], reason(error))]
    for row, file in enumerate(examples):
        labels = [label.decode() for label in found["classes"][row, :top].numpy()]
        answers[file] = Answer(file, list(zip(labels, found["scores"][row, :top].numpy().tolist(), strict=True)))
    return [answers[file] for file in files]


def _ask_about(file: Path, ranked: Any, noun: str, top: int) -> Answer:
    """One signal or volume, of any size: the graph gives it the network's."""
    import tensorflow as tf

    from cnn_keras.data.encoded import Unreadable, reason
    from pipelines import measurements

    channels = ranked.structured_input_signature[1][noun].shape[-1]
    try:
        values = measurements.library(noun).read(file)[0]
        if values.shape[-1] != channels:
            return Answer(file, [], f"it must have {channels} channels, got {values.shape[-1]}")
        found = ranked(**{noun: tf.constant(values[None])})
    except (Unreadable, OSError) as error:
        return Answer(file, [], str(error))
    except tf.errors.InvalidArgumentError as error:
        return Answer(file, [], reason(error))
    labels = [label.decode() for label in found["classes"][0, :top].numpy()]
    return Answer(file, list(zip(labels, found["scores"][0, :top].numpy().tolist(), strict=True)))


def _show(answers: Sequence[Answer], console: Console) -> None:
    table = Table(box=None, header_style="bold")
    for heading in ("file", "answer", "probability", "then"):
        table.add_column(heading, overflow="fold")  # whole names, if need be on two lines
    for answer in answers:
        if answer.problem:
            table.add_row(escape(str(answer.path)), f"[red]{escape(answer.problem)}[/]")
            continue
        (label, probability), *rest = answer.classes
        then = ", ".join(f"{escape(name)} {share:.1%}" for name, share in rest)
        table.add_row(escape(str(answer.path)), f"[bold]{escape(label)}[/]", f"{probability:.1%}", f"[dim]{then}[/]")
    console.print(table)
    if unread := sum(answer.problem is not None for answer in answers):
        console.print(f"{unread} of {len(answers)} could not be read")
