"""What are calibrated probabilities worth, and how often does a rejection keep its error on other examples?

    python tests/benchmarks/bench_rejection.py RUN [--error 0.02]

RUN is the folder of a classifier's run whose stage evaluate is finished, such as runs/classify/fashion-resnet20. Its
test answers (`predictions.csv`) are parted into halves a hundred times; the confidence is fitted on one and measured on
the other. The first line has what the temperature, fitted on the validation split, makes of the test split; the last
one says in how many of the partitions the error of what is accepted is at most the one stated.
"""

import argparse
import csv
import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent.parent))
from cnn_keras.metrics import calibration

PARTITIONS = 100


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--error", type=float, default=0.02)
    arguments = parser.parse_args()
    with (arguments.run / "evaluate" / "predictions.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    confidence = np.array([float(row["confidence"]) for row in rows])
    right = np.array([row["truth"] == row["prediction"] for row in rows])
    report = json.loads((arguments.run / "evaluate" / "report.json").read_text())
    if calibrated := report.get("calibrated"):
        pairs = {key: (report[key], calibrated[key]) for key in ("calibration_error", "log_loss")}
        changes = ", ".join(f"{key.replace('_', ' ')} {old:.4f} → {new:.4f}" for key, (old, new) in pairs.items())
        print(f"temperature {calibrated['temperature']:.3f}: {changes}; no decision changes")
    kept, answered, wrong = [], [], []
    for seed in range(PARTITIONS):
        order = np.random.default_rng(seed).permutation(len(rows))
        fitted, others = np.array_split(order, 2)
        found = calibration.rejection(confidence[fitted], right[fitted], arguments.error)
        given = confidence[others] >= (found.threshold if found else np.inf)
        wrong.append((~right[others][given]).mean() if given.any() else 0.0)
        answered.append(given.mean())
        kept.append(wrong[-1] <= arguments.error)
    print(f"accuracy {right.mean():.2%} of {len(rows):,}; error stated {arguments.error:.2%}")
    print(f"answered {np.mean(answered):.2%}, of them wrong {np.mean(wrong):.2%} on average, at most {max(wrong):.2%}")
    print(f"kept in {sum(kept)} of {PARTITIONS} partitions")


if __name__ == "__main__":
    main()
