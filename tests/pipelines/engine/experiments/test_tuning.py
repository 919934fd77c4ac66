"""`cnn tune`: a space is checked before anything runs, trials are repeatable, and a killed search goes on."""

import csv
import json
import math

import optuna
import pytest
from rich.console import Console

from cnn_keras.errors import Fault
from pipelines.engine import recipe as recipes
from pipelines.engine import stages
from pipelines.engine.classification import classifier_config
from pipelines.engine.experiments import tuning
from pipelines.tracking.journal import Journal
from tests.conftest import WHOLE

SPACE = {
    "train.learning_rate": {"low": 1e-3, "high": 1e-2, "log": True},
    "train.batch_size": [16, 32],
    "train.warmup_epochs": {"low": 0, "high": 1},
}


def tuned(exported, name, *, space=SPACE, **tune):
    """What `--set` must say for a search of its own."""
    given = {"trials": 2, "metric": "val_loss", "space": space} | tune
    return ["name=" + name, "train.epochs=2", "tune=" + json.dumps(given)]


def searched(exported, name, *, storage="", force=False, **tune):
    overrides = tuned(exported, name, **tune)
    run = stages.Run(recipes.load(str(exported.recipe), overrides), Console(quiet=True), exported.root / "runs")
    return run, tuning.search(str(exported.recipe), run, overrides=overrides, storage=storage, force=force)


@pytest.fixture(scope="module", params=WHOLE)
def whole(exported):
    """A search that nobody interrupts, and the splits that it read."""
    from cnn_keras.data import records

    read, splits = records.read, set()

    def watched(folder, split, **options):
        splits.add(split)
        return read(folder, split, **options)

    run = stages.Run(recipes.load(str(exported.recipe), ["name=whole"]), Console(quiet=True), exported.root / "runs")
    stages.run_stages(run, "prepare")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "read", watched)
        return *searched(exported, "whole"), splits


def test_a_search_ends_with_table_picture_and_a_recipe(whole):
    run, found, _ = whole
    folder = run.folder / tuning.FOLDER
    with (folder / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["val_loss"]) for row in rows] == [trial["value"] for trial in found["trials"]]
    assert found["value"] == min(trial["value"] for trial in found["trials"])
    assert (folder / "search.png").read_bytes()[:4] == b"\x89PNG"
    best = recipes.load(str(folder / "best.yaml"))
    assert best.name == "whole-tuned"
    assert best.train.learning_rate == found["best"]["train.learning_rate"]
    assert best.train.epochs == 2
    assert "--set train.batch_size=" in found["set"]


def test_the_value_of_a_trial_is_that_of_its_best_epoch(whole):
    run, found, _ = whole
    for trial in found["trials"]:
        path = run.folder / "tune" / "classify" / f"trial-{trial['number']:03d}" / "train" / "history.csv"
        with path.open() as file:
            assert trial["value"] == min(float(row["val_loss"]) for row in csv.DictReader(file))


def test_the_test_split_is_never_looked_at(whole):
    assert whole[2] == {"train", "validation"}


def test_the_runs_own_training_is_not_begun_and_no_weights_are_left(whole):
    run, _, _ = whole
    assert not (run.folder / "train").exists()
    assert not [path for pattern in tuning.WEIGHTS for path in (run.folder / "tune").rglob(pattern)]


def test_a_killed_search_goes_on_and_gives_the_same_trials(exported, whole, monkeypatch):
    on_epoch, told = tuning.Trial.on_epoch, []

    def killed(self, number, row):
        on_epoch(self, number, row)
        told.append((self.recipe.name, number))
        if (self.recipe.name, number) == ("trial-001", 1) and told.count(told[-1]) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(tuning.Trial, "on_epoch", killed)
    with pytest.raises(KeyboardInterrupt):
        searched(exported, "killed")
    _, found = searched(exported, "killed")
    assert found["trials"] == whole[1]["trials"]
    assert found["best"] == whole[1]["best"]
    once = [(f"trial-{trial:03d}", epoch) for trial in (1, 2) for epoch in (1, 2)]
    assert told == [once[0], *once]  # the one that goes on tells what it was killed after, which MLflow has:
    journal = Journal.last(exported.root / "runs/classify/killed/tune/classify/trial-001/tracking")
    steps = [event["step"] for _, event in journal.events() if "val_loss" in event.get("values", ())]
    assert steps == [1, 2]
    searched(exported, "killed")
    assert len(told) == 5  # and a search that is over trains no more


def test_a_search_under_other_settings_is_refused(exported, whole):
    with pytest.raises(Fault, match=r"other settings: .*tune.metric val_loss → val_accuracy"):
        searched(exported, "whole", metric="val_accuracy")


@pytest.mark.parametrize(
    ("key", "candidates", "said"),
    [
        ("train.learning_rat", {"low": 1, "high": 2}, "did you mean learning_rate"),
        ("trian.epochs", [1, 2], "did you mean train"),
        ("data.size", [[8, 8], [9, 9]], "must be a setting of augment, model, head, train"),
        ("train.batch_size", [16, 0], "train.batch_size: must be greater than or equal to 1, got 0"),
        ("model.dropot", [0.1, 0.2], "dropot"),
        ("model.builder", ["lenet.lenet5", "lenet.lenet6"], "lenet6"),
    ],
)
def test_a_mistake_in_the_space_is_found_before_anything_runs(exported, tmp_path, key, candidates, said):
    overrides = tuned(exported, "wrong", space={key: candidates})
    run = stages.Run(recipes.load(str(exported.recipe), overrides), Console(quiet=True), tmp_path)
    with pytest.raises(Fault, match=said):
        tuning.search(str(exported.recipe), run, overrides=overrides)
    assert not (run.folder / "prepare").exists()


def test_a_recipe_without_a_space_is_told_how_to_write_one(exported, capsys):
    assert exported.cnn("tune", exported.recipe) == Fault.INPUT
    assert "tune: {trials: 20, space:" in capsys.readouterr().err


@pytest.mark.slow
def test_when_every_trial_diverges_there_is_no_best_one(exported):
    with pytest.raises(Fault, match="1 trials: diverged"):
        searched(exported, "diverged", trials=1, space={"train.learning_rate": [1e30, 1e31]})


def proposals(space, seed=0):
    overrides = ["tune=" + json.dumps({"space": space})]
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    space = tuning.Space("classify/digits-lenet5", overrides)
    return [space.propose(study.ask()) for _ in range(20)]


def test_proposals_keep_to_the_space_and_to_their_kind():
    space = {
        "train.learning_rate": {"low": 1.2345e-4, "high": 1e-1, "log": True},
        "train.epochs": {"low": 3, "high": 5},
        "augment": [[], ["mirror"]],
        "model.dropout": {"low": 0, "high": 0.5},
    }
    found = proposals(space)
    assert all(1.2345e-4 <= one["train.learning_rate"] <= 0.1 for one in found)
    assert {one["train.epochs"] for one in found} == {3, 4, 5}
    assert [one for one in found if one["augment"] == ["mirror"]]
    assert len({one["model.dropout"] for one in found}) > 3
    assert found == proposals(space)


def test_the_best_is_the_first_of_equals_and_never_a_number_that_is_none():
    outcomes = [
        tuning.Outcome(number, {}, value, 1, "finished") for number, value in enumerate((math.nan, 0.5, 0.9, 0.9))
    ]
    space = {"train.epochs": {"low": 1, "high": 2}}
    highest = classifier_config.Tune.model_validate_json(json.dumps({"space": space}))
    lowest = highest.model_copy(update={"metric": "val_loss"})
    assert tuning._best(outcomes, highest).number == 2
    assert tuning._best(outcomes, lowest).number == 1
    assert tuning._best(outcomes[:1], lowest) is None


@pytest.fixture
def asked_only(exported, monkeypatch):
    """A search whose trials train nothing: (settings to value) → what was found; without pictures."""

    def run_search(name, value, **tune):
        def trial(run, space, asked, number, *, settings, parent, metric):
            tuning._tell(asked, optuna.trial.TrialState.COMPLETE, "finished", value(settings))

        monkeypatch.setattr(tuning, "_run_trial", trial)
        return searched(exported, name, **tune)[1]

    return run_search


def test_settings_are_not_tried_twice_and_a_space_that_is_used_up_ends_the_search(asked_only):
    space = {"train.batch_size": [8, 16, 32], "train.warmup_epochs": {"low": 0, "high": 1}}
    found = asked_only("finite", lambda settings: settings["train.batch_size"], space=space, trials=9)
    tried = [tuple(trial["settings"].values()) for trial in found["trials"]]
    assert len(tried) == len(set(tried)) == 6
    assert [trial["number"] for trial in found["trials"]] == [1, 2, 3, 4, 5, 6]
    assert found["best"]["train.batch_size"] == 8


@pytest.mark.slow
def test_a_search_is_kept_in_a_database_where_one_is_named(asked_only, exported, tmp_path):
    storage, asked = f"sqlite:///{tmp_path}/optuna.db", []

    def value(settings):
        asked.append(settings)
        return settings["train.learning_rate"]

    found = asked_only("database", value, storage=storage)
    assert asked_only("database", value, storage=storage) == found
    assert len(asked) == 2
    assert not (exported.root / "runs/classify/database/tune" / tuning.STUDY).exists()
    assert asked_only("database", value, storage=storage, force=True)["trials"] == found["trials"]
    assert len(asked) == 4
    with pytest.raises(Fault, match="other settings: --storage"):
        asked_only("database", value)
    with pytest.raises(Fault, match="--storage must be"):
        asked_only("nowhere", value, storage=f"sqlite:///{tmp_path}/none/optuna.db")


@pytest.mark.slow
def test_a_trial_that_was_killed_before_its_value_was_told_runs_again(asked_only, monkeypatch):
    tell, told = optuna.Study.tell, []

    def killed(self, *arguments, **keywords):
        told.append(arguments)
        if len(told) == 2:
            raise KeyboardInterrupt
        return tell(self, *arguments, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(optuna.Study, "tell", killed)
        with pytest.raises(KeyboardInterrupt):
            asked_only("value", lambda settings: settings["train.learning_rate"])
    found = asked_only("value", lambda settings: settings["train.learning_rate"])
    whole = asked_only("value-whole", lambda settings: settings["train.learning_rate"])
    assert found["trials"] == whole["trials"]
    assert [trial["value"] for trial in found["trials"]] == [
        trial["settings"]["train.learning_rate"] for trial in found["trials"]
    ]
