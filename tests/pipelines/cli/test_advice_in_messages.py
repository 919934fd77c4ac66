"""Commands that are printed or documented exist, with the options they are given; what a task prints is done here."""

import ast
import re
import shlex
from pathlib import Path

import pytest
import typer

from pipelines.cli.main import app
from pipelines.engine import recipe as recipes
from tests.advice import follow
from tests.conftest import cnn
from tests.docs import documents

ROOT = Path(__file__).parents[3]
PROGRAM = typer.main.get_command(app)


def sentences(path):
    """The texts in a file's code, with WORD where something is put in; docstrings too, which are the commands' help."""
    for node in (inner for part in ast.parse(path.read_text()).body[1:] for inner in ast.walk(part)):
        parts = node.values if isinstance(node, ast.JoinedStr) else [node]
        texts = [part.value if isinstance(part, ast.Constant) else "WORD" for part in parts]
        if isinstance(node, ast.JoinedStr | ast.Constant) and all(isinstance(text, str) for text in texts):
            yield "".join(texts)


def advised():
    """Every command that the program prints between backticks or the documentation shows, without the binary's name."""
    files = [file for folder in ("pipelines", "cnn_keras") for file in sorted((ROOT / folder).rglob("*.py"))]
    printed = [found for file in files for text in sentences(file) for found in re.findall(r"`cnn ([^`]+)`", text)]
    shown = re.findall(r"`cnn ([^`\n]+)`|^\$ cnn (.+?)(?:\s+#.*)?$", documents.text(), re.MULTILINE)
    return sorted({*printed, *(inline or typed for inline, typed in shown)} - {"--help"})


@pytest.mark.parametrize("said", advised())
def test_a_command_that_a_message_names_is_there_with_its_options(said):
    said = re.sub("^import-weights WORD", "import-weights face-api", re.sub("^(WORD|COMMAND)", "train", said))
    command, words = PROGRAM, shlex.split(said)
    while words and words[0] in getattr(command, "commands", ()):
        command = command.commands[words.pop(0)]
    assert command is not PROGRAM
    assert not hasattr(command, "commands") or not words
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word.partition("=")[0] for word in words if word.startswith("-")} <= known | {"--help"}


def test_what_a_finished_run_advises_is_accepted(exported, monkeypatch, capsys):
    files = sorted(exported.photos.rglob("*.png"))[:2]
    done = follow(exported.recipe, exported.root / "runs", files, capsys=capsys, monkeypatch=monkeypatch)
    assert done == ["serve", "predict", "dashboard"]


@pytest.mark.parametrize("task", [task for task in recipes.tasks() if task != "stylize"])
def test_what_cnn_tune_advises_is_a_recipe_of_the_task(task, tmp_path, capsys):
    named = [name for name in recipes.shipped() if name.startswith(f"{task}/")]
    reference = next(name for name in named if recipes.load(name).untrained is None)
    assert cnn("tune", reference, "--runs", tmp_path) == 2
    advice = re.search(r"such as (tune: \{.*\})$", capsys.readouterr().err.strip())
    assert recipes.load(reference, [advice[1].replace(": ", "=", 1)]).tune.trials == 20


@pytest.mark.parametrize("command", [("lr",), ("tune",), ("train", "--dry-run")])
@pytest.mark.parametrize(
    ("reference", "key"),
    [("stylize/astronaut-scream", "train.method"), ("verify/orl-faceapi", "train.loss")],
)
def test_what_trains_nothing_by_minibatches_is_refused_at_once(command, reference, key, tmp_path, capsys):
    assert cnn(command[0], reference, *command[1:], "--runs", tmp_path) == 2
    assert key in capsys.readouterr().err
    assert not list(tmp_path.rglob("prepare"))
