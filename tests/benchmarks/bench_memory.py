"""The most memory that each stage of a transfer run takes: EfficientNet-Lite0 at 224×224, cached features, two classes.

Each stage is a command of its own, and so a process of its own, whose peak (VmHWM) is told. Pictures are noise and
weights random: they change nothing about memory. Of the pictures 60 % are trained on, 10 % validate and 30 % are
tested: 1,000, 167 and 500 unless told otherwise.

    python tests/benchmarks/bench_memory.py [PICTURES]
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

PICTURES = 1667
BOUND = 1.5  # GB that evaluating and exporting may take beyond what training took
STAGES = ("prepare", "train", "evaluate", "export")
RECIPE = """\
task: classify
data: {source: folder, path: photos, size: [224, 224], validation: 0.1, test: 0.3}
model: {builder: efficientnet.efficientnet_lite0, weights: start.keras}
train: {epochs: 2, batch_size: 32, transfer: {mode: cached}}
"""


def prepare(folder, pictures):
    """Noisy JPEG pictures of two classes, weights to start from, and the recipe."""
    import keras
    import numpy as np
    from PIL import Image

    from cnn_keras import models

    generator = np.random.default_rng(0)
    for name, colour in (("blue", (0, 60, 160)), ("red", (160, 60, 0))):
        (folder / "photos" / name).mkdir(parents=True)
        for number in range((pictures + (name == "blue")) // 2):
            noise = generator.integers(0, 90, (240, 256, 3)) + colour
            Image.fromarray(noise.astype("uint8")).save(folder / "photos" / name / f"{number:04d}.jpg")
    network = models.build("efficientnet.efficientnet_lite0", classes=2)
    image = keras.Input((224, 224, 3), name="image")
    scaled = keras.layers.Normalization(mean=127.0, variance=128.0**2)(image)
    keras.Model(image, network(scaled)).save(folder / "start.keras")
    (folder / "memory.yaml").write_text(RECIPE)


def alone(*arguments):
    """This file again, in a process of its own; what it says on its last line."""
    command = [sys.executable, str(Path(__file__).resolve()), *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1]


def peak(stage):
    """Run a stage in this process; the most memory that it took, in GB."""
    from pipelines.cli.main import main

    sys.argv = ["cnn", stage, "memory.yaml"]
    try:
        main()
    except SystemExit as stop:
        if stop.code:
            raise
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 2**20


def measure(pictures):
    with tempfile.TemporaryDirectory() as folder:
        alone("--prepare", folder, pictures)
        os.chdir(folder)
        peaks = {}
        for stage in STAGES:
            peaks[stage] = float(alone("--stage", stage))
            print(f"{stage:>8}  {peaks[stage]:.2f} GB", flush=True)
    beyond = max(peaks["evaluate"], peaks["export"]) - peaks["train"]
    print(f"evaluate and export take at most {beyond:.2f} GB more than training, bound {BOUND} GB")
    return 0 if beyond <= BOUND else 1


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--prepare", folder, pictures]:
            prepare(Path(folder), int(pictures))
            print("ready")
        case ["--stage", stage]:
            print(peak(stage))
        case given:
            sys.exit(measure(int(*given) if given else PICTURES))
