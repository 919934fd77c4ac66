"""What `cnn show` says of a recipe's keys: something of every one, and the output stays the recipe that it was."""

import pytest

from pipelines.data import yaml_file
from pipelines.data.schema import Section
from pipelines.engine import recipe as recipes
from pipelines.engine import recipe_keys
from tests.conftest import cnn


@pytest.mark.parametrize("task", recipes.tasks())
def test_every_key_of_a_task_is_documented(task):
    assert list(recipe_keys.undocumented(recipes.schema_of(task))) == []


@pytest.mark.parametrize("task", recipes.tasks())
def test_a_shown_recipe_is_the_same_recipe(task, tmp_path, capsys):
    reference = next(name for name in recipes.shipped() if name.startswith(f"{task}/"))
    assert cnn("show", reference, "--set", "name=shown") == 0
    path = tmp_path / "mine.yaml"
    path.write_text(capsys.readouterr().out)
    assert yaml_file.dump(recipes.load(str(path))) == yaml_file.dump(recipes.load(reference, ["name=shown"]))


def test_a_key_is_shown_with_what_it_means(capsys):
    space = "tune={space: {train.learning_rate: {low: 1e-3, high: 1e-2}}}"
    assert cnn("show", "classify/digits-lenet5", "--set", space) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "learning_rate: 0.001 # the highest that the schedule reaches; `cnn lr` suggests one" in lines
    assert "data: # where the images come from and what shape they are given" in lines
    assert "low: 0.001 # the least" in lines
    assert any(line.startswith("path: null # of idx, folder, csv") for line in lines)
    assert "- affine: {rotate: 10, shift: 0.08, zoom: 0.1}" in lines


class Inner(Section):
    """What is inside. More is said of it elsewhere."""

    bare: int = 0


class Outer(Section):
    """Some keys."""

    beside: int = 0  # stands behind
    typed: int = 0  # type: ignore[assignment]  # for people
    # Stands before,
    # on two lines.
    before: int = 0
    over: tuple[int, ...] = (
        0,  # stands within
    )
    inner: Inner = Inner()
    nothing: int = 0


class Inherited(Outer):
    """The same keys."""

    beside: int = 1
    typed: int = 1  # says more


def test_a_key_is_told_by_the_comment_of_its_field():
    said = recipe_keys.meanings(Outer)
    assert said == {
        "beside": "stands behind",
        "typed": "for people",
        "before": "stands before, on two lines",
        "over": "stands within",
        "inner": "what is inside. More is said of it elsewhere",
        "nothing": "",
    }
    assert recipe_keys.meanings(Inherited) == {**said, "typed": "says more"}
    assert list(recipe_keys.undocumented(Outer)) == ["inner.bare", "nothing"]
