"""Where a run's data comes from: the run of before whose examples it has, and how many further ones train.

The run of before is one of the same task with the same seed, fold and data, of whose further paths (`data.also`) it has
some or none; of several the one with the most, and of these the latest. It may be the run of the same name, which is
about to be replaced.
"""

from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from cnn_keras.errors import Fault
from pipelines.data import run_files, split_manifest
from pipelines.data.run_files import MANIFEST
from pipelines.data.schema import flatten

FILE = "lineage.json"
SECTIONS = ("seed", "fold", "data")


class Before(NamedTuple):
    """A run of before, and the paths that it further trains on."""

    folder: Path
    also: list[str]


def facts(run: run_files.Run, folder: Path, further: dict[str, Any]) -> dict[str, Any]:
    """The facts of further data with those of the run of before; nothing without further data.

    `lineage.json` in the prepared folder has them, too: also (the further paths), examples and left_out of them, run
    (the name of the run of before, None without one), and kept and moved: how many of its examples are in the split
    that they were in, and how many are in another or in none.

    Args:
        folder: where the split has been written.
        further: what `additional_data.facts` says.
    """
    if not further:
        return {}
    before = run_before(run)
    lineage: dict[str, Any] = {"also": [str(path) for path in run.recipe.data.also], **further["also"]}
    lineage |= {"run": None, "kept": 0, "moved": 0}
    if before is None:
        run.console.print("          no run with the same data and without the further is there to be compared with")
    else:
        name = f"{before.folder.parent.name}/{before.folder.name}"
        kept, moved = _kept(before.folder / "prepare", folder)
        lineage |= {"run": name, "kept": kept, "moved": moved}
        if moved:
            run.console.print(
                f"          [yellow]{moved:,} examples of {name} are not in the split that they were in[/]: its data "
                "has changed since; new data belongs into data.also"
            )
        else:
            run.console.print(f"          all {kept:,} examples of {name} are in the split that they were in")
        if before.folder == run.folder:
            run.console.print(
                f"          [yellow]this run takes the place of {name}[/]: --set name=NAME keeps both, for cnn compare"
            )
    run_files.write_json(folder / FILE, lineage)
    return {**further, "lineage": lineage}


def run_before(run: run_files.Run) -> Before | None:
    """The run of before; see the module."""
    own, also = _settings(run.recipe.model_dump(mode="json")), {str(path) for path in run.recipe.data.also}
    candidates = []
    for manifest in run.folder.parent.glob(f"*/prepare/{MANIFEST}"):
        folder = manifest.parents[1]
        try:
            content = run_files.read_json(manifest)
        except Fault:  # damaged: it is no run to compare with
            continue
        theirs, inputs = set(content["inputs"].get("data.also") or ()), content["inputs"]
        alike = all(inputs.get(key, value) == value for key, value in own.items())
        if alike and theirs < also and (folder / "train" / MANIFEST).is_file():
            candidates.append((len(theirs), content["finished"], Before(folder, sorted(theirs))))
    return max(candidates)[-1] if candidates else None


def read(folder: Path) -> dict[str, Any] | None:
    """The lineage of the run in a folder; None of one without further data."""
    path = folder / "prepare" / FILE
    return run_files.read_json(path) if path.is_file() else None


def _settings(recipe: dict[str, Any]) -> dict[str, Any]:
    """All that says what data a recipe has, but for the further paths."""
    flat = flatten({section: recipe[section] for section in SECTIONS if section in recipe})
    return {key: value for key, value in flat.items() if key != "data.also"}


def _kept(before: Path, prepared: Path) -> tuple[int, int]:
    """How many examples of a prepared folder are in another, too, and in the same split; how many are not."""
    there = Counter(_places(prepared))
    here = Counter(_places(before))
    kept = (here & there).total()
    return kept, here.total() - kept


def _places(folder: Path) -> list[tuple[str, str]]:
    """The content and the split of each example."""
    return [(row.get("sha256") or row["id"], row["split"]) for row in split_manifest.rows(folder)]
