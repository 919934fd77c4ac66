"""The most memory that `cnn track` takes for a short and for a long film, and how many frames a second it does.

    python tests/benchmarks/bench_track_memory.py [--frames 10000]

Both films, the short one a tenth as long, are of 320×240 pixels, with three things that cross a line again and again.
The detector knows things by their colour, so that what is measured is the reading, following, counting and writing.
Each film is followed by a command of its own, whose peak (VmHWM) is told.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))
from pipelines.data import video_io
from tests import colour_detector

SIZE, PERIOD = (240, 320), 200  # height and width; frames until a thing is where it was
PEAK = """\
import re, sys
from pathlib import Path
from pipelines.cli.main import main
sys.argv[0] = "cnn"
try:
    main()
except SystemExit as stop:
    if stop.code:
        raise
print(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])
"""


def frames(count):
    ground = np.random.default_rng(0).integers(110, 140, (*SIZE, 3)).astype(np.uint8)
    for number in range(count):
        picture = ground.copy()
        for row, colour in enumerate(colour_detector.COLOURS.values()):
            x = round(144 - 130 * np.cos(2 * np.pi * number / PERIOD + row))
            picture[20 + 70 * row : 50 + 70 * row, x : x + 30] = colour
        yield picture


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=10_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        colour_detector.write(folder / "model" / "1")
        for count in (arguments.frames // 10, arguments.frames):
            film = folder / f"{count}.mp4"
            video_io.write(film, frames(count), rate=25.0)
            files = ["--out", folder / "out.mp4", "--csv", folder / "out.csv", "--line", "160,0,160,240", "--json"]
            command = [sys.executable, "-c", PEAK, "track", folder / "model", film, *files]
            started = time.perf_counter()
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            seconds = time.perf_counter() - started
            *told, peak = done.stdout.strip().splitlines()
            counts = json.loads("\n".join(told))
            rows = sum(1 for _ in (folder / "out.csv").open()) - 1
            print(
                f"{count:>6,} frames: {rows:,} boxes, counted {counts['lines']}; {int(peak) / 2**10:,.0f} MB, "
                f"{count / seconds:,.0f} frames/s, start included",
                flush=True,
            )


if __name__ == "__main__":
    main()
