"""How faithful are heat maps? Scores while the hottest places go first, and while they come first, beside two controls.

    python tests/benchmarks/bench_heat_maps.py RUN [--pictures 100] [--removed LEVEL]

RUN is the folder of a run of classify or detect whose training is finished, such as runs/detect/composites-yolo_tiny.
Deletion and insertion (Petsiuk, Das and Saenko, "RISE", 2018) are the areas below the two curves; places that are gone
are blurred, or of a level of grey: a blurred digit is still a digit. Of a classifier the score is the probability of
the class that it answers, by Grad-CAM; of a detector, by LayerCAM, it is that of the likeliest object of a picture: the
largest score of its class times the overlap with its box, of all candidates (Petsiuk et al., "Black-box explanation of
object detectors via saliency maps", 2021).

The controls are a random number for each pixel and the heat map of the picture before. The intervals, 95 %, are those
of a mean over pictures; the last column is the difference from the heat map, picture by picture.
"""

import argparse
import os
import sys
from itertools import islice
from pathlib import Path

import numpy as np
from scipy import stats

sys.path.insert(0, str(Path(__file__).parents[2]))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf

from cnn_keras import inference
from cnn_keras.learn import visualization
from cnn_keras.metrics.heat_maps import deletion_insertion
from cnn_keras.ops import boxes
from pipelines.data import image_dataset
from pipelines.data.boxes import box_batches
from pipelines.engine import stages
from pipelines.engine.classification import classifier
from pipelines.engine.startup import console_for
from pipelines.tasks.classify import dataset
from pipelines.tasks.detect import explanation
from pipelines.tasks.detect import model as detectors


def of_classifier(run, count):
    """Pictures, the heat map of the class that is answered to each, and what scores copies of the picture."""
    model, split = classifier.load_trained(run), image_dataset.test_split(run.facts("prepare"))
    parts = (images.numpy() for images, *_ in batches(run, split))
    images = np.concatenate(list(islice(parts, -(-count // 128))))[:count]
    ask = inference.predictor(model, lambda batch: tf.nn.softmax(model(batch, training=False)))
    classes = ask(images).argmax(axis=1)
    heat = visualization.grad_cam(model, images, visualization.class_logit, classes)
    return images, heat, [lambda copies, number=number: ask(copies)[:, number] for number in classes]


def batches(run, split):
    return dataset.batches(run.finished("prepare"), split, image_dataset.shape_of(run.recipe.data))


def of_detector(run, count):
    """The same of the likeliest object in each picture; pictures without one are left out."""
    if run.recipe.data.tile or run.recipe.data.proposals:
        sys.exit("RUN must be of a detector that sees whole pictures and no proposals")
    model, split = detectors.load_trained(run), image_dataset.test_split(run.facts("prepare"))
    kind, network = detectors.family(run.recipe.model.builder), detectors.network_of(model)
    pictures = [row["image"].numpy() for row in box_batches.examples(run, split).take(count)]
    found = explanation.evidence(run, model)(np.stack(pictures))
    first = np.unique(found.rows, return_index=True)[1]  # the likeliest
    shares = (found.boxes / np.tile(run.recipe.data.size[::-1], 2)).astype(np.float32)

    def score(batch, box, number):
        candidates, scores = kind.decode(network, model(detectors.inputs_for(model, batch), training=False))
        own = tf.gather(scores, tf.cast(number, tf.int32), axis=-1, batch_dims=1)
        return tf.reduce_max(boxes.iou(candidates, box[:, None]) * own, axis=1)

    ask = inference.predictor(model, score)

    def scorer(row):
        def of_copies(copies):
            many = len(copies)
            return ask(copies, np.tile(shares[row], (many, 1)), np.full(many, found.classes[row]))

        return of_copies

    images = np.stack([pictures[found.rows[row]] for row in first])
    return images, found.heat[first], [scorer(row) for row in first]


def areas(images, heat, scores, *, removed):
    """Deletion and insertion by map, (pictures, 2) each; `removed` is that of `deletion_insertion`."""
    rng = np.random.default_rng(0)
    maps = {
        "heat map": heat,
        "random": rng.random(heat.shape),
        "heat map of another picture": np.roll(heat, 1, axis=0),
    }
    return {
        name: np.array(
            [deletion_insertion(*each, removed=removed)[:2] for each in zip(scores, images, own, strict=True)]
        )
        for name, own in maps.items()
    }


def mean(values):
    """The mean with its interval, by Student's t."""
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean():+.3f} ({values.mean() - half:+.3f} to {values.mean() + half:+.3f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="runs/<task>/<name>")
    parser.add_argument("--pictures", type=int, default=100, help="of the test split, the first")
    parser.add_argument("--removed", type=float, help="the level, 0–255, of places that are gone; blurred without")
    arguments = parser.parse_args()
    folder = arguments.run.resolve()
    run = stages.trained_run("/".join(folder.parts[-2:]), folder.parents[1], console_for(stderr=True))
    examined = {"classify": of_classifier, "detect": of_detector}[run.recipe.task](run, arguments.pictures)
    measured = areas(*examined, removed=arguments.removed)
    print(f"{run.recipe.task}/{run.recipe.name}, {len(examined[0])} pictures")
    for column, name in enumerate(("deletion", "insertion")):
        for kind, values in measured.items():
            difference = values[:, column] - measured["heat map"][:, column]
            apart = mean(difference) if difference.any() else ""
            print(f"{name:10} {kind:28} {mean(values[:, column]):28} {apart}")


if __name__ == "__main__":
    main()
