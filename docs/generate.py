"""The reference pages, from the code: Typer's commands, the keys of recipes, the docstrings of both packages; the page
of benchmarks, from the files that they have written; and that of the course, from the headers of recipes and claims.

    python docs/generate.py FOLDER      writes the pages; mkdocs calls `on_files` instead

Neither needs TensorFlow. The Python pages hold directives that mkdocstrings fills in from the sources. The tutorials
that have Python in them are written as Jupyter notebooks, too.
"""

import argparse
import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import typer
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # mkdocs runs this file, not the package

from cnn_keras.learn import published_figures  # noqa: E402
from pipelines.analysis.claims import claim as claims  # noqa: E402
from pipelines.cli.main import app  # noqa: E402
from pipelines.data import yaml_file  # noqa: E402
from pipelines.data.schema import sections  # noqa: E402
from pipelines.engine import recipe as recipes  # noqa: E402
from pipelines.engine import recipe_header, recipe_keys  # noqa: E402

LIBRARY = (
    "layers",
    "schedules",
    "embedding",
    "inference",
    "plugins",
    "addons",
    "errors",
    "package_files",
)  # in no folder
FOLDERS = (
    "models",
    "losses",
    "metrics",
    "ops",
    "data",
    "data/files",
    "data/formats",
    "data/formats/masks",
    "data/formats/tools",
    "data/sources",
    "data/sources/samples",
    "data/sources/synthetic",
    "data/transforms",
    "weights",
    "learn",
    "learn/visualization",
)
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def on_files(files: Any, config: Any) -> Any:
    """mkdocs' hook: add the generated pages to those of docs/."""
    from mkdocs.structure.files import File

    for path, text in pages().items():
        files.append(File.generated(config, path, content=text))
    return files


def pages() -> dict[str, str]:
    """Every generated page: its path below docs/, and its Markdown or, of a notebook, its JSON."""
    found = {"reference/index.md": _index(), "reference/commands.md": _commands()}
    found |= {f"reference/recipes/{task}.md": _keys(task) for task in recipes.tasks()}
    found["benchmarks.md"] = _benchmarks()
    found["course.md"] = _course()
    found |= {f"reference/python/{name}.md": text for name, text in _python()}
    return found | {f"tutorials/{name}.ipynb": json.dumps(notebook(text), indent=1) for name, text in tutorials()}


def measurements() -> Iterator[tuple[Path, list[dict[str, Any]]]]:
    """The benchmarks that have written down what they measured: the script of each, and its rows."""
    for path in sorted((ROOT / "docs" / "measurements").glob("*.json")):
        yield ROOT / "tests" / "benchmarks" / f"bench_{path.stem}.py", json.loads(path.read_text())


def _benchmarks() -> str:
    """A table for each benchmark, its columns the keys of its rows, behind what its script says of itself."""
    lines = [
        "# Benchmarks",
        "",
        "Each table is what a script has measured and written with `--json docs/measurements/NAME.json`. The figures "
        "are of a machine with two cores that have units for bfloat16, on which other programs ran: read CPU times and "
        "ratios, not images per second.",
        "",
    ]
    for script, rows in measurements():
        heading, _, text = (ast.get_docstring(ast.parse(script.read_text())) or "").partition("\n\n")
        columns = dict.fromkeys(key for row in rows for key, value in row.items() if not isinstance(value, dict))
        lines += [f"## {heading.partition('?')[0]}?", "", text, ""]
        lines += [
            _row(*(column.replace("_", " ").replace("cpu", "CPU") for column in columns)),
            "|---" * len(columns) + "|",
        ]
        lines += [_row(*(_figure(row.get(column, "")) for column in columns)) for row in rows]
        lines += [""]
    return "\n".join(lines)


def _figure(value: Any) -> str:
    """Three digits of a number; words as they are."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


class Topic(NamedTuple):
    """A row of the course: its section, its name, the command that shows it, what that has shown, and when."""

    section: str
    name: str
    command: str
    figure: str  # empty where nothing was measured
    date: str = ""  # of that
    reason: str = ""  # why nothing was, where the header says so
    shown: str = ""  # what was shown instead


def course() -> Iterator[Topic]:
    """The rows of course.yaml, each with what its recipe, claim, network or test says of it."""
    for section, rows in yaml_file.read(ROOT / "docs" / "course.yaml").items():
        for name, command in rows.items():
            match command.split():
                case "cnn", "run", recipe:
                    yield Topic(section, name, command, *_measured(recipes.locate(recipe)))
                case "cnn", "claim", claim:
                    yield Topic(section, name, command, *_measured(claims.locate(claim)))
                case "cnn", "models", "show", builder:
                    yield Topic(section, name, command, _published(builder))
                case "pytest", _, "-k", test:
                    yield Topic(section, name, command, _sentence(test))


def _course() -> str:
    topics = list(course())
    missing = [topic for topic in topics if not topic.figure]
    lines = [
        "# The course, row by row",
        "",
        "The systems, formulas and advice of a course on convolutional networks, each with the command that shows it. "
        "What it has shown is read from the header of the recipe or claim, and its date is that of the line there. Of "
        "a network it is what is published, which a test counts; of a test what it proves as often as it runs.",
        "",
        f"{len(topics)} rows. {len(missing)} are not measured, because they need other data, a GPU, or time:",
        "",
        *(f"- {topic.name}: `{topic.command}`{f' – {topic.reason}' if topic.reason else ''}" for topic in missing),
        "",
    ]
    for section in dict.fromkeys(topic.section for topic in topics):
        lines += [f"## {section}", "", "| what | run | what it has shown | on |", "|---|---|---|---|"]
        for topic in topics:
            if topic.section == section:
                lines += [_row(topic.name, f"`{topic.command}`", topic.figure or _unmeasured(topic), topic.date)]
        lines += [""]
    return "\n".join(lines)


def _unmeasured(topic: Topic) -> str:
    return f"not measured; {topic.shown}" if topic.shown else "not measured"


def _measured(path: Path) -> tuple[str, str, str, str]:
    """What the header of a recipe or claim says was measured, the day of that line, or why not and what was shown."""
    said = recipe_header.measured(recipes.header(str(path)))
    return said.figure, _written(path) if said.figure else "", said.reason, said.shown


def _written(path: Path) -> str:
    """The day on which the line "Measured" of a file was committed; empty outside of a repository with its history."""
    lines = yaml_file.read_text(path).splitlines()
    number = next(place for place, line in enumerate(lines, 1) if "Measured" in line)
    blame = ["git", "-C", str(ROOT), "blame", "--porcelain", "-L", f"{number},{number}", str(path)]
    try:
        told = subprocess.run(blame, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""
    (seconds,) = re.findall(r"^committer-time (\d+)$", told, re.MULTILINE)
    return f"{datetime.fromtimestamp(int(seconds), UTC):%Y-%m-%d}"


def _sentence(test: str) -> str:
    """The name of a test as what it says."""
    words = test.removeprefix("test_").replace("_", " ").capitalize()
    return words.replace("tensorflow", "TensorFlow").replace("keras", "Keras")


def _published(builder: str) -> str:
    figures = [figure for figure in published_figures.figures(builder) if not figure.differs]
    return "; ".join(f"{each.printed} {each.quantity.replace('_', '-')}, as in {each.source}" for each in figures)


def tutorials() -> Iterator[tuple[str, str]]:
    """The tutorials that are notebooks, by name: their Markdown."""
    for path in sorted((ROOT / "docs" / "tutorials").glob("*.md")):
        if PYTHON.search(text := path.read_text()):
            yield path.stem, text


def notebook(text: str) -> dict[str, Any]:
    """A tutorial as a Jupyter notebook: each fence of Python is a cell of code, the rest is Markdown."""
    parts = [part.strip("\n") for part in PYTHON.split(text)]
    cells: list[dict[str, Any]] = [
        {"cell_type": "code", "metadata": {}, "source": part, "outputs": [], "execution_count": None}
        if number % 2
        else {"cell_type": "markdown", "metadata": {}, "source": part}
        for number, part in enumerate(parts)
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 4}


def commands() -> dict[str, Any]:
    """Every command by what people type after `cnn`: `run`, `models show`."""
    return dict(_leaves(typer.main.get_command(app), ""))


def keys(section: type[BaseModel], above: str = "") -> Iterator[tuple[str, str, str]]:
    """Every key of a section and of those in it: its dotted name, its default, what it means."""
    said = recipe_keys.meanings(section)
    for name, field in section.model_fields.items():
        yield above + name, _default(field.default), said[name]
        for inner in sections(field.annotation):
            yield from keys(inner, f"{above}{name}.")


def _leaves(command: Any, above: str) -> Iterator[tuple[str, Any]]:
    for name, inner in command.commands.items():
        if hasattr(inner, "commands"):
            yield from _leaves(inner, f"{above}{name} ")
        else:
            yield f"{above}{name}", inner


def _index() -> str:
    tasks = "\n".join(f"- [{task}](recipes/{task}.md)" for task in recipes.tasks())
    modules = "\n".join(f"- [{title}](python/{name}.md)" for name, title in _titles().items())
    return (
        "# Reference\n\nThese pages are generated from the code.\n\n"
        "## Commands\n\n[All commands of `cnn`](commands.md)\n\n"
        f"## Keys of recipes\n\n{tasks}\n\n## Python\n\n{modules}\n"
    )


def _commands() -> str:
    lines = ["# Commands", "", "`cnn COMMAND --help` prints the same.", ""]
    for name, command in commands().items():
        text, _, example = (command.help or "").partition("Example: ")
        example, _, rest = example.partition("\n\n")
        lines += [f"## cnn {name}", "", text.strip(), "", "```console", f"$ {example.strip()}", "```", ""]
        lines += [rest.strip(), ""] if rest.strip() else []
        lines += ["| argument or option | default | meaning |", "|---|---|---|"]
        lines += [_row(_named(each), _shown(each), _meaning(each)) for each in command.params]
        lines += [""]
    return "\n".join(lines)


def _named(parameter: Any) -> str:
    names = parameter.opts if parameter.param_type_name == "option" else [parameter.metavar or parameter.name.upper()]
    return ", ".join(f"`{name}`" for name in names)


def _shown(parameter: Any) -> str:
    return "required" if parameter.required else _default(parameter.default)


def _meaning(parameter: Any) -> str:
    variable = f" From the environment: `{parameter.envvar}`." if parameter.envvar else ""
    return (parameter.help or "") + variable


def _keys(task: str) -> str:
    schema = recipes.schema_of(task)
    lines = [
        f"# Recipes of {task}",
        "",
        f"`cnn show RECIPE` prints the keys of a recipe of `{task}` with its values.",
        "",
    ]
    lines += ["| key | default | meaning |", "|---|---|---|"]
    seen: set[tuple[str, str, str]] = set()
    for row in keys(schema):
        if row not in seen:  # sections of one key that share theirs
            seen.add(row)
            name, default, said = row
            lines += [_row(f"`{name}`", "" if name == "name" else default, said)]
    shipped = [name for name in recipes.shipped() if name.startswith(f"{task}/")]
    lines += ["", "## Recipes that come with the package", ""]
    for name in shipped:
        lines += [f"### {name}", "", "```", recipes.header(name), "```", ""]
    return "\n".join(lines)


def _default(value: Any) -> str:
    if value is PydanticUndefined or value is ... or callable(value):
        return "required"
    if isinstance(value, BaseModel):
        return ""  # the rows below tell those of its keys
    if value is None or value == () or isinstance(value, bool):
        return {None: "`null`", (): "`[]`", True: "`true`", False: "`false`"}[value]
    return f"`{list(value) if isinstance(value, tuple) else value}`"


def _row(*cells: str) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"


def _titles() -> dict[str, str]:
    """The Python pages by name, with their titles."""
    titles = {"pipelines": "pipelines", "cnn_keras": "cnn_keras"}
    return titles | {folder.replace("/", "-"): f"cnn_keras.{folder.replace('/', '.')}" for folder in FOLDERS}


def _python() -> Iterator[tuple[str, str]]:
    titles = _titles()
    for name, title in titles.items():
        if name == "pipelines":
            modules = ["pipelines", "pipelines.inference.finished_run"]
        elif name == "cnn_keras":
            modules = ["cnn_keras", *(f"cnn_keras.{module}" for module in LIBRARY)]
        else:
            files = sorted((ROOT / title.replace(".", "/")).glob("[!_]*.py"))
            modules = [f"{title}.{file.stem}" for file in files]
        yield name, "\n\n".join([f"# {title}", *(f"::: {module}" for module in modules)]) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    for page, content in pages().items():
        target = folder / page
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content)
