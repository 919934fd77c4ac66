"""How well are objects followed, beside another program with the same boxes?

    pip install motmetrics trackers
    python tests/benchmarks/bench_tracking.py [--films 5] [--frames 300] [--things 20]

Each film is one of `cnn_keras.data.sources.synthetic.films`, of which every box and every identity is known. Both
programs follow the same boxes: they shake, some are missing, some are of nothing, and those of things that are partly
hidden have low scores. MOTA and IDF1 are by py-motmetrics: a box is right when its IoU with a true one is at least 0.5.
`trackers` is Roboflow's, with its own settings, whose scores are those of the paper, too; it knows no classes, and so
there is one of it for each class.
"""

import argparse
import sys
import time
import warnings
from pathlib import Path

import numpy as np

try:
    import motmetrics
    import supervision
    from trackers import ByteTrackTracker
except ImportError:
    print("skipped: pip install motmetrics trackers")
    sys.exit()

sys.path.insert(0, str(Path(__file__).parent.parent.parent))
from cnn_keras.data.sources.synthetic.films import CLASSES, film
from cnn_keras.metrics.average_precision import pairwise_iou
from cnn_keras.ops.byte_track import ByteTrack
from tests.noisy_boxes import noisy

METRICS = ("mota", "idf1", "num_switches", "num_misses", "num_false_positives")


def own():
    tracker = ByteTrack()

    def follow(detected):
        tracks = tracker.update(*detected)
        return tracks.ids, tracks.boxes

    return follow


def peer():
    programs = [ByteTrackTracker() for _ in range(CLASSES)]

    def follow(detected):
        ids, found = [np.zeros(0, int)], [np.zeros((0, 4))]
        for number, program in enumerate(programs):
            boxes, scores = (column[detected.classes == number] for column in detected[:2])
            tracks = program.update(supervision.Detections(xyxy=boxes, confidence=scores))
            real = tracks.tracker_id >= 0
            ids.append(CLASSES * tracks.tracker_id[real] + number)
            found.append(tracks.xyxy[real])
        return np.concatenate(ids), np.concatenate(found)

    return follow


def measure(follow, truths, frames):
    """A film's account by py-motmetrics, and the milliseconds of a frame."""
    account, spent = motmetrics.MOTAccumulator(auto_id=True), 0.0
    for truth, detected in zip(truths, frames, strict=True):
        started = time.perf_counter()
        ids, boxes = follow(detected)
        spent += time.perf_counter() - started
        overlap = pairwise_iou(truth.boxes, boxes)
        account.update(truth.ids, ids, np.where(overlap < 0.5, np.nan, 1 - overlap))
    return account, 1e3 * spent / len(truths)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--films", type=int, default=5)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--things", type=int, default=20)
    arguments = parser.parse_args()
    host = motmetrics.metrics.create()
    accounts = {"cnn-keras": [], "trackers": []}
    print(f"{'film':>5}  {'program':<10}    MOTA    IDF1  switches  misses  false  ms/frame")

    def show(label, name, row, spent):
        shares = f"{row['mota']:7.2%} {row['idf1']:7.2%}"
        counts = f"{row['num_switches']:9.0f} {row['num_misses']:7.0f} {row['num_false_positives']:6.0f}"
        print(f"{label:>5}  {name:<10} {shares} {counts} {spent:9.3f}")

    for seed in range(arguments.films):
        shown = film(frames=arguments.frames, things=arguments.things, seed=seed)
        truths = [shown.frame(number)[1] for number in range(shown.frames)]
        generator = np.random.default_rng(seed)
        frames = [noisy(truth, len(shown.background), generator) for truth in truths]
        for name, program in (("cnn-keras", own()), ("trackers", peer())):
            account, spent = measure(program, truths, frames)
            accounts[name].append((account, spent))
            show(seed, name, host.compute(account, metrics=METRICS).iloc[0], spent)
    for name, measured in accounts.items():
        every = host.compute_many([account for account, _ in measured], metrics=METRICS, generate_overall=True)
        show("all", name, every.loc["OVERALL"], np.mean([spent for _, spent in measured]))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
