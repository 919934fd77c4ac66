#!/usr/bin/env bash
# Versions: opencv-python-headless 4.14.0.94, numpy 2.4.0.
#
# cv2.mean of an image with three channels takes about twenty times as long as cv2.sumElems of it; with one or four channels
# the two are alike.
#
# What happens: of 224 x 224 pixels in uint8 with three channels, cv2.mean takes 42 microseconds, cv2.sumElems 2.3 and
#   cv2.meanStdDev, which computes more, 11; of 1024 x 1024, 878, 43 and 212 (on a CPU with AVX-512). With four channels, a
#   third more data, cv2.mean takes 4. The values are the same.
# What one would expect: that a mean costs as much as the sum that it divides, and no more with three channels than with four.
# Who meets it: whoever subtracts or compares the mean of RGB images, as contrast and normalisation of single images do; it is
#   then a larger part of the input than resizing. Take cv2.sumElems and divide by the number of pixels.
#
# Exits with 1 if that has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check opencv-python-headless==4.14.0.94 numpy==2.4.0
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys
import time

import cv2
import numpy as np

print("opencv", cv2.__version__, "numpy", np.__version__)


def microseconds(function, image):
    best = float("inf")
    for _ in range(15):
        start = time.thread_time()
        for _ in range(100):
            function(image)
        best = min(best, (time.thread_time() - start) / 100)
    return 1e6 * best


ratios = {}
for channels in (1, 3, 4):
    image = np.random.default_rng(0).integers(0, 256, (224, 224, channels), np.uint8)
    mean = np.array(cv2.mean(image)[:channels])
    sums = np.array(cv2.sumElems(image)[:channels])
    assert np.allclose(mean, sums / (224 * 224))
    times = [microseconds(function, image) for function in (cv2.mean, cv2.sumElems, cv2.meanStdDev)]
    ratios[channels] = times[0] / times[1]
    print(f"{channels} channels: mean {times[0]:.1f}, sumElems {times[1]:.1f}, meanStdDev {times[2]:.1f} microseconds")
sys.exit(not (ratios[3] > 6 and ratios[1] < 4 and ratios[4] < 4))
PYTHON
echo "as stated"
