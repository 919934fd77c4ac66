"""How soon does the page of `cnn review` show its first picture, and how quickly do its filters and keys answer?

    python tests/benchmarks/bench_review.py [--findings 2000] [--times 5] [--screenshot FILE]

The page has as many findings, each in a picture of its own of 160×160 pixels. It is opened anew each time in headless
Chromium, whose start is not counted, and driven by keys: a filter is set, the list is gone through to its end, ten
labels are marked, and the marks are exported.
"""

import argparse
import io
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parents[2]))
from pipelines.analysis.labelling import findings, review_page
from pipelines.analysis.labelling.finding import LABEL_ERROR, WRONG, Finding, Findings, Picture
from tests import chromium

SIDE, NAMES, MARKED = 160, ["cat", "dog"], 10
DRAWN = "[...document.querySelectorAll('.card img')].some((one) => one.complete && one.naturalWidth)"


def png(number):
    out = io.BytesIO()
    noise = np.random.default_rng(number).integers(0, 256, (SIDE // 8, SIDE // 8, 3), np.uint8)
    Image.fromarray(noise).resize((SIDE, SIDE)).save(out, "PNG")
    return out.getvalue()


def write(folder, count):
    rows = [Finding(n, WRONG if n % 2 else LABEL_ERROR, "cat", "dog", n / count, n / count) for n in range(count)]
    listed = Findings("classify/pets", rows, [Picture(f"{n}.png", 0, n) for n in range(count)], [], NAMES)
    findings.encoded = lambda _, numbers: ((number, png(number)) for number in numbers)
    review_page.write(listed, folder, limit=count, console=Console(stderr=True))


def timed(page, action, condition):
    """Seconds until a condition holds."""
    started = time.perf_counter()
    action()
    page.wait(condition, every=2)
    return time.perf_counter() - started


def drive(page, count):
    """Seconds by what is done."""
    text, half = "document.getElementById('shown').textContent", count // 2
    seconds = {"first picture": timed(page, page.open, DRAWN)}
    page.press("Tab", shift=True)
    while page.value("document.activeElement.type") != "checkbox":
        page.press("Tab", shift=True)
    filtered = f"{text}.startsWith('{half:,} of')"
    seconds["filter"] = timed(page, lambda: page.press(" "), filtered)
    page.press(" ", "Escape")
    seconds["end of the list"] = timed(page, lambda: page.press("End"), f"current === {count - 1}")
    page.press("Home")
    marked = f"{text}.endsWith('{MARKED} marked wrong')"
    seconds[f"{MARKED} marks"] = timed(page, lambda: page.press(*"w" * MARKED), marked)
    seconds["export"] = timed(page, lambda: page.press("e"), "true")
    return seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--findings", type=int, default=2000)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--screenshot", type=Path, help="of the page at the end")
    arguments = parser.parse_args()
    if chromium.PROGRAM is None:
        sys.exit("skipped: apt-get install chromium")
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder, "out"), arguments.findings)
        rows = []
        for number in range(arguments.times):
            own = Path(folder, str(number))
            own.mkdir()
            with chromium.Page(f"file://{folder}/out/index.html", own) as page:
                rows.append(drive(page, arguments.findings))
                path = own / "marked.csv"
                while not path.is_file():
                    time.sleep(0.05)
                lines = len(path.read_text().splitlines()) - 1
                if arguments.screenshot:
                    page.screenshot(arguments.screenshot)
    print(
        f"{arguments.findings:,} findings, {lines} marks exported; seconds, median of {arguments.times} and the most:"
    )
    for name in rows[0]:
        print(f"{name:<16} {np.median([row[name] for row in rows]):.3f}  {max(row[name] for row in rows):.3f}")


if __name__ == "__main__":
    main()
