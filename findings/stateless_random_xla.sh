#!/usr/bin/env bash
# Versions: tensorflow 2.21.0 (tensorflow-cpu), numpy 2.4.0.
#
# A stateless random operation with alg="philox" draws other numbers under jit_compile=True, on the same CPU.
#
# What happens: tf.random.stateless_uniform and stateless_normal with the same seed and alg="philox" return other values in
#   a function compiled by XLA than in one that is not. With alg="auto_select", the default, it is the same; a
#   tf.random.Generator reset to the same seed differs, too. Only tf.random.fold_in and split, which derive seeds, agree.
# What one would expect: that a named counter-based algorithm and a seed determine the numbers, which is what such
#   algorithms are for, and that "stateless" draws may therefore be moved into or out of a compiled function.
# Who meets it: whoever draws augmentations or dropout masks from (seed, epoch, index) so that a run can be repeated or
#   resumed, and then turns XLA on for a part of the pipeline, or on one machine and not on another. Draw outside the
#   compiled function and pass the numbers in.
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
SEED = tf.constant([1, 2])
DRAWS = {
    "stateless_uniform, philox": lambda seed: tf.random.stateless_uniform((4,), seed, alg="philox"),
    "stateless_uniform, auto_select": lambda seed: tf.random.stateless_uniform((4,), seed),
    "stateless_normal, philox": lambda seed: tf.random.stateless_normal((4,), seed, alg="philox"),
}
SEEDS = {
    "fold_in": lambda seed: tf.random.fold_in(seed, 3),
    "split": lambda seed: tf.random.split(seed, 2),
}


def both(draw):
    return [tf.function(draw, jit_compile=jit, autograph=False)(SEED).numpy() for jit in (None, True)]


differ = []
for name, draw in DRAWS.items():
    plain, compiled = both(draw)
    print(f"{name}\n  without XLA {plain}\n  with XLA    {compiled}")
    differ.append(not np.allclose(plain, compiled))
agree = [np.array_equal(*both(derive)) for derive in SEEDS.values()]
print("seeds derived alike:", dict(zip(SEEDS, agree)))
raise SystemExit(0 if all(differ) and all(agree) else 1)
PYTHON
