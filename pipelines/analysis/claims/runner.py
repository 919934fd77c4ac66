"""The evidence for a claim: the figures of the runs that it trains, or of the networks that it counts.

Each variant is an ordinary run in `runs/claims/<claim>/<task>/<variant>/`: resumed, skipped when done, tracked below
the claim's own MLflow run. Quantities of a trained variant are the columns of its history after the last epoch
(`loss`, `val_accuracy`), the errors to the accuracies (`error`, `val_error`, `test_error`), `gap` (val_error - error),
`seconds`, `parameters`, what `evaluate` measured (`test_accuracy`), `epochs` until `reach` was reached, and the swept
setting by its last word. Those of a counted network are the totals of `cnn_keras.learn.model_profile` and
`receptive_field`; those of one that slides over a picture are `windows`, `multiply_adds`, `seconds` and `difference`,
see `pipelines.analysis.sliding_window`.
"""

import csv
import difflib
import json
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import keras
from rich.console import Console

from cnn_keras import models
from cnn_keras.errors import Fault
from cnn_keras.learn import model_profile
from pipelines.analysis import sliding_window
from pipelines.analysis.claims.claim import Claim
from pipelines.data import run_files
from pipelines.engine import recipe as recipes
from pipelines.engine import stages
from pipelines.engine.startup import load_tensorflow
from pipelines.tracking.tracker import PARENT_TAG, Tracker

EXPERIMENT = "claims"
DIVERGED = "diverged.json"


@dataclass
class Row:
    """One run or network and its figures; `values` is all but empty where the training diverged."""

    name: str
    variant: str
    values: dict[str, float]
    chosen: bool = True  # stands for its variant in the verdict
    diverged: bool = False
    history: list[dict[str, float]] = field(default_factory=list)

    def value(self, quantity: str) -> float:
        """One of its figures, or a Fault with the nearest quantity."""
        return _known(self.values, quantity, self.name)

    @property
    def seconds(self) -> float:
        """Of training, over all epochs."""
        return round(sum(epoch["seconds"] for epoch in self.history), 1)


def train(
    claim: Claim,
    folder: Path,
    console: Console,
    *,
    parent: str | None,
    overrides: Sequence[str] = (),
    force: bool = False,
) -> list[Row]:
    """Run every variant, with each value of the sweep, as far as the claim's last stage; `folder` is the claim's."""
    runs = list(planned_runs(claim, overrides))
    rows: list[Row] = []
    for done, (variant, recipe, swept) in enumerate(runs):
        left = sum(row.seconds for row in rows) / max(done, 1) * (len(runs) - done)
        hint = f", about {left / 60:.0f} min left" if left > 60 else ""
        console.print(f"[bold]{recipe.name}[/]  [dim]run {done + 1} of {len(runs)}{hint}[/]")
        run = stages.Run(recipe, console, folder)
        tags = {"cnn.claim": claim.name, PARENT_TAG: parent}
        run.tracker = Tracker(run.folder, experiment=EXPERIMENT, name=recipe.name, tags=tags)
        _share(run, folder)
        diverged = _run(run, claim.stage, force=force)
        rows.append(_row(claim, run, variant, swept=swept, diverged=diverged))
    return rows


def planned_runs(claim: Claim, overrides: Sequence[str]) -> Iterator[tuple[str, Any, dict[str, float]]]:
    """Every run: its variant, its recipe, and the swept setting, or the seed, by its short name."""
    swept = [{key: value} for key, values in claim.settings.items() for value in values] or [{}]
    for variant, settings in claim.variants.items():
        for setting in swept:
            name = "-".join([variant, *(f"{value:g}".replace("+", "") for value in setting.values())])
            changes = claim.set | settings | setting | {"name": name}
            set_texts = [f"{key}={json.dumps(value)}" for key, value in changes.items()]
            short = {key.rpartition(".")[2]: value for key, value in setting.items()}
            yield variant, recipes.load(str(claim.base), [*set_texts, *overrides]), short


def _run(run: stages.Run, last: str, *, force: bool) -> bool:
    """Run a variant's stages; True when its training diverged, now or the last time it was run like this.

    That a variant misses its recipe's requirement is a result like any other.
    """
    note, status = run.folder / DIVERGED, "FAILED"
    if not force and note.is_file() and run_files.kept_json(note) == _inputs(run):
        run.console.print("[dim]   train  skipped: it diverged, and nothing it depends on changed since[/]")
        return True
    try:
        note.unlink(missing_ok=True)
        stages.run_stages(run, last, force=["prepare", "train", "evaluate"] if force else [])
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    except Fault as fault:
        if fault.code == Fault.DIVERGED:
            run.console.print("          [yellow]diverged[/]: the loss is not a number")
            run_files.write_json(note, _inputs(run))
        elif fault.code == Fault.GATE:
            status = "FINISHED"
        else:
            raise
    finally:
        run.tracker.finish(status)
    return note.is_file()


def _inputs(run: stages.Run) -> dict[str, Any]:
    """What the training of a prepared run depends on, the preparation's settings included."""
    prepared = (run.folder / "prepare" / run_files.MANIFEST).is_file()
    return {name: run.inputs(stages.STAGES[name]) for name in ("prepare", "train") if prepared}


def _share(run: stages.Run, folder: Path) -> None:
    """Take over what another variant has prepared, where it is what this one would prepare."""
    final = run.folder / "prepare"
    if final.exists():
        return
    inputs = run.inputs(stages.STAGES["prepare"])
    for manifest in sorted(folder.glob(f"{run.recipe.task}/*/prepare/{run_files.MANIFEST}")):
        other = run_files.kept_json(manifest)
        if other and other["inputs"] == inputs and not stages.damage(manifest.parent, other):
            partial = final.with_name(".prepare.partial")
            shutil.rmtree(partial, ignore_errors=True)
            shutil.copytree(manifest.parent, partial)
            run_files.publish(partial, final, keep=False)
            return


def _row(claim: Claim, run: stages.Run, variant: str, *, swept: dict[str, float], diverged: bool) -> Row:
    """The figures of one run, from the files of its stages."""
    path = run.folder / (".train.partial" if diverged else "train") / "history.csv"
    history: list[dict[str, float]] = []
    if path.is_file():
        with path.open(encoding="utf-8") as file:
            history = [_with_errors({key: float(value) for key, value in row.items()}) for row in csv.DictReader(file)]
    row = Row(run.recipe.name, variant, dict(swept), diverged=diverged, history=history)
    if diverged:
        return row
    row.values |= {key: value for key, value in history[-1].items() if key not in ("epoch", "learning_rate")}
    row.values["seconds"] = row.seconds
    row.values["parameters"] = run.facts("train")["parameters"]
    for quantity, bound in claim.reach.items():
        reached = (epoch["epoch"] for epoch in history if _known(epoch, quantity, row.name) <= bound)
        row.values["epochs"] = next(reached, math.inf)
    if claim.stage == "evaluate":
        row.values |= _with_errors(run.facts("evaluate")["metrics"])
    row.values |= swept
    return row


def _with_errors(values: Mapping[str, float]) -> dict[str, float]:
    """The values and, to each accuracy, its error; the gap between the validation's and the training's."""
    errors = {key.replace("accuracy", "error"): 1 - value for key, value in values.items() if key.endswith("accuracy")}
    gap = {"gap": errors["val_error"] - errors["error"]} if {"error", "val_error"} <= errors.keys() else {}
    return {**values, **errors, **gap}


def count(claim: Claim, console: Console) -> list[Row]:
    """Build every network and add up the layers that count; weights are drawn from the same seed each time."""
    load_tensorflow(console)
    rows = []
    for name, network in claim.networks.items():
        settings: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in network.arguments.items()}
        keras.utils.set_random_seed(0)
        model = models.build(network.builder, **settings)
        if network.windows and network.picture:
            rows.append(Row(name, name, sliding_window.figures(model, network.windows, network.picture)))
            continue
        layers = model_profile.rows(model)
        keras.utils.clear_session()
        counted = [layer for layer in layers if fnmatch(layer.name, network.layers)]
        if not counted:
            known = ", ".join(layer.name for layer in layers[:20])
            raise Fault(f"networks.{name}.layers must fit a layer's name, got {network.layers!r}; there are {known} …")
        figures = asdict(model_profile.totals(counted)) | {
            "receptive_field": max(counted[-1].receptive_field, default=0)
        }
        rows.append(Row(name, name, figures))
    return rows


def _known(values: Mapping[str, float], quantity: str, name: str) -> float:
    if quantity not in values:
        near = difflib.get_close_matches(quantity, list(values), n=1, cutoff=0.5) or sorted(values)
        raise Fault(f"{quantity!r} must be a quantity of {name}, which it is not; did you mean {', '.join(near)}?")
    return values[quantity]
