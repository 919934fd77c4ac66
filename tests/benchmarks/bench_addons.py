"""Augmentations by tensorflow-addons beside those of this project that come nearest, compiled as in a training.

    python tests/benchmarks/bench_addons.py [--size 224]

CPU time of one picture, the best of five rounds; all take turns.
"""

import argparse
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
STEPS = {
    "addons_mean_filter": {"size": 3, "chance": 1.0},
    "addons_median_filter": {"size": 3, "chance": 1.0},
    "blur": {"sigma": 1.5},
    "addons_dense_warp": {"amount": 4.0},
    "addons_sparse_warp": {"amount": 4.0},
    "elastic": {},
}
PICTURES, ROUNDS = 20, 5


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=224)
    options = parser.parse_args()
    import tensorflow as tf

    from cnn_keras.data.transforms import augment

    image = tf.cast(tf.random.stateless_uniform((options.size, options.size, 3), (0, 1), 0, 256), tf.uint8)
    runs = {}
    for name, arguments in STEPS.items():
        steps = augment.compose([{name: arguments} if arguments else name])
        runs[name] = tf.function(lambda seed, steps=steps: steps({"image": image}, seed)["image"])
        runs[name](tf.constant([0, 0]))
    best = dict.fromkeys(runs, float("inf"))
    for number in range(ROUNDS):
        for name, run in runs.items():
            started = time.process_time()
            for picture in range(PICTURES):
                run(tf.constant([number, picture]))
            best[name] = min(best[name], (time.process_time() - started) / PICTURES)
    for name, seconds in best.items():
        print(f"{name:22} {1000 * seconds:7.2f} ms")


if __name__ == "__main__":
    main()
