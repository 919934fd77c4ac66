"""What the comment at the head of a recipe or claim says was measured, as sentences follow one rule."""

import re
from typing import NamedTuple

FIGURE = re.compile(r"\d\.\d|\d %|\b\d+ of \d")  # what tells a measurement from how it was made


class Measured(NamedTuple):
    """What was measured; or else why nothing was, and what was shown instead. Each without its full stop, or empty."""

    figure: str
    reason: str = ""
    shown: str = ""


def measured(header: str) -> Measured:
    """Read a header.

    Its sentence that begins with "Measured" is the figure, together with those behind it up to the first that has one,
    unless it says "Measured: not yet". Where there is none, the reason is the first sentence about measuring, and what
    was shown instead is the sentence that begins with "Shown: ".
    """
    text = " ".join(header.split())
    said = re.split(r"(?<=\.) (?=[A-Z`])", text.partition(" Run: ")[0])
    start = next((place for place, sentence in enumerate(said) if sentence.startswith("Measured")), None)
    if start is None or said[start].startswith("Measured: not yet"):
        reason = next((sentence for sentence in said if "easured" in sentence), "")
        shown = next((sentence.removeprefix("Shown: ") for sentence in said if sentence.startswith("Shown: ")), "")
        return Measured("", reason.partition(". ")[0].rstrip("."), shown.rstrip("."))
    end = next((place for place in range(start, len(said)) if FIGURE.search(said[place])), start)
    figure = re.sub(r"^Measured(?: \(counted[^)]*\))?[:,]? ", "", " ".join(said[start : end + 1]))
    return Measured(figure.rstrip("."))
