"""What makes four functions a pipeline: fresh stages are skipped, killed ones resume, half-written ones are never read.

A stage writes into `.<stage>.partial` beside its final folder. When it is done all of it is pushed to the disk, a
manifest goes in – what the stage depended on, what it wrote, with which versions – and one rename publishes the folder.
The manifest's inputs decide the next time whether anything it depends on has changed, its sizes whether what it wrote
is still whole. A lock keeps two commands out of one run's folder.
"""

import logging
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from rich.console import Console

from cnn_keras.data.files import durable, input_file
from cnn_keras.errors import Fault
from pipelines.data import run_files, yaml_file
from pipelines.data.run_files import (
    JOURNAL,
    MANIFEST,
    STATE,
    digest,
    file_digest,
    kept_json,
    read_json,
    versions,
    write_json,
)
from pipelines.data.schema import flatten
from pipelines.engine import fingerprint, plugins
from pipelines.engine import recipe as recipes
from pipelines.engine.startup import load_tensorflow, numerics
from pipelines.tracking import tracker

BEGUN = "begun"  # what the journal says when all has been told that a training begins with
SOURCES = Path(__file__).parents[2]
NAMED = 3  # files that a reason names, of those whose code changed

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stage:
    """One step of the pipeline: the recipe's sections it depends on, the stage before it, and how it ends."""

    name: str
    sections: tuple[str, ...]
    after: str | None = None
    resumes: bool = False  # a partial folder is continued, not thrown away
    keeps: bool = False  # what earlier runs of the stage published stays (export's versions)


STAGES = {
    stage.name: stage
    for stage in (
        Stage("prepare", ("seed", "fold", "data"), resumes=True),
        Stage("train", ("seed", "augment", "model", "head", "train"), after="prepare", resumes=True),
        Stage("evaluate", ("evaluate",), after="train"),
        Stage("export", ("export",), after="train", keeps=True),
    )
}


class Run:
    """One run's folder, `runs/<task>/<name>/`, and what its stages may use: recipe, console, tracker."""

    def __init__(self, recipe: Any, console: Console, root: Path = Path("runs")) -> None:
        self.recipe = recipe
        self.console = console
        self.folder: Path = (root / recipe.task / recipe.name).resolve()
        self.cache = self.folder  # where a training keeps what it can compute again
        self.where = "" if root == Path("runs") else f" --runs {shlex.quote(str(root))}"  # for a command about the run
        self.parallel_map: run_files.ParallelMap | None = None  # of a cluster: what spreads the work of `prepare`
        self.task = recipes.module_of(recipe.task)
        durable.mkdir(self.folder)
        self.tracker = tracker.Tracker(self.folder, experiment=recipe.task, name=recipe.name)
        self.share = (0, 1)  # this host's number and how many share each batch
        self.training_facts: dict[str, Any] | None = None  # of other data, whose network all of this run's data tests
        self._checked = False
        self._whole: set[str] = set()  # stages whose outputs have been looked at

    def check(self) -> None:
        """Ask the task, once, whether the library agrees with the recipe; costs the import of TensorFlow."""
        if not self._checked:
            load_tensorflow(self.console)
            self.task.check(self.recipe)
            self._checked = True

    def on_epoch(self, number: int, row: dict[str, float]) -> None:
        """Told by the training after each epoch, from 1; one that is resumed tells those before it again."""
        if self.tracker.once(row, step=number):
            self.tracker.system()

    def finished(self, stage: str) -> Path:
        """The folder of a stage that has been run, or a Fault that says how to run it."""
        if stage not in self._whole:
            finished_manifest(self.folder, stage)
            self._whole.add(stage)
        return self.folder / stage

    def compute(self, stage: Stage, folder: Path, target: dict[str, Any]) -> dict[str, Any]:
        """What the task makes of a stage, in `folder`: the facts about it."""
        return dict(getattr(self.task, stage.name)(self, folder, **target))

    def facts(self, stage: str) -> dict[str, Any]:
        """What a finished stage returned."""
        return dict(read_json(self.finished(stage) / MANIFEST)["facts"])

    def inputs(self, stage: Stage) -> dict[str, Any]:
        """Everything the stage's result depends on, flat, so that a difference can be shown by its key."""
        resolved = self.recipe.model_dump(mode="json")
        inputs = flatten({section: resolved[section] for section in stage.sections if section in resolved})
        if stage.after:
            inputs[stage.after] = read_json(self.finished(stage.after) / MANIFEST)["digest"]
        weights = Path(getattr(getattr(self.recipe, "model", None), "weights", None) or "")
        teacher = getattr(getattr(getattr(self.recipe, "train", None), "distill", None), "file", Path())
        for key, path in (("weights", weights), ("teacher", teacher)):
            if stage.name == "train" and path.is_file():
                inputs[key] = file_digest(path)
        return {**inputs, **self.task.depends(stage.name, self.recipe), **self.code(stage.name)}

    def code(self, stage: str) -> dict[str, str]:
        """The digests of the code behind a stage; see `fingerprint.code`."""
        roots = [f"{self.task.__name__}:{stage}"]
        model = getattr(self.recipe, "model", None)
        if stage != "prepare" and model and not plugins.is_own(model.builder):
            roots.append(f"cnn_keras.models.{model.builder.partition('.')[0]}")
        # A chart that is drawn in another way is no reason to train again.
        return fingerprint.code(
            roots + plugins.roots(self.recipe, stage), without=("pipelines.plots",) if stage == "train" else ()
        )


def finished_manifest(run: Path, stage: str) -> dict[str, Any]:
    """The manifest of a stage in a run's folder.

    Raises:
        Fault: it has not been run, or what it wrote is damaged; the message says how to run it.
    """
    folder = run / stage
    manifest = kept_json(folder / MANIFEST)
    problem = "nothing" if manifest is None else damage(folder, manifest)
    if manifest is None or problem:
        raise Fault(f"{stage} must be run first, found {problem} in {folder}; run `cnn {stage} RECIPE`")
    return manifest


@contextmanager
def tracked(run: Run) -> Iterator[None]:
    """Close the tracking of a run by how what is done with it ends; say what could not be delivered."""
    status = "FAILED"
    try:
        yield
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        if pending := run.tracker.finish(status):
            push = f"cnn push {run.recipe.task}/{run.recipe.name}{run.where}"
            run.console.print(f"{pending} tracking events are pending in {run.folder}; `{push}` sends them")


def run_stages(
    run: Run, last: str, *, force: Sequence[str] = (), extend: int = 0, only: bool = False
) -> dict[str, Any]:
    """Bring the run up to date as far as stage `last`; return the facts of that stage.

    Stages named in `force` are run even when nothing has changed; `extend` trains a finished run for more epochs.
    With `only`, the stages before `last` stay as they are, even when something has changed.
    """
    with locked(run.folder):
        run.tracker.adopt()
        for stage in STAGES.values():
            if only and stage.name != last:
                _keep(run, stage)
            else:
                run_stage(run, stage, force=stage.name in force, extend=extend if stage.name == "train" else 0)
            facts = run.facts(stage.name)
            if facts.get("failed"):  # a gate: what comes after it is not run
                raise Fault("\n".join(facts["failed"]), code=Fault.GATE)
            if stage.name == last:
                break
    return facts


@contextmanager
def prepared(run: Run) -> Iterator[None]:
    """Hold the run's folder, its data prepared, for a command that is no stage."""
    with locked(run.folder):
        run_stage(run, STAGES["prepare"], force=False, extend=0)
        run.check()
        with numerics():
            yield


def run_stage(run: Run, stage: Stage, *, force: bool, extend: int) -> None:
    """Skip, resume or run one stage, and publish what it wrote."""
    final, partial = run.folder / stage.name, partial_folder(run, stage.name)
    if kept_json(partial / MANIFEST):  # killed between the last write and the rename
        run_files.publish(partial, final, keep=stage.keeps)
    inputs = run.inputs(stage)
    interrupted = kept_json(partial / "inputs.json") if stage.resumes else None
    reason = stale(final, inputs)
    if not (force or extend or reason):
        manifest = read_json(final / MANIFEST)
        run.console.print(
            f"[dim]{stage.name:>8}  skipped: nothing it depends on changed since {manifest['finished']}[/]"
        )
        if "sizes" in manifest and not run.tracker.marked(_mark(stage.name, manifest)):  # killed before it was told
            record(run, stage.name, manifest)
        return
    run.check()
    if extend and (changed := stale(final, inputs, libraries=False)):
        raise Fault(f"--extend requires a finished training with the same settings, but {stage.name} {changed}")
    paused = "; ".join(["was interrupted", *updates(interrupted or {}, inputs)])
    reason_text = "forced" if force else "extended" if extend else paused if interrupted else reason
    run.console.print(f"[bold cyan]{stage.name:>8}[/]  {reason_text}")
    started = time.time()
    target = {"extend_to": _epochs(run, stage) + extend} if extend else {}
    resumed = _open(partial, final, stage, inputs | target, force=force)
    if stage.name == "train":
        begin_tracking(run, resumed=resumed)
    write_json(partial / "inputs.json", inputs | target)  # from here on there is something to go on with
    with numerics() as environment:
        facts = run.compute(stage, partial, target)
    (partial / JOURNAL).unlink(missing_ok=True)
    manifest = {
        "stage": stage.name,
        "inputs": inputs,
        "digest": digest(facts.get("digest", facts)),
        "facts": facts,
        "outputs": {str(path.relative_to(partial)): file_digest(path) for path in run_files.files(partial)},
        "sizes": {str(path.relative_to(partial)): path.stat().st_size for path in run_files.files(partial)},
        "seconds": round(time.time() - started, 1),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": run.recipe.seed,
        "numerics": environment,
        "resumed": resumed,
        "versions": versions(),
        "commit": commit(),
    }
    run_files.publish(partial, final, keep=stage.keeps, manifest=manifest)
    record(run, stage.name, manifest)
    run.console.print(f"[dim]{'':>8}  {manifest['seconds']} s, wrote {final}[/]")


def _keep(run: Run, stage: Stage) -> None:
    """Leave a stage as it is, and say what has changed since; a Fault where it has not been run."""
    reason = stale(run.finished(stage.name), run.inputs(stage))
    run.console.print(f"[dim]{stage.name:>8}  kept: {reason or 'nothing it depends on changed'}[/]", highlight=False)


def partial_folder(run: Run, stage: str) -> Path:
    """Where a stage writes until it is done."""
    return run.folder / f".{stage}.partial"


def _epochs(run: Run, stage: Stage) -> int:
    """How many epochs a finished training had; a Fault where it had none."""
    facts = run.facts(stage.name)
    if "epochs" not in facts:
        raise Fault(
            f"--extend requires a training with epochs, got {run.recipe.task}/{run.recipe.name}, which has none"
        )
    return int(facts["epochs"])


def record(run: Run, stage: str, manifest: dict[str, Any]) -> None:
    """Tell MLflow what a stage measured, drew and exported; training has told its epochs itself."""
    if stage == "prepare":
        return  # goes into the run that the training opens
    facts, mark = manifest["facts"], _mark(stage, manifest)
    run.tracker.once(facts.get("metrics", {}))
    for path in run_files.files(run.folder / stage):
        if stage in ("train", "evaluate") and path.suffix in (".png", ".csv", ".json"):
            run.tracker.artifact(path, folder=str(path.parent.relative_to(run.folder)))
    if model := facts.get("register"):
        run.tracker.model(
            run.folder / model["folder"],
            name=model["name"],
            metrics=model["metrics"],
            requirement=model["requirement"],
            identity=mark,
        )
    run.tracker.mark(mark)


def _mark(stage: str, manifest: dict[str, Any]) -> str:
    """What the journal says when all of a stage's result has been told."""
    return f"{stage} {manifest['finished']} {manifest['digest']}"


def _open(partial: Path, final: Path, stage: Stage, inputs: dict[str, Any], *, force: bool) -> bool:
    """Make the partial folder ready; True when it holds work to go on with."""
    earlier = kept_json(partial / "inputs.json") if stage.resumes and not force else None
    has_state = any(partial.rglob(STATE))  # before the first epoch is over there is nothing to lose
    if earlier is not None:
        changes = differences(earlier, inputs, libraries=False)
        if not changes:
            durable.remove_leftovers(partial)
            return True
        if has_state and "extend_to" not in inputs:
            raise Fault(
                f"{stage.name} was interrupted with other settings: {'; '.join(changes)}. "
                "Go back to the old ones to resume, or use --force to start again."
            )
    shutil.rmtree(partial, ignore_errors=True)
    if "extend_to" in inputs:
        shutil.copytree(final, partial, ignore=shutil.ignore_patterns(MANIFEST))
        durable.sync(partial)
    durable.mkdir(partial)
    return "extend_to" in inputs


def begin_tracking(run: Run, *, resumed: bool) -> None:
    """Open the MLflow run of this pipeline with its settings, its data and prepare's pictures.

    A resumed training goes on with its own, and is told of what a kill kept from it.
    """
    if resumed and run.tracker.marked(BEGUN):
        return
    facts, prepared = run.facts("prepare"), run.finished("prepare")
    resolved = run.folder / "recipe.yaml"
    durable.write_text(resolved, yaml_file.dump(run.recipe))
    tags = {
        "cnn.settings": digest(run.recipe.model_dump(mode="json")),
        "mlflow.source.git.commit": commit(),
        "mlflow.source.name": f"{run.recipe.task}/{run.recipe.name}",
        **_lineage_tags(run, facts.get("lineage", {})),
    }
    if not resumed:
        run.tracker.start(tags={key: value for key, value in tags.items() if value})
    run.tracker.params(run.recipe.model_dump(mode="json"))
    run.tracker.artifact(resolved)
    run.tracker.dataset(name=facts["source"], digest=facts["digest"], source=facts["location"], context="training")
    for path in run_files.files(prepared):
        if path.suffix in (".png", ".csv", ".json"):
            run.tracker.artifact(path, folder="prepare")
    run.tracker.mark(BEGUN)


def _lineage_tags(run: Run, lineage: dict[str, Any]) -> dict[str, Any]:
    """What MLflow is told of further data and of the run that has the other data; see `pipelines.data.lineage`."""
    if not lineage:
        return {}
    counts = {"cnn.further_examples": lineage["examples"], "cnn.further_left_out": lineage["left_out"]}
    if not (name := lineage["run"]):
        return counts
    before = run.folder.parent / Path(name).name
    identity = tracker.Tracker(before, experiment=run.recipe.task, name=before.name).identity
    return {**counts, "cnn.before": name, tracker.BEFORE_TAG: identity}


def stale(final: Path, inputs: dict[str, Any], *, libraries: bool = True) -> str | None:
    """Why the stage must run, or None when its last result still stands; see `differences`."""
    manifest = kept_json(final / MANIFEST)
    if manifest is None:
        return "has not been run"
    if problem := damage(final, manifest):
        return problem
    changes = differences(manifest["inputs"], inputs, libraries=libraries)
    return f"changed: {'; '.join(changes)}" if changes else None


def damage(folder: Path, manifest: dict[str, Any]) -> str | None:
    """What is not as the manifest says of what a stage wrote, or None; only sizes are looked at."""
    sizes = manifest.get("sizes", dict.fromkeys(manifest["outputs"]))  # older versions did not write them down
    for name, size in sizes.items():
        try:
            actual = (folder / name).stat().st_size
        except OSError:
            return f"{name} is missing"
        if size not in (None, actual):
            return f"{name} is damaged: {actual:,} bytes instead of {size:,}"
    return None


def updates(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """`library.NAME old → new` for every library of both that has another version."""
    return [f"{key} {old[key]} → {new[key]}" for key in _libraries(old, new) if old[key] != new[key]]


def differences(old: dict[str, Any], new: dict[str, Any], *, libraries: bool = True) -> list[str]:
    """`key old → new` for every key whose value changed; digests are named without their digits, code by its files.

    Where a setting chose other code, such as another builder, the setting is named and not the files. Without
    `libraries`, another version of a library is no change: a training that has begun can go on with it.
    """
    if not libraries:
        old = old | {key: new[key] for key in _libraries(old, new)}
    changed = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
    code_keys = [key for key in changed if key.startswith("code.")]
    # "code" is all of it in the manifests of earlier versions.
    others = [key for key in changed if key not in code_keys and not (code_keys and key == "code")]
    other_choice = others and "code" not in old
    files = [key.removeprefix("code.") for key in code_keys if not other_choice or (key in old and key in new)]
    left = len(files) - NAMED
    more = f" and {left} more file{'s' if left > 1 else ''}" if left > 0 else ""
    code = [f"the code of {', '.join(files[:NAMED])}{more}"] if files else []
    return code + [key if _is_digest(new.get(key)) else f"{key} {old.get(key)} → {new.get(key)}" for key in others]


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the run's folder; the operating system lets go when the process dies, however it dies."""
    try:
        with FileLock(folder / ".lock", timeout=0):
            yield
    except Timeout:
        raise Fault(f"{folder} is in use by another command; wait until that has finished") from None


def run_folder(reference: str, runs: Path) -> Path:
    """The folder of a run: by its own name, `classify/photos`, or by its recipe, `photos.yaml`."""
    folder = (runs / reference).absolute()
    if not input_file.is_regular(Path(reference)):
        return folder
    recipe = recipes.load(reference)
    return (runs / recipe.task / recipe.name).absolute()


def trained_run(reference: str, runs: Path, console: Console) -> Run:
    """The run of this name or of this recipe as it was trained; a Fault where its training is not finished."""
    folder = run_folder(reference, runs)
    for stage in ("prepare", "train"):
        if not (folder / stage / MANIFEST).is_file():
            raise Fault(
                f"RUN must be a run whose {stage} is finished, found nothing in {folder / stage}; `cnn run` runs it"
            )
    return Run(recipes.load(str(folder / "recipe.yaml")), console, folder.parent.parent)


def _libraries(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    return [key for key in sorted(old.keys() & new.keys()) if key.startswith("library.")]


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("sha256:")


def commit() -> str | None:
    """The git commit of the sources, with -dirty when they differ from it; None outside a checkout."""
    command = ["git", "-C", str(SOURCES), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
