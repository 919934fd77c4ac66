"""What does a layer do with a shifted and with a turned image?

    python tests/benchmarks/bench_equivariance.py [--plot FILE]

A photograph of scikit-learn goes through layers of `cnn_keras/learn/convolution.py`. *Equivariant* is a layer of which
f(shift(x)) = shift(f(x)), *invariant* one of which f(shift(x)) = f(x); shown is how far the two sides are apart, the
norm of their difference over that of the right side, away from the border. A layer with a stride can follow whole
strides only; what it says in between depends on the grid (aliasing), less so where a blur comes first. Zhang, "Making
convolutional networks shift-invariant again", 2019.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_sample_image

sys.path.insert(0, str(Path(__file__).parent.parent.parent))
from cnn_keras.learn import convolution as nn

SIDE, BORDER = 128, 16  # pixels
SHIFTS = (1, 2, 4, 8)
VERTICAL = np.array([[1, 0, -1], [2, 0, -2], [1, 0, -1]])  # Sobel
BLUR = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]) / 256


def photograph():
    """The Chinese temple, grey, a window of 384 pixels made 128 by means: (1, SIDE, SIDE, 1), 0 to 1."""
    image = load_sample_image("china.jpg")[:384, 200:584].mean(axis=2) / 255
    return image.reshape(SIDE, 3, SIDE, 3).mean(axis=(1, 3))[np.newaxis, ..., np.newaxis]


def edges(x):
    """|vertical edges|, the size as it was."""
    return np.abs(nn.convolution(x, VERTICAL[..., np.newaxis, np.newaxis], padding="same"))


def blurred(x):
    return nn.convolution(x, BLUR[..., np.newaxis, np.newaxis], padding="same")


LAYERS = {  # each with its stride
    "convolution": (1, edges),
    "convolution, stride 2": (2, lambda x: edges(x)[:, ::2, ::2]),
    "… behind a blur": (2, lambda x: blurred(edges(x))[:, ::2, ::2]),
    "max pooling 2×2": (2, lambda x: nn.max_pooling(edges(x), 2)),
    "max pooling 4×4": (4, lambda x: nn.max_pooling(edges(x), 4)),
    "max pooling 8×8": (8, lambda x: nn.max_pooling(edges(x), 8)),
    "average pooling 8×8": (8, lambda x: nn.average_pooling(edges(x), 8)),
}


def apart(one, other, border):
    """The norm of the difference over that of the second, without the border."""
    one, other = (maps[:, border:-border, border:-border] for maps in (one, other))
    return np.linalg.norm(one - other) / np.linalg.norm(other)


def equivariance(name, shift):
    """How far f(shift(x)) is from shift(f(x)), to the right by `shift` pixels; None where no whole stride is that."""
    stride, layer = LAYERS[name]
    if shift % stride:
        return None
    x = photograph()
    return apart(layer(np.roll(x, shift, axis=2)), np.roll(layer(x), shift // stride, axis=2), BORDER // stride)


def invariance(name, shift):
    """How far f(shift(x)) is from f(x)."""
    stride, layer = LAYERS[name]
    x = photograph()
    return apart(layer(np.roll(x, shift, axis=2)), layer(x), BORDER // stride)


def turned(layer):
    """How far f(turn(x)) is from turn(f(x)), by a quarter."""
    x = photograph()
    return apart(layer(np.rot90(x, axes=(1, 2))), np.rot90(layer(x), axes=(1, 2)), BORDER)


def written(value):
    return "–" if value is None else f"{value:.3f}"


def plot(path):
    from matplotlib.figure import Figure

    x = photograph()
    rows = (
        ("shifted by 8", lambda maps: np.roll(maps, 8, axis=2)),
        ("turned by a quarter", lambda maps: np.rot90(maps, axes=(1, 2))),
    )
    figure = Figure((9, 5), layout="constrained")
    axes = figure.subplots(2, 4)
    for line, (name, moved) in zip(axes, rows, strict=True):
        after, before = edges(moved(x)), moved(edges(x))
        panels = {name: moved(x), "its edges": after, "the edges, moved": before, "difference": np.abs(after - before)}
        for axis, (title, maps) in zip(line, panels.items(), strict=True):
            axis.imshow(maps[0, 2:-2, 2:-2, 0], cmap="gray", vmin=0, vmax=1 if title == name else 2)
            axis.set_title(title, fontsize=10)
            axis.set_axis_off()
    figure.savefig(path, dpi=100)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plot", type=Path, help="draw edges of the shifted and of the turned photograph")
    options = parser.parse_args()
    heads = "".join(f"{shift:>8}" for shift in SHIFTS)
    for title, measure in (("f(shift(x)) and shift(f(x))", equivariance), ("f(shift(x)) and f(x)", invariance)):
        print(f"{title:<28}{heads} pixels")
        for name in LAYERS:
            print(f"{name:<28}" + "".join(f"{written(measure(name, shift)):>8}" for shift in SHIFTS))
        print()
    print(f"turned by a quarter: vertical edges {turned(edges):.3f}, a round blur {turned(blurred):.3f}")
    if options.plot:
        plot(options.plot)


if __name__ == "__main__":
    main()
