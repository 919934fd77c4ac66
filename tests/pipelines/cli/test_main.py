"""The command line: quick to start, exit codes, JSON, help with an example, and every command in the documentation."""

import json
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from cnn_keras.errors import Fault
from pipelines.cli.main import app
from pipelines.engine import recipe as recipes
from tests.conftest import cnn
from tests.docs.documents import text

ROOT = Path(__file__).parents[3]


def commands(typed, above=""):
    """Every command of the command line by what people type, `models show` among them."""
    named = {one.name or one.callback.__name__.replace("_", "-"): one for one in typed.registered_commands}
    found = {f"{above}{name}": command for name, command in named.items()}
    for group in typed.registered_groups:
        found |= commands(group.typer_instance, f"{above}{group.name} " if isinstance(group.name, str) else above)
    return found


COMMANDS = {name: command.callback for name, command in commands(app).items()}


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_has_an_example(command):
    assert f"Example: cnn {command}" in COMMANDS[command].__doc__


def test_commands_of_commands_are_among_them():
    assert {"run", "models list", "models show"} <= set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_in_the_documentation(command):
    assert f"cnn {command}" in text()


def test_the_command_line_starts_without_the_heavy_libraries():
    code = "import sys, pipelines.cli.main, pipelines.tasks.classify, pipelines.engine.recipe; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"tensorflow", "keras", "mlflow", "sklearn", "matplotlib", "numpy"} & set(loaded)


@pytest.mark.parametrize("command", [["cnn"], ["python", "-m", "pipelines"]])
def test_the_version_is_printed(command):
    command = [str(Path(sys.executable).with_name(command[0])), *command[1:], "--version"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said == f"cnn {version('cnn-keras')}\n"


def test_all_mistakes_in_a_recipe_are_shown_and_exit_2(capsys):
    code = cnn("train", "classify/digits-lenet5", "--set", "train.epoch=3", "--set", "train.batch_size=0")
    error = capsys.readouterr().err
    assert code == Fault.INPUT
    assert "did you mean epochs?" in error
    assert "train.batch_size" in error
    assert "Traceback" not in error


def test_the_recipes_are_listed(capsys):
    assert cnn("recipes", "--json") == 0
    assert sorted(json.loads(capsys.readouterr().out)) == recipes.shipped()


def test_a_shown_recipe_is_a_recipe(tmp_path, capsys):
    assert cnn("show", "classify/digits-lenet5", "--set", "train.epochs=3") == 0
    path = tmp_path / "digits-lenet5.yaml"
    path.write_text(capsys.readouterr().out)
    assert recipes.load(str(path)) == recipes.load("classify/digits-lenet5", ["train.epochs=3"])


def test_the_doctor_names_versions_and_says_why_there_is_no_gpu(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/none/mlflow.db")
    monkeypatch.setattr("pipelines.cli.doctor._store", lambda: ("sqlite", None))
    assert cnn("doctor", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["versions"]["tensorflow"]
    assert report["gpus"] != "none" or report["why_no_gpu"]


def test_a_full_disk_fails_the_examination(monkeypatch):
    from pipelines.cli import doctor

    monkeypatch.setattr("pipelines.cli.doctor._store", lambda: ("sqlite", None))
    monkeypatch.setattr("pipelines.cli.doctor.DISK_GB", 1e9)
    assert "disk" in doctor.examine()["failed"]


def test_json_goes_to_stdout_and_everything_else_to_stderr(exported, capsys):
    assert exported.cnn("evaluate", exported.recipe, "--json") == 0
    out, err = capsys.readouterr()
    assert "test_accuracy" in json.loads(out)["metrics"]
    assert "skipped" in err


def test_bad_data_exits_3(tmp_path, capsys):
    (tmp_path / "cats").mkdir()
    code = cnn("prepare", "classify/folder-lenet5", "--set", f"data.path={tmp_path}", "--runs", tmp_path / "runs")
    assert code == Fault.DATA
    assert "cats/" in capsys.readouterr().err


def test_an_interrupt_exits_130_and_says_how_to_go_on(exported, tmp_path, monkeypatch, capsys):
    def interrupted(*arguments, **keywords):
        raise KeyboardInterrupt

    monkeypatch.setattr("pipelines.engine.stages.run_stages", interrupted)
    assert cnn("train", exported.recipe, "--runs", tmp_path) == 130
    assert "same command" in capsys.readouterr().out


def test_every_make_target_of_the_documentation_exists():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:`|\$ )make ([a-z]+)", text()))
    assert {"demo", "test"} <= named
    assert named <= targets
