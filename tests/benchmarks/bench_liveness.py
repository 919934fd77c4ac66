"""Do liveness classifiers tell photographs of faces from simulated prints and screens of the same photographs?

    python tests/benchmarks/bench_liveness.py human-faces/antispoof human-faces/liveness

Faces are ORL's 400 photographs of 40 people, which are grey and small, and stand for the living: no photograph of a
person beside prints and screens is in reach of this benchmark. A print is a halftone of 45° on paper of less contrast,
a screen a grid of red, green and blue stripes; both are photographed anew, by a small turn, a blur and noise, from a
fixed seed. "live accepted" and "attacks refused" are at the probability of 0.5 at which `cnn faces` refuses; the area
under the ROC has an interval of 95 % over people. The figures say what these classifiers make of such pictures. They do
not say how they do with a camera of your own, real paper, real screens, or masks.
"""

import argparse
import io
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.metrics import roc_auc_score

from cnn_keras.data.files.image_file import encode_png
from cnn_keras.data.sources.classification import orl
from cnn_keras.data.sources.synthetic.presentation_attacks import enlarged, photographed, printed, screen
from pipelines.faces.encoder import Guard
from pipelines.faces.service import SURE

DRAWS = 1000


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="classifiers with a class live: recipes or exported folders")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--show", type=Path, help="write one face and its attacks side by side into this file")
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    faces = [(item.label, np.asarray(Image.open(io.BytesIO(item.read())).convert("RGB"))) for item in orl()]
    people = np.array([person for person, _ in faces])
    kinds = {
        "face": [enlarged(image) for _, image in faces],
        "photographed anew": [photographed(enlarged(image), rng) for _, image in faces],
        "print": [photographed(printed(enlarged(image)), rng) for _, image in faces],
        "screen": [photographed(screen(enlarged(image)), rng) for _, image in faces],
    }
    if arguments.show:
        Image.fromarray(np.concatenate([pictures[0] for pictures in kinds.values()], axis=1)).save(arguments.show)
    print(f"{'':<32}{'attack':<20}{'live accepted':>15}{'attacks refused':>17}{'area under the ROC':>28}")
    for model in arguments.models:
        guard = Guard(model, arguments.runs)
        alive = {kind: np.array([guard(encode_png(image)) for image in pictures]) for kind, pictures in kinds.items()}
        for attack in list(kinds)[1:]:
            low, high = interval(people, alive["face"], alive[attack])
            area = f"{auc(alive['face'], alive[attack]):.2f} ({low:.2f} to {high:.2f})"
            shares = (alive["face"] >= SURE).mean(), (alive[attack] < SURE).mean()
            print(f"{model:<32}{attack:<20}{shares[0]:>14.0%} {shares[1]:>16.0%} {area:>27}", flush=True)


def auc(live, attacks):
    return roc_auc_score(np.repeat([1, 0], [len(live), len(attacks)]), np.concatenate([live, attacks]))


def interval(people, live, attacks):
    """Of the area under the ROC, 95 %, by drawing people."""
    rng, rows = np.random.default_rng(1), [np.flatnonzero(people == person) for person in np.unique(people)]
    areas = []
    for _ in range(DRAWS):
        drawn = np.concatenate([rows[place] for place in rng.integers(0, len(rows), len(rows))])
        areas.append(auc(live[drawn], attacks[drawn]))
    return np.quantile(areas, [0.025, 0.975])


if __name__ == "__main__":
    main()
