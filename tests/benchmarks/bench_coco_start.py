"""How good is a detector of trees after some minutes, started from COCO, from ImageNet or from scratch?

    python tests/benchmarks/bench_coco_start.py --minutes 5 [--only NAME ...] [--peer PEER/bin/python] [--json FILE]

Each network is trained on the tiles of `detect/deepforest-centernet` for the same minutes of processor time, all cores
together, so that a busy machine is no worse: some steps are timed, and the recipe is run with as many epochs as fit,
validation included. `--peer` names the Python of an environment with ultralytics: its YOLO11n, from scratch, is trained
for an epoch, and then anew for as many as fit, with its own augmentation. A system that `--json` names has been
measured before, and is printed from there.

Measured is AP50 on the photograph held out; its interval is the bootstrap of `cnn evaluate` over squares of 200 pixels.
The COCO start needs the weights of `cnn import-weights human`, the ImageNet start those of `make samples`.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parent.parent.parent))
from pipelines.data import run_files
from pipelines.data.boxes import box_batches
from pipelines.engine import recipe as recipes
from pipelines.engine import stages
from pipelines.engine.stages import Run
from pipelines.engine.training import task_training
from pipelines.tasks.detect import box_report
from pipelines.tasks.detect.error_types import Detected
from tests.benchmarks import results

CENTERNET, YOLO, PEER = "detect/deepforest-centernet", "detect/deepforest-yolo_tiny", "YOLO11n of ultralytics, scratch"
FRESH = ("model.weights=null", "train.transfer=null")
SYSTEMS = {
    "CenterNet, COCO": (CENTERNET, ()),
    "CenterNet, scratch": (CENTERNET, FRESH),
    "YOLO on EfficientNet-Lite0, ImageNet": (YOLO, ()),
    "YOLO on EfficientNet-Lite0, scratch": (YOLO, FRESH),
}
STEPS = 24  # that are timed
ULTRALYTICS = """
import json, sys, time
from ultralytics import YOLO
data, minutes, side, photograph, output = sys.argv[1:]
def train(epochs, name):
    ends = []
    model = YOLO("yolo11n.yaml")
    model.add_callback("on_train_epoch_start", lambda trainer: ends.append(time.process_time()))
    model.train(data=data, epochs=epochs, patience=1000, imgsz=224, batch=8, device="cpu", workers=0,
                pretrained=False, plots=False, seed=0, project=output, name=name)
    return ends
first = train(3, "first")
epochs = max(2, round(60 * float(minutes) / (first[2] - first[1])))
started = train(epochs, "train")[0]
spent = time.process_time() - started
found = YOLO(f"{output}/train/weights/best.pt").predict(photograph, imgsz=int(side), conf=0.01, max_det=500, iou=0.5)
print(json.dumps([found[0].boxes.xyxy.tolist(), found[0].boxes.conf.tolist(), epochs, spent]))
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--only", nargs="*", choices=(*SYSTEMS, PEER), help="these alone; else all there are")
    parser.add_argument("--peer", help="a Python with ultralytics")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    names = arguments.only or [*SYSTEMS, *([PEER] if arguments.peer else [])]
    known = json.loads(arguments.json.read_text()) if arguments.json and arguments.json.is_file() else []
    before = {row["system"]: row for row in known}
    print(f"{'':<38}{'AP50':>7}{'95 % interval':>18}{'epochs':>8}{'CPU minutes':>13}", flush=True)
    for name in names:
        measure = peer if name == PEER else ours
        row = before.get(name) or {"system": name, **measure(name, arguments)}
        interval = f"{row['at_least']:.3f} to {row['at_most']:.3f}"
        print(f"{name:<38}{row['ap50']:>7.3f}{interval:>18}{row['epochs']:>8}{row['cpu_minutes']:>13.1f}", flush=True)
        if arguments.json:
            results.write(arguments.json, [row], by="system")


def ours(name, arguments):
    """Train a recipe for as many epochs as fit into the minutes, and measure it."""
    reference, sets = SYSTEMS[name]
    runs = arguments.runs / name.replace(", ", "-").replace(" ", "_")
    console = Console(stderr=True)
    seconds = epoch_seconds(Run(recipes.load(reference, sets), console, runs))
    epochs = max(2, round(60 * arguments.minutes / seconds))
    run = Run(recipes.load(reference, [*sets, f"train.epochs={epochs}", "evaluate.insight=false"]), console, runs)
    started = time.process_time()
    stages.run_stages(run, "train")
    spent = time.process_time() - started
    stages.run_stages(run, "evaluate")
    return figures(json.loads((run.finished("evaluate") / "report.json").read_text()), epochs, spent)


def epoch_seconds(run):
    """Of processor time in an epoch, its input and validation included."""
    with stages.prepared(run):
        training = task_training.inputs(run)
        model = task_training.initial_model(run, training)
        fitted, steps = training.compiled(model, run.recipe.train), -(-training.examples // run.recipe.train.batch_size)
        fitted.fit(training.batches(model, range(1)).take(2), validation_data=training.validation(model), verbose=0)
        started = time.process_time()
        fitted.fit(training.batches(model, range(1, 2 + STEPS // steps)).take(STEPS), verbose=0)
        trained = time.process_time()
        fitted.evaluate(training.validation(model), verbose=0)
        return (trained - started) * steps / STEPS + time.process_time() - trained


def peer(name, arguments):
    """Train ultralytics' network on the same tiles, and let it look at the whole photograph at the tiles' scale."""
    run = Run(recipes.load(CENTERNET), Console(stderr=True), arguments.runs / "peer")
    with stages.prepared(run), tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for split in ("train", "validation"):
            write_tiles(run, split, folder)
        (photograph,) = box_batches.original_pictures(run, "test", [0])
        Image.fromarray(photograph).save(folder / "photograph.png")
        (folder / "data.yaml").write_text(
            f"path: {folder}\ntrain: images/train\nval: images/validation\nnames: [tree]\n"
        )
        data = run.recipe.data
        side = 32 * round(max(photograph.shape) * data.size[0] / data.tile.size / 32)
        values = map(str, (folder / "data.yaml", arguments.minutes, side, folder / "photograph.png", folder))
        command = [arguments.peer, "-c", ULTRALYTICS, *values]
        answer = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=folder)
        *found, epochs, spent = json.loads(answer.stdout.splitlines()[-1])
        boxes, scores = map(np.array, found)
        truth = run_files.read_json(run.finished("prepare") / "truth-test.json")
        report = box_report.detection_report(
            folder,
            truth,
            detections=[Detected(boxes.reshape(-1, 4), scores, np.zeros(len(scores), int))],
            threshold=run.recipe.evaluate.shown,
            pictures_of=partial(box_batches.original_pictures, run, "test"),
            decoding="",
            shown=0,
            square=data.tile.size,
        )
    return figures(report, epochs, spent)


def write_tiles(run, split, folder):
    """Pictures of a split, and their boxes as ultralytics reads them."""
    for kind in ("images", "labels"):
        (folder / kind / split).mkdir(parents=True)
    for number, example in enumerate(box_batches.examples(run, split).as_numpy_iterator()):
        Image.fromarray(example["image"]).save(folder / "images" / split / f"{number}.png")
        lines = [
            f"0 {(left + right) / 2} {(top + bottom) / 2} {right - left} {bottom - top}"
            for left, top, right, bottom in example["boxes"]
            if right > left
        ]
        (folder / "labels" / split / f"{number}.txt").write_text("\n".join(lines))


def figures(report, epochs, seconds):
    return {
        "ap50": report["ap50"],
        "at_least": report["ap50_interval"][0],
        "at_most": report["ap50_interval"][1],
        "ap": report["ap"],
        "epochs": epochs,
        "cpu_minutes": seconds / 60,
    }


if __name__ == "__main__":
    main()
