"""What do thresholds from the validation split gain over ½ for all, on a table of one's own?

    python tests/benchmarks/bench_thresholds.py [--images 3000] [--epochs 15] [--seeds 3] [--work FOLDER]

The table has scenes of four of scikit-learn's handwritten digits in noise, and which digits are in each: `0` is in
72 % of them, `9` in 8 %. LeNet-5 is trained by `data.labels: multi` as it comes, and with
`train.class_weights: balanced`, with several seeds. A line for each run has micro and macro F1 on the test split at
both kinds of thresholds, and the gains with intervals of 95 % by the paired bootstrap over images. `--work` keeps the
runs; without it a temporary folder is used.
"""

import argparse
import csv
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT))
SHARES = 0.75 ** np.arange(10)  # how often each digit is drawn, the first one most often
NOISE = 40.0  # levels of 255
RECIPE = """\
# Scenes of four digits, some of which are rare.
task: classify
data: {source: csv, path: labels.csv, labels: multi, size: [32, 32], channels: 1, validation: 0.2, test: 0.3}
model: {builder: lenet.lenet5_modern, batch_norm: true, dropout: 0.2}
train: {batch_size: 64, learning_rate: 2e-3, optimizer: adamw, schedule: cosine, monitor: val_mean_average_precision}
evaluate: {insight: false}
export: {tolerance: 1e-4}
"""


def write(folder, images):
    """The scenes, the table of their labels, and the recipe."""
    from sklearn.datasets import load_digits

    digits, classes = load_digits(return_X_y=True)
    generator = np.random.default_rng(0)
    members = [digits[classes == number].reshape(-1, 8, 8) * (255 / 16) for number in range(10)]
    (folder / "images").mkdir(parents=True, exist_ok=True)
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "labels"])
        for number in range(images):
            scene, labels = generator.normal(80, NOISE, (32, 32)), set()
            for cell in range(4):
                digit = int(generator.choice(10, p=SHARES / SHARES.sum()))
                top, left = (16 * place for place in divmod(cell, 2))
                drawn = members[digit][generator.integers(len(members[digit]))]
                scene[top : top + 16, left : left + 16] += np.kron(drawn, np.ones((2, 2)))
                labels.add(str(digit))
            Image.fromarray(np.clip(scene, 0, 255).astype(np.uint8)).save(folder / "images" / f"{number:05d}.png")
            writer.writerow([f"images/{number:05d}.png", "|".join(sorted(labels))])
    (folder / "scenes.yaml").write_text(RECIPE)


def measure(folder, epochs, seed, weights):
    """The report of a run."""
    import pipelines
    from pipelines.data import run_files

    name = f"scenes-{'balanced' if weights else 'plain'}-{seed}"
    train = {"epochs": epochs, "class_weights": weights}
    run = pipelines.run(folder / "scenes.yaml", runs=folder / "runs", name=name, seed=seed, train=train)
    return run_files.read_json(run.folder / "evaluate" / "report.json")


def say(name, report):
    """A line for people."""
    print(f"{name:<22}", end="")
    for key in ("micro_f1", "macro_f1"):
        low, high = report[f"{key}_gain_interval"]
        print(
            f"  {key} {report[f'{key}_at_half']:.3f} -> {report[key]:.3f}: {report[f'{key}_gain']:+.3f} "
            f"({low:+.3f} to {high:+.3f})",
            end="",
        )
    print(f"  mAP {report['mean_average_precision']:.3f}, {report['examples']} images", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--work", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.work or Path(temporary)
        if not (folder / "scenes.yaml").is_file():
            write(folder, arguments.images)
        lines = []
        for weights in (None, "balanced"):
            for seed in range(arguments.seeds):
                report = measure(folder, arguments.epochs, seed, weights)
                lines.append((f"{weights or 'as it comes'}, seed {seed}", report))
        print()
        for line in lines:
            say(*line)
        shares = [f"{row['name']} {row['share']:.1%}" for row in lines[0][1]["classes"]]
        print("shares of the labels in the first run's test split:", ", ".join(shares))


if __name__ == "__main__":
    main()
