"""People: labelled pictures whose labels are identities, split so that nobody is both learnt and tested.

The splits hold other people, not other pictures of the same: what is learnt must serve for strangers. Validation people
choose the epoch; calibration people, who chose nothing, set the threshold; test people are looked at once, by evaluate.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from cnn_keras.data import pk_sampler
from cnn_keras.data.files import durable, file_tree
from cnn_keras.data.files.image_file import normalize
from cnn_keras.data.sources import classification
from cnn_keras.data.transforms import face_alignment
from cnn_keras.data.transforms.face_alignment import Aligner
from cnn_keras.errors import Fault
from pipelines.data import image_dataset
from pipelines.data.schema import Fold
from pipelines.engine.stages import Run
from pipelines.inference import exported_model
from pipelines.tasks.verify.config import Align, Data

LEAST = 3  # people of whom a bound of the false-accept rate can be told


def prepare(run: Run, folder: Path) -> dict[str, Any]:
    """Validate, split by people and record the pictures of `run.recipe.data`."""
    align: Align | None = run.recipe.data.align
    without_face: list[str] = []
    groups: dict[str, str] = {}

    def divided(usable: list[tuple[Any, str]], data: Data, seed: int, fold: Fold | None = None) -> list[str]:
        groups.update({item.label: item.group for item, _ in usable if item.group})
        return splits_of(usable, data, seed, fold)

    if align is None:
        return {**image_dataset.prepare(run, folder, divided=divided), "groups": groups}
    aligner = aligner_of(align)

    def aligned(items: Any) -> Any:
        return face_alignment.align_items(items, aligner, size=run.recipe.data.size, without_face=without_face)

    facts = image_dataset.prepare(run, folder, divided=divided, changed=aligned)
    unaligned = sorted(set(without_face))
    durable.write_text(folder / "unaligned.csv", "".join(f"{name}\n" for name in ["id", *unaligned]))
    count = sum(facts["splits"].values())
    run.console.print(
        f"          {count - len(unaligned):,} of {count:,} images aligned by their eyes; the others are used unaligned"
    )
    return {**facts, "unaligned": unaligned, "groups": groups}


def aligner_of(align: Align) -> Aligner:
    """What finds the eyes in a picture, as the recipe asks.

    Raises:
        Fault: its file is missing or something else.
    """
    match align.by:
        case "annotated":
            return face_alignment.annotated_eyes(align.found)
        case "opencv":
            return face_alignment.cascades()

    return face_alignment.Landmarks(tf.saved_model.load(str(landmark_model(align))))


def landmark_model(align: Align) -> Path:
    """The version folder of the model that finds landmarks."""
    return exported_model.newest(exported_model.locate(str(align.found), Path("runs")))


def calibration_split(data: dict[str, Any]) -> str:
    """The split that the threshold is calibrated on."""
    return "calibration" if "calibration" in data["splits"] else image_dataset.validation_split(data)


def originals(data: Data, ids: Any) -> list[bytes]:
    """The pictures of these ids as the source has them, before any alignment, upright JPEG or PNG."""
    items = classification.items(data.source, path=data.path, classes=data.classes, group=data.group)
    known = {item.id: item for item in items}
    return [normalize(known[name].read())[0] for name in map(str, ids)]


def splits_of(usable: list[tuple[Any, str]], data: Data, seed: int, fold: Fold | None = None) -> list[str]:
    """The split of each kept item, the same for all items of one person.

    A source that prescribes splits, `data.test_groups` or a list of pairs decides who is tested; the others are drawn.
    A fold is of all people, whatever the source prescribes.

    Raises:
        Fault: a person in two prescribed splits, a list of pairs that names strangers, or too few people (code DATA).
    """
    split_of_person: dict[str, str | None] = {}
    for item, _ in usable:
        if split_of_person.setdefault(item.label, item.split) != item.split:
            raise Fault(
                f"{item.label} must be in one split only, got {split_of_person[item.label]} and {item.split}; "
                "put all pictures of a person into one",
                code=Fault.DATA,
            )
    if fold:
        split_of_person = dict.fromkeys(split_of_person)
    if data.test_groups:
        split_of_person = _groups_tested(usable, data.test_groups, split_of_person)
    if data.pairs:
        split_of_person |= dict.fromkeys(_listed(data.pairs.path, split_of_person), "test")
    free = [name for name in sorted(split_of_person, key=file_tree.natural) if split_of_person[name] in (None, "train")]
    split_drawn = _drawn(free, data, seed, prescribed=set(split_of_person.values()), fold=fold)
    return [split_drawn.get(item.label) or str(split_of_person[item.label]) for item, _ in usable]


def _groups_tested(
    usable: list[tuple[Any, str]], test_groups: Sequence[str], split_of_person: Mapping[str, str | None]
) -> dict[str, str | None]:
    """The people of the named groups are the test split; all others are free to be drawn for another one."""
    group_of = {item.label: item.group for item, _ in usable}
    if missing := sorted(set(test_groups) - set(group_of.values())):
        known = ", ".join(sorted({str(group) for group in group_of.values() if group})) or "none; does data.group fit?"
        raise Fault(f"data.test_groups must name groups of the data, got {missing[0]}; its groups: {known}")
    return {person: "test" if group_of[person] in test_groups else None for person in split_of_person}


def _drawn(
    people: list[str], data: Data, seed: int, *, prescribed: set[str | None], fold: Fold | None = None
) -> dict[str, str]:
    """A split for each of the people that no one else has decided on."""
    shuffled = [people[row] for row in np.random.default_rng(seed).permutation(len(people))]
    shares = {"test": data.test if not prescribed & {"train", "test"} else 0.0}
    if fold:  # its people first, who are tested
        tested = shuffled[fold.number - 1 :: fold.of]
        shuffled = tested + [name for name in shuffled if name not in tested]
        shares["test"] = len(tested) / len(people)
    shares["validation"] = data.validation if "validation" not in prescribed else 0.0
    shares["calibration"] = data.calibration
    split_of_person: dict[str, str] = {}
    for split, share in shares.items():
        least = LEAST if split == "calibration" else 2
        count = max(least, round(share * len(people))) if share else 0
        if split == "calibration" and len(people) - len(split_of_person) - count < LEAST:
            continue  # hardly anybody would be left to train on
        split_of_person |= dict.fromkeys(shuffled[len(split_of_person) : len(split_of_person) + count], split)
    if len(people) - len(split_of_person) < 2:
        raise Fault(
            f"data must hold at least two people to train on beside {len(split_of_person)} to validate and test, got "
            f"{len(people)} in all; add people, or lower data.validation and data.test",
            code=Fault.DATA,
        )
    return split_of_person | dict.fromkeys(shuffled[len(split_of_person) :], "train")


def _listed(path: Path, known: dict[str, Any]) -> set[str]:
    """The people of a list of pairs."""
    people = {name.partition("/")[0] for pair in pk_sampler.lfw_pairs(path) for name in (pair.left, pair.right)}
    if strangers := sorted(people - known.keys()):
        raise Fault(
            f"{path} must name people of the data only, got {strangers[0]} and {len(strangers) - 1} more without a "
            "picture; is data.path the folder that holds a folder for each person?",
            code=Fault.DATA,
        )
    return people
