"""Drives – pictures with steering angles: the data section of a recipe, and the splits that it becomes on disk.

`prepare` leaves TFRecord shards of each split, in the order of time but for the shuffled training split; `split.csv`
(what went where), `problems.csv` (what was odd), `data.json` and pictures. Splits are blocks of time.
"""

import io
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image

from cnn_keras.data import split
from cnn_keras.data.files import file_tree
from cnn_keras.data.files.image_file import normalize
from cnn_keras.data.image_decoding import decode
from cnn_keras.data.input_pipeline import Example
from cnn_keras.data.sources import driving
from cnn_keras.data.sources.driving import Frame
from cnn_keras.data.sources.synthetic import simulator
from cnn_keras.errors import Fault, Unreadable
from cnn_keras.ops import resize
from pipelines.data import image_dataset, run_files, split_manifest, value_records
from pipelines.data import validation as data_validation
from pipelines.data.schema import Fold
from pipelines.data.value_records import SPLITS
from pipelines.engine.stages import Run
from pipelines.plots import annotate, charts, image_grid
from pipelines.tasks.steer.config import Data, Road

SAMPLES = 40  # pictures on the contact sheet
LOCKED = 1.0  # an angle or a throttle beyond is none
BEYOND = {"angle": "angle beyond full lock", "throttle": "throttle beyond full speed"}


class SplitFrame(NamedTuple):
    """A frame that can be used, and where it goes; None is a gap."""

    frame: Frame
    digest: str
    split: str | None


def prepare(run: Run, folder: Path) -> dict[str, Any]:
    """Validate, split by time and record the drives of `run.recipe.data`."""
    data: Data = run.recipe.data
    frames = drives(data, run.recipe.seed)
    examined = data_validation.examine(
        frames, console=run.console, journal=folder / run_files.JOURNAL, parallel_map=run.parallel_map
    )
    usable = [(frame, result.digest) for frame, result in zip(frames, examined, strict=True) if result.digest]
    copies: list[data_validation.Problem] = []
    if run.training_facts:
        frames_kept = [SplitFrame(*frame, "test") for frame in usable]
    else:
        frames_kept, copies = _divided(usable, data, run.recipe.fold)
    problems = [problem for result in examined for problem in result.problems] + copies
    problems += [problem for name in run.recipe.controls for problem in _beyond(frames, name)]
    data_validation.report(
        problems, len(frames), path=folder / "problems.csv", max_bad=data.max_bad, console=run.console
    )
    listed = _write_split(folder, frames_kept, run.recipe.controls)
    members = {split: [frame for frame in frames_kept if frame.split == split] for split in SPLITS}
    controls = run.recipe.controls
    named = (*controls, *inputs(data))
    value_records.write(run, folder, members, example=example(run), values=lambda member: _values(member, named))
    facts: dict[str, Any] = {
        "source": data.source,
        "location": str(data.path or data.source),
        "drives": len({frame.frame.drive for frame in frames_kept}),
        "splits": {split: len(inner) for split, inner in members.items() if inner},
        **{f"{name}s": _measured(members, name) for name in controls},
        "problems": {kind: len(group) for kind, group in data_validation.group_by_kind(problems).items()},
    }
    facts["digest"] = run_files.digest([listed, *image_dataset.shape_of(data)])
    run_files.write_json(folder / "data.json", facts)
    _draw_data(folder, frames_kept, facts)
    shares = ", ".join(f"{count:,} {split}" for split, count in facts["splits"].items())
    left = sum(frame.split is None for frame in frames_kept)
    run.console.print(f"          {facts['drives']} drives: {shares} frames, {left} between them left out")
    sizes = [result.size for result in examined if result.digest]
    run.console.print(f"          {data_validation.sizes_told(sizes, data.size, data.fit, 'frame')}")
    return facts


def drives(data: Data, seed: int) -> list[Frame]:
    """The frames of the recipe's source, unread."""
    arguments: dict[str, Any] = {"path": data.path, "full": data.full}
    if data.source == "road":
        arguments |= {**(data.road or Road()).model_dump(), "seed": seed}
    elif data.road is not None:
        raise Fault(f"data.road requires source: road, got source: {data.source}")
    frames: list[Frame] = driving.frames(data.source, **arguments)
    if not frames:
        raise Fault(f"data.path must contain at least one frame, got none in {data.path}", code=Fault.DATA)
    if not data.throttle:
        return frames
    if all(frame.throttle is None for frame in frames):
        raise Fault(
            f"data.throttle requires {driving.THROTTLE} in the tub or a column throttle in the table, found none in "
            f"{data.path}",
            code=Fault.DATA,
        )
    return [_with_throttle(frame) for frame in frames]


def example(run: Run) -> Example:
    """What a record holds: batches are (images, numbers float32 (batch, controls)), the angle first."""
    return value_records.named_example(run.recipe.controls, inputs(run.recipe.data))


def inputs(data: Data) -> dict[str, tuple[int, ...]]:
    """What the network takes beside the camera's picture: the shapes by name."""
    return {"route": (*simulator.MAP, 1)} if data.route else {}


def examples(run: Run, split: str) -> tf.data.Dataset:
    """The examples of a split in their order: dicts of id, image of `data.size`, angle and, if learnt, throttle."""
    return value_records.examples(run, split, example(run))


def samples(data: Data, count: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """Some frames of the first drive, framed, for `cnn augment`: dicts of image and angle."""
    frames, samples_ = drives(data, seed), []
    for row in np.linspace(0, len(frames) - 1, min(4 * count, len(frames))).astype(int):
        try:
            image = decode(tf.constant(normalize(frames[row].read())[0]), channels=data.channels)
        except (OSError, Unreadable, tf.errors.InvalidArgumentError, UnicodeDecodeError):
            continue  # `cnn prepare` reports what cannot be read
        resized = resize.resize_image(image, data.size, fit=data.fit).numpy()
        samples_.append({"image": resized, "angle": np.float32(frames[row].angle)})
    if not samples_:
        raise Fault(f"{data.source} must hold at least one readable frame, got none", code=Fault.DATA)
    return samples_[:: max(1, len(samples_) // count)][:count]


def _divided(
    usable: Sequence[tuple[Frame, str]], data: Data, fold: Fold | None = None
) -> tuple[list[SplitFrame], list[data_validation.Problem]]:
    """The split of each frame; one whose picture an earlier split has, as when the car stands, is left out."""
    fractions = {"validation": data.validation, "test": data.test}
    drives = [frame.drive for frame, _ in usable]
    names = split.by_time(drives, fractions=fractions, gap=data.gap, fold=fold.place if fold else None)
    first: dict[str, SplitFrame] = {}
    members, problems = [], []
    for (frame, digest), name in zip(usable, names, strict=True):
        member = SplitFrame(frame, digest, name)
        earlier = first.setdefault(digest, member)
        if earlier is not member:
            across = None not in (name, earlier.split) and name != earlier.split
            kind, effect = ("duplicate across splits", "left out") if across else ("duplicate", "")
            problems.append(data_validation.Problem(kind, frame.id, f"same content as {earlier.frame.id}", effect))
            member = member._replace(split=None) if across else member
        members.append(member)
    return members, problems


def _with_throttle(frame: Frame) -> Frame:
    """The frame; one without a throttle says so when it is read."""
    if frame.throttle is not None:
        return frame
    reason = "it has no throttle that is a number"
    return frame._replace(read=partial(file_tree.refuse, "broken annotation", reason), throttle=0.0)


def _beyond(frames: Sequence[Frame], control: str) -> list[data_validation.Problem]:
    advice = "; see data.full" if control == "angle" else ""
    return [
        data_validation.Problem(BEYOND[control], frame.id, f"{value:g} is not within -1 to 1{advice}")
        for frame in frames
        if abs(value := getattr(frame, control)) > LOCKED + 1e-6
    ]


def _write_split(folder: Path, members: Sequence[SplitFrame], controls: Sequence[str]) -> str:
    """Write what went where; see `split_manifest.write`."""
    rows = (
        (
            *(member.frame.id, member.frame.drive, member.split or "gap"),
            *(getattr(member.frame, name) for name in controls),
            member.digest,
        )
        for member in members
    )
    return split_manifest.write(folder, ("id", "drive", "split", *controls, "sha256"), rows, count=len(members))


def _values(member: SplitFrame, named: Sequence[str]) -> tuple[Any, ...]:
    """What a record holds of a frame, in the order of the features."""
    frame = member.frame
    image = normalize(frame.read())[0]
    values = (frame.shot.route() if name == "route" and frame.shot else getattr(frame, name) for name in named)
    return frame.id, image, *values


def _measured(members: dict[str, list[SplitFrame]], control: str) -> dict[str, dict[str, float]]:
    """Mean, deviation and root mean square of a number in each split."""
    columns = {
        split: np.array([getattr(member.frame, control) for member in inner]) for split, inner in members.items()
    }
    return {
        split: {
            "mean": float(values.mean()),
            "deviation": float(values.std()),
            "rms": float(np.sqrt((values**2).mean())),
        }
        for split, values in columns.items()
        if len(values)
    }


def _draw_data(folder: Path, members: Sequence[SplitFrame], facts: dict[str, Any]) -> None:
    """A sheet of frames with their angles, in the order of time, and the angles of all over time."""
    split, count = next(iter(facts["splits"].items()))
    shown = [member for member in members if member.split == split]
    sample = [shown[row] for row in np.linspace(0, count - 1, min(SAMPLES, count)).astype(int)]
    images = []
    for member in sample:
        with Image.open(io.BytesIO(normalize(member.frame.read())[0])) as image:
            images.append(annotate.draw_steering(np.asarray(image.convert("RGB")), truth=member.frame.angle))
    titles = [f"{member.frame.angle:+.2f}" for member in sample]
    heading = f"{len(sample)} of {count:,} {split} frames in the order of time, with their angles"
    image_grid.contact_sheet(images, titles, folder / "contact_sheet.png", columns=8, size=1.5, heading=heading)
    angles = np.array([member.frame.angle for member in members])
    names = [member.split for member in members]
    charts.recorded_controls(angles, names, folder / "angles.png", axis="angle: left −1, right 1")
    if "throttles" in facts:
        throttles = np.array([member.frame.throttle for member in members])
        charts.recorded_controls(throttles, names, folder / "throttles.png", axis="throttle")
