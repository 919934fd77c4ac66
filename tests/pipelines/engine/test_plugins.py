"""Builders, augmentations and sources of the user's own: the package in docs/examples/plugin, and single files."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
import urllib.request
import warnings
from importlib.metadata import EntryPoint
from pathlib import Path
from runpy import run_path

import keras
import numpy as np
import pytest
import tensorflow as tf

import pipelines as door
from cnn_keras import models, plugins
from cnn_keras.errors import Fault
from pipelines.engine import fingerprint, requirement, stages
from pipelines.engine import plugins as engine_plugins
from pipelines.engine import recipe as recipes
from pipelines.engine.classification import classifier
from pipelines.inference import exported_model
from pipelines.serving.server import application
from pipelines.tasks.localize import training as localize_training
from pipelines.tasks.regress import model as regress_model
from pipelines.tasks.segment import model as segment_model
from pipelines.tasks.steer import model as steer_model
from pipelines.tasks.verify import model as verify_model
from tests.conftest import cnn

with warnings.catch_warnings():  # Starlette would rather have httpx2
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "docs" / "examples" / "plugin"
ENTRY = EntryPoint("count", "own_counting.task", "cnn_keras.tasks")

FILE = """
import keras


def tiny(*, input_shape=(8, 8, 1), classes=2, units=4):
    image = keras.Input(input_shape, name="image")
    x = keras.layers.Dense(units)(keras.layers.Flatten()(image))
    return keras.Model(image, keras.layers.Dense(classes, name="logits")(x))


def plain(input_shape, classes):
    return tiny(input_shape=input_shape, classes=classes)


def soft(input_shape, classes):
    image = keras.Input(input_shape)
    return keras.Model(image, keras.layers.Dense(classes, activation="softmax")(keras.layers.Flatten()(image)))


def five(input_shape, classes):
    return tiny(input_shape=input_shape, classes=5)


def wrong(shape, classes):
    return None
"""
RECIPE = "{task: classify, data: {source: digits, size: [8, 8], channels: 1}, model: {builder: '%s'}}"


def forget():
    """What a new process would not know."""
    plugins.entry_points.cache_clear()
    fingerprint.forget()


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The example as an installation leaves it, in a folder of its own."""
    site = tmp_path / "site"
    site.mkdir()
    for file in EXAMPLE.glob("*.py"):
        shutil.copy(file, site)
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    info = site / "cnn_keras_dots-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = project["entry-points"].items()
    lines = [[f"[{group}]", *(f"{name} = {value}" for name, value in names.items())] for group, names in groups]
    (info / "entry_points.txt").write_text("\n".join(line for group in lines for line in group))
    monkeypatch.syspath_prepend(site)
    for name in ("dots", "dot_boxes"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    forget()
    yield site
    forget()


@pytest.fixture
def recipe(tmp_path):
    """A recipe beside `net.py`, by the name of its builder."""
    (tmp_path / "net.py").write_text(FILE)

    def write(builder):
        (tmp_path / "own.yaml").write_text(RECIPE % builder)
        return str(tmp_path / "own.yaml")

    return write


def test_a_short_name_becomes_the_full_one(installed):
    recipe = recipes.load(str(EXAMPLE / "dots.yaml"))
    assert (recipe.model.builder, recipe.data.source) == ("dots:dots_net", "dots:dots")
    assert recipe.augment == ("mirror", {"dots:vignette": {"amount": 0.3}})
    assert (recipe.train.loss, recipe.evaluate.metrics) == ("dots:brier", ("dots:miscount",))
    detector = recipes.load(str(EXAMPLE / "dot_boxes.yaml"))
    assert (detector.data.source, detector.train.loss) == ("dot_boxes:boxed_dots", "dot_boxes:box_heavy")
    assert detector.evaluate.metrics == ("dot_boxes:sure_share",)
    assert "dots" not in sys.modules


def test_a_file_is_relative_to_the_recipe(recipe, tmp_path):
    loaded = recipes.load(recipe("./net.py:tiny"))
    assert loaded.model.builder == f"{tmp_path / 'net.py'}:tiny"
    models.check(loaded.model.builder, units=3)
    assert models.build(loaded.model.builder, units=3, classes=5).output_shape == (None, 5)


def test_a_file_that_is_set_is_relative_to_the_working_directory(recipe, tmp_path, monkeypatch):
    recipe("./net.py:tiny")
    monkeypatch.chdir(tmp_path)
    full = f"{tmp_path / 'net.py'}:tiny"
    for override in ("model={builder: ./net.py:tiny}", "model.builder=net.py:tiny"):
        loaded = recipes.load("classify/folder-lenet5", [override, "model.dropout=null"])
        assert loaded.model.builder == full
    loaded = recipes.load("classify/digits-lenet5", sections={"augment": ["./net.py:tiny", {"net.py:wrong": {"a": 1}}]})
    assert loaded.augment == (full, {f"{tmp_path / 'net.py'}:wrong": {"a": 1}})


@pytest.mark.parametrize(
    ("builder", "said"),
    [
        ("./net.py:tony", r"must be a name in .*net.py, got 'tony'; did you mean tiny\?"),
        ("./none.py:tiny", "must be of an installed module or of a file, got './none.py:tiny'; found no"),
        ("no_such_package.net:tiny", "found no no_such_package.net"),
        ("./net.py", "model.builder: must be such as lenet.lenet5"),
        ("lenet.lenet99", r"must be a builder, such as lenet.lenet5, got 'lenet.lenet99'; did you mean"),
    ],
)
def test_a_name_that_is_not_there_is_refused_where_a_recipe_is_shown(recipe, builder, said):
    with pytest.raises(Fault, match=said):
        recipes.load(recipe(builder))


def test_arguments_are_checked_as_those_of_built_in_ones(recipe):
    builder = recipes.load(recipe("./net.py:tiny")).model.builder
    with pytest.raises(Fault, match=r"unit must be an argument of .*got an unknown name; did you mean units\?"):
        models.check(builder, unit=3)
    models.check(builder.replace(":tiny", ":plain"), input_shape=(8, 8, 1), classes=2)
    with pytest.raises(Fault, match="must be a builder, a function with the arguments"):
        models.check(builder.replace(":tiny", ":wrong"))


@pytest.mark.parametrize(("name", "said"), [("soft", "must return logits"), ("five", r"\(batch, 2\)")])
def test_a_network_must_give_logits_of_the_classes(recipe, name, said):
    loaded = recipes.load(recipe(f"./net.py:{name}"))
    with pytest.raises(Fault, match=said):
        recipes.module_of("classify").check(loaded)


@pytest.mark.parametrize("module", ["own_parts", "./own_parts.py"])
def test_an_edited_file_is_read_and_imported_again(tmp_path, monkeypatch, module):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_parts.py").write_text("WIDTH = 3\ndef width(): return WIDTH\n")
    name = plugins.absolute(f"{module}:width", tmp_path)
    before = fingerprint.code([name])
    assert plugins.load(name)() == 3
    fingerprint.renew()
    assert plugins.load(name)() == 3
    (tmp_path / "own_parts.py").write_text("WIDTH = 33\ndef width(): return WIDTH\n")
    assert plugins.load(name)() == 3  # what has begun ends with the code that it began with
    assert fingerprint.code([name]) == before
    fingerprint.renew()
    assert plugins.load(name)() == 33
    assert [key for key, digest in fingerprint.code([name]).items() if digest != before[key]] == ["code.own_parts.py"]


def test_what_a_package_makes_known_is_listed_with_its_origin(installed, capsys):
    assert cnn("models", "list", "*", "--json") == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["dots_net"]["origin"] == "cnn-keras-dots 0.1.0"
    assert rows["lenet.lenet5"]["origin"] is None


def test_a_package_is_followed_from_file_to_file(tmp_path, monkeypatch):
    package = tmp_path / "own_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "nets.py").write_text("from . import parts\nfrom .sizes import WIDTH\ndef net(): parts.block(WIDTH)\n")
    (package / "parts.py").write_text("import json\ndef block(width): return json, width\ndef other(): return 1\n")
    (package / "sizes.py").write_text("WIDTH = 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    found = fingerprint.code(["own_package.nets:net"])
    assert {f"code.own_package/{name}.py" for name in ("nets", "parts", "sizes")} <= found.keys()
    forget()
    (package / "parts.py").write_text("import json\ndef block(width): return json, width\ndef other(): return 2\n")
    assert fingerprint.code(["own_package.nets:net"]) == found
    forget()
    (package / "sizes.py").write_text("WIDTH = 4\n")
    again = fingerprint.code(["own_package.nets:net"])
    assert [key for key in found if found[key] != again[key]] == ["code.own_package/sizes.py"]
    forget()


@pytest.mark.slow
def test_the_example_goes_from_data_to_predictions_and_an_edit_makes_its_stages_run_again(
    installed, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    recipe = EXAMPLE / "dots.yaml"
    assert cnn("run", recipe, "--set", "train.epochs=1", "--set", "evaluate.insight=false") == 0
    (tmp_path / "one.png").write_bytes(sys.modules["dots"].drawn(0))
    capsys.readouterr()
    assert cnn("predict", "classify/dots", "one.png", "--json") == 0
    answer = json.loads(capsys.readouterr().out)[0]
    assert {row["label"] for row in answer["classes"]} == {"one", "two", "three"}

    run = door.load("classify/dots")
    assert run.model.count_params() > 0
    assert 0 <= run.metrics["test_miscount"] <= 2
    assert served(run, tmp_path / "one.png")["label"] == answer["classes"][0]["label"]
    loaded = recipes.load(str(recipe), ["train.epochs=1", "evaluate.insight=false"])
    opened = stages.Run(loaded, None)
    folder, prepare, train = run.folder, stages.STAGES["prepare"], stages.STAGES["train"]
    assert stages.stale(folder / "train", opened.inputs(train)) is None
    forget()
    source = (installed / "dots.py").read_text()
    (installed / "dots.py").write_text(source.replace('activation="relu"', 'activation="elu"'))
    assert stages.stale(folder / "train", opened.inputs(train)) == "changed: the code of dots.py"
    assert stages.stale(folder / "prepare", opened.inputs(prepare)) is None
    forget()
    (installed / "dots.py").write_text(source.replace("range(120)", "range(150)"))
    assert stages.stale(folder / "prepare", opened.inputs(prepare)) == "changed: the code of dots.py"


def served(run, image):
    """What a server of the run's model answers about an image."""
    folder = exported_model.newest(run.folder / "export" / run.folder.name)
    with TestClient(application(folder)) as client:
        found = client.post(
            f"/v1/models/{run.folder.name}:predict", content=image.read_bytes(), headers={"content-type": "image/png"}
        )
    return found.json()["predictions"][0]


@pytest.mark.slow
def test_a_detector_of_a_package_goes_from_data_to_a_served_answer_and_its_edit_is_seen(
    installed, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    changes = {"train": {"epochs": 2}}
    run = door.run(EXAMPLE / "dot_boxes.yaml", **changes)
    assert {"box_loss", "object_loss"} <= run.history[0].keys()
    assert run.metrics["test_sure_share"] >= 0
    (tmp_path / "two.png").write_bytes(sys.modules["dots"].drawn(1))
    assert run.predict("two.png")[0]["problem"] is None
    assert len(served(run, tmp_path / "two.png")["scores"]) >= 0
    parameters = run.model.count_params()
    source = (installed / "dot_boxes.py").read_text()
    (installed / "dot_boxes.py").write_text(source.replace("filters=4", "filters=5"))
    assert door.run(EXAMPLE / "dot_boxes.yaml", **changes).model.count_params() > parameters
    said = capsys.readouterr().out
    assert "train  changed: the code of dot_boxes.py" in said
    assert "prepare  skipped" in said


@pytest.mark.slow
def test_all_of_a_package_goes_from_data_to_an_answer_over_http(tmp_path):
    plugin, site = tmp_path / "plugin", tmp_path / "site"
    shutil.copytree(EXAMPLE, plugin)  # pip builds in the folder
    offline = ["--disable-pip-version-check", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *offline, "--target", site, plugin], check=True)
    start = [sys.executable, "-m", "pipelines"]
    options = {"cwd": tmp_path, "env": {**os.environ, "PYTHONPATH": f"{site}{os.pathsep}{ROOT}"}, "text": True}
    subprocess.run([*start, "run", plugin / "counting.yaml"], check=True, **options)
    inputs = json.loads((tmp_path / "runs" / "counting" / "counting" / "train" / "manifest.json").read_text())["inputs"]
    assert {"code.counting/__init__.py", "code.counting/regression.py", "code.dots.py"} <= inputs.keys()
    picture = run_path(str(site / "dots.py"))["drawn"](2)  # three dots
    command = [*start, "serve", "counting/counting", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, **options) as server:
        address = next(line for line in server.stdout if "is ready at" in line).split()[-1]
        url, kind = f"{address}/v1/models/counting:predict", {"Content-Type": "image/png"}
        request = urllib.request.Request(url, picture, kind)
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert json.load(answer)["predictions"][0] == pytest.approx(3, abs=1)
        server.terminate()
        assert server.wait(60) == 0


@pytest.mark.parametrize("section", ["train: {loss: crossentropy}", "evaluate: {metrics: [f1]}"])
@pytest.mark.parametrize("task", ["classify, data: {source: digits}", "detect, data: {source: cards}"])
def test_a_loss_and_a_metric_have_full_names(tmp_path, task, section):
    (tmp_path / "own.yaml").write_text(f"{{task: {task}, model: {{builder: lenet.lenet5}}, {section}}}")
    with pytest.raises(Fault, match=r"must be package\.module:name"):
        recipes.load(str(tmp_path / "own.yaml"))


MEASURES = """
def size(truth, answer):
    return len(truth)


def words(truth, answer):
    return "many"


def seven(truth, answer):
    return 0 * answer + 7
"""
TASKS = {
    "classify": "{source: digits}",
    "signals": "{source: gunpoint}",
    "volumes": "{source: folder, size: [8, 8, 8]}",
    "detect": "{source: cards}",
    "localize": "{source: cards}",
    "segment": "{source: nuclei}",
    "verify": "{source: orl}",
    "steer": "{source: road}",
    "regress": "{source: turned_digits}",
}


def measuring(folder, task, section):
    """A recipe of a task with a section of its own, beside MEASURES."""
    (folder / "own.py").write_text(MEASURES)
    head = {"steer": ", head: {kind: regression}", "regress": ", head: {kind: squared}"}.get(task, "")
    text = f"{{task: {task}, data: {TASKS[task]}, model: {{builder: lenet.lenet5}}{head}, {section}}}"
    (folder / "own.yaml").write_text(text)
    return recipes.load(str(folder / "own.yaml"))


@pytest.mark.parametrize("task", TASKS)
def test_a_metric_of_ones_own_may_be_demanded_of_every_task(tmp_path, task):
    section = "evaluate: {metrics: [./own.py:size], require: {size: 2}, at_most: {size: 2}}"
    settings = measuring(tmp_path, task, section).evaluate
    assert engine_plugins.measure(settings.metrics, [1, 2, 3], None) == {"size": 3.0}
    assert requirement.failed_requirements(settings, {"size": 2.0}) == []
    assert "at most 2" in requirement.failed_requirements(settings, {"size": 3.0})[0]
    assert "at least 2" in requirement.failed_requirements(settings, {"size": float("nan")})[0]
    with pytest.raises(Fault, match="did you mean size"):
        measuring(tmp_path, task, "evaluate: {metrics: [./own.py:size], require: {sise: 1}}")
    with pytest.raises(Fault, match=r"evaluate\.metrics must be a name in"):
        measuring(tmp_path, task, "evaluate: {metrics: [./own.py:sise]}")


def test_a_metric_must_have_a_name_of_its_own_and_return_a_number(tmp_path):
    (tmp_path / "accuracy.py").write_text("def accuracy(labels, probabilities): return 1")
    with pytest.raises(Fault, match="got accuracy twice"):
        measuring(tmp_path, "classify", "evaluate: {metrics: [./accuracy.py:accuracy]}")
    settings = measuring(tmp_path, "classify", "evaluate: {metrics: [./own.py:words]}").evaluate
    with pytest.raises(Fault, match="must return a number, got str"):
        engine_plugins.measure(settings.metrics, None, None)


@pytest.mark.parametrize("task", TASKS)
def test_a_loss_of_ones_own_is_what_every_task_minimises(tmp_path, task):
    recipe = measuring(tmp_path, task, "train: {loss: ./own.py:seven}")
    assert f"{tmp_path / 'own.py'}:seven" in engine_plugins.roots(recipe, "train")
    with pytest.raises(Fault, match=r"must be a name in .* did you mean seven"):
        measuring(tmp_path, task, "train: {loss: ./own.py:sevem}")
    vectors, labels = tf.linalg.l2_normalize(tf.random.stateless_normal((4, 7), (0, 1)), -1), tf.constant([0, 0, 1, 1])
    maps, vector = keras.Input((2, 2, 7)), keras.Input((7,))
    pixels, network = (keras.Model(entry, keras.layers.Identity()(entry)) for entry in (maps, vector))
    match task:
        case "segment":
            model = segment_model.trainable(pixels, recipe.train.loss, pixels=dict.fromkeys("abcdefg", 1))
            loss = model.compute_loss(y=tf.ones((4, 2, 2, 1), tf.uint8), y_pred=tf.zeros((4, 2, 2, 7)))
        case "verify":
            loss = verify_model.trainable(network, recipe.train, 2).compute_loss(y=labels, y_pred=vectors)
        case "localize":
            loss = localize_training.objective(recipe, {"classes": ["a", "b"]})["loss"](vectors, vectors)
        case "steer":
            loss = steer_model.objective({"angle": steer_model.Scale(1.0)}, recipe.train.loss)["loss"](
                vectors[:, :1], vectors[:, :1]
            )
        case "regress":
            facts = {"names": ["x"], "values": {"train": {"x": {"mean": 0.0, "deviation": 1.0}}}}
            objective = regress_model.objective(recipe.head, facts, recipe.train.loss)
            loss = objective["loss"](vectors[:, :1], vectors[:, 0])
        case "detect":
            loss = plugins.load(recipe.train.loss)(None, vectors)  # the example's is trained with
        case _:
            loss = classifier.objective(network, recipe)["loss"](labels, vectors)
    np.testing.assert_array_equal(loss, np.full_like(loss, 7))


TASK = '''
"""A task that counts."""

from pipelines.data.schema import Section
from pipelines.engine import recipe as recipes


class Data(Section):
    """What is counted."""

    upto: int  # the last number


class Recipe(recipes.Recipe):
    """A recipe of this task."""

    data: Data


def depends(stage, recipe):
    return {}


def check(recipe):
    pass


def prepare(run, folder):
    (folder / "numbers.txt").write_text(" ".join(map(str, range(run.recipe.data.upto))))
    return {"digest": str(run.recipe.data.upto), "source": "numbers", "location": "nowhere"}
'''


@pytest.mark.parametrize("name", ["count", "own_counting.task"])
def test_a_task_of_a_package_is_prepared_like_any_other(tmp_path, monkeypatch, name, capsys):
    package = tmp_path / "own_counting"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "task.py").write_text(TASK)
    (tmp_path / "own.yaml").write_text(f"{{task: {name}, data: {{upto: 4}}}}")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(plugins, "entry_points", lambda group: {"count": ENTRY} if group == "tasks" else {})
    assert cnn("prepare", tmp_path / "own.yaml", "--runs", tmp_path / "runs") == 0
    assert (tmp_path / "runs" / name / "own" / "prepare" / "numbers.txt").read_text() == "0 1 2 3"
    manifest = json.loads((tmp_path / "runs" / name / "own" / "prepare" / "manifest.json").read_text())
    assert "code.own_counting/task.py" in manifest["inputs"]
    (tmp_path / "own.yaml").write_text(f"{{task: {name}, data: {{upt: 4}}}}")
    assert cnn("show", tmp_path / "own.yaml") == Fault.INPUT
    assert "did you mean upto?" in capsys.readouterr().err


def test_a_task_that_is_not_there_is_refused(tmp_path, capsys):
    (tmp_path / "own.yaml").write_text("{task: own_counting.none}")
    assert cnn("show", tmp_path / "own.yaml") == Fault.INPUT
    assert "task must be one of classify" in capsys.readouterr().err
