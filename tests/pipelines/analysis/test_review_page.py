"""The page of `cnn review` in headless Chromium, by the keyboard alone: several labels, masks, boxes, many pictures."""

import csv
import io

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from pipelines.analysis.labelling import findings, mask_findings, review_page
from pipelines.analysis.labelling.finding import (
    LABEL_ERROR,
    MISSED,
    NOT_ANNOTATED,
    RIGHT,
    WRONG,
    WRONG_CLASS,
    Finding,
    Findings,
    Picture,
)
from tests import chromium

pytestmark = pytest.mark.skipif(chromium.PROGRAM is None, reason="requires Chromium")
NAMES = ["background", "cat", "dog"]


def png(pixels):
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def grey(number, size=(24, 32)):
    return np.full((*size, 3), 40 + number % 200, np.uint8)


def one_label():
    """300 predictions, a tenth of them right."""
    kinds = [RIGHT if number % 10 == 0 else WRONG if number % 2 else LABEL_ERROR for number in range(300)]
    rows = [
        Finding(number, kind, "cat", "cat" if kind == RIGHT else "dog", 0.5 + number / 600, number / 300)
        for number, kind in enumerate(kinds)
    ]
    return rows, [Picture(f"{number:04d}.png", 0, number) for number in range(300)], lambda number: png(grey(number))


def several_labels():
    """Of each picture a label that is missing and one that is too much."""
    rows = [
        finding
        for number in range(20)
        for finding in (
            Finding(number, LABEL_ERROR, "", "dog", 0.9, 0.1 + number / 100),
            Finding(number, WRONG, "cat", "", 0.0, 0.4 + number / 100),
        )
    ]
    return rows, [Picture(f"{number:02d}.png", 0, number) for number in range(20)], lambda number: png(grey(number))


def boxes():
    """In each picture a cat that is called a dog, a dog that is missed, and a cat that is nowhere annotated."""
    truth = ((2.0, 2.0, 10.0, 10.0, "cat", None), (20.0, 12.0, 28.0, 20.0, "dog", None))
    found = ((2.0, 2.0, 11.0, 10.0, "dog", 0.8), (12.0, 14.0, 18.0, 20.0, "cat", 0.6))
    rows = [
        finding
        for number in range(12)
        for finding in (
            Finding(number, WRONG_CLASS, "cat", "dog", 0.8, 0.2, 0, 0),
            Finding(number, NOT_ANNOTATED, "", "cat", 0.6, 0.4, None, 1),
            Finding(number, MISSED, "dog", "", 0.0, 0.5, 1, None),
        )
    ]
    return rows, [Picture(f"{n:02d}.png", 0, n, truth, found) for n in range(12)], lambda number: png(grey(number))


def masks():
    """In each picture a dog that is missed, drawn beside the answer."""
    rows = [Finding(number, MISSED, "dog", "", 0.0, 0.1 + number / 100) for number in range(12)]
    truth = np.zeros((24, 32), np.int64)
    truth[6:14, 8:20] = 2

    def picture(number):
        drawn = mask_findings.draw(grey(number), truth, np.zeros_like(truth), (2, 0), NAMES)
        return png(drawn)

    return rows, [Picture(f"{number:02d}.png", 0, number, classes=(2, 0)) for number in range(12)], picture


KINDS = {"one label": one_label, "several labels": several_labels, "boxes": boxes, "masks": masks}


@pytest.fixture(scope="module", params=KINDS)
def opened(request, tmp_path_factory):
    """A page, open in a browser, with what it was made of."""
    rows, pictures, encode = KINDS[request.param]()
    folder = tmp_path_factory.mktemp("page")
    listed = Findings("detect/pets", rows, pictures, [], NAMES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(findings, "encoded", lambda _, numbers: ((number, encode(number)) for number in numbers))
        review_page.write(listed, folder / "out", limit=2000, console=Console(quiet=True))
    with chromium.Page(f"file://{folder}/out/index.html", folder) as page:
        page.open()
        yield page, rows, pictures


def shown(page):
    return page.value("document.getElementById('shown').textContent")


def facts(page):
    """The right column: by heading what it says of the selected finding."""
    texts = page.value("[...document.querySelectorAll('#facts > *')].map((one) => one.textContent)")
    return dict(zip(texts[::2], texts[1::2], strict=True))


def test_pictures_are_drawn_and_marked_and_exported_by_the_keyboard_alone(opened, tmp_path):
    page, rows, pictures = opened
    listed = [row for row in rows if row.kind != RIGHT]
    assert shown(page) == f"{len(listed):,} of {len(rows):,} shown, 0 marked wrong"
    page.wait(
        "[...document.querySelectorAll('.card img')].slice(0, 5).every((one) => one.complete && one.naturalWidth)"
    )
    assert page.value("document.activeElement.id") == "grid"
    page.press("ArrowRight", "ArrowRight")
    assert facts(page)["file"] == pictures[listed[2].picture].id
    assert facts(page)["annotated"] == (listed[2].label or "(nothing)")
    page.press("w")  # the third is wrong, and the fourth is selected
    page.press("r")
    page.press("w", "ArrowLeft", "u")  # the fifth, and then it is not
    assert shown(page).endswith("1 marked wrong")
    page.press("Home", "c", "b", "Escape")  # the right label of the first, by its first letter
    assert page.value("document.activeElement.id") == "grid"
    page.press("e")
    path = page.folder / "marked.csv"
    for _ in range(200):
        if path.is_file():
            break
        page.value("new Promise((done) => setTimeout(done, 50))")
    with path.open(newline="") as file:
        marked = list(csv.DictReader(file))
    expected = [(0, "wrong", "background"), (2, "wrong", listed[2].prediction), (3, "right", listed[3].label)]
    assert [(row["path"], row["mark"], row["new_label"]) for row in marked] == [
        (pictures[listed[number].picture].id, mark, label) for number, mark, label in expected
    ]
    box = pictures[0].found[0] if pictures[0].found else ("", "", "", "")
    edges = [marked[0][edge] for edge in ("left", "top", "right", "bottom")]
    assert edges == [f"{edge:g}" if edge != "" else "" for edge in box[:4]]


def test_filters_are_reached_and_set_by_the_keyboard_alone(opened):
    page, rows, _ = opened
    kinds = list(dict.fromkeys(row.kind for row in rows))
    page.press("Escape")
    for _ in range(60):  # back from the list to the first kind
        page.press("Tab", shift=True)
        if page.value("document.activeElement.value") == kinds[0]:
            break
    was = page.value("document.activeElement.checked")
    page.press(" ")
    visible = {kind for kind in kinds if kind != RIGHT} ^ {kinds[0]}
    count = sum(row.kind in visible for row in rows)
    assert shown(page).startswith(f"{count:,} of {len(rows):,} shown")
    if not count:
        assert page.value("document.getElementById('none').textContent") == "Nothing fits these filters."
    page.press(" ")
    assert page.value("document.activeElement.checked") == was
    while page.value("document.activeElement.id") != "class":
        page.press("Tab")
    page.press("d")
    dogs = [row for row in rows if row.kind != RIGHT and "dog" in (row.label, row.prediction)]
    assert shown(page).startswith(f"{len(dogs):,} of ")
    page.press("Home", "Escape")
    assert page.value("document.activeElement.id") == "grid"


def test_all_boxes_of_the_selected_picture_are_drawn_where_they_are(opened):
    page, rows, pictures = opened
    page.press("Escape", "Home")
    drawn = page.value(
        "[...document.querySelectorAll('#large rect')].map((one) => ['x', 'y', 'width', 'height'].map((name) => "
        "Number(one.getAttribute(name))))"
    )
    first = pictures[rows[0].picture]
    assert drawn == [[box[0], box[1], box[2] - box[0], box[3] - box[1]] for box in (*first.truth, *first.found)]
    if first.truth:
        size = page.value(
            "(() => { const [one, two] = ['#large .frame', '#large rect'].map((name) => "
            "document.querySelector(name).getBoundingClientRect()); return [(two.left - one.left) / one.width, "
            "two.width / one.width]; })()"
        )
        assert size == pytest.approx([2 / 32, 8 / 32], abs=0.02)  # of the picture's width, whatever the window is
