"""The table of surprises and its tests are of each other."""

import re

from tests.docs.documents import ROOT

PAGE = (ROOT / "docs" / "explanation" / "surprises.md").read_text("utf-8")
TESTS = "\n".join(path.read_text("utf-8") for path in sorted((ROOT / "tests" / "surprises").glob("test_*.py")))


def test_every_row_has_its_test_and_every_test_its_row():
    shown = re.findall(r"\| `(test_\w+)` \|$", PAGE, re.MULTILINE)
    assert sorted(shown) == sorted(re.findall(r"^def (test_\w+)", TESTS, re.MULTILINE))


def test_the_command_of_the_page_chooses_one_test():
    (chosen,) = re.findall(r"^\$ pytest tests/surprises -k (\w+)$", PAGE, re.MULTILINE)
    assert len(re.findall(rf"^def test_\w*{chosen}\w*", TESTS, re.MULTILINE)) == 1
