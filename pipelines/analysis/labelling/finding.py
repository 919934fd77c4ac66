"""What `cnn review` lists: pictures, and in each the labels that a model contradicts."""

from typing import NamedTuple

from pipelines.engine import stages

LABEL_ERROR, WRONG, RIGHT = "label error", "wrong answer", "right answer"  # of a classifier's picture
WRONG_CLASS, NOT_ANNOTATED, MISSED = "wrong class", "not annotated", "missed"  # of an object, or of a part of a mask

Box = tuple[float, float, float, float, str, float | None]  # left, top, right, bottom in pixels, class, score


class Picture(NamedTuple):
    """A picture that is shown.

    Attributes:
        id: as in the prepared data.
        source: of the prepared data that it is in; see `Findings.sources`.
        place: its number in that split.
        truth: the boxes that are annotated, and `found`: those that the model finds. None of a classifier's.
        classes: of a mask, the numbers of the class that is annotated and of the one that is answered.
    """

    id: str
    source: int
    place: int
    truth: tuple[Box, ...] = ()
    found: tuple[Box, ...] = ()
    classes: tuple[int, ...] = ()


class Finding(NamedTuple):
    """A label, and what the model says instead.

    Attributes:
        picture: its number among the pictures.
        kind: of the difference.
        label: the class that is annotated, "" where nothing is.
        prediction: the class that the model answers, "" where it finds nothing.
        score: of the prediction, 0 where there is none.
        quality: of the label, 0 to 1; the lowest is the most suspicious.
        truth: the number of the box that it is about among those of the picture, None without; `found`, too.
    """

    picture: int
    kind: str
    label: str
    prediction: str
    score: float
    quality: float
    truth: int | None = None
    found: int | None = None


class Findings(NamedTuple):
    """All findings of a run, the most suspicious first, the pictures that they are in, and where these are prepared."""

    name: str
    rows: list[Finding]
    pictures: list[Picture]
    sources: list[tuple[stages.Run, str]]
    classes: list[str]
