"""How good is a detector of hand-made features beside a convolutional one?

    python tests/benchmarks/bench_hog.py [--scenes N] [--run runs/detect/composites-yolo_tiny --plot FILE]

The scenes are those of detect/composites-yolo_tiny, digits on photographs (`make samples`). A window of 40×40 pixels
slides over each at several scales, its histograms of oriented gradients (HOG, OpenCV's) go into a linear support vector
machine for each digit (scikit-learn's), trained with one round of hard negatives, and the best windows are kept by
non-maximum suppression. Dalal and Triggs, "Histograms of oriented gradients for human detection", 2005. What differs:
ten classes; the box of a window is that of its class's median shape. AP50 is that of `cnn evaluate`.
"""

import argparse
import csv
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
from sklearn.svm import LinearSVC

sys.path.insert(0, str(Path(__file__).parent.parent.parent))
from cnn_keras.data.sources.synthetic import composites
from cnn_keras.metrics.average_precision import pairwise_iou

WINDOW, THING = 40, 32  # pixels of a window, and of the longer side of what it is to find in the middle
STRIDE = 4
SIZES = THING * 1.16 ** np.arange(-2, 6)  # of things, longer sides, in pixels of the scene
APART = 0.3  # IoU with every thing below which a window is background
BACKGROUND = 10
HOG = cv2.HOGDescriptor((WINDOW, WINDOW), (16, 16), (8, 8), (8, 8), 9)


def scenes(split, count):
    """Pixels and objects of the first scenes of a split: [(uint8 (160, 160, 3), objects)]."""
    items = composites.read(count=1000, backgrounds="skimage").items
    chosen = [item for item in items if item.split == split][:count]
    return [(cv2.imdecode(np.frombuffer(item.read(), np.uint8), cv2.IMREAD_COLOR_RGB), item) for item in chosen]


def longer(box):
    return max(box[2] - box[0], box[3] - box[1])


def features(image, centres, sizes):
    """HOG of windows around centres (N, 2), x and y, of things of these longer sides (N,): float32 (N, 576)."""
    rows = []
    for (x, y), size in zip(centres, sizes, strict=True):
        scale = THING / size
        matrix = np.array([[scale, 0, WINDOW / 2 - scale * x], [0, scale, WINDOW / 2 - scale * y]])
        window = cv2.warpAffine(image, matrix, (WINDOW, WINDOW), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        rows.append(HOG.compute(window))
    return np.asarray(rows, np.float32).reshape(len(rows), HOG.getDescriptorSize())


def windows(image):
    """Every window of every scale: HOG (N, 576), and centres (N, 2) and sizes (N,) in pixels of the image."""
    found, centres, sizes = [], [], []
    for size in SIZES:
        scaled = cv2.resize(image, None, fx=THING / size, fy=THING / size, interpolation=cv2.INTER_AREA)
        edge = (WINDOW - THING) // 2
        scaled = cv2.copyMakeBorder(scaled, edge, edge, edge, edge, cv2.BORDER_REFLECT)
        down, across = ((side - WINDOW) // STRIDE + 1 for side in scaled.shape[:2])
        found.append(HOG.compute(scaled, (STRIDE, STRIDE)).reshape(down * across, -1))
        places = np.stack(np.meshgrid(np.arange(across), np.arange(down)), axis=-1).reshape(-1, 2) * STRIDE
        centres.append((places + WINDOW / 2 - edge) * size / THING)
        sizes.append(np.full(len(places), size))
    return np.concatenate(found), np.concatenate(centres), np.concatenate(sizes)


def boxes_of(centres, sizes, shapes):
    """Corners (N, 4) of things of these longer sides, shapes (N, 2) or (2,) being width and height as shares of it."""
    halves = sizes[:, None] * shapes / 2
    return np.concatenate([centres - halves, centres + halves], axis=1)


class Detector:
    """The shape of each class, and its linear machine."""

    def __init__(self, training, *, seed=0):
        self.random = np.random.default_rng(seed)
        sides = {}
        for _, item in training:
            for thing in item.objects:
                left, top, right, bottom = thing.box
                sides.setdefault(int(thing.name), []).append(np.array([right - left, bottom - top]) / longer(thing.box))
        self.shapes = np.array([np.median(sides[digit], axis=0) for digit in range(10)])
        rows, labels = zip(*(self._examples(*scene) for scene in training), strict=True)
        rows, labels = [*rows], [*labels]
        self._fit(rows, labels)
        for image, item in training[::2]:
            hard = self._hard(image, item)
            rows.append(hard)
            labels.append(np.full(len(hard), BACKGROUND))
        self._fit(rows, labels)

    def _fit(self, rows, labels):
        machine = LinearSVC(C=0.01, tol=1e-3).fit(np.concatenate(rows), np.concatenate(labels))
        self.weights, self.offsets = machine.coef_[:10].T.astype(np.float32), machine.intercept_[:10]

    def _examples(self, image, item):
        """Each thing as it is and somewhat shifted and scaled, and windows of background."""
        true = np.array([thing.box for thing in item.objects]).reshape(-1, 4)
        middles, sides = (true[:, :2] + true[:, 2:]) / 2, np.array([longer(box) for box in true])
        centres, sizes = [middles], [sides]
        for _ in range(2):
            centres.append(middles + self.random.uniform(-0.06, 0.06, middles.shape) * sides[:, None])
            sizes.append(sides * self.random.uniform(0.93, 1.07, sides.shape))
        names = [int(thing.name) for thing in item.objects] * 3
        places, scales = self.random.uniform(0, 160, (12, 2)), self.random.choice(SIZES, 12)
        free = pairwise_iou(boxes_of(places, scales, self.shapes.mean(axis=0)), true).max(axis=1, initial=0) < APART
        rows = features(image, np.concatenate([*centres, places[free]]), np.concatenate([*sizes, scales[free]]))
        return rows, np.array(names + [BACKGROUND] * int(free.sum()))

    def _hard(self, image, item):
        """Windows of background that are taken for a thing, the ten surest."""
        rows, centres, sizes = windows(image)
        sure = (rows @ self.weights + self.offsets).max(axis=1)
        true = np.array([thing.box for thing in item.objects]).reshape(-1, 4)
        free = pairwise_iou(boxes_of(centres, sizes, self.shapes.mean(axis=0)), true).max(axis=1, initial=0) < APART
        chosen = np.flatnonzero(free & (sure > -1))
        return rows[chosen[np.argsort(-sure[chosen])[:10]]]

    def detect(self, image, *, least=-1.5, overlap=0.3, most=100):
        """Boxes (K, 4) in pixels, scores (K,) in (0, 1), classes (K,), the surest first."""
        rows, centres, sizes = windows(image)
        scores = rows @ self.weights + self.offsets
        places, digits = np.nonzero(scores > least)
        boxes, sure = boxes_of(centres[places], sizes[places], self.shapes[digits]), scores[places, digits]
        extents = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
        kept = np.asarray(cv2.dnn.NMSBoxesBatched(extents, sure, digits.astype(np.int32), least, overlap), int)[:most]
        return np.clip(boxes[kept], 0, 160), 1 / (1 + np.exp(-2 * sure[kept])), digits[kept]


def measure(detector, test):
    """AP50 with its interval."""
    from pipelines.data.boxes import box_dataset
    from pipelines.tasks.detect import box_report
    from pipelines.tasks.detect.error_types import Detected

    found = [Detected(*detector.detect(image)) for image, _ in test]
    members = [SimpleNamespace(item=item, size=image.shape[:2]) for image, item in test]
    return box_report.ap50(box_dataset.coco_truth(members, [str(digit) for digit in range(10)]), found)


def plot(path, detector, test, run, *, least=0.3, count=4):
    """Windows of HOG that are taken for a thing, what is kept of them, and the boxes of a run, for a few scenes."""
    from matplotlib.figure import Figure

    from pipelines.plots.annotate import draw_boxes

    with (run / "evaluate" / "predictions.csv").open(encoding="utf-8") as file:
        theirs = [row for row in csv.DictReader(file) if row["score"] and float(row["score"]) >= least]
    figure = Figure((9, 3 * count), layout="constrained")
    for line, (image, item) in zip(figure.subplots(count, 3), test, strict=False):
        rows, centres, sizes = windows(image)
        taken = (rows @ detector.weights + detector.offsets).max(axis=1) > 0
        squares = boxes_of(centres[taken], sizes[taken], np.ones(2) * WINDOW / THING)
        boxes, scores, digits = detector.detect(image)
        shown = scores >= least
        yolo = [row for row in theirs if row["image"] == item.id]
        corners = [[float(row[side]) for side in ("left", "top", "right", "bottom")] for row in yolo]
        for axis, title, found, sure, classes in (
            (line[0], "windows taken for a digit", squares, None, np.zeros(len(squares), int)),
            (line[1], "HOG", boxes[shown], scores[shown], digits[shown]),
            (line[2], run.name, corners, [float(row["score"]) for row in yolo], [int(row["class"]) for row in yolo]),
        ):
            names = [""] * len(found) if sure is None else [str(digit) for digit in classes]
            axis.imshow(draw_boxes(image, np.reshape(found, (-1, 4)), names, sure, classes=list(classes), side=480))
            axis.set_title(title, fontsize=10)
            axis.set_axis_off()
    figure.savefig(path, dpi=80)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=700, help="that it is trained on, 700 at most")
    parser.add_argument("--run", type=Path, help="a run of detect/composites-yolo_tiny to draw beside it")
    parser.add_argument("--plot", type=Path, help="draw windows and boxes beside those of the run")
    options = parser.parse_args()
    started = time.process_time()
    detector = Detector(scenes("train", options.scenes))
    trained = time.process_time()
    test = scenes("test", 200)
    ap50, (low, high) = measure(detector, test)
    seconds = (time.process_time() - trained) / len(test)
    print(f"HOG and linear machines: AP50 {ap50:.3f} (95 % interval {low:.3f} to {high:.3f}) on 200 scenes; ", end="")
    print(f"{trained - started:.0f} s of CPU to train on {options.scenes}, {seconds:.2f} s a scene")
    if options.plot and options.run:
        plot(options.plot, detector, test, options.run)


if __name__ == "__main__":
    main()
