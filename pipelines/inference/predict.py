"""Predict: an exported model's answers about files and folders, as a table, CSV, pictures and masks.

A model of images is asked about image files, a detector about videos too, frame by frame, one of signals about CSV
files, one of volumes about NIfTI files.
"""

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import groupby, islice
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cnn_keras.data.durable import write_text
from cnn_keras.errors import Fault
from pipelines.inference.tables import print_unbroken
from pipelines.tasks.segment.exporter import Segments, segments_of

BATCH = 32
ANGLES = ("angle", "low", "high")
RANKED = ("label", "probability")  # columns of each of a classifier's likeliest classes
DEFAULT, PAINTING = "serving_default", "painting_bytes"  # a signature, and the output of one that paints


class Answer(NamedTuple):
    """What the model says of one file: classes with their probabilities, likeliest first, or what is wrong with it.

    A detector's `boxes` – left, top, right, bottom in pixels of the upright picture – belong to `classes` one by one,
    and so do the `landmarks` of things that have some, x and y by name. A video has an answer for each `frame`, from 0.
    A network that steers says an `angle`, and the ends of the interval it lies in. Of a segmenter there are `segments`,
    and `classes` are those that are there with their shares of the pixels. Of one that paints, `painting` is a PNG.
    A classifier's `every` has all classes, not the likeliest alone.
    """

    path: Path
    classes: list[tuple[str, float]]
    problem: str | None = None
    boxes: list[list[float]] | None = None
    landmarks: list[dict[str, list[float]]] | None = None
    angle: tuple[float, float, float] | None = None  # said, low, high
    frame: int | None = None
    segments: Segments | None = None
    instances: Any = None  # uint8 (height, width): the number of the detection, from 1, that each pixel belongs to
    painting: bytes | None = None
    every: dict[str, float] | None = None

    def as_dict(self) -> dict[str, Any]:
        """As JSON; a detection's mask is COCO's run lengths."""
        from cnn_keras.data import run_length as runs

        if self.painting is not None:
            width, height = _extent(self.painting)
            return {"path": str(self.path), "painting": {"width": width, "height": height}, "problem": self.problem}
        if self.segments is not None:
            return {"path": str(self.path), **self.segments.as_dict(), "problem": self.problem}
        classes = [{"label": label, "probability": round(probability, 6)} for label, probability in self.classes]
        if self.angle is not None:
            return {"path": str(self.path), **dict(zip(ANGLES, self.angle, strict=True)), "problem": self.problem}
        if self.boxes is None:
            return {"path": str(self.path), "classes": classes, "problem": self.problem}
        found = [{**row, "box": box} for row, box in zip(classes, self.boxes, strict=True)]
        if self.landmarks is not None:
            found = [{**row, "landmarks": marks} for row, marks in zip(found, self.landmarks, strict=True)]
        if self.instances is not None:
            found = [{**row, "mask": runs.encode(self.instances == number)} for number, row in enumerate(found, 1)]
        which = {} if self.frame is None else {"frame": self.frame}
        return {"path": str(self.path), **which, "detections": found, "problem": self.problem}


Reading = Callable[[list[bytes]], list[Answer]]  # encoded images to answers that lack their paths
FRAMES = 8  # of a video, that a detector is asked about at once


def predict(
    model: Path, images: Sequence[Path], *, top: int, console: Console, signature: str = DEFAULT
) -> list[Answer]:
    """Ask the newest version of `model` about every file; what cannot be read is answered with its problem.

    `signature` is that of a model that paints in several styles: the name of one.
    """
    import tensorflow as tf

    from cnn_keras.data.file_tree import IMAGE_SUFFIXES
    from pipelines.data import array_dataset, video_io
    from pipelines.inference.exported_model import newest

    loaded = tf.saved_model.load(str(newest(model)))
    default = loaded.signatures["serving_default"]
    if "mask" in default.structured_outputs:
        files = _files(images, array_dataset.library("volume").SUFFIXES, "volumes")
        answers = [_asked(file, default, "volume", _segments) for file in files]
    elif ranked := loaded.signatures.get("serving_ranked"):
        noun = next(iter(ranked.structured_input_signature[1]))
        files = _files(images, array_dataset.library(noun).SUFFIXES, f"{noun}s")
        answers = [_asked(file, ranked, noun, partial(_ranked, top)) for file in files]
    else:
        moving = video_io.SUFFIXES if _finds(loaded) else ()
        found = list(_files(images, (*IMAGE_SUFFIXES, *moving), "image files"))
        reading, answers = reader(loaded, top, newest(model), signature), []
        for video, files in groupby(found, lambda file: file.name.lower().endswith(moving)):
            if video:
                answers += [answer for file in files for answer in _watch(loaded, file, newest(model), console)]
            else:
                answers += [answer for batch in _batched(files, BATCH) for answer in _ask(reading, batch)]
    _show(answers, console)
    return answers


def reader(loaded: Any, top: int, folder: Path, signature: str = DEFAULT) -> Reading:
    """What asks a loaded SavedModel about encoded images: a classifier for its `top` classes, others for all."""
    default = loaded.signatures[DEFAULT]
    if PAINTING in default.structured_outputs:
        return partial(_painted, _signature(loaded, signature))
    if _finds(loaded):
        return partial(_detected, default, folder)
    if "angle" in default.structured_outputs:
        return partial(_steered, default)
    if "mask_bytes" in default.structured_outputs:
        return partial(_segmented, default)
    if "serving_classify" not in loaded.signatures:
        raise Fault(
            "MODEL must be a classifier, a detector, a segmenter, or one that steers or paints, got an embedder; `cnn "
            "faces` asks it who somebody is, its signature `verify` by `cnn serve` about pairs"
        )
    return partial(_classified, loaded.signatures["serving_classify"], top)


def _signature(loaded: Any, name: str) -> Any:
    """One of those that encoded images alone are enough for."""
    inputs = {key: set(one.structured_input_signature[1]) for key, one in loaded.signatures.items()}
    fitting = sorted(key for key in inputs if inputs[key] == {"image_bytes"})
    if name not in fitting:
        raise Fault(f"--signature must be one of {', '.join(fitting)}, got {name!r}")
    return loaded.signatures[name]


def _finds(loaded: Any) -> bool:
    """Whether the model says where things are."""
    return "boxes" in loaded.signatures["serving_default"].structured_outputs


def write_csv(answers: Sequence[Answer], path: Path) -> None:
    """A row per file – path, label, probability or angle, problem –, per detection of a frame, or class of a mask.

    Of a classifier the likeliest classes stand side by side, and behind them every class with its probability.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    if any(answer.angle is not None for answer in answers):
        writer.writerow(["path", *ANGLES, "problem"])
        for answer in answers:
            figures = [f"{value:.6f}" for value in answer.angle] if answer.angle else [""] * len(ANGLES)
            writer.writerow([answer.path, *figures, answer.problem or ""])
        write_text(path, out.getvalue())
        return
    if any(answer.segments is not None for answer in answers):
        writer.writerow(["path", "label", "share", "confidence", "problem"])
        for answer in answers:
            rows = [["", "", ""]] if answer.segments is None else answer.segments.rows()
            writer.writerows([answer.path, *row, answer.problem or ""] for row in rows)
        write_text(path, out.getvalue())
        return
    if any(answer.every for answer in answers):
        write_text(path, _ranked_csv(answers))
        return
    detector = any(answer.boxes is not None for answer in answers)
    edges = ["left", "top", "right", "bottom"] if detector else []
    parts = next((list(answer.landmarks[0]) for answer in answers if answer.landmarks), [])
    edges += [f"{part}_{axis}" for part in parts for axis in ("x", "y")]
    framed = any(answer.frame is not None for answer in answers)
    writer.writerow(["path", *(["frame"] if framed else []), "label", "probability", *edges, "problem"])
    for answer in answers:
        found = answer.classes if answer.boxes else answer.classes[:1] or [("", 0.0)]
        marks = [[value for point in one.values() for value in point] for one in answer.landmarks or ()]
        places = [[*box, *mark] for box, mark in zip(answer.boxes or (), marks or [[]] * len(found), strict=False)]
        for (label, probability), box in zip(found, places or [[]], strict=True):
            said = f"{probability:.6f}" if label else ""
            placed = [f"{edge:.1f}" for edge in box] or [""] * len(edges)
            which = [answer.frame] if framed else []
            writer.writerow([answer.path, *which, label, said, *placed, answer.problem or ""])
    write_text(path, out.getvalue())


def _ranked_csv(answers: Sequence[Answer]) -> str:
    """path, label, probability, label_2, probability_2, …, problem, and `p(CLASS)` of every class in natural order."""
    from cnn_keras.data.file_tree import natural

    top = max(len(answer.classes) for answer in answers)
    names = sorted({name for answer in answers for name in answer.every or ()}, key=natural)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    columns = [f"{name}{rank}" for rank in ("", *(f"_{place}" for place in range(2, top + 1))) for name in RANKED]
    writer.writerow(["path", *columns, "problem", *(f"p({name})" for name in names)])
    for answer in answers:
        ranked = [cell for label, probability in answer.classes for cell in (label, f"{probability:.6f}")]
        every = [f"{answer.every[name]:.6f}" for name in names] if answer.every else [""] * len(names)
        writer.writerow([answer.path, *(ranked or [""] * len(columns)), answer.problem or "", *every])
    return out.getvalue()


def draw(answers: Sequence[Answer], folder: Path) -> int:
    """Draw each readable picture with its answer below it, each video with those of its frames; return how many."""
    from pipelines.plots import annotate, image_grid

    folder.mkdir(parents=True, exist_ok=True)
    files = [list(group) for _, group in groupby(answers, lambda answer: answer.path)]
    drawable = [(number, file) for number, file in enumerate(files) if not file[0].problem]
    for number, (answer, *later) in drawable:
        path = folder / f"{number:04d}-{answer.path.stem}.png"
        if answer.frame is not None:
            _write_video([answer, *later], path.with_suffix(".mp4"))
        elif answer.angle is not None:
            said, low, high = answer.angle
            _write_picture(annotate.steered(_pixels(answer.path), angle=said, interval=(low, high)), path)
        elif answer.painting is not None:
            path.write_bytes(answer.painting)
        elif answer.segments is not None:
            _write_picture(_overlaid(answer.path, answer.segments), path)
        elif answer.boxes is None:
            image_grid.drawn(_pixels(answer.path), *answer.classes[0], path)
        else:
            _write_picture(boxed(_pixels(answer.path), answer), path)
    return len(drawable)


def write_masks(answers: Sequence[Answer], folder: Path) -> int:
    """Write each mask that a segmenter answered with into a folder; return how many.

    Raises:
        Fault: the model is no segmenter.
    """
    from pipelines.inference import mask_files

    found = [(answer.path, answer.segments) for answer in answers if answer.segments is not None]
    if not found:
        raise Fault("--masks goes with a segmenter, and with files that can be read; this model answers with no mask")
    return mask_files.write([(path, one.mask) for path, one in found], found[0][1].names, folder)


def boxed(pixels: Any, answer: Answer) -> Any:
    """The picture, uint8 (height, width, 3), with a detector's boxes, and masks if it knows some, drawn on it."""
    import numpy as np

    from pipelines.plots import annotate, overlays

    if answer.instances is not None:
        pixels = overlays.numbered(pixels, answer.instances)
    names, scores = [label for label, _ in answer.classes], [score for _, score in answer.classes]
    drawn = annotate.boxed(pixels, np.array(answer.boxes or []).reshape(-1, 4), names, scores)
    for marks in answer.landmarks or ():
        drawn = annotate.dotted(drawn, np.array(list(marks.values())) * (drawn.shape[0] / pixels.shape[0]))
    return drawn


def _write_video(answers: Sequence[Answer], path: Path) -> None:
    """The frames of a video again, with what was found in each."""
    from pipelines.data import video_io

    def drawn() -> Iterator[Any]:
        for frame, answer in zip(video_io.frames(answers[0].path), answers, strict=False):
            picture = boxed(frame, answer)
            yield picture[: picture.shape[0] // 2 * 2, : picture.shape[1] // 2 * 2]  # players want even sides

    video_io.write(path, drawn(), rate=video_io.facts(answers[0].path).rate)


def _write_picture(pixels: Any, path: Path) -> None:
    from PIL import Image

    Image.fromarray(pixels).save(path)


def _pixels(path: Path) -> Any:
    """A picture of what is in a file: uint8 (height, width, 3), or (height, width) of a volume."""
    import numpy as np
    from PIL import Image, ImageOps

    from pipelines.data import array_dataset

    for noun in ("signal", "volume"):
        library = array_dataset.library(noun)
        if path.name.lower().endswith(library.SUFFIXES):
            return array_dataset.pictured(library.read(path)[0])
    with Image.open(path) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def _batched(values: Iterable[Any], size: int) -> Iterator[list[Any]]:
    source = iter(values)
    while batch := list(islice(source, size)):
        yield batch


def _files(images: Sequence[Path], suffixes: tuple[str, ...], what: str) -> Iterator[Path]:
    from cnn_keras.data.file_tree import tree

    for path in images:
        if path.is_dir():
            below = (file for _, files in tree(path) for file in files)
            found = sorted(file for file in below if file.name.lower().endswith(suffixes))
            if not found:
                raise Fault(f"IMAGES must be {what} or folders of them, found none in {path}", code=Fault.DATA)
            yield from found
        elif path.is_file():
            yield path
        else:
            raise Fault(f"IMAGES must be files or folders, found {'neither' if path.exists() else 'nothing'} at {path}")


def _ask(reading: Reading, files: Sequence[Path]) -> list[Answer]:
    """One batch; when the graph refuses it, its files are asked about one by one."""
    import tensorflow as tf

    from cnn_keras.data import input_file
    from cnn_keras.data.image_file import Unreadable, normalize, reason

    answers: dict[Path, Answer] = {}
    encoded: dict[Path, bytes] = {}
    for file in files:
        try:
            encoded[file] = normalize(input_file.read_bytes(file))[0]
        except (Unreadable, OSError) as error:
            answers[file] = Answer(file, [], reason(error))
    try:
        found = reading(list(encoded.values())) if encoded else []
    except (tf.errors.InvalidArgumentError, UnicodeDecodeError) as error:
        if len(files) > 1:
            return [answer for file in files for answer in _ask(reading, [file])]
        return [Answer(files[0], [], reason(error))]
    answers |= {file: answer._replace(path=file) for file, answer in zip(encoded, found, strict=True)}
    return [answers[file] for file in files]


def _classified(classify: Any, top: int, encoded: list[bytes]) -> list[Answer]:
    import tensorflow as tf

    from pipelines.export.savedmodel import as_example

    found = classify(inputs=tf.constant([as_example(data) for data in encoded], tf.string))
    rows = zip(found["classes"].numpy().tolist(), found["scores"].numpy().tolist(), strict=True)
    return [_likeliest(top, labels, scores) for labels, scores in rows]


def _likeliest(top: int, labels: Sequence[bytes], scores: Sequence[float]) -> Answer:
    """A classifier's answer: classes, the likeliest first, and their probabilities."""
    ranked = list(zip((label.decode() for label in labels), scores, strict=True))
    return Answer(Path(), ranked[:top], every=dict(ranked))


def _watch(loaded: Any, file: Path, folder: Path, console: Console) -> list[Answer]:
    """An answer for each frame of a video, which is read as it is asked about."""
    import numpy as np
    import tensorflow as tf

    from cnn_keras.data.image_file import Unreadable
    from pipelines.data import proposals, validation, video_io

    detect = loaded.signatures["serving_tensor"]
    answers: list[Answer] = []
    try:
        with validation.progress(console) as bar:
            task = bar.add_task(file.name, total=video_io.facts(file).frames or None)
            for frames in _batched(video_io.frames(file), FRAMES):
                given = proposals.asked(folder, frames) if _regions(detect) else {}
                found = _told(detect(image=tf.constant(np.stack(frames)), **given))
                answers += [one._replace(path=file, frame=len(answers) + row) for row, one in enumerate(found)]
                bar.advance(task, len(frames))
    except Unreadable as error:
        return [Answer(file, [], str(error))]
    return answers or [Answer(file, [], "there are no frames in it")]


def _regions(detect: Any) -> bool:
    """Whether a signature must be given regions."""
    return "proposals" in detect.structured_input_signature[1]


def _detected(detect: Any, folder: Path, encoded: list[bytes]) -> list[Answer]:
    import tensorflow as tf

    from cnn_keras.data.image_decoding import decode
    from pipelines.data import proposals

    given = {}
    if _regions(detect):
        given = proposals.asked(folder, [decode(tf.constant(data), channels=3).numpy() for data in encoded])
    return _told(detect(image_bytes=tf.constant(encoded, tf.string), **given))


def _told(answered: dict[str, Any]) -> list[Answer]:
    """A detector's answers about some pictures, which lack their paths."""
    import tensorflow as tf

    found = {key: value.numpy() for key, value in answered.items()}
    answers = []
    for row, count in enumerate(found["count"].tolist()):
        names = [label.decode() for label in found["label"][row, :count]]
        classes = list(zip(names, found["scores"][row, :count].tolist(), strict=True))
        marks = None
        if "landmarks" in found:
            parts = [name.decode() for name in found["landmark_names"][row]]
            marks = [dict(zip(parts, points, strict=True)) for points in found["landmarks"][row, :count].tolist()]
        placed, numbers = found["boxes"][row, :count].tolist(), None
        if "instances_bytes" in found:
            numbers = tf.io.decode_png(found["instances_bytes"][row], channels=1)[..., 0].numpy()
        answers.append(Answer(Path(), classes, boxes=placed, landmarks=marks, instances=numbers))
    return answers


def _steered(steer: Any, encoded: list[bytes]) -> list[Answer]:
    import tensorflow as tf

    found = steer(image_bytes=tf.constant(encoded, tf.string))
    said = zip(*(found[name].numpy().tolist() for name in ANGLES), strict=True)
    return [Answer(Path(), [], angle=angles) for angles in said]


def _painted(paint: Any, encoded: list[bytes]) -> list[Answer]:
    import tensorflow as tf

    files = paint(image_bytes=tf.constant(encoded, tf.string))[PAINTING].numpy()
    return [Answer(Path(), [], painting=file) for file in files]


def _extent(file: bytes) -> tuple[int, int]:
    """Width and height of a PNG file, which stand at the beginning of it."""
    return int.from_bytes(file[16:20], "big"), int.from_bytes(file[20:24], "big")


def _segmented(segment: Any, encoded: list[bytes]) -> list[Answer]:
    import tensorflow as tf

    found = {key: value.numpy() for key, value in segment(image_bytes=tf.constant(encoded, tf.string)).items()}
    return [_segments({key: values[row] for key, values in found.items()}) for row in range(len(encoded))]


def _segments(row: dict[str, Any]) -> Answer:
    """A segmenter's answer about one picture or volume."""
    found = segments_of(row)
    return Answer(Path(), found.there, segments=found)


def _overlaid(path: Path, found: Segments) -> Any:
    """The picture or volume of a file with its mask over it."""
    from pipelines.data import array_dataset
    from pipelines.plots import overlays

    image = _pixels(path) if found.mask.ndim == 2 else array_dataset.library("volume").read(path)[0]
    return overlays.answered(image, found.mask, found.names)


def _asked(file: Path, ask: Any, noun: str, reading: Callable[[dict[str, Any]], Answer]) -> Answer:
    """One signal or volume, of any size: the graph gives it the network's, or sees it part by part."""
    import tensorflow as tf

    from cnn_keras.data.image_file import Unreadable, reason
    from pipelines.data import array_dataset

    channels = ask.structured_input_signature[1][noun].shape[-1]
    try:
        values = array_dataset.library(noun).read(file)[0]
        if values.shape[-1] != channels:
            return Answer(file, [], f"it must have {channels} channels, got {values.shape[-1]}")
        found = ask(**{noun: tf.constant(values[None])})
    except (Unreadable, OSError, tf.errors.InvalidArgumentError) as error:
        return Answer(file, [], reason(error))
    return reading({key: value.numpy()[0] for key, value in found.items()})._replace(path=file)


def _ranked(top: int, row: dict[str, Any]) -> Answer:
    return _likeliest(top, row["classes"].tolist(), row["scores"].tolist())


def _counted(answers: Sequence[Answer]) -> tuple[str, str, str]:
    """What was found in a picture or a video, as columns: "3 cat, 1 dog", the best score, and the number of frames."""
    counts = Counter(label for answer in answers for label, _ in answer.classes)
    said = ", ".join(f"{count} [bold]{escape(label)}[/]" for label, count in counts.most_common()) or "nothing"
    best = max((score for answer in answers for _, score in answer.classes), default=None)
    frames = "" if answers[0].frame is None else f"{len(answers)} frames"
    return said, "" if best is None else f"{best:.1%}", frames


def _show(answers: Sequence[Answer], console: Console) -> None:
    table = Table(box=None, header_style="bold")
    steers = any(answer.angle is not None for answer in answers)
    for heading in ("file", "angle", "between", "and") if steers else ("file", "answer", "probability", "then"):
        table.add_column(heading)
    files = [list(group) for _, group in groupby(answers, lambda answer: answer.path)]
    for answer, *later in files:
        if answer.problem:
            table.add_row(escape(str(answer.path)), f"[red]{escape(answer.problem)}[/]")
            continue
        if answer.boxes is not None:
            table.add_row(escape(str(answer.path)), *_counted([answer, *later]))
            continue
        if answer.segments is not None:
            shares = ", ".join(f"{share:.1%} [bold]{escape(label)}[/]" for label, share in answer.classes)
            table.add_row(escape(str(answer.path)), shares, f"{answer.segments.sureness:.1%}")
            continue
        if answer.painting is not None:
            table.add_row(escape(str(answer.path)), "painted, {} × {}".format(*_extent(answer.painting)))
            continue
        if answer.angle is not None:
            table.add_row(escape(str(answer.path)), *(f"{value:+.3f}" for value in answer.angle))
            continue
        (label, probability), *rest = answer.classes
        then = ", ".join(f"{escape(name)} {share:.1%}" for name, share in rest)
        table.add_row(escape(str(answer.path)), f"[bold]{escape(label)}[/]", f"{probability:.1%}", f"[dim]{then}[/]")
    print_unbroken(table, console)
    if unread := sum(answer.problem is not None for answer in answers):
        console.print(f"{unread} of {len(files)} could not be read")
