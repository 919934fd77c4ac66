"""The search for settings: Optuna proposes, ordinary trainings answer, and the validation split judges.

Every trial is a run in `runs/<task>/<name>/tune/<task>/trial-NNN/` that trains on what `prepare` left, below the
search's own MLflow run. What Optuna knows is in `tune/study.log`, or in a database; a search that is killed goes on
there, in the middle of the trials that were running. Each trial's proposal is drawn from a seed of its own, made of the
recipe's seed and the trial's number, so that a search gives the same trials whether it was interrupted or not. Where
trials run side by side, what is proposed also depends on which of them have ended.

Weights of finished trials are not kept: the best settings, trained again, give the same ones.
"""

import csv
import io
import json
import math
import os
import shlex
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import optuna
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from rich.console import Console
from sqlalchemy.exc import SQLAlchemyError

from cnn_keras.data.files import durable
from cnn_keras.errors import Fault
from pipelines.data import run_files, validation, yaml_file
from pipelines.data.schema import flatten
from pipelines.engine import recipe as recipes
from pipelines.engine import requirement, stages
from pipelines.engine.recipe import Range, Tune
from pipelines.engine.training import task_training
from pipelines.plots import charts
from pipelines.tracking.store import public
from pipelines.tracking.tracker import PARENT_TAG, Tracker

FOLDER = "tune"
STUDY = "study.log"
SECTIONS = ("augment", "model", "head", "train")  # whose settings a trial may change: prepared data is shared
BUILT = ("augment", "model", "head", "train.transfer")  # settings that only the library can check
WEIGHTS = ("*.keras", "*.npz", "*.h5")
PROPOSALS = 50  # in a row that have been tried before: the search ends
# Outcomes of what is no trial: one that did not end, whose settings are tried again, and settings of one before.
KILLED, REPEATED = "killed", "repeated"
RANKED = 5  # finished trials without which nobody knows what matters

# As the built-in `map` of a function of proposals, but in the order in which they end.
SideBySide = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]


class Proposal(NamedTuple):
    """Settings that are to be tried."""

    identity: int  # by which Optuna's storage knows the trial
    number: int
    settings: dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """One finished trial; `value` is NaN where it diverged or could not be built."""

    number: int  # from 1, as in every table and picture and in the name of its folder
    settings: dict[str, Any]
    value: float
    epochs: int
    outcome: str  # finished, stopped, diverged or refused


class Stopped(Exception):
    """A trial is worse than the median."""


class Trial(stages.Run):
    """A run that trains on what its search has prepared, and quietly; `after_epoch` may stop it."""

    def __init__(self, recipe: Any, search: stages.Run, after_epoch: Callable[[int, dict[str, float]], None]) -> None:
        super().__init__(recipe, Console(quiet=True), search.folder / FOLDER)
        self.search, self.after_epoch = search, after_epoch

    def finished(self, stage: str) -> Path:
        return self.search.finished(stage) if stage == "prepare" else super().finished(stage)

    def on_epoch(self, number: int, row: dict[str, float]) -> None:
        super().on_epoch(number, row)
        self.after_epoch(number, row)


class Space:
    """The settings that are searched, and the recipes that they make."""

    def __init__(self, reference: str, overrides: Sequence[str]) -> None:
        self.reference, self.overrides = reference, list(overrides)
        recipe: Any = recipes.load(reference, overrides)
        self.tune: Tune | None = recipe.tune
        self.single = (
            {"train.ensemble": None} if hasattr(getattr(recipe, "train", None), "ensemble") else {}
        )  # a trial is one network

    def recipe(self, settings: dict[str, Any], **changes: Any) -> Any:
        """The recipe with these settings, by key, and other changes."""
        changed = settings | changes | {"tune": None}
        overrides = [f"{key}={json.dumps(value)}" for key, value in changed.items()]
        return recipes.load(self.reference, [*self.overrides, *overrides])

    def check(self, run: stages.Run) -> Tune:
        """Raise a Fault for every key that is none, and every end of a range and choice that its setting refuses."""
        task_training.check(run)
        if self.tune is None:
            raise Fault(
                "tune is required for a search; write it into the recipe, such as "
                "tune: {trials: 20, space: {train.learning_rate: {low: 1e-4, high: 1e-1, log: true}}}"
            )
        run.check()
        wrong: list[str] = []
        for key, candidates in self.tune.space.items():
            ends = (candidates.low, candidates.high) if isinstance(candidates, Range) else candidates
            for value in ends:
                try:
                    recipe = self.recipe({key: value})
                    if key.partition(".")[0] not in SECTIONS:
                        raise Fault(f"{key}: must be a setting of {', '.join(SECTIONS)}: trials share prepared data")
                    if key.startswith(BUILT):
                        run.task.check(recipe)
                except Fault as fault:
                    wrong.append(f"tune.space: {fault}")
        if wrong:
            raise Fault("\n".join(dict.fromkeys(wrong)))
        return self.tune

    def propose(self, trial: optuna.Trial) -> dict[str, Any]:
        """A value of each setting; three digits of a number are enough."""
        settings: dict[str, Any] = {}
        for key, candidates in self.tune.space.items() if self.tune else ():
            if not isinstance(candidates, Range):
                settings[key] = json.loads(trial.suggest_categorical(key, [json.dumps(value) for value in candidates]))
            elif isinstance(candidates.low, int) and isinstance(candidates.high, int):
                settings[key] = trial.suggest_int(key, candidates.low, candidates.high, log=candidates.log)
            else:
                number = trial.suggest_float(key, candidates.low, candidates.high, log=candidates.log)
                settings[key] = min(max(float(f"{number:.3g}"), candidates.low), candidates.high)
        return settings


def search(
    reference: str,
    run: stages.Run,
    *,
    overrides: Sequence[str] = (),
    force: bool = False,
    storage: str = "",
    side_by_side: SideBySide | None = None,
) -> dict[str, Any]:
    """Bring the search of a recipe to its number of trials; return what is in `tune/search.json`.

    Args:
        storage: the URL of the database that Optuna keeps the study in; a file in the search's folder unless given.
        side_by_side: what tries proposals in other processes, which see the same folders.

    Raises:
        Fault: no `tune` in the recipe or anything wrong in it; a search begun under other settings; no trial that ends.
    """
    space = Space(reference, overrides)
    tune, folder = space.check(run), run.folder / FOLDER
    with stages.prepared(run):
        _open(run, folder, tune, force=force, storage=storage)
        with (
            Tracker(folder, experiment=run.recipe.task, name=f"{run.recipe.name}-{FOLDER}") as tracker,
            _study(run, tune, storage, anew=force) as study,
        ):
            _requeue(study)
            if not tracker.marked(stages.BEGUN):  # before the trials, which name it their parent
                if tracker.identity is None:
                    tracker.start(tags={"mlflow.source.name": f"{run.recipe.task}/{run.recipe.name}"})
                tracker.params({"tune": tune.model_dump(mode="json")})
                tracker.mark(stages.BEGUN)
                tracker.close()
            if side_by_side:
                attempt: Callable[[Proposal], int] = partial(
                    _attempt_elsewhere,
                    reference=reference,
                    overrides=overrides,
                    runs=run.folder.parents[1],
                    storage=storage,
                    parent=tracker.identity,
                )
            else:
                attempt = partial(_attempt, run=run, space=space, study=study, parent=tracker.identity)
            _try(run, space, tune, study, numbers=side_by_side or map, attempt=attempt)
            report = _report(run, space, tune, study)
            tracker.metrics({f"best_{tune.metric}": report["value"]}, step=len(report["trials"]))
            for name in ("trials.csv", "search.png", "best.yaml"):
                tracker.artifact(folder / name)
    return report


def _open(run: stages.Run, folder: Path, tune: Tune, *, force: bool, storage: str) -> None:
    """Go on with the search in the folder, if it is this one, or begin it."""
    if force:
        shutil.rmtree(folder, ignore_errors=True)
    inputs = run.inputs(stages.STAGES["train"])
    inputs |= flatten({FOLDER: tune.model_dump(mode="json", exclude={"trials"})})
    inputs |= {"--storage": public(storage)} if storage else {}
    inputs_file = folder / "inputs.json"
    earlier = run_files.kept_json(inputs_file)
    if earlier and (changes := stages.differences(earlier, inputs, libraries=False)):
        raise Fault(
            f"the search was started with other settings: {'; '.join(changes)}. Go back to the old ones to continue, "
            "use --force to start again, or another name with --set name=…"
        )
    if updates := stages.updates(earlier or {}, inputs):
        run.console.print(f"          since the search was started: {'; '.join(updates)}")
    durable.mkdir(folder)
    run_files.write_json(inputs_file, inputs)
    if (log := folder / STUDY).is_file():  # what a power cut left behind the last whole line
        os.truncate(log, log.read_bytes().rfind(b"\n") + 1)


@contextmanager
def _study(run: stages.Run, tune: Tune, storage: str, *, anew: bool = False) -> Iterator[optuna.Study]:
    """Optuna's study of a search.

    Raises:
        Fault: the database does not answer.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    stop = optuna.pruners.MedianPruner(n_startup_trials=RANKED, n_warmup_steps=tune.prune or 0)
    name = f"{run.recipe.task}/{run.recipe.name}"
    try:
        if storage:
            opened: Any = RDBStorage(storage.replace("postgresql://", "postgresql+psycopg://"))
        else:
            opened = JournalStorage(JournalFileBackend(str(run.folder / FOLDER / STUDY)))
        if anew and name in optuna.get_all_study_names(opened):
            optuna.delete_study(study_name=name, storage=opened)
        study = optuna.create_study(
            storage=opened,
            study_name=name,
            direction="minimize" if tune.metric.endswith("loss") else "maximize",
            pruner=stop if tune.prune else optuna.pruners.NopPruner(),
            load_if_exists=True,
        )
    except (ImportError, SQLAlchemyError) as error:
        raise Fault(
            f"--storage must be the URL of a database that answers, such as postgresql://user@host/name, got "
            f"{public(storage)}: {str(error).strip().splitlines()[0]}"
        ) from None
    try:
        yield study
    finally:
        if storage:
            opened.remove_session()
            opened.engine.dispose()


def _requeue(study: optuna.Study) -> None:
    """Let the trials that were running when the search was killed be proposed first, as they were."""
    waiting = [trial.user_attrs["number"] for trial in study.get_trials(states=[TrialState.WAITING])]
    for killed in study.get_trials(states=[TrialState.RUNNING]):
        number = killed.user_attrs.get("number")  # without one it was not begun
        if number and number not in waiting:
            settings = killed.system_attrs.get("fixed_params", {}) | killed.params
            study.enqueue_trial(settings, user_attrs={"number": number})
        optuna.trial.Trial(study, killed._trial_id).set_user_attr("outcome", KILLED)
        study.tell(killed.number, state=TrialState.FAIL)


def _try(
    run: stages.Run,
    space: Space,
    tune: Tune,
    study: optuna.Study,
    *,
    numbers: Callable[..., Iterator[int]],
    attempt: Callable[[Proposal], int],
) -> None:
    """Run the trials that are still to be run, a line for each."""
    done = len(_outcomes(study))
    if done:
        run.console.print(f"          {done} of {tune.trials} trials are done")
    with validation.progress(run.console) as bar:
        task = bar.add_task("trials", total=tune.trials, completed=done)
        for number in numbers(attempt, _proposals(run, space, tune, study)):
            bar.advance(task)
            _say(run.console, _outcomes(study), number, tune)


def _proposals(run: stages.Run, space: Space, tune: Tune, study: optuna.Study) -> Iterator[Proposal]:
    """Settings for each trial that is still to be run, when its turn comes."""
    queued = [trial.user_attrs["number"] for trial in study.get_trials(deepcopy=False, states=[TrialState.WAITING])]
    begun = {*queued, *(outcome.number for outcome in _outcomes(study))}
    for number in [*queued, *(number for number in range(1, tune.trials + 1) if number not in begun)]:
        new = _new(run, space, study, number)
        if new is None:
            run.console.print(f"          none of {PROPOSALS} proposals is new: the space is used up")
            return
        trial, settings = new
        trial.set_user_attr("number", number)
        trial.set_user_attr("settings", settings)
        yield Proposal(trial._trial_id, number, settings)


def _attempt(proposal: Proposal, *, run: stages.Run, space: Space, study: optuna.Study, parent: str | None) -> int:
    """Try a proposal; return its number."""
    assert space.tune is not None
    trial = optuna.trial.Trial(study, proposal.identity)
    metric = space.tune.metric
    _run_trial(run, space, trial, proposal.number, settings=proposal.settings, parent=parent, metric=metric)
    return proposal.number


def _attempt_elsewhere(
    proposal: Proposal, *, reference: str, overrides: Sequence[str], runs: Path, storage: str, parent: str | None
) -> int:
    """Try a proposal in a process that knows the search by its folder alone; return its number.

    One whose process was lost is tried again, and goes on after its last whole epoch.
    """
    space = Space(reference, overrides)
    assert space.tune is not None
    run = stages.Run(recipes.load(reference, overrides), Console(quiet=True), runs)
    with _study(run, space.tune, storage) as study:
        if not optuna.trial.Trial(study, proposal.identity)._get_latest_trial().state.is_finished():
            _attempt(proposal, run=run, space=space, study=study, parent=parent)
    return proposal.number


def _new(run: stages.Run, space: Space, study: optuna.Study, number: int) -> tuple[optuna.Trial, dict[str, Any]] | None:
    """Settings that no trial before has had, proposed for the trial of this number; None where they are not found."""
    tried = [trial.user_attrs for trial in study.get_trials(deepcopy=False) if "settings" in trial.user_attrs]
    settings_tried = [attributes["settings"] for attributes in tried if attributes.get("outcome") != KILLED]
    for attempt in range(PROPOSALS):
        # A seed for each trial: what is proposed depends on the trials before, not on who ran them.
        seed = run.recipe.seed * 100_003 + number - 1 + attempt * 1_000_003
        study.sampler = optuna.samplers.TPESampler(seed=seed % 2**32)
        trial = study.ask()
        settings = space.propose(trial)
        if settings not in settings_tried:
            return trial, settings
        _tell(trial, optuna.trial.TrialState.FAIL, REPEATED)
    return None


def _run_trial(
    run: stages.Run,
    space: Space,
    optuna_trial: optuna.Trial,
    number: int,
    *,
    settings: dict[str, Any],
    parent: str | None,
    metric: str,
) -> None:
    """Train with these settings and tell the study how it went."""
    import keras  # start-up: loaded when the settings have been checked

    def after_epoch(epoch: int, row: dict[str, float]) -> None:
        optuna_trial.report(row[metric], epoch)
        optuna_trial.set_user_attr("epochs", epoch)
        if optuna_trial.should_prune():
            raise Stopped

    name, status, value = f"trial-{number:03d}", "FAILED", math.nan
    try:
        trial = Trial(space.recipe(settings, name=name, **space.single), run, after_epoch)
    except Fault as fault:  # settings that are fine alone but not together
        return _tell(optuna_trial, TrialState.FAIL, f"refused: {fault}")
    trial.tracker = Tracker(trial.folder, experiment=run.recipe.task, name=name, tags={PARENT_TAG: parent})
    trial.tracker.adopt()
    ended = (trial.folder / "train").is_dir()  # killed before the study was told
    try:
        stages.run_stage(trial, stages.STAGES["train"], force=False, extend=0)
        for epoch, row in enumerate(_history(trial), 1) if ended else ():
            optuna_trial.report(float(row[metric]), epoch)
        facts, status = trial.facts("train"), "FINISHED"
        optuna_trial.set_user_attr("epochs", facts["epochs"])
        value = facts["metrics"][f"best_{metric}"]
        _tell(optuna_trial, TrialState.COMPLETE, "finished", value)
    except Stopped:
        status = "FINISHED"
        _tell(optuna_trial, TrialState.PRUNED, "stopped")
    except Fault as fault:
        diverged = fault.code == Fault.DIVERGED
        _tell(optuna_trial, *((TrialState.PRUNED, "diverged") if diverged else (TrialState.FAIL, f"refused: {fault}")))
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        trial.tracker.finish(status)
    for path in (path for pattern in WEIGHTS for path in trial.folder.rglob(pattern)):
        path.unlink()
    keras.utils.clear_session()


def _tell(trial: optuna.Trial, state: Any, outcome: str, value: float | None = None) -> None:
    trial.set_user_attr("outcome", outcome)
    trial.study.tell(trial, value, state=state)


def _history(trial: Trial) -> list[dict[str, str]]:
    """The epochs of a training that is over."""
    with (trial.finished("train") / "history.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _outcomes(study: optuna.Study) -> list[Outcome]:
    """The trials that are over, in their order."""
    ended = (trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished())
    over = [trial for trial in ended if trial.user_attrs.get("outcome", KILLED) not in (KILLED, REPEATED)]
    return [
        Outcome(
            trial.user_attrs["number"],
            trial.user_attrs["settings"],
            math.nan if trial.value is None or trial.user_attrs["outcome"] != "finished" else trial.value,
            trial.user_attrs.get("epochs", 0),
            trial.user_attrs["outcome"],
        )
        for trial in sorted(over, key=lambda trial: trial.user_attrs["number"])
    ]


def _best(outcomes: Sequence[Outcome], tune: Tune) -> Outcome | None:
    """The first of the best."""
    place = requirement.best([outcome.value for outcome in outcomes], lowest=tune.metric.endswith("loss"))
    return None if place is None else outcomes[place]


def settings_text(settings: dict[str, Any]) -> str:
    """Settings for a reader: learning_rate 0.00314, batch_size 64."""
    return ", ".join(f"{key.rpartition('.')[2]} {json.dumps(value)}" for key, value in settings.items())


def _say(console: Console, outcomes: Sequence[Outcome], number: int, tune: Tune) -> None:
    last = next(outcome for outcome in outcomes if outcome.number == number)
    star = "[yellow]★[/]" if last is _best(outcomes, tune) else " "
    result = f"{tune.metric} {last.value:.4f}" if math.isfinite(last.value) else f"{last.outcome}, epoch {last.epochs}"
    console.print(f"          {number:>3}/{tune.trials} {star} {result}  [dim]{settings_text(last.settings)}[/]")


def _report(run: stages.Run, space: Space, tune: Tune, study: optuna.Study) -> dict[str, Any]:
    """Write the table, the picture and the best recipe; return what was found."""
    outcomes, folder = _outcomes(study), run.folder / FOLDER
    best = _best(outcomes, tune)
    if best is None:
        reasons = "; ".join(sorted({outcome.outcome for outcome in outcomes}))
        raise Fault(
            f"tune.space must contain settings with which training finishes, got {len(outcomes)} trials: {reasons}"
        )
    durable.write_text(folder / "trials.csv", _csv(outcomes, tune))
    durable.write_text(
        folder / "best.yaml", yaml_file.dump(space.recipe(best.settings, name=f"{run.recipe.name}-tuned"))
    )
    charts.search(
        [outcome.value for outcome in outcomes],
        {key: [_drawn(tune.space[key], outcome.settings[key]) for outcome in outcomes] for key in tune.space},
        folder / "search.png",
        metric=tune.metric,
        log=[key for key, candidates in tune.space.items() if isinstance(candidates, Range) and candidates.log],
        highest=not tune.metric.endswith("loss"),
    )
    report = {
        "metric": tune.metric,
        "value": best.value,
        "best": best.settings,
        "set": " ".join(f"--set {shlex.quote(f'{key}={json.dumps(value)}')}" for key, value in best.settings.items()),
        "importance": _importance(study, outcomes, seed=run.recipe.seed),
        "trials": [
            {**vars(outcome), "value": outcome.value if math.isfinite(outcome.value) else None} for outcome in outcomes
        ],
    }
    run_files.write_json(folder / "search.json", report)
    return report


def _drawn(candidates: Any, value: Any) -> Any:
    """A number of a range as it is; what is chosen from a list as a word."""
    return value if isinstance(candidates, Range) else json.dumps(value)


def _importance(study: optuna.Study, outcomes: Sequence[Outcome], *, seed: int) -> dict[str, float]:
    """How much of the metric's variance each setting explains, by fANOVA (Hutter et al., 2014); sums to 1."""
    values = {outcome.value for outcome in outcomes if outcome.outcome == "finished"}
    if len(values) < RANKED or len(outcomes[0].settings) < 2:
        return {}
    return dict(get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=seed)))


def _csv(outcomes: Sequence[Outcome], tune: Tune) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["trial", tune.metric, *tune.space, "epochs", "outcome"])
    for outcome in outcomes:
        value = outcome.value if math.isfinite(outcome.value) else ""
        writer.writerow(
            [outcome.number, value, *map(json.dumps, outcome.settings.values()), outcome.epochs, outcome.outcome]
        )
    return out.getvalue()
