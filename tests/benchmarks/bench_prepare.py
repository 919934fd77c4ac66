"""How much memory and time does `cnn prepare` take, by the number of images? Each is a process of its own:

    python tests/benchmarks/bench_prepare.py [--images 1000 10000 100000] [--in-place] [--folder FOLDER]

A folder of so many different JPEGs of 16×16 pixels, in ten classes, is prepared, and the peak of the process (VmHWM),
its CPU time and the shards are printed. The last line is the memory of the largest set divided by that of the one
before: the bound is 1.2. FOLDER keeps the images for the next time; without it they are removed at the end.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

BOUND = 1.2
CLASSES = 10
RECIPE = """\
task: classify
data: {{source: folder, path: {images}, size: [32, 32], in_place: {in_place}}}
model: {{builder: lenet.lenet5}}
train: {{epochs: 1}}
"""


def draw(folder, count):
    """The images that are not there yet."""
    import numpy as np
    from PIL import Image

    generator = np.random.default_rng(0)
    for number in range(CLASSES):
        (folder / f"class{number}").mkdir(parents=True, exist_ok=True)
    for number in range(count):
        path = folder / f"class{number % CLASSES}" / f"{number:07d}.jpg"
        pixels = generator.integers(0, 256, (16, 16, 3), np.uint8)
        if not path.exists():
            Image.fromarray(pixels).save(path, quality=50)


def prepare(recipe, runs):
    """Run the stage in this process; the most memory that it took, in MB, and seconds of CPU."""
    from pipelines.cli.main import main

    sys.argv = ["cnn", "prepare", str(recipe), "--runs", str(runs), "--json"]
    try:
        main()
    except SystemExit as stop:
        if stop.code:
            raise
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    usage = resource.getrusage(resource.RUSAGE_SELF)
    print(int(status["VmHWM"].split()[0]) / 2**10, usage.ru_utime + usage.ru_stime)


def measure(counts, in_place, root):
    peaks = []
    print(f"{'images':>10} {'MB':>8} {'CPU s':>8} {'wall s':>8} {'shards':>8}")
    for count in counts:
        folder = root / f"images-{count}"
        draw(folder, count)
        recipe, runs = root / f"prepare-{count}.yaml", root / f"runs-{count}-{in_place}"
        recipe.write_text(RECIPE.format(images=folder, in_place=str(in_place).lower()))
        started = time.perf_counter()
        command = [sys.executable, str(Path(__file__).resolve()), "--prepare", str(recipe), str(runs)]
        said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1]
        peak, cpu = map(float, said.split())
        shards = len(list(runs.rglob("*.tfrecord")))
        print(f"{count:10,} {peak:8.0f} {cpu:8.1f} {time.perf_counter() - started:8.1f} {shards:8}", flush=True)
        peaks.append(peak)
    if len(peaks) > 1:
        ratio = peaks[-1] / peaks[-2]
        print(f"{counts[-1]:,} images take {ratio:.2f} times the memory of {counts[-2]:,}, bound {BOUND}")
        return ratio > BOUND
    return False


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--in-place", action="store_true")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--prepare", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.prepare:
        prepare(*arguments.prepare)
        return 0
    if arguments.folder:
        return measure(arguments.images, arguments.in_place, arguments.folder)
    with tempfile.TemporaryDirectory() as folder:
        return measure(arguments.images, arguments.in_place, Path(folder))


if __name__ == "__main__":
    sys.exit(main())
