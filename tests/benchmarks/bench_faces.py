"""How many faces are found and recognised, beside the package face_recognition (dlib) if it is installed?

    python tests/benchmarks/bench_faces.py face-api verify/orl-faceapi [--human human-faces] [--peer PEER/bin/python]

`face-api` is the folder that `cnn import-weights face-api` writes, `verify/orl-faceapi` a recipe that was run with it,
`human-faces` the folder of `cnn import-weights human-faces`, of which BlazeFace finds faces. `--peer` names the Python
of an environment with face_recognition and dlib-bin, if they are not in this one.

Detection: the 400 photographs of ORL, scikit-image's astronaut, and 100 crops of scikit-image's pictures without a
person, which a fixed seed has drawn. Recognition: the first photograph of each of ORL's first twenty people is
enrolled; the other nine of each are asked about, and the ten of each of the other twenty, who are strangers. Ours
rejects at the model's false-accept rate, which is divided among the twenty; of the forty people 26 have calibrated it.
face_recognition rejects beyond its default tolerance of 0.6. "nearest" is how many would be right without rejection.

At equal strictness: of 400 random orders of the forty people, the first ten are enrolled and the next ten are
strangers, of whose photographs the threshold lets a stated share pass; then the third ten are enrolled, the last ten
strangers, and of these twenty is counted. The ranges are those of 95 % of the orders; "than the peer" is the difference
in percentage points, order by order. The network and its alignment were not trained on ORL.
"""

import argparse
import importlib.util
import io
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent.parent.parent))
from cnn_keras.data.files.image_file import encode_png
from cnn_keras.data.sources.classification import orl
from pipelines.faces.encoder import Recogniser

WITHOUT = (
    "brick.png", "cell.png", "chelsea.png", "clock_motion.png", "coffee.png", "coins.png", "color.png", "grass.png",
    "gravel.png", "horse.png", "hubble_deep_field.jpg", "ihc.png", "logo.png", "microaneurysms.png", "moon.png",
    "motorcycle_left.png", "page.png", "retina.jpg", "rocket.jpg", "text.png",
)  # fmt: skip
CROPS = 5  # of each
ENROLLED = 20  # people; the others are strangers
ORDERS, GROUP = 400, 10  # at equal strictness
SHARES = (0.0, 0.01, 0.05, 0.375)  # of the strangers' photographs that pass
PEER = """
import json, sys
import face_recognition
for line in sys.stdin:
    image = face_recognition.load_image_file(line.strip())
    places = face_recognition.face_locations(image)
    print(json.dumps([row.tolist() for row in face_recognition.face_encodings(image, places)]), flush=True)
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="the folder of cnn import-weights face-api")
    parser.add_argument("model", help="an embedder: a recipe or an exported folder")
    parser.add_argument("--human", type=Path, help="the folder of cnn import-weights human-faces")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--peer", default=sys.executable, help="a Python with face_recognition")
    arguments = parser.parse_args()
    photos = {item.id: item.read() for item in orl()}
    pictures = [*photos.values(), astronaut(), *crops()]
    systems = {"face_recognition": lambda: peer(arguments.peer, pictures)}
    detectors = {"ssd": str(arguments.weights / "faces"), "opencv": "opencv"}
    if arguments.human:
        detectors["blazeface"] = str(arguments.human / "blazeface")
    for name, found_by in detectors.items():
        systems[f"cnn, {name}"] = lambda found_by=found_by: ours(arguments, found_by, pictures)
    print(f"{'':<17}{'ORL found':>10}{'several':>8}{'astronaut':>10}{'crops with a face':>18}", end="")
    print(f"{'right':>7}{'wrong':>7}{'rejected':>9}{'nearest':>8}{'strangers taken for somebody':>30}{'seconds':>9}")
    measured = {}
    for name, measure in systems.items():
        started = time.perf_counter()
        answer = measure()
        if answer is None:
            print(f"{name:<17}  not installed")
            continue
        vectors, threshold = answer
        report(name, list(photos), vectors, threshold, time.perf_counter() - started)
        measured[name] = equal_strictness(list(photos), vectors[: len(photos)])
    print(
        f"\n{'strangers let pass':<20}{'':<17}{'right':>24}{'wrong':>22}{'strangers passed':>22}{'than the peer':>22}"
    )
    for row, share in enumerate(SHARES):
        for name, counts in measured.items():
            right, wrong, passed = (spread(counts[:, row, column]) for column in range(3))
            other = measured.get("face_recognition", counts)[:, row, 0]
            gain = spread(counts[:, row, 0] - other) if name != "face_recognition" else ""
            print(f"{share:<20.1%}{name:<17}{right:>24}{wrong:>22}{passed:>22}{gain:>22}", flush=True)


def astronaut():
    return folder().joinpath("astronaut.png").read_bytes()


def crops():
    """Squares of random sides and places."""
    rng, squares = np.random.default_rng(0), []
    for name in WITHOUT:
        image = np.asarray(Image.open(folder() / name).convert("RGB"))
        shorter = min(image.shape[:2])
        for _ in range(CROPS):
            side = int(rng.integers(min(80, shorter // 2), shorter + 1))
            top, left = (int(rng.integers(0, extent - side + 1)) for extent in image.shape[:2])
            squares.append(encode_png(np.ascontiguousarray(image[top : top + side, left : left + side])))
    return squares


def folder():
    return Path(importlib.util.find_spec("skimage").submodule_search_locations[0], "data")


def ours(arguments, found_by, pictures):
    """The embeddings of the faces of each picture, and the greatest squared distance of one person's."""
    recogniser = Recogniser(arguments.model, arguments.runs, detector_name=found_by)
    faces = [recogniser.portraits(data) for data in pictures]
    vectors = iter(recogniser.embed([portrait.data for row in faces for portrait in row], faced=True))
    return [[next(vectors) for _ in row] for row in faces], recogniser.threshold(None, ENROLLED).distance


def peer(python, pictures):
    """The same of face_recognition; None if it is not there."""
    if subprocess.run([python, "-c", "import face_recognition"], capture_output=True).returncode:
        return None
    with tempfile.TemporaryDirectory() as temporary:
        files = [Path(temporary, f"{number}.png") for number in range(len(pictures))]
        for file, data in zip(files, pictures, strict=True):
            Image.open(io.BytesIO(data)).convert("RGB").save(file)
        lines = "\n".join(str(file) for file in files)
        answer = subprocess.run([python, "-c", PEER], input=lines, capture_output=True, text=True, check=True)
    return [[np.array(row) for row in json.loads(line)] for line in answer.stdout.splitlines()], 0.6**2


def report(name, ids, vectors, threshold, seconds):
    counts = np.array([len(row) for row in vectors])
    people, photos, alone = len(ids), vectors[: len(ids)], counts[len(ids)]
    first = {key.split("/")[0]: row for key, row in zip(ids, photos, strict=True) if key.endswith("/1.pgm")}
    names = [f"s{number + 1}" for number in range(ENROLLED) if first[f"s{number + 1}"]]
    gallery = np.stack([first[person][0] for person in names])
    tally = dict.fromkeys(("right", "wrong", "rejected", "nearest", "strangers"), 0)
    for key, row in zip(ids, photos, strict=True):
        person = key.split("/")[0]
        known = int(person[1:]) <= ENROLLED
        if known and key.endswith("/1.pgm"):
            continue
        distances = np.square(gallery - row[0]).sum(axis=1) if row else np.array([np.inf])
        nearest, accepted = names[int(distances.argmin())], distances.min() <= threshold
        if not known:
            tally["strangers"] += accepted
            continue
        tally["nearest"] += bool(row) and nearest == person
        tally["rejected" if not accepted else "right" if nearest == person else "wrong"] += 1
    found = f"{(counts[:people] > 0).sum():>10}{(counts[:people] > 1).sum():>8}{'yes' if alone == 1 else alone:>10}"
    asked = "".join(f"{tally[key]:>{width}}" for key, width in (("right", 7), ("wrong", 7), ("rejected", 9)))
    strangers = f"{tally['nearest']:>8}{tally['strangers']:>30}"
    print(f"{name:<17}{found}{(counts[people + 1 :] > 0).sum():>18}{asked}{strangers}{seconds:>9.0f}", flush=True)


def equal_strictness(ids, vectors):
    """Of each order of the people and each of SHARES the shares right, wrong and of strangers passed."""
    people = np.array([int(key.split("/")[0][1:]) - 1 for key in ids])
    first = {people[row]: row for row, key in enumerate(ids) if key.endswith("/1.pgm")}
    faces = [row[0] if row else None for row in vectors]
    length = len(next(face for face in faces if face is not None))
    table = np.stack([np.full(length, np.inf) if face is None else face for face in faces])
    known = table[[first[person] for person in sorted(first)]]
    with np.errstate(invalid="ignore"):  # two photographs without a face
        distances = np.nan_to_num(np.square(table[:, None] - known).sum(axis=-1), nan=np.inf)
    rng, answers = np.random.default_rng(0), []
    for _ in range(ORDERS):
        chosen, outside, enrolled, strangers = rng.permutation(len(first)).reshape(4, GROUP)
        limits = np.sort(distances[np.isin(people, outside)][:, chosen].min(axis=1))
        asked = np.flatnonzero(np.isin(people, enrolled) & ~np.isin(np.arange(len(ids)), list(first.values())))
        nearest = enrolled[distances[asked][:, enrolled].argmin(axis=1)]
        own = distances[asked][:, enrolled].min(axis=1)
        passing = distances[np.isin(people, strangers)][:, enrolled].min(axis=1)
        answers.append([])
        for share in SHARES:
            accepted = own < limits[int(share * len(limits))]
            same = nearest == people[asked]
            passed = (passing < limits[int(share * len(limits))]).mean()
            answers[-1].append([(accepted & same).mean(), (accepted & ~same).mean(), passed])
    return np.array(answers)


def spread(values):
    low, high = 100 * np.quantile(values, [0.025, 0.975])
    return f"{100 * values.mean():.1f} ({low:.1f} to {high:.1f})"


if __name__ == "__main__":
    main()
