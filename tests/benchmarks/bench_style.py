"""A step of style transfer: ours against TensorFlow's tutorial "Neural style transfer", at the same size and layers.

The tutorial's formulation is written afresh here: keras.applications' VGG-19 as far as block5_conv2, Gram matrices by
einsum, tf.image.total_variation, Adam, clipping, each step a call of one tf.function. Ours is what `cnn stylize` runs
with Adam. Weights are random: they change nothing about the time. The two take turns, so that a busy machine slows
both; the figure is the median of the ratios of neighbours.

    python tests/benchmarks/bench_style.py [SIDE] [ROUNDS]
"""

import os
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

from cnn_keras.losses.style import Objective, Weights
from cnn_keras.models import stylize
from pipelines.tasks.stylize.config import Paint
from pipelines.tasks.stylize.optimization.pixel_optimizer import Adam

BOUND = 0.7  # of the tutorial's time
STEPS = 5  # of each, in turn
STYLE, CONTENT = [f"block{block}_conv1" for block in range(1, 6)], ["block5_conv2"]


def pictures(side):
    generator = np.random.default_rng(0)
    return [generator.uniform(0, 255, (1, side, side, 3)).astype("float32") for _ in range(3)]


def tutorial(side):
    """A function that takes STEPS steps as the tutorial does, images in [0, 1]."""
    vgg = keras.applications.VGG19(include_top=False, weights=None)
    vgg.trainable = False
    names = STYLE + CONTENT
    tower = keras.Model(vgg.input, [vgg.get_layer(name).output for name in names])

    def gram(x):
        positions = tf.cast(tf.shape(x)[1] * tf.shape(x)[2], tf.float32)
        return tf.linalg.einsum("bijc,bijd->bcd", x, x) / positions

    def extracted(image):
        found = dict(zip(names, tower(keras.applications.vgg19.preprocess_input(image * 255.0)), strict=True))
        return {name: gram(found[name]) if name in STYLE else found[name] for name in names}

    style, content, start = (picture / 255 for picture in pictures(side))
    targets = {name: value for name, value in extracted(style).items() if name in STYLE}
    targets |= {name: value for name, value in extracted(content).items() if name in CONTENT}
    image = tf.Variable(start)
    optimizer = keras.optimizers.Adam(learning_rate=0.02, beta_1=0.99, epsilon=1e-1)

    def distance(found, layers):
        return tf.add_n([tf.reduce_mean((found[name] - targets[name]) ** 2) for name in layers]) / len(layers)

    @tf.function
    def train_step():
        with tf.GradientTape() as tape:
            found = extracted(image)
            loss = 1e-2 * distance(found, STYLE) + 1e4 * distance(found, CONTENT)
            loss += 30 * tf.image.total_variation(image)
        gradient = tape.gradient(loss, image)
        optimizer.apply_gradients([(gradient, image)])
        image.assign(tf.clip_by_value(image, 0.0, 1.0))

    def steps():
        for _ in range(STEPS):
            train_step()

    return steps


def ours(side):
    """A function that takes STEPS steps as a painting does."""
    layers = dict.fromkeys((f"conv{stage}_1_relu" for stage in range(1, 6)), 1.0)
    content = {"conv5_2_relu": 1.0}
    tower = stylize.tower("vgg.vgg19", [*layers, *content], weights="random")
    style, picture, start = pictures(side)
    objective = Objective(tower, content, layers, Weights(1.0, 100.0, 0.01), reference=[style])
    targets = (objective.content_of(picture), objective.style_of(style))
    adam = Adam(Paint(optimizer="adam"), objective.terms, start.shape)
    adam.image.assign(start)
    return lambda: adam.steps(tf.constant(STEPS), targets)


def main(side=256, rounds=6):
    """Print both speeds and their ratio; exit with 1 where the bound is missed."""
    ways = {"tutorial": tutorial(side), "ours": ours(side)}
    seconds = {name: [] for name in ways}
    for turn in range(rounds + 1):  # the first compiles
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            if turn:
                seconds[name].append((time.perf_counter() - started) / STEPS)
    ratio = float(np.median(np.divide(seconds["ours"], seconds["tutorial"])))
    for name, found in seconds.items():
        print(f"{name:>9}  {np.median(found):.3f} s a step at {side}×{side} (best {min(found):.3f})")
    print(f"{'ratio':>9}  {ratio:.2f}, wanted at most {BOUND}")
    return int(ratio > BOUND)


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
