"""The page of the course: each command on it exists, and each recipe and claim is on it."""

import re

import pytest

from cnn_keras import models
from pipelines.analysis.claims import claim as claims
from pipelines.engine import recipe as recipes
from tests.docs.documents import ROOT, generated, generator

TOPICS = list(generator().course())


def exists(command):
    match command.split():
        case "cnn", "run", recipe:
            return recipe in recipes.shipped()
        case "cnn", "claim", claim:
            return claim in claims.shipped()
        case "cnn", "models", "show", builder:
            return builder in models.catalogue()
        case "pytest", file, "-k", test:
            return f"\ndef {test}(" in (ROOT / file).read_text("utf-8")
    return False


def test_every_row_of_the_file_is_on_the_page_and_its_command_exists():
    written = re.findall(r"^  (\S.*?): (cnn .*|pytest .*)$", (ROOT / "docs" / "course.yaml").read_text("utf-8"), re.M)
    assert len(written) == len(TOPICS)
    assert [topic.command for topic in TOPICS if not exists(topic.command)] == []


@pytest.mark.parametrize(("command", "names"), [("run", recipes.shipped()), ("claim", claims.shipped())])
def test_every_recipe_and_claim_has_its_row(command, names):
    rows = [topic.command.split()[2] for topic in TOPICS if topic.command.startswith(f"cnn {command} ")]
    assert sorted(rows) == sorted(names)


def test_a_row_without_a_figure_is_one_whose_header_has_none():
    missing = {topic.command.split()[2] for topic in TOPICS if not topic.figure}
    for name in missing:
        header = recipes.header(str(claims.locate(name)) if name in claims.shipped() else name)
        assert not re.search(r"(?<!not )\b[Mm]easured[^.]* \d+\.\d", header), name
    page = generated()["course.md"]
    assert page.count("| not measured") == len(missing)
    assert f"{len(TOPICS)} rows. {len(missing)} are not measured" in page


def test_figures_are_those_of_the_headers():
    shown = {topic.command: topic.figure for topic in TOPICS}
    assert shown["cnn run classify/digits-lenet5"].startswith("99.44 % on 359 test images")
    assert shown["cnn run verify/letters-oneshot"].endswith("84.03 %")
    assert shown["cnn models show vgg.vgg16"].startswith("138 M trainable, as in Simonyan and Zisserman")
