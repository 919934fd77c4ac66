"""How often does `cnn drift` raise an alarm, at pictures of the same kind and at others?

    python tests/benchmarks/bench_drift.py [RUN] [--draws 100] [--pictures 200]

LeNet-5 is trained on the digits 0 to 8 of mnist5k, half of which are held out. In each draw 500 of these are the
reference and others, as many as --pictures says, are the new pictures: as they are, or changed.

RUN is the folder of a trained run on composites instead, such as runs/detect/composites-yolo_tiny; the pictures are 900
further scenes of its test split. All are measured once, the changed ones 300 at a time, and drawn many times. Under
each count stand the quantities that raised an alarm, and how often each does alone, at 5 %, on the same kind.
"""

import argparse
import io
import os
import sys
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

sys.path.insert(0, str(Path(__file__).parent.parent.parent))
from cnn_keras.data.sources import classification
from cnn_keras.data.sources.synthetic import composites
from pipelines.analysis.drift import compare
from pipelines.engine import recipe as recipes
from pipelines.engine import reference_statistics, stages
from pipelines.engine.startup import console_for

REFERENCE, MEASURED, NEW_CLASS = 500, 1500, 0.3
SCENES, CHANGED = 900, 300  # of a run on composites
FALSE_ALARM = 0.05
WITH_OBJECTS = "box_side"  # what only pictures with objects have
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
SCENE_CHANGES = {
    "another camera, 200×150 pixels": lambda image: image.resize((200, 150)),
    **{name: change for name, change in CHANGES.items() if "camera" not in name},
}
LAYOUTS = {"things larger by a third": {"scale": 4 / 3}, "one thing at most": {"things": [0, 1]}}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", type=Path)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--pictures", type=int, default=200)
    arguments = parser.parse_args()
    if arguments.run:
        same, others = scenes(arguments.run.resolve())
    else:
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            os.environ["MLFLOW_TRACKING_URI"] = "sqlite:///mlflow.db"
            same, others = measured()
    alarms, alone = {name: Counter() for name in others}, Counter()
    for draw in range(arguments.draws):
        generator = np.random.default_rng(draw)
        for name, pictures in others.items():
            order = generator.permutation(same.count)
            if name != "a class more" and pictures.count < same.count:  # of the first pictures
                order = np.concatenate([order[order < pictures.count], order[order >= pictures.count]])
            rows, reference = order[: arguments.pictures], rows_of(same, order[arguments.pictures :][:REFERENCE])
            if name == "a class more":
                count = round(NEW_CLASS * len(rows))
                strange = rows_of(pictures, generator.permutation(pictures.count)[:count])
                new = joined(rows_of(same, rows[count:]), strange)
            else:
                new = rows_of(pictures, rows)
            found = compare(reference, new, false_alarm=FALSE_ALARM)
            alarms[name].update(["any"] * found["drift"])
            alarms[name].update(key for key, row in found["quantities"].items() if row["drift"])
            if pictures is same:
                alone.update(key for key, row in found["quantities"].items() if row["p"] <= FALSE_ALARM)
    print(f"{REFERENCE} pictures against {arguments.pictures}, false alarm 5 %: alarms in {arguments.draws} draws")
    for name, counts in alarms.items():
        note = f", {NEW_CLASS:.0%} of the pictures" if name == "a class more" else ""
        by = ", ".join(f"{key} {count}" for key, count in counts.most_common() if key != "any")
        print(f"{counts['any']:>4}  {name}{note}{f': {by}' if by else ''}")
    print("each alone at 5 %, the same kind:", ", ".join(f"{key} {alone[key]}" for key in found["quantities"]))


def scenes(folder):
    """What was measured of further scenes of a run's test split, and of them changed, by name."""
    run = stages.trained_run("/".join(folder.parts[-2:]), folder.parents[1], console_for(stderr=True))
    settings = run.recipe.data.composites.model_dump() | {"path": run.recipe.data.path, "seed": run.recipe.seed}
    network = reference_statistics.Network(run)
    reference_statistics.ANSWERED = reference_statistics.EMBEDDED = SCENES

    def drawn(count, **changes):
        read = composites.read(**settings | changes | {"count": 5 * SCENES})
        return [item.read() for item in read.items if item.split == "test"][:count]

    def measure(pictures):
        return reference_statistics.measure(network, pictures, count=len(pictures), console=run.console)

    pictures = drawn(SCENES)
    same = measure(pictures)
    others = {"the same kind": same}
    for name, change in SCENE_CHANGES.items():
        others[name] = measure([changed(row, change, "RGB") for row in pictures[:CHANGED]])
    for name, layout in LAYOUTS.items():
        if factor := layout.get("scale"):
            layout = {"scale": [min(1.0, factor * end) for end in settings["scale"]]}
        others[name] = measure(drawn(CHANGED, **layout))
    return same, others


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


def changed(encoded, change, mode="L"):
    out = io.BytesIO()
    change(Image.open(io.BytesIO(encoded)).convert(mode)).save(out, "PNG")
    return out.getvalue()


def rows_of(pictures, rows):
    """What was measured of some of the pictures."""
    quantities = {name: [values[row] for row in rows] for name, values in whole(pictures).items()}
    if WITH_OBJECTS in quantities:
        quantities[WITH_OBJECTS] = [value for value in quantities[WITH_OBJECTS] if value is not None]
    return replace(
        pictures,
        count=len(rows),
        quantities=quantities,
        answers=[pictures.answers[row] for row in rows] if pictures.answers else [],
        features=[pictures.features[row] for row in rows],
    )


def whole(pictures):
    """The quantities with a number, or None, of every picture."""
    quantities = dict(pictures.quantities)
    if WITH_OBJECTS in quantities:
        sides = iter(quantities[WITH_OBJECTS])
        quantities[WITH_OBJECTS] = [next(sides) if count else None for count in quantities["objects"]]
    return quantities


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
