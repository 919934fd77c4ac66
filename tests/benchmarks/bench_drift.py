"""How often does `cnn drift` raise an alarm, at pictures of the same kind and at others?

    python tests/benchmarks/bench_drift.py [--draws 100] [--pictures 200]

LeNet-5 is trained on the digits 0 to 8 of mnist5k, half of which are held out. In each draw 500 of these are the
reference and others, as many as --pictures says, are the new pictures: as they are, or changed.
"""

import argparse
import io
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

sys.path.insert(0, str(Path(__file__).parent.parent.parent))
from cnn_keras.data.sources import classification
from pipelines.analysis.drift import compare
from pipelines.engine import recipe as recipes
from pipelines.engine import reference_statistics, stages
from pipelines.engine.startup import console_for

REFERENCE, MEASURED, NEW_CLASS = 500, 1500, 0.3
RECIPE = """\
task: classify
data: {source: folder, path: digits, size: [28, 28], channels: 1, test: 0.5}
model: {builder: lenet.lenet5_modern}
train: {epochs: 3}
evaluate: {baselines: false, insight: false}
"""
CHANGES = {
    "blurred, radius 0.7": lambda image: image.filter(ImageFilter.GaussianBlur(0.7)),
    "darker, by a fifth": lambda image: ImageEnhance.Brightness(image).enhance(0.8),
    "another camera, 32×24 pixels": lambda image: image.resize((32, 24)),
    "turned, by 20 degrees": lambda image: image.rotate(20, Image.Resampling.BILINEAR),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--pictures", type=int, default=200)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ["MLFLOW_TRACKING_URI"] = "sqlite:///mlflow.db"
        same, others = measured()
    alarms = dict.fromkeys(others, 0)
    for draw in range(arguments.draws):
        generator = np.random.default_rng(draw)
        order = generator.permutation(same.count)
        reference, rows = rows_of(same, order[:REFERENCE]), order[REFERENCE : REFERENCE + arguments.pictures]
        for name, pictures in others.items():
            if name == "a class more":
                count = round(NEW_CLASS * len(rows))
                strange = rows_of(pictures, generator.permutation(pictures.count)[:count])
                new = joined(rows_of(same, rows[count:]), strange)
            else:
                new = rows_of(pictures, rows)
            alarms[name] += compare(reference, new)["drift"]
    print(f"{REFERENCE} pictures against {arguments.pictures}, false alarm 5 %: alarms in {arguments.draws} draws")
    for name, count in alarms.items():
        note = f", {NEW_CLASS:.0%} of the pictures" if name == "a class more" else ""
        print(f"{count:>4}  {name}{note}")


def measured():
    """What was measured of the held-out digits, and of them changed and of the digit 9, by name."""
    items = classification.items("mnist5k")
    for item in items:
        if item.label != "9":
            path = Path("digits", item.label, Path(item.id).name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_suffix(".png").write_bytes(item.read())
    Path("digits.yaml").write_text(RECIPE)
    run = stages.Run(recipes.load("digits.yaml"), console_for(stderr=True))
    stages.run_stages(run, "train")
    reference_statistics.EMBEDDED = MEASURED
    network = reference_statistics.Network(run)
    rows = list(stages_rows(run))[:MEASURED]

    def measure(pictures):
        return reference_statistics.measure(network, pictures, count=len(pictures), console=run.console)

    same = measure(rows)
    others = {"the same kind": same}
    others |= {name: measure([changed(row, change) for row in rows]) for name, change in CHANGES.items()}
    return same, others | {"a class more": measure([item.read() for item in items if item.label == "9"])}


def stages_rows(run):
    """The encoded pictures that were not trained on."""
    for row in reference_statistics.records.read(
        run.finished("prepare"), "test", features=reference_statistics.ENCODED
    ):
        yield row["image"].numpy()


def changed(encoded, change):
    out = io.BytesIO()
    change(Image.open(io.BytesIO(encoded)).convert("L")).save(out, "PNG")
    return out.getvalue()


def rows_of(pictures, rows):
    """What was measured of some of the pictures."""
    quantities = {name: [values[row] for row in rows] for name, values in pictures.quantities.items()}
    return replace(
        pictures,
        count=len(rows),
        quantities=quantities,
        answers=[pictures.answers[row] for row in rows],
        features=[pictures.features[row] for row in rows],
    )


def joined(first, second):
    quantities = {name: [*values, *second.quantities[name]] for name, values in first.quantities.items()}
    return replace(
        first,
        count=first.count + second.count,
        quantities=quantities,
        answers=[*first.answers, *second.answers],
        features=[*first.features, *second.features],
    )


if __name__ == "__main__":
    main()
