#!/usr/bin/env bash
# Versions: tensorflow 2.21.0 (tensorflow-cpu).
#
# SlurmClusterResolver cannot be used on nodes without GPUs.
#
# What happens: without arguments it runs nvidia-smi and ends with FileNotFoundError where there is none. Told that a node
#   has no GPUs, gpus_per_node=0, its cluster_spec() ends with "range() arg 3 must not be zero".
# What one would expect: the addresses of the tasks, which do not depend on GPUs.
# Who meets it: whoever starts a MultiWorkerMirroredStrategy by srun on nodes of CPUs alone. Claim one GPU for each task,
#   and leave CUDA_VISIBLE_DEVICES alone: gpus_per_node=TASKS, gpus_per_task=1, auto_set_gpu=False.
#
# Exits with 1 if that has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check tensorflow-cpu==2.21.0
cd "$folder"
export SLURM_STEP_NUM_TASKS=2 SLURM_STEP_NODELIST='node[1-2]' SLURM_STEP_TASKS_PER_NODE='1(x2)' SLURM_PROCID=0
TF_CPP_MIN_LOG_LEVEL=3 venv/bin/python - <<'PYTHON'
import tensorflow as tf

print("tensorflow", tf.__version__)
resolver, failed = tf.distribute.cluster_resolver.SlurmClusterResolver, []
for arguments in ({}, {"gpus_per_node": 0}, {"gpus_per_node": 1, "gpus_per_task": 1, "auto_set_gpu": False}):
    try:
        print(arguments, resolver(**arguments).cluster_spec().as_dict())
    except (OSError, ValueError) as error:
        print(arguments, type(error).__name__, error)
        failed.append(arguments)
raise SystemExit(0 if {"gpus_per_node": 0} in failed and len(failed) < 3 else 1)
PYTHON
