"""The links inside README.md and docs/ lead somewhere, and what they name exists: recipes, networks, files."""

import re
from posixpath import dirname, join, normpath

import pytest

from cnn_keras import models
from pipelines.engine import recipe as recipes
from tests.docs.documents import ROOT, WRITTEN, generated, text

PAGES = {str(path.relative_to(ROOT)): path.read_text() for path in WRITTEN}


def prose(page):
    """Without what is in fences, where brackets are code."""
    return re.sub(r"^```.*?^```", "", page, flags=re.MULTILINE | re.DOTALL)


def anchors(page):
    """Of the headings, as mkdocs and GitHub make them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", PAGES)
def test_internal_links_lead_somewhere(name):
    pages = PAGES | {f"docs/{path}": page for path, page in generated().items()}
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(PAGES[name])):
        if re.match("[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = normpath(join(dirname(name), path)) if path else name
        assert target in pages or (ROOT / target).is_file(), link
        assert not anchor or anchor in anchors(pages[target]), link


def test_recipes_that_are_named_exist():
    tasks = "|".join(recipes.tasks())
    named = set(re.findall(rf"\bcnn [a-z -]+?((?:{tasks})/[\w-]+)(?![\w/.*{{-])", text()))
    assert named
    assert named <= set(recipes.shipped())


def test_networks_that_are_named_exist():
    for builder in set(re.findall(r"builder: ([a-z]\w*\.\w+)", text())) - {"small.small_net"}:  # the reader's own
        models.signature(builder)


def test_files_that_are_named_exist():
    for path in set(re.findall(r"`((?:tests|cnn_keras|pipelines)/[\w/]+\.(?:py|yaml))", text())):
        assert (ROOT / path).is_file() or path == "cnn_keras/models/small.py", path
