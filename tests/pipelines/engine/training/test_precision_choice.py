"""`train.precision: auto`: which precision is taken, and that a training keeps to it."""

import json
import math

import pytest
from rich.console import Console

from cnn_keras.errors import Fault
from pipelines.engine import recipe as recipes
from pipelines.engine import stages
from pipelines.engine.recipe import Train
from pipelines.engine.training import precision_choice, trainer
from pipelines.engine.training.step_timing import Step
from tests.tiny_tasks import WRITERS, write


def taken(seconds, losses=(2.0, 1.9, 1.8), waited=0.0):
    return [Step(each, waited, each, 16, loss) for each, loss in zip(seconds, losses, strict=True)]


EXACT = taken([1.0, 1.2, 3.0])


@pytest.mark.parametrize(
    ("half", "chosen"),
    [
        (taken([0.5, 0.6, 0.7]), "bfloat16"),
        (taken([0.95, 2.0, 2.0]), "float32"),  # gains too little
        (taken([1.5, 1.5, 1.5]), "float32"),
        (taken([9.0, 0.5, 9.0]), "bfloat16"),  # disturbed by another program in two of its steps
        (taken([1.5, 1.5, 1.5], waited=1.0), "bfloat16"),  # what it waited for its input is not its own
        (taken([0.5, 0.6, 0.7], losses=(2.05, 1.95, 1.85)), "bfloat16"),
        (taken([0.5, 0.6, 0.7], losses=(2.2, 2.1, 2.0)), "float32"),
        (taken([0.5, 0.6, 0.7], losses=(2.0, math.nan, 1.8)), "float32"),
    ],
)
def test_the_fastest_precision_is_taken_whose_loss_agrees_and_which_gains_enough(half, chosen):
    assert precision_choice.choose({"float32": EXACT, "bfloat16": half}).precision == chosen


def test_of_two_half_precisions_the_faster_one_that_agrees_is_taken():
    faster = {"float32": EXACT, "bfloat16": taken([0.6] * 3), "float16": taken([0.4] * 3)}
    assert precision_choice.choose(faster).precision == "float16"
    wrong = faster | {"float16": taken([0.4] * 3, losses=(9.0, 9.0, 9.0))}
    assert precision_choice.choose(wrong).precision == "bfloat16"


@pytest.fixture
def small(exported):
    """A run whose data is prepared, and how to open it with settings."""

    def opened(*settings):
        recipe = recipes.load(str(exported.recipe), settings)
        return stages.Run(recipe, Console(quiet=True), exported.root / "runs")

    return opened


def test_what_was_chosen_is_written_down_and_not_measured_again(small, tmp_path, monkeypatch):
    measured = []

    def steps_of(run, precision):
        measured.append(precision)
        return taken([0.5] * 3) if precision == "bfloat16" else EXACT

    monkeypatch.setattr(precision_choice, "_measured", steps_of)
    run = small("train.precision=auto")
    chosen = precision_choice.settled(run, tmp_path)
    assert (chosen.recipe.train.precision, run.recipe.train.precision) == ("bfloat16", "auto")
    assert chosen.recipe.train == run.recipe.train.model_copy(update={"precision": "bfloat16"})
    assert json.loads((tmp_path / precision_choice.FILE).read_text())["milliseconds"]["bfloat16"] == 500
    assert measured == ["float32", "bfloat16"]
    assert precision_choice.settled(run, tmp_path).recipe == chosen.recipe
    assert len(measured) == 2


def test_a_recipe_that_names_its_precision_is_not_measured(small, tmp_path):
    run = small("train.precision=bfloat16")
    assert precision_choice.settled(run, tmp_path) is run
    assert not list(tmp_path.iterdir())


def test_several_hosts_must_agree_on_a_precision_before(small):
    run = small("train.precision=auto")
    run.share = (0, 2)
    with pytest.raises(Fault):
        precision_choice.settled(run)


def test_a_training_that_does_not_choose_refuses_auto():
    with pytest.raises(Fault):
        trainer.set_up(0, Train(precision="auto"))


def test_another_choice_elsewhere_makes_no_training_stale_and_a_named_precision_does(small):
    stage = stages.STAGES["train"]
    auto, again, named = (small(f"train.precision={each}").inputs(stage) for each in ("auto", "auto", "bfloat16"))
    assert not stages.differences(auto, again)
    assert stages.differences(auto, named) == ["train.precision auto → bfloat16"]


@pytest.mark.slow
def test_the_weights_are_those_of_the_precision_that_was_chosen_and_a_resumed_training_keeps_to_it(
    tmp_path, monkeypatch
):
    recipe = write("classify", tmp_path)

    def digest(*settings, name):
        changes = [*settings, f"name={name}", "train.epochs=2", "model.dropout=0.3"]
        run = stages.Run(recipes.load(str(recipe), changes), Console(quiet=True), tmp_path / "runs")
        stages.run_stages(run, "train")
        manifest = json.loads((run.folder / "train" / "manifest.json").read_text())
        return manifest["facts"]["digest"], manifest["numerics"]["precision"]

    auto, chosen = digest("train.precision=auto", name="auto")
    assert digest(f"train.precision={chosen}", name="named") == (auto, chosen)

    def interrupted(self, number, row):
        raise KeyboardInterrupt

    other = "bfloat16" if chosen == "float32" else "float32"
    monkeypatch.setattr(precision_choice, "choose", lambda steps: precision_choice.Choice(chosen, "measured"))
    with monkeypatch.context() as patch:
        patch.setattr(stages.Run, "on_epoch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            digest("train.precision=auto", name="resumed")
    monkeypatch.setattr(precision_choice, "choose", lambda steps: precision_choice.Choice(other, "measured"))
    assert digest("train.precision=auto", name="resumed") == (auto, chosen)


@pytest.mark.slow
@pytest.mark.parametrize("task", sorted(WRITERS))
def test_every_task_chooses_and_trains(task, tmp_path):
    run = stages.Run(
        recipes.load(str(write(task, tmp_path)), ["train.precision=auto", "train.epochs=1"]),
        Console(quiet=True),
        tmp_path / "runs",
    )
    stages.run_stages(run, "train")
    kept = json.loads((run.folder / "train" / precision_choice.FILE).read_text())
    assert (
        json.loads((run.folder / "train" / "manifest.json").read_text())["numerics"]["precision"] == kept["precision"]
    )
    assert set(kept["milliseconds"]) == set(precision_choice.candidates())
