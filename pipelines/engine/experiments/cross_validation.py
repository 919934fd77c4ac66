"""Cross-validation: every example is tested once, by a network that has not seen it.

The data is divided into k folds as a run divides it into splits: by class, groups and copies together; people whole;
drives by blocks of time. Each fold is a run of its own in `runs/<task>/<name>/folds/<task>/fold-1` …, whose recipe says
which part is tested: what is left of a fold that was killed is resumed, and one that is finished is skipped. Splits
that a source prescribes are put together before. Requirements of the recipe stop nothing here.

Stone, "Cross-validatory choice and assessment of statistical predictions", 1974. The standard deviation is that of a
single fold, not of the mean: the trainings share most of their data (Bengio and Grandvalet, "No unbiased estimator of
the variance of k-fold cross-validation", 2004).
"""

import csv
import io
import statistics
from collections.abc import Sequence
from typing import Any

import keras

from cnn_keras.data.files import durable
from cnn_keras.errors import Fault
from pipelines.data import run_files
from pipelines.data.schema import Fold
from pipelines.engine import stages
from pipelines.engine.training import task_training
from pipelines.tracking.tracker import PARENT_TAG, Tracker

FOLDER = "folds"
MEASURED = ("prepare", "train", "evaluate")


def cross_validate(run: stages.Run, folds: int) -> dict[str, Any]:
    """Train and measure a network for each fold; return what is in `folds/cross_validation.json`.

    Returns:
        folds, and metrics: of each metric that all folds have its mean, standard deviation, least, most and values.

    Raises:
        Fault: nothing is trained, the data cannot be divided, or a fold fails.
    """
    check(run)
    folder = run.folder / FOLDER
    with stages.locked(run.folder):
        durable.mkdir(folder)
        tracker = Tracker(folder, experiment=run.recipe.task, name=f"{run.recipe.name}-{FOLDER}")
        with tracker:
            if not tracker.marked(stages.BEGUN):  # before the folds, which name it their parent
                if tracker.identity is None:
                    tracker.start(tags={"mlflow.source.name": f"{run.recipe.task}/{run.recipe.name}"})
                tracker.params({"folds": folds})
                tracker.mark(stages.BEGUN)
                tracker.close()
            fold_metrics = [
                _measure(run, Fold(number=number, of=folds), tracker.identity) for number in range(1, folds + 1)
            ]
            summary: dict[str, Any] = {"folds": folds, "metrics": summarize(fold_metrics)}
            run_files.write_json(folder / "cross_validation.json", summary)
            durable.write_text(folder / "folds.csv", _csv(summary))
            tracker.metrics({name: row["mean"] for name, row in summary["metrics"].items()}, step=folds)
            tracker.artifact(folder / "folds.csv")
    return summary


def check(run: stages.Run) -> None:
    """Raise a Fault unless the run's recipe trains a network, on data that can be divided."""
    task_training.check(run)
    if reason := run.recipe.undivided:
        raise Fault(f"RECIPE must be one whose data can be divided into folds: {reason}")


def summarize(fold_metrics: Sequence[dict[str, float]]) -> dict[str, dict[str, Any]]:
    """Of each metric that all folds have: mean, standard deviation (of a sample), least, most, and the values."""
    names = [name for name in fold_metrics[0] if all(name in metrics for metrics in fold_metrics)]
    columns = {name: [float(metrics[name]) for metrics in fold_metrics] for name in names}
    return {
        name: {
            "mean": statistics.fmean(values),
            "deviation": statistics.stdev(values),
            "least": min(values),
            "most": max(values),
            "values": values,
        }
        for name, values in columns.items()
    }


def _measure(run: stages.Run, fold: Fold, parent: str | None) -> dict[str, float]:
    """Bring the run of a fold up to date as far as its measurement; its metrics."""
    name = f"fold-{fold.number}"
    run.console.print(f"[bold]fold {fold.number} of {fold.of}[/]")
    fold_run = stages.Run(run.recipe.model_copy(update={"name": name, "fold": fold}), run.console, run.folder / FOLDER)
    fold_run.tracker = Tracker(fold_run.folder, experiment=run.recipe.task, name=name, tags={PARENT_TAG: parent})
    fold_run.tracker.adopt()
    with stages.tracked(fold_run), stages.locked(fold_run.folder):
        for stage in MEASURED:
            stages.run_stage(fold_run, stages.STAGES[stage], force=False, extend=0)
    keras.utils.clear_session()
    return dict(fold_run.facts("evaluate")["metrics"])


def _csv(summary: dict[str, Any]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["metric", "mean", "deviation", *(f"fold {number}" for number in range(1, summary["folds"] + 1))])
    writer.writerows([name, row["mean"], row["deviation"], *row["values"]] for name, row in summary["metrics"].items())
    return out.getvalue()
