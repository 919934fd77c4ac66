"""People: labelled pictures whose labels are identities, split so that nobody is both learnt and tested.

The splits hold other people, not other pictures of the same: what is learnt must serve for strangers. Validation people
choose the epoch; calibration people, who chose nothing, set the threshold; test people are looked at once, by evaluate.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import model_validator

from cnn_keras.data import durable, input_file
from cnn_keras.errors import Fault
from pipelines.data import image_config, image_dataset, run_files
from pipelines.data import validation as data_validation
from pipelines.data.schema import Fraction, RecipePath, Section

if TYPE_CHECKING:
    from cnn_keras.data.transforms.face_alignment import Aligner
    from pipelines.engine.stages import Run


LEAST = 3  # people of whom a bound of the false-accept rate can be told


class Listed(Section):
    """A list of pairs as Labeled Faces in the Wild has it."""

    path: RecipePath  # such as pairs.txt


class Align(Section):
    """What says where the eyes of each picture are; see `cnn_keras.data.transforms.face_alignment`."""

    # a file of eyes, a network of landmarks, or OpenCV's detectors
    by: Literal["annotated", "landmarks", "opencv"] = "annotated"
    path: RecipePath | None = (
        None  # annotated: a CSV file; landmarks: a model that finds some, such as localize exports
    )

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.by == "opencv" and self.path:
            raise ValueError("path does not go with by: opencv, whose detectors come with it")
        return self

    @property
    def found(self) -> Path:
        """The path, or a Fault: here, not in the section, so that a recipe that wants one can still be shown."""
        if self.path is None:
            what = (
                "a CSV file of eyes" if self.by == "annotated" else "a model that finds landmarks, face-api/landmarks"
            )
            raise Fault(f"data.align.path is required with by: {self.by}: {what}; --set data.align.path=PATH")
        return self.path


class Data(image_config.Data):
    """Where the pictures come from; a folder has one sub-folder for each person, as LFW has."""

    validation: Fraction = 0.1  # of all people; they choose the epoch
    calibration: Fraction = 0.1  # they set the threshold; where people are few, those of the validation do that too
    test: Fraction = 0.25  # share of the people that measures
    align: Align | None = None  # faces are cut out so that the eyes stand alike
    pairs: Listed | None = None  # the test people are those of the list, and its folds give the accuracy


def prepare(run: "Run", folder: Path) -> dict[str, Any]:
    """Validate, split by people and record the pictures of `run.recipe.data`."""
    from cnn_keras.data.transforms import face_alignment

    align: Align | None = run.recipe.data.align
    missed: list[str] = []
    if align is None:
        return image_dataset.prepare(run, folder, divided=splits_of)
    aligner = aligner_of(align)

    def aligned(items: Any) -> Any:
        return face_alignment.align_items(items, aligner, size=run.recipe.data.size, missed=missed)

    facts = image_dataset.prepare(run, folder, divided=splits_of, changed=aligned)
    unaligned = sorted(set(missed))
    durable.write_text(folder / "unaligned.csv", "".join(f"{name}\n" for name in ["id", *unaligned]))
    count = sum(facts["splits"].values())
    run.console.print(
        f"          {count - len(unaligned):,} of {count:,} pictures aligned by their eyes; others are used as they are"
    )
    return {**facts, "unaligned": unaligned}


def aligner_of(align: Align) -> "Aligner":
    """What finds the eyes in a picture, as the recipe asks.

    Raises:
        Fault: its file is missing or something else.
    """
    from cnn_keras.data.transforms import face_alignment

    match align.by:
        case "annotated":
            return face_alignment.annotated_eyes(align.found)
        case "opencv":
            return face_alignment.cascades()
    import tensorflow as tf

    return face_alignment.Landmarks(tf.saved_model.load(str(landmark_model(align))))


def landmark_model(align: Align) -> Path:
    """The version folder of the model that finds landmarks."""
    from pipelines.inference import exported_model

    return exported_model.newest(exported_model.locate(str(align.found), Path("runs")))


def calibration_split(data: dict[str, Any]) -> str:
    """The split that the threshold is calibrated on."""
    return "calibration" if "calibration" in data["splits"] else image_dataset.validation_split(data)


def originals(data: Data, ids: Any) -> list[bytes]:
    """The pictures of these ids as the source has them, before any alignment, upright JPEG or PNG."""
    from cnn_keras.data.image_file import normalize
    from cnn_keras.data.sources import classification

    items = classification.items(data.source, path=data.path, classes=data.classes, group=data.group)
    known = {item.id: item for item in items}
    return [normalize(known[name].read())[0] for name in map(str, ids)]


def splits_of(kept: list[tuple[Any, str]], data: Data, seed: int) -> list[str]:
    """The split of each kept item, the same for all items of one person.

    A source that prescribes splits, or a list of pairs, decides who is tested; the others are drawn.

    Raises:
        Fault: a person in two prescribed splits, a list of pairs that names strangers, or too few people (code DATA).
    """
    from cnn_keras.data.sources import classification

    given: dict[str, str | None] = {}
    for item, _ in kept:
        if given.setdefault(item.label, item.split) != item.split:
            raise Fault(
                f"{item.label} must be in one split only, got {given[item.label]} and {item.split}; "
                "put all pictures of a person into one",
                code=Fault.DATA,
            )
    if data.pairs:
        given |= dict.fromkeys(_listed(data.pairs.path, given), "test")
    free = [name for name in sorted(given, key=classification.natural) if given[name] in (None, "train")]
    drawn = _drawn(free, data, seed, prescribed=set(given.values()))
    return [drawn.get(item.label) or str(given[item.label]) for item, _ in kept]


def _drawn(people: list[str], data: Data, seed: int, *, prescribed: set[str | None]) -> dict[str, str]:
    """A split for each of the people that no one else has decided on."""
    import numpy as np

    shuffled = [people[row] for row in np.random.default_rng(seed).permutation(len(people))]
    shares = {"test": data.test if not prescribed & {"train", "test"} else 0.0}
    shares["validation"] = data.validation if "validation" not in prescribed else 0.0
    shares["calibration"] = data.calibration
    found: dict[str, str] = {}
    for split, share in shares.items():
        least = LEAST if split == "calibration" else 2
        count = max(least, round(share * len(people))) if share else 0
        if split == "calibration" and len(people) - len(found) - count < LEAST:
            continue  # hardly anybody would be left to train on
        found |= dict.fromkeys(shuffled[len(found) : len(found) + count], split)
    if len(people) - len(found) < 2:
        raise Fault(
            f"data must hold at least two people to train on beside {len(found)} to validate and test, got "
            f"{len(people)} in all; add people, or lower data.validation and data.test",
            code=Fault.DATA,
        )
    return found | dict.fromkeys(shuffled[len(found) :], "train")


def _listed(path: Path, known: dict[str, Any]) -> set[str]:
    """The people of a list of pairs."""
    from cnn_keras.data import pk_sampler

    people = {name.partition("/")[0] for pair in pk_sampler.lfw_pairs(path) for name in (pair.left, pair.right)}
    if strangers := sorted(people - known.keys()):
        raise Fault(
            f"{path} must name people of the data only, got {strangers[0]} and {len(strangers) - 1} more without a "
            "picture; is data.path the folder that holds a folder for each person?",
            code=Fault.DATA,
        )
    return people


def files_digest(data: Data) -> str | None:
    """Changes when a file of the source, the list of pairs or that of the eyes does."""
    found = image_config.files_digest(data)
    for listed in (data.pairs, data.align):
        if listed and listed.path:  # what is wrong with it, reading it says
            found = run_files.digest([found, *files_of(listed)])
    return found


def files_of(listed: Listed | Align) -> list[str]:
    """The digests of the files at a path, of a folder's in their order."""
    path = listed.path
    if path is None:
        return []
    bearable = [file for file in data_validation.regular_files(path) if file.stat().st_size <= input_file.SIZE_LIMIT]
    return [run_files.file_digest(file) for file in bearable]
