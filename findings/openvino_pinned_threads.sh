#!/usr/bin/env bash
# Versions: openvino 2026.4.1, on Linux.
#
# Several models that are compiled in one process, each for one thread, all compute on the same processor.
#
# What happens: each compiled model pins its inference threads, and each begins to count at the first processor. Two models with
#   INFERENCE_NUM_THREADS 1, asked by two threads, share processor 0 while the others stand idle: two are no faster than one.
# What one would expect: different processors, as the threads of one model have them, or none prescribed.
# Who meets it: a server with a model for each processor, one of several models, a pipeline of detector and classifier.
#   ENABLE_CPU_PINNING False lets the system place the threads; one compiled model with NUM_STREAMS serves many callers.
#
# The script reads the processors that the threads may use while they compute. Exits with 1 if that has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check openvino==2026.4.1
cd "$folder"
cat > pinned.py <<'PYTHON'
import os
import sys
import threading
import time

sys.modules["openvino_telemetry"] = None
import numpy as np
import openvino
from openvino import opset13

processors = sorted(os.sched_getaffinity(0))
print("openvino", openvino.__version__, "processors", processors)
if len(processors) < 2:
    sys.exit("two processors are needed to see it")


def network():
    image = opset13.parameter([1, 3, 64, 64], np.float32)
    kernel = np.random.default_rng(0).normal(size=(32, 3, 3, 3)).astype(np.float32)
    return openvino.Model([opset13.convolution(image, kernel, [1, 1], [1, 1], [1, 1], [1, 1])], [image])


def affinities():
    for thread in os.listdir("/proc/self/task"):
        try:
            yield tuple(sorted(os.sched_getaffinity(int(thread))))
        except ProcessLookupError:
            pass


def pinned(**settings):
    """Sets of processors, fewer than all, that threads may use while two models are asked, each by one thread."""
    core, stop = openvino.Core(), threading.Event()
    alone = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, **settings}
    models = [core.compile_model(network(), "CPU", alone) for _ in range(2)]

    def ask(model):
        request = model.create_infer_request()
        while not stop.is_set():
            request.infer([np.zeros((1, 3, 64, 64), np.float32)])

    callers = [threading.Thread(target=ask, args=[model]) for model in models]
    for caller in callers:
        caller.start()
    found = []
    for _ in range(200):
        time.sleep(0.01)
        found.append([threads for threads in affinities() if len(threads) < len(processors)])
    stop.set()
    for caller in callers:
        caller.join()
    return max(found, key=len)


default, free = pinned(), pinned(ENABLE_CPU_PINNING=False)
print("by default, two threads may use", default)
print("without pinning, bound to fewer than all:", free)
assert len(default) == 2 and len(set(default)) == 1 and len(default[0]) == 1 and not free
PYTHON
venv/bin/python pinned.py
