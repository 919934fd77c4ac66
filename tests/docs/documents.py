"""The Markdown files that people read, and the pages that docs/generate.py makes of the code."""

import importlib.util
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
WRITTEN = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


@cache
def generator():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def generated():
    """The generated pages by their path below docs/."""
    return generator().pages()


def text():
    """README.md, docs/ and the other Markdown files of the repository's root, without the changelog."""
    return "\n".join(path.read_text() for path in WRITTEN if path.name != "CHANGELOG.md")
