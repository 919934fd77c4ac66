"""A trained network on new labelled data: what it reaches there, and whether that differs from its test figures.

The new data takes the place of the run's test split, and the task evaluates as ever, in a run of its own in
`runs/<task>/<name>/on/<task>/<folder>-<digest of its path>`, which MLflow shows below the run. Every example is
measured, whatever split the source prescribes; the training and validation splits are those of the run, so that
thresholds and temperatures are chosen as they were. The run's own report stays as it is.

The new figure and the old one are of two samples: of the difference the interval is told, see
`cnn_keras.metrics.two_samples`. It says nothing of examples that are in both; how many these are is told.
"""

import re
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cnn_keras.data.files import durable
from cnn_keras.errors import Fault
from cnn_keras.metrics.two_samples import difference_interval
from pipelines.data import run_files, split_manifest, yaml_file
from pipelines.engine import recipe as recipes
from pipelines.engine import stages
from pipelines.tracking.tracker import PARENT_TAG, Tracker

FOLDER = "on"
SPLITS = ("train", "validation", "calibration", "test")
# What only the report of the test split has: it costs time, or stops a run.
LEFT_OUT = {
    "baselines": False,
    "beat": (),
    "require": {},
    "at_most": {},
    "gap": False,
    "insight": False,
}
IN_FOLDERS = {"classify": "folder", "segment": "folder", "signals": "folder", "volumes": "folder", "verify": "folder"}


class NewData(stages.Run):
    """The run whose test split is new data; what has been trained and the other splits are those of `trained`."""

    def __init__(self, trained: stages.Run, recipe: Any) -> None:
        super().__init__(recipe, trained.console, trained.folder / FOLDER)
        self.trained = trained
        self.training_facts = trained.facts("prepare")
        tags = {PARENT_TAG: trained.tracker.identity}
        name = f"{trained.recipe.name}-on-{recipe.name}"
        self.tracker = Tracker(self.folder, experiment=recipe.task, name=name, tags=tags)

    def finished(self, stage: str) -> Path:
        if stage == "prepare":
            super().finished(stage)
            return self.folder / "data"
        return self.trained.finished(stage)

    def facts(self, stage: str) -> dict[str, Any]:
        if stage == "evaluate":
            return dict(stages.finished_manifest(self.folder, stage)["facts"])
        if stage != "prepare":
            return self.trained.facts(stage)
        before = self.trained.facts(stage)
        return before | {key: _joined(before.get(key), value) for key, value in self.new_facts().items()}

    def new_facts(self) -> dict[str, Any]:
        """What the new data alone is."""
        return dict(stages.finished_manifest(self.folder, "prepare")["facts"])

    def inputs(self, stage: stages.Stage) -> dict[str, Any]:
        inputs = super().inputs(stage) | {"trained on": self.trained.facts("prepare")["digest"]}
        return inputs if stage.name == "prepare" else inputs | {"measured on": self.new_facts()["digest"]}

    def join(self) -> None:
        """Put the run's other splits beside the new test split, as links."""
        folder = self.folder / "data"
        shutil.rmtree(folder, ignore_errors=True)
        durable.mkdir(folder)
        kept = [path for path in self.trained.finished("prepare").iterdir() if _split(path) not in ("test", "")]
        for path in [*kept, *(self.folder / "prepare").iterdir()]:
            (folder / path.name).symlink_to(path.resolve())


def measure(
    reference: str, folder: Path, overrides: Sequence[str] = (), *, console: Console, runs: Path, force: bool = False
) -> dict[str, Any]:
    """Evaluate a run's network on new data and compare; return what is in `comparison.json`.

    Args:
        reference: a trained run, `classify/photos`, or its recipe.
        folder: the data, a path as `data.path` of a recipe is one, read by the run's own `data.source`.
        overrides: other settings, `data.source=csv` among them.
        force: measure even if nothing has changed.

    Returns:
        run, data, examples, problems (how many of each kind), shared (how many examples are also in a split of the
        run), report (its folder), and figures: by name new, new_interval, test, test_interval, difference,
        difference_interval and differs; what belongs to the test split is None where the run was not evaluated.

    Raises:
        Fault: no such run or data, or nothing in it that the network can be asked about.
    """
    _check_reference(reference)
    trained = stages.trained_run(reference, runs, console)
    if trained.recipe.undivided:
        raise Fault(f"RUN must be one whose data has a test split: {trained.recipe.undivided}")
    run = NewData(trained, _recipe(trained, folder, overrides))
    with stages.locked(run.folder), stages.tracked(run):
        run.tracker.adopt()
        stages.run_stage(run, stages.STAGES["prepare"], force=force, extend=0)
        _check(run)
        run.join()
        begun = f"{stages.BEGUN} {run.new_facts()['digest']}"
        if not run.tracker.marked(begun):
            run.tracker.start(tags={"mlflow.source.name": f"{trained.recipe.task}/{trained.recipe.name}"})
            run.tracker.params({"on": str(folder)})
            facts = run.new_facts()
            run.tracker.dataset(
                name=folder.name, digest=facts["digest"], source=facts["location"], context="evaluation"
            )
            run.tracker.mark(begun)
        stages.run_stage(run, stages.STAGES["evaluate"], force=force, extend=0)
        comparison = compare(run)
        run_files.write_json(run.folder / "comparison.json", comparison)
        run.tracker.once(
            {f"difference_{name}": row["difference"] for name, row in comparison["figures"].items() if row["test"]}
        )
        run.tracker.artifact(run.folder / "comparison.json")
    return comparison


def compare(run: NewData) -> dict[str, Any]:
    """The new figures beside those of the test split; see `measure`."""
    new = run_files.read_json(run.folder / "evaluate" / "report.json")
    before = run_files.kept_json(run.trained.folder / "evaluate" / "report.json") or {}
    figures = {}
    for name, value in new.items():
        interval = new.get(f"{name}_interval")
        if not isinstance(value, float) or not interval:
            continue
        row: dict[str, Any] = {"new": value, "new_interval": interval, "test": None, "test_interval": None}
        row |= {"difference": None, "difference_interval": None, "differs": None}
        if before.get(f"{name}_interval"):
            old, old_interval = before[name], before[f"{name}_interval"]
            low, high = difference_interval(value, tuple(interval), old, tuple(old_interval))
            row |= {"test": old, "test_interval": old_interval, "difference": value - old}
            row |= {"difference_interval": [low, high], "differs": not low <= 0 <= high}
        figures[name] = row
    facts = run.new_facts()
    return {
        "run": f"{run.trained.recipe.task}/{run.trained.recipe.name}",
        "data": facts["location"],
        "examples": facts["splits"]["test"],
        "problems": facts["problems"],
        "shared": _shared(run),
        "figures": figures,
        "report": str(run.folder / "evaluate"),
    }


def show(comparison: dict[str, Any], console: Console) -> None:
    """A table for people, and what is to be known about the data."""
    table = Table(box=None, header_style="bold", padding=(0, 3, 0, 0))
    for heading in ("figure", "of", "value", "95 % interval", ""):
        table.add_column(heading)
    for name, row in comparison["figures"].items():
        table.add_row(name, "new data", *_told(row, "new"))
        if row["test"] is not None:
            verdict = "[bold yellow]they differ[/]" if row["differs"] else "may be chance"
            table.add_row("", "test split", *_told(row, "test"))
            table.add_row("", "difference", *_told(row, "difference", "+"), verdict)
    console.print(table)
    if problems := ", ".join(f"{count:,} {kind}" for kind, count in comparison["problems"].items()):
        console.print(f"[yellow]of the new data: {problems}[/]; all are in problems.csv")
    total = comparison["examples"]
    for split, count in comparison["shared"].items():
        effect = "the two samples are not independent" if split == "test" else "the new figure is too good"
        console.print(f"[yellow]{count:,} of {total:,} are in the run's {split} split, too: {effect}[/]")
    if all(row["test"] is None for row in comparison["figures"].values()):
        console.print("[yellow]the run has no figures of its test split[/]; `cnn evaluate` on its recipe measures it")
    console.print(f"[dim]wrote {escape(comparison['report'])}[/]")


def _told(row: dict[str, Any], key: str, sign: str = "") -> tuple[str, str]:
    low, high = row[f"{key}_interval"]
    return f"{row[key]:{sign}.4f}", f"{low:{sign}.4f} to {high:{sign}.4f}"


def _recipe(trained: stages.Run, folder: Path, overrides: Sequence[str]) -> Any:
    """The run's recipe with the new data in the place of its own."""
    if not folder.exists():
        raise Fault(f"--on must be the path of labelled data, found nothing at {folder}", code=Fault.DATA)
    path, document = folder.resolve(), yaml_file.read(trained.folder / "recipe.yaml")
    data: dict[str, Any] = {"path": str(path)}
    if not any(setting.startswith("data.source=") for setting in overrides):
        if document["data"].get("path") is None and trained.recipe.task not in IN_FOLDERS:
            raise Fault(
                f"--on requires --set data.source=NAME, which says how {folder} is read: the run's source, "
                f"{document['data']['source']}, reads no path"
            )
        data["source"] = document["data"]["source"] if document["data"].get("path") else "folder"
    for key in {"composites", "cards", "road"} & document["data"].keys():
        data[key] = None  # settings of sources that read no path
    if "also" in document["data"]:
        data["also"] = []
    name = f"{re.sub('[^A-Za-z0-9]+', '-', path.stem).strip('-') or 'data'}-{run_files.digest(str(path))[7:15]}"
    evaluate = {key: value for key, value in LEFT_OUT.items() if key in document["evaluate"]}
    sections = {"name": name, "fold": None, "data": data, "evaluate": evaluate}
    return recipes.load(str(trained.folder / "recipe.yaml"), overrides, sections)


def _check_reference(reference: str) -> None:
    """Raise a Fault for a network without its run."""
    named = Path(reference)
    saved = (named / "saved_model.pb").is_file() or any(named.glob("[0-9]*/saved_model.pb"))
    if saved or named.suffix == ".keras":
        instead = f"`cnn predict {named} FILES --csv FILE` asks it" if saved else "model.weights of a recipe takes it"
        raise Fault(
            f"RUN must be a run with --on, such as classify/photos, got a network alone, {named}: how labelled data is "
            f"read and measured is in the run's recipe; {instead}"
        )


def _check(run: NewData) -> None:
    """Raise a Fault where the task did not make a test split, of the classes of the network, of all the data."""
    facts, before = run.new_facts(), run.trained.facts("prepare")
    if [*facts["splits"]] != ["test"] or any(facts.get(key) != before.get(key) for key in ("names", "landmarks")):
        raise Fault(
            f"--on is not for runs of the task {run.recipe.task}, or not for data of other values than the run's"
        )


def _joined(before: Any, new: Any) -> Any:
    """A fact with the new test split; what is not told by split is that of the new data."""
    if isinstance(new, dict) and isinstance(before, dict) and [*new] == ["test"]:
        return {split: value for split, value in before.items() if split != "test"} | new
    return new


def _split(path: Path) -> str:
    """The split that a prepared file is of; "" of one that is of none."""
    stem = path.name.removeprefix("truth-")
    return next((split for split in SPLITS if re.match(rf"{split}[-.]", stem)), "")


def _shared(run: NewData) -> dict[str, int]:
    """How many of the new examples have the content of one of each split of the run."""
    splits = {row["sha256"]: row["split"] for row in split_manifest.rows(run.trained.folder / "prepare")}
    new = (row["sha256"] for row in split_manifest.rows(run.folder / "prepare"))
    counts = Counter(splits[digest] for digest in new if digest in splits)
    return {split: counts[split] for split in SPLITS if counts[split]}
