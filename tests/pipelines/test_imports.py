"""Imports: no cycle among the files of both packages, and no more imports inside functions than there are."""

import ast
import graphlib
from pathlib import Path

import grimp

PACKAGES = ("pipelines", "cnn_keras")
ROOT = Path(__file__).parents[2]
INSIDE_FUNCTIONS = 228  # falls; may not rise


def test_no_file_imports_itself_by_way_of_others():
    graph = grimp.build_graph(*PACKAGES)  # those under TYPE_CHECKING are among them
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    graphlib.TopologicalSorter(imports).prepare()  # a CycleError names the files


def test_imports_inside_functions_become_no_more():
    count = 0
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
            inside = (node for function in functions for node in ast.walk(function))
            count += len({id(node) for node in inside if isinstance(node, ast.Import | ast.ImportFrom)})
    assert count <= INSIDE_FUNCTIONS
