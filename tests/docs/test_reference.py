"""The generated reference: every command with its options, every key of a recipe, every module of the library."""

import re
from pathlib import Path

import pytest
import typer
from ruamel.yaml import YAML

from pipelines.cli.main import app
from pipelines.data.schema import sections
from pipelines.engine import recipe as recipes
from tests.docs.documents import ROOT, generated, generator


def commands(command, above=""):
    for name, inner in command.commands.items():
        if hasattr(inner, "commands"):
            yield from commands(inner, f"{above}{name} ")
        else:
            yield f"{above}{name}", inner


COMMANDS = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_in_the_reference_with_its_help_and_its_options(name):
    page = generated()["reference/commands.md"]
    section = page.partition(f"## cnn {name}\n")[2].partition("\n## ")[0]
    assert f"$ cnn {name}" in section
    assert COMMANDS[name].help.partition("\n")[0] in section
    for parameter in COMMANDS[name].params:
        assert all(f"`{option}`" in section for option in parameter.opts if parameter.param_type_name == "option")


def dotted(section, above=""):
    for name, field in section.model_fields.items():
        yield above + name
        for inner in sections(field.annotation):
            yield from dotted(inner, f"{above}{name}.")


@pytest.mark.parametrize("task", recipes.tasks())
def test_a_key_of_a_recipe_is_in_the_reference_with_its_meaning(task):
    rows = re.findall(r"^\| `(.+?)` \|.*\| (.*) \|$", generated()[f"reference/recipes/{task}.md"], re.MULTILINE)
    assert {name for name, _ in rows} == set(dotted(recipes.schema_of(task)))
    assert [name for name, meaning in rows if not meaning] == []


def test_a_module_of_the_library_is_in_the_reference():
    named = set(re.findall("^::: (.+)$", "\n".join(generated().values()), re.MULTILINE))
    files = (path.relative_to(ROOT) for path in (ROOT / "cnn_keras").rglob("[!_]*.py"))
    assert {".".join(path.with_suffix("").parts) for path in files} <= named
    assert generator().FOLDERS


def test_the_navigation_has_every_page():
    def entries(part):
        if isinstance(part, str):
            yield part
        else:
            for inner in part.values() if isinstance(part, dict) else part:
                yield from entries(inner)

    docs = ROOT / "docs"
    pages = {str(path.relative_to(docs)) for path in docs.rglob("*.md") if "examples" not in path.parts}
    pages |= {path for path in generated() if path.endswith(".md")}
    listed = list(entries(YAML(typ="safe").load(Path(ROOT / "mkdocs.yml"))["nav"]))
    assert sorted(listed) == sorted(pages)


def test_the_table_of_what_helps_to_train_is_what_the_tasks_have():
    page = (ROOT / "docs/how-to/transfer-and-tuning.md").read_text()
    rows = dict(re.findall(r"^\| (\w+) \|((?: (?:yes|no) \|){4})$", page, re.MULTILINE))
    for task in recipes.built_in():
        known = [recipes.load(name) for name in recipes.shipped() if name.startswith(f"{task}/")]
        trained = hasattr(recipes.module_of(task), "training_inputs") and any(not one.untrained for one in known)
        divided = trained and any(not one.undivided for one in known if not one.untrained)
        assert rows[task].replace("|", "").split() == [("no", "yes")[has] for has in (*[trained] * 3, divided)]
    assert sorted(rows) == recipes.built_in()


def test_the_page_of_benchmarks_has_every_row_that_was_measured_and_the_script_that_measures_it():
    page, measured = generated()["benchmarks.md"], list(generator().measurements())
    assert measured
    for script, rows in measured:
        assert f"tests/benchmarks/{script.name}" in page
        assert script.is_file()
        for row in rows:
            assert next(iter(row.values())) in page
    assert page.count("\n|") == sum(len(rows) + 2 for _, rows in measured)
