#!/usr/bin/env bash
# Versions: tensorflow 2.21.0 (tensorflow-cpu), numpy 2.4.0.
#
# On a CPU the gradient of a float16 convolution takes tens of times as long as in float32; in bfloat16 it does not.
#
# What happens: forward, float16 takes 1.3 to 1.6 times as long as float32. With the gradients for the images and the
#   filters it takes 54 to 77 times as long in two dimensions and 91 to 128 times in three (two runs on a CPU with AMX). The
#   same in bfloat16 is as fast as float32 or faster. Nothing is logged.
# What one would expect: that float16 gains little on a CPU, about as much forward as backward – or a warning. The forward
#   pass, which people time first, gives no hint.
# Who meets it: whoever sets Keras's policy mixed_float16 in a recipe for GPUs and tries it on a CPU first, or in CI. Take
#   mixed_bfloat16 there.
#
# Exits with 1 if that has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check tensorflow-cpu==2.21.0 numpy==2.4.0
cd "$folder"
TF_CPP_MIN_LOG_LEVEL=3 venv/bin/python - <<'PYTHON'
import sys
import time

import numpy as np
import tensorflow as tf

print("tensorflow", tf.__version__, "numpy", np.__version__)
CASES = {
    "conv2d": (tf.nn.conv2d, (8, 28, 28, 16), (3, 3, 16, 32), 1),
    "conv3d": (tf.nn.conv3d, (2, 14, 14, 14, 16), (3, 3, 3, 16, 32), [1] * 5),
}


def milliseconds(function):
    function()
    times = []
    for _ in range(5):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return 1e3 * min(times)


as_told = True
for name, (convolve, images, filters, strides) in CASES.items():
    found = {}
    for kind in (tf.float32, tf.bfloat16, tf.float16):
        x, kernel = (tf.cast(tf.random.normal(shape), kind) for shape in (images, filters))

        def forward():
            return convolve(x, kernel, strides, "SAME")

        def both():
            with tf.GradientTape() as tape:
                tape.watch([x, kernel])
                total = tf.reduce_sum(forward())
            return tape.gradient(total, [x, kernel])

        found[kind] = (milliseconds(forward), milliseconds(both))
        print(f"{name} {kind.name:8}  forward {found[kind][0]:8.2f} ms  with its gradient {found[kind][1]:8.2f} ms")
    forward, both = (found[tf.float16][row] / found[tf.float32][row] for row in (0, 1))
    other = found[tf.bfloat16][1] / found[tf.float32][1]
    print(f"{name}: float16 takes {forward:.1f} and {both:.1f} times as long as float32, bfloat16's gradient {other:.1f}")
    as_told &= forward < 5 and both > 10 and other < both / 5
sys.exit(0 if as_told else 1)
PYTHON
