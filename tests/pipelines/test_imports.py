"""Imports: no cycle among the files of both packages, and few inside functions."""

import ast
import graphlib
import re
from collections.abc import Iterator
from pathlib import Path

import grimp

PACKAGES = ("pipelines", "cnn_keras")
FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef
ROOT = Path(__file__).parents[2]
IN_COMMANDS_AND_VERBS = (
    209  # what a command or a stage needs is imported when it runs; rises with a new command or verb
)
ELSEWHERE = 59  # falls; may rise with optional packages alone
REASON = re.compile(r"# (?!noqa)\S")  # a comment behind the import


def test_no_file_imports_itself_by_way_of_others():
    graph = grimp.build_graph(*PACKAGES)  # those under TYPE_CHECKING are among them
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    graphlib.TopologicalSorter(imports).prepare()  # a CycleError names the files


def test_imports_inside_functions_become_no_more():
    found = [(is_command_or_verb(path), line) for path, line in inside_functions()]
    assert sum(known for known, _ in found) <= IN_COMMANDS_AND_VERBS
    assert sum(not known for known, _ in found) <= ELSEWHERE


def test_an_import_inside_a_function_says_why_it_is_there():
    others = [(path, line) for path, line in inside_functions() if not is_command_or_verb(path)]
    silent = [f"{path.relative_to(ROOT)}: {line}" for path, line in others if not REASON.search(line)]
    assert not silent


def is_command_or_verb(path: Path) -> bool:
    """Whether a file holds the bodies of commands, or the verbs of a task."""
    inside = path.relative_to(ROOT).parts
    return "commands" in inside or (inside[1] == "tasks" and path.name == "__init__.py")


def inside_functions() -> Iterator[tuple[Path, str]]:
    """Every import inside a function: its file, and the line that it begins in."""
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            functions = (node for node in ast.walk(ast.parse(text)) if isinstance(node, FUNCTIONS))
            inside = (node for function in functions for node in ast.walk(function))
            lines = {node.lineno for node in inside if isinstance(node, ast.Import | ast.ImportFrom)}
            yield from ((path, text.splitlines()[line - 1]) for line in sorted(lines))
