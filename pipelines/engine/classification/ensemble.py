"""Ensembles: several networks of one recipe, and one model that averages what they answer.

`seeds` trains networks that differ in nothing but the seed – initial weights, the order of the examples, augmentation –
one after the other. `snapshots` is one training whose learning rate falls along a cosine to zero and starts again; the
weights at the end of each cycle are a member (Huang, Li, Pleiss, Liu, Hopcroft and Weinberger, "Snapshot ensembles:
train 1, get M for free", 2017). Differs from the paper: momentum starts anew with each cycle too.

Each member has its folder, `member-0` …, in that of the stage, with all that a training leaves, and its own run in
MLflow below the pipeline's. A member that is finished stays so; the one that was interrupted goes on. What follows –
evaluation, export, serving – sees one model from examples to logits: the logarithm of the mean of the members'
probabilities, whose softmax is that mean; of any number of labels, what a sigmoid makes the mean of.
"""

import copy
import csv
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from cnn_keras.data.files import durable
from cnn_keras.errors import Fault
from pipelines.data import run_files
from pipelines.data.run_files import STATE
from pipelines.engine import stages
from pipelines.engine.classification import classifier, ensemble_gain, label_kind
from pipelines.engine.classification.ensemble_gain import Array
from pipelines.engine.stages import Run
from pipelines.engine.training import trainer
from pipelines.engine.training.task_training import Training, inputs
from pipelines.export import savedmodel

MEMBER = re.compile(r"member\d+")
FACTS = "member.json"  # a member that has it is finished


def train(run: Run, folder: Path, training: Training, *, extend_to: int | None = None) -> dict[str, Any]:
    """Train a classifier as its recipe says, or every member of an ensemble that is not finished.

    Leaves `model.keras`, with the weights of the best epoch or with those of all members, which it averages.

    Raises:
        Fault: snapshots were to be extended.
    """
    recipe, plan = run.recipe, run.recipe.train.ensemble
    if plan is None:
        return classifier.train(run, folder, training, extend_to=extend_to)
    if extend_to and plan.kind == "snapshots":
        raise Fault("--extend must go with an ensemble of seeds, got snapshots, whose last cycle is over")
    places = [folder / f"member-{number}" for number in range(plan.members)]
    members, history = [], []
    for number, place in enumerate(places):
        difference = f"cycle {number + 1}" if plan.kind == "snapshots" else f"seed {recipe.seed + number}"
        run.console.print(f"          [bold]member {number + 1} of {plan.members}[/]  {difference}")
        members.append(_finished(run, place, extend_to) or _member(run, place, number, extend_to=extend_to))
        history += [{"member": number, **row} for row in _history(place)]
    networks = [savedmodel.load_keras(place / "model.keras") for place in places]
    model = average(networks, recipe.name, kind=label_kind.of(recipe))
    savedmodel.save_keras(model, folder / "model.keras")
    trainer.write_history(history, folder)
    run.console.print(f"          averaged {plan.members} members: {model.count_params():,} parameters")
    epochs = [facts["epochs"] for facts in members]
    return {
        "digest": trainer.weights_digest(model),
        "epochs": sum(epochs) if plan.kind == "snapshots" else max(epochs),
        "parameters": model.count_params(),
        "members": members,
        "metrics": {
            key: sum(facts["metrics"][key] for facts in members) / len(members) for key in members[0]["metrics"]
        },
    }


def average(
    members: Sequence[keras.Model], name: str, *, kind: label_kind.SingleLabel = label_kind.SINGLE
) -> keras.Model:
    """One model of several that take the same: to logits, (batch, classes), whose probabilities are their mean.

    The members are in it by the names `member0` …, each with its own normalisation; `kind` is that of their labels.
    """
    entry = keras.Input(members[0].input.shape[1:], dtype=members[0].input.dtype, name=members[0].input.name)
    named = [keras.Model(each.input, each.output, name=f"member{number}") for number, each in enumerate(members)]
    return keras.Model(entry, kind.mean_logits([each(entry) for each in named]), name=name)


def members(model: keras.Model) -> list[keras.Model]:
    """The networks that `model` averages; none if it is no ensemble."""
    return [layer for layer in model.layers if MEMBER.fullmatch(layer.name)]


def aloud(model: keras.Model) -> keras.Model:
    """A model that gives the probabilities of `model` and, behind them, its members': (batch, 1 + members, classes)."""
    ops = keras.ops
    answers = [each(model.input) for each in members(model)]
    own = label_kind.SINGLE.mean_logits(answers) if answers else model.output
    logits = ops.stack([ops.cast(each, "float32") for each in (own, *answers)], axis=1)
    return keras.Model(model.input, ops.softmax(logits))


def measure(model: keras.Model, each: Array, right: Array) -> dict[str, Any]:
    """What the ensemble gains over its members, and what it costs beside one of them.

    Args:
        each: for each member whether it was right: bool (N, members).
        right: whether the ensemble was: bool (N,).
    """
    whole = ensemble_gain.Combined(model, partial(model, training=False), model.input.shape)
    gain = ensemble_gain.gain(each.mean(axis=1), right)
    return {"members": each.mean(axis=0).tolist(), **gain, "cost": ensemble_gain.cost(members(model)[0], whole)}


def _finished(run: Run, place: Path, extend_to: int | None) -> dict[str, Any] | None:
    """The facts of a member that was trained as far before."""
    facts = run_files.kept_json(place / FACTS)
    if facts is None or facts.pop("extend_to") != extend_to:
        return None
    run.console.print(f"          finished before; weights {facts['digest']}")
    return facts


def _member(run: Run, place: Path, number: int, *, extend_to: int | None) -> dict[str, Any]:
    """Train one of them, or go on with it, under its own run in MLflow; the last file says that it is done."""
    durable.mkdir(place)
    recipe, plan = run.recipe, run.recipe.train.ensemble
    cycles = {"epochs": recipe.train.epochs // plan.members} if plan.kind == "snapshots" else {}
    settings = recipe.train.model_copy(update={"ensemble": None, **cycles})
    seed = recipe.seed + (number if plan.kind == "seeds" else 0)
    changes = {"name": f"{recipe.name}-member{number}", "seed": seed, "train": settings}
    member = copy.copy(run)
    member.recipe = recipe.model_copy(update=changes)
    training = inputs(member)
    if plan.kind == "snapshots":
        training = _cycle(training, number * settings.epochs, place.with_name(f"member-{number - 1}") / STATE)
    with run.tracker.below(run.tracker.folder / "members" / str(number), name=member.recipe.name) as member.tracker:
        member.tracker.go_on()
        if not member.tracker.marked(stages.BEGUN):
            member.tracker.params(member.recipe.model_dump(mode="json"))
            member.tracker.mark(stages.BEGUN)
        facts = classifier.train(member, place, training, extend_to=extend_to)
        if plan.kind == "snapshots":
            model = classifier.headless(_restored(training, place / STATE))
            savedmodel.save_keras(model, place / "model.keras")
            last = {f"last_{key}": value for key, value in _history(place)[-1].items() if key.startswith("val_")}
            facts |= {"digest": trainer.weights_digest(model), "best_epoch": facts["epochs"], "metrics": last}
            run.console.print(f"          kept the weights at the end of the cycle; {facts['digest']}")
        member.tracker.once(facts["metrics"])
    run_files.write_json(place / FACTS, {**facts, "extend_to": extend_to})
    return facts


def _cycle(training: Training, done: int, before: Path) -> Training:
    """The same training, `done` epochs on, from the weights that the cycle before has left."""
    first = training.assembled if not done else lambda: _restored(training, before)
    return replace(
        training,
        assembled=first,
        batches=lambda model, epochs: training.batches(model, range(done + epochs.start, done + epochs.stop)),
    )


def _restored(training: Training, state: Path) -> keras.Model:
    """The model with the weights of its last epoch, which need not be the best."""
    model = training.assembled()
    with np.load(state) as values:  # as `trainer.fit` writes them: the model's variables first
        for number, variable in enumerate(model.variables):
            variable.assign(values[str(number)])
    return model


def _history(place: Path) -> list[dict[str, float]]:
    """The rows that `trainer.write_history` wrote, without their numbers."""
    with (place / "history.csv").open(encoding="utf-8", newline="") as file:
        return [{key: float(value) for key, value in row.items() if key != "epoch"} for row in csv.DictReader(file)]
