"""How many faces of several people in one picture are found, beside face_recognition (dlib) if it is installed?

    python tests/benchmarks/bench_several_faces.py face-api --human human-faces [--photographs FOLDER] [--peer PYTHON]

`face-api` and `human-faces` are the folders that `cnn import-weights` writes. `--photographs` is the folder `demo` of
the npm package @vladmandic/face-api 1.7.15, in which `sample1.jpg` to `sample6.jpg` show 22 people, two of them in
profile; a face is found if a box of its own holds its midpoint, which was marked by hand. `--peer` names the Python of
an environment with face_recognition and dlib-bin.

Collages: the first photograph of each of ORL's forty people, ten to a picture of 1280×960 pixels, at a height and an
angle of either sign, in places drawn by a fixed seed on scikit-image's pictures without a person. A face is found if a
box of its own holds the photograph's midpoint. The other boxes are none's.
"""

import argparse
import io
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

sys.path.insert(0, str(Path(__file__).parent.parent.parent))
from cnn_keras.data.sources.classification import orl
from pipelines.faces import detector
from tests.benchmarks.bench_faces import WITHOUT, folder

MIDPOINTS = {  # from the left and from the top, as shares of width and height
    1: [(0.252, 0.35), (0.48, 0.40), (0.82, 0.257)],
    2: [(0.238, 0.19), (0.517, 0.275), (0.818, 0.19)],
    3: [(0.361, 0.383), (0.645, 0.296), (0.834, 0.331)],
    4: [(0.184, 0.253), (0.399, 0.162), (0.576, 0.218), (0.703, 0.188)],
    5: [(0.45, 0.1515), (0.34, 0.397), (0.621, 0.246), (0.776, 0.37), (0.256, 0.757)],
    6: [(0.16, 0.416), (0.405, 0.281), (0.64, 0.312), (0.834, 0.275)],
}
HEIGHTS, ANGLES = (60, 120, 240), (0, 20, 40)  # of a pasted photograph, in pixels and degrees
SIDE, COLUMNS, ROWS, PASTED = 320, 4, 3, 10  # cells of a collage, and how many of them have a face
PEER = """
import json, sys
import face_recognition
for line in sys.stdin:
    places = face_recognition.face_locations(face_recognition.load_image_file(line.strip()))
    print(json.dumps([(left, top, right, bottom) for top, right, bottom, left in places]), flush=True)
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="the folder of cnn import-weights face-api")
    parser.add_argument("--human", type=Path, help="the folder of cnn import-weights human-faces")
    parser.add_argument("--photographs", type=Path, help="the folder demo of the npm package @vladmandic/face-api")
    parser.add_argument("--peer", help="a Python with face_recognition")
    parser.add_argument("--show", type=Path, help="a folder for the collages, with what the first detector finds")
    arguments = parser.parse_args()
    groups = {f"{height} px, {angle}°": collages(height, angle) for height in HEIGHTS for angle in ANGLES}
    if arguments.photographs:
        groups = {"photographs": photographs(arguments.photographs), **groups}
    print(f"{'faces found, other boxes':<26}" + "".join(f"{name:>16}" for name in groups), flush=True)
    for number, (name, find) in enumerate(systems(arguments).items()):
        cells = []
        for kind, pictures in groups.items():
            answers = find([image for image, _ in pictures])
            counts = np.sum(
                [count(boxes, midpoints) for boxes, (_, midpoints) in zip(answers, pictures, strict=True)], axis=0
            )
            cells.append(f"{counts[0]} of {sum(len(midpoints) for _, midpoints in pictures)}, {counts[1]}")
            if arguments.show and not number:
                draw(arguments.show, kind, pictures, answers)
        print(f"{name:<26}" + "".join(f"{cell:>16}" for cell in cells), flush=True)


def systems(arguments):
    """Functions from pictures to the boxes in each, by name."""
    references = {"cnn, ssd": str(arguments.weights / "faces"), "cnn, opencv": "opencv"}
    if arguments.human:
        references["cnn, blazeface"] = str(arguments.human / "blazeface")
    functions = {name: ours(detector.open_detector(reference)) for name, reference in references.items()}
    return functions | ({"face_recognition": lambda images: peer(arguments.peer, images)} if arguments.peer else {})


def ours(find):
    return lambda images: [[face.box for face in find(image)] for image in images]


def peer(python, images):
    with tempfile.TemporaryDirectory() as temporary:
        files = [Path(temporary, f"{number}.png") for number in range(len(images))]
        for file, image in zip(files, images, strict=True):
            Image.fromarray(image).save(file)
        lines = "\n".join(map(str, files))
        answer = subprocess.run([python, "-c", PEER], input=lines, stdout=subprocess.PIPE, text=True, check=True)
    return [json.loads(line) for line in answer.stdout.splitlines()]


def photographs(demo):
    """Pairs of a photograph and the midpoints of its faces in pixels."""
    pairs = []
    for number, shares in MIDPOINTS.items():
        image = np.asarray(Image.open(demo / f"sample{number}.jpg").convert("RGB"))
        pairs.append((image, [(x * image.shape[1], y * image.shape[0]) for x, y in shares]))
    return pairs


def collages(height, angle):
    """Pairs of a collage of ten people and the midpoints of their photographs."""
    portraits = [Image.open(io.BytesIO(item.read())) for item in orl() if item.id.endswith("/1.pgm")]
    rng, pairs = np.random.default_rng([height, angle]), []
    for start in range(0, len(portraits), PASTED):
        background = Image.open(folder() / WITHOUT[rng.integers(len(WITHOUT))]).convert("RGB")
        canvas, midpoints = background.resize((SIDE * COLUMNS, SIDE * ROWS)), []
        cells = rng.permutation(COLUMNS * ROWS)[:PASTED]
        for portrait, cell in zip(portraits[start : start + PASTED], cells, strict=True):
            photo = portrait.resize((round(height * portrait.width / portrait.height), height)).convert("RGBA")
            photo = photo.rotate(angle * rng.choice([-1, 1]), Image.Resampling.BICUBIC, expand=True)
            corner = [
                SIDE * place + int(rng.integers(0, SIDE - length + 1))
                for place, length in zip((cell % COLUMNS, cell // COLUMNS), photo.size, strict=True)
            ]
            canvas.paste(photo, tuple(corner), photo)
            midpoints.append((corner[0] + photo.width / 2, corner[1] + photo.height / 2))
        pairs.append((np.asarray(canvas), midpoints))
    return pairs


def count(boxes, midpoints):
    """How many midpoints have a box of their own, and how many boxes are left over."""
    left = list(boxes)
    for x, y in midpoints:
        for box in left:
            if box[0] <= x <= box[2] and box[1] <= y <= box[3]:
                left.remove(box)
                break
    return len(boxes) - len(left), len(left)


def draw(target, kind, pictures, answers):
    target.mkdir(parents=True, exist_ok=True)
    for number, ((image, _), boxes) in enumerate(zip(pictures, answers, strict=True)):
        drawn = Image.fromarray(image)
        for box in boxes:
            ImageDraw.Draw(drawn).rectangle(box, outline="red", width=4)
        drawn.save(target / f"{kind.replace(', ', '-')}-{number}.jpg")


if __name__ == "__main__":
    main()
