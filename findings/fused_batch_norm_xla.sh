#!/usr/bin/env bash
# Versions: tensorflow 2.21.0 (tensorflow-cpu), numpy 2.4.0.
#
# tf.compat.v1.nn.fused_batch_norm(is_training=True) loses its variance under jit_compile=True.
#
# What happens: XLA expands the operation and takes the variance as E[x²] - E[x]² in float32. For values with a mean of
#   300 and a deviation of 1 the variance is off by percents, for a mean of 3000 the outputs are NaN: the difference came out
#   below zero. Without jit_compile, the same operation on the same values is right in both cases, and so are
#   tf.nn.moments and Keras's BatchNormalization with jit_compile.
# What one would expect: the same values up to rounding, as from the kernel without XLA, which subtracts the mean first.
# Who meets it: whoever calls the fused operation, directly or through tf_keras (whose BatchNormalization is fused by
#   default), in a function compiled by XLA, and normalises values that are not centred – pixels or measurements at the
#   entrance of a network, sums of many maps. Nothing is raised; training goes on with wrong statistics or with NaN.
#
# Exits with 1 if that has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check tensorflow-cpu==2.21.0 numpy==2.4.0
cd "$folder"
TF_CPP_MIN_LOG_LEVEL=3 venv/bin/python - <<'PYTHON'
import numpy as np
import tensorflow as tf

print("tensorflow", tf.__version__, "numpy", np.__version__)


def normalized(images):
    outputs, _, variance = tf.compat.v1.nn.fused_batch_norm(images, tf.ones(2), tf.zeros(2), is_training=True)
    return outputs, variance


def moments(images):
    return tf.nn.moments(images, (0, 1, 2))


fused = {jit: tf.function(normalized, jit_compile=jit, autograph=False) for jit in (None, True)}
moments = tf.function(moments, jit_compile=True, autograph=False)
right = wrong = True
for mean in (0, 300, 3000):
    images = np.random.default_rng(0).normal(mean, 1, (16, 14, 14, 2)).astype("float32")
    exact = images.astype("float64").var((0, 1, 2), ddof=1)
    print(f"mean {mean}, exact variance {exact}")
    for jit, compute in fused.items():
        outputs, variance = compute(images)
        off = np.abs(variance - exact).max()
        nan = bool(np.isnan(outputs).any())
        print(f"  fused, jit_compile={jit!s:5} variance {variance.numpy()}, off by {off:.1e}, NaN in the outputs: {nan}")
        if jit is None or mean == 0:
            right &= off < 1e-3 and not nan
        else:
            wrong &= off > 1e-2
    print(f"  moments, jit_compile=True variance {moments(images)[1].numpy()}")
raise SystemExit(0 if right and wrong else 1)
PYTHON
