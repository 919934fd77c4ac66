"""Fingerprints: who edits a file makes exactly those stages stale that can reach what changed, and is told its name."""

import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipelines.engine import fingerprint, stages
from pipelines.engine import recipe as recipes

RECIPES = {
    "classify": "classify/digits-lenet5",
    "detect": "detect/composites-yolo_tiny",
    "localize": "localize/cards-landmarks",
    "regress": "regress/digits-angle",
    "segment": "segment/composites-fcn8s",
    "signals": "signals/gunpoint-fcn",
    "steer": "steer/road-pilotnet",
    "stylize": "stylize/feedforward-starry_night",
    "verify": "verify/orl-triplet",
    "volumes": "volumes/mni152-twoconv",
}
ALL = "prepare train evaluate export"
MODEL = "train evaluate export"
EDITS = [  # what is edited, of which recipe the stages are asked, and which of them are stale
    ("pipelines/engine/training/trainer.py", "classify", "train"),
    ("pipelines/engine/training/trainer.py", "detect", "train"),
    ("pipelines/engine/training/trainer.py", "verify", "train"),
    ("cnn_keras/schedules.py", "classify", "train"),
    ("cnn_keras/schedules.py", "segment", "train"),
    ("cnn_keras/losses/segmentation.py", "segment", "prepare train"),
    ("cnn_keras/losses/segmentation.py", "classify", ""),
    ("cnn_keras/ops/resize.py", "classify", ALL),
    ("cnn_keras/ops/resize.py", "detect", ALL),
    ("cnn_keras/errors.py", "classify", ALL),
    ("cnn_keras/models/lenet.py", "classify", MODEL),
    ("cnn_keras/models/lenet.py", "detect", ""),
    ("cnn_keras/models/yolo.py", "detect", MODEL),
    ("cnn_keras/models/fcn.py", "segment", MODEL),
    ("cnn_keras/models/pilotnet.py", "steer", MODEL),
    ("cnn_keras/losses/mixture_density.py", "regress", MODEL),
    ("cnn_keras/models/conv3d.py", "volumes", MODEL),
    ("cnn_keras/models/resnet.py", "classify", ""),
    ("cnn_keras/data/split.py", "classify", "prepare"),
    ("cnn_keras/data/transforms/augment.py", "classify", "train evaluate"),
    ("cnn_keras/metrics/classification.py", "classify", "evaluate"),
    ("pipelines/plots/charts.py", "classify", "prepare evaluate"),
    ("pipelines/plots/charts.py", "stylize", ""),
    ("pipelines/plots/image_grid.py", "verify", "prepare evaluate"),
    ("pipelines/tracking/tracker.py", "classify", ""),
    ("pipelines/cli/main.py", "classify", ""),
    ("pipelines/serving/server.py", "classify", ""),
    ("pipelines/tasks/detect/__init__.py", "classify", ""),
]


@pytest.fixture
def sources(tmp_path, monkeypatch):
    """A copy of both packages' sources, which fingerprints are taken of."""
    for package in fingerprint.PACKAGES:
        for path in (stages.SOURCES / package).rglob("*.py"):
            copy = tmp_path / path.relative_to(stages.SOURCES)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    monkeypatch.setattr(fingerprint, "SOURCES", tmp_path)
    yield tmp_path
    monkeypatch.undo()
    forget()


def forget():
    for name in vars(fingerprint).copy():
        if hasattr(function := getattr(fingerprint, name), "cache_clear"):
            function.cache_clear()


def code(task: str) -> dict[str, dict[str, str]]:
    """The fingerprint of each stage, from nothing."""
    forget()
    recipe = recipes.load(RECIPES[task])
    run = SimpleNamespace(recipe=recipe, task=SimpleNamespace(__name__=f"pipelines.tasks.{recipe.task}"))
    return {stage: stages.Run.code(run, stage) for stage in stages.STAGES}


def stale(before, after) -> dict[str, str]:
    """The stages whose code is another one, each with the reason that is printed."""
    reasons = {stage: "; ".join(stages.differences(before[stage], after[stage])) for stage in before}
    return {stage: reason for stage, reason in reasons.items() if reason}


def changed(path: Path) -> None:
    path.write_text(path.read_text() + "\n\nassert True\n")


@pytest.mark.parametrize(("file", "task", "expected"), EDITS, ids=lambda value: str(value) or "nothing")
def test_an_edit_makes_those_stages_stale_that_can_see_it(sources, file, task, expected):
    before = code(task)
    changed(sources / file)
    found = stale(before, code(task))
    assert list(found) == expected.split()
    assert all(f"the code of {file}" in reason for reason in found.values())


@pytest.mark.parametrize("task", RECIPES)
def test_the_model_of_every_task_is_seen_by_its_training(sources, task):
    before = code(task)
    changed(next(sources.glob(f"pipelines/tasks/{task}/model.py"), sources / f"pipelines/tasks/{task}/__init__.py"))
    assert "train" in stale(before, code(task))


@pytest.mark.parametrize("task", ["classify", "detect", "segment", "steer"])
def test_a_chart_makes_no_training_stale(sources, task):
    before = code(task)
    for path in (sources / "pipelines/plots").glob("*.py"):
        changed(path)
    assert "train" not in stale(before, code(task))


def test_comments_docstrings_layout_and_types_make_nothing_stale(sources):
    before = code("classify")
    for file in ("pipelines/engine/training/trainer.py", "cnn_keras/models/lenet.py"):
        path = sources / file
        text = path.read_text().replace('"""', '"""Another word. ', 1).replace("\n\n\ndef ", "\n\n# a word\n\n\n\ndef ")
        path.write_text(re.sub(r"\) -> [\w.]+:", "):", text))
    assert stale(before, code("classify")) == {}


def test_a_function_that_nothing_calls_makes_nothing_stale(sources):
    before = code("classify")
    path = sources / "pipelines/engine/training/trainer.py"
    path.write_text(path.read_text() + "\n\ndef nobody_calls_this():\n    return 1\n")
    assert stale(before, code("classify")) == {}


def test_another_tensorflow_makes_all_stages_stale_and_is_named(monkeypatch):
    before = code("classify")
    real = fingerprint.importlib.metadata.version
    monkeypatch.setattr(
        fingerprint.importlib.metadata, "version", lambda name: "3.0.0" if name == "tensorflow" else real(name)
    )
    found = stale(before, code("classify"))
    assert list(found) == list(stages.STAGES)
    assert all(re.fullmatch(r"library\.tensorflow \S+ → 3\.0\.0", reason) for reason in found.values())
    forget()
