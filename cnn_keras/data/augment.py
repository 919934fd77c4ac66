"""Augmentations: factories of functions of (example, seed).

An example is a dict with `image`, uint8 (height, width, channels), 0–255, and whatever else it carries; a seed is
int32 (2,). The same seed gives the same picture in whatever order threads run, because nothing here keeps state. An
augmentation moves every key it knows and refuses an example with one that it cannot move.

A recipe names them in order: `augment: [mirror, {affine: {rotate: 10, shift: 0.1}}]`.
"""

import difflib
import inspect
import math
from collections.abc import Callable, Sequence

import tensorflow as tf

from cnn_keras.fault import Fault, check_arguments

Augmentation = Callable[[dict, tf.Tensor], dict]
UNMOVED = frozenset({"id", "label"})  # geometry does not touch these


def mirror() -> Augmentation:
    """Left and right exchanged, every second time."""

    def apply(example: dict, seed: tf.Tensor) -> dict:
        _only_image(example, "mirror")
        image = example["image"]
        return {**example, "image": tf.where(tf.random.stateless_uniform((), seed) < 0.5, image[:, ::-1], image)}

    return apply


def affine(
    *, rotate: float = 0.0, shift: float = 0.0, zoom: float = 0.0, shear: float = 0.0, fill: str = "constant"
) -> Augmentation:
    """Rotation, shift, zoom and shear about the centre, composed into one bilinear resampling.

    Args:
        rotate: largest angle, in degrees, either way.
        shift: largest move along each axis, as a fraction of that axis, either way.
        zoom: largest change of scale; 0.1 draws a factor in [1 / 1.1, 1.1], even in its logarithm.
        shear: largest horizontal shear angle, in degrees, either way.
        fill: what stands beyond the border: "constant" (black), "nearest", "reflect" or "wrap".
    """
    if fill not in ("constant", "nearest", "reflect", "wrap"):
        raise Fault(f"augment.affine.fill must be constant, nearest, reflect or wrap, got {fill!r}")
    _check_amounts("affine", rotate=rotate, shift=shift, zoom=zoom, shear=shear)

    def apply(example: dict, seed: tf.Tensor) -> dict:
        _only_image(example, "affine")
        image = example["image"]
        draws = tf.random.stateless_uniform((5,), seed, -1.0, 1.0)
        size = tf.cast(tf.shape(image)[:2], tf.float32)
        transform = _about_centre(
            angle=draws[0] * math.radians(rotate),
            shear=draws[1] * math.radians(shear),
            scale=tf.exp(draws[2] * math.log1p(zoom)),
            move=draws[3:] * shift * size,
            centre=(size - 1) / 2,
        )
        return {**example, "image": _transformed(image, transform, fill)}

    return apply


def _about_centre(*, angle, shear, scale, move, centre) -> tf.Tensor:
    """The eight numbers that map an output pixel (x, y) to the input pixel it is read from.

    Input = A (output − centre − move) + centre with A = shear · rotation / scale.
    """
    cos, sin, slope = tf.cos(angle) / scale, tf.sin(angle) / scale, tf.tan(shear)
    a, b, c, d = cos + slope * sin, slope * cos - sin, sin, cos
    y, x = centre[0] + move[0], centre[1] + move[1]
    return tf.stack([a, b, centre[1] - a * x - b * y, c, d, centre[0] - c * x - d * y, 0.0, 0.0])


def _transformed(image: tf.Tensor, transform: tf.Tensor, fill: str) -> tf.Tensor:
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(image, tf.float32)[None],  # of integers, the operation would cut the fraction off
        transforms=transform[None],
        output_shape=tf.shape(image)[:2],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode=fill.upper(),
    )[0]
    return tf.ensure_shape(tf.saturate_cast(tf.round(moved), tf.uint8), image.shape)


def brighten(*, brightness: float = 0.0, contrast: float = 0.0) -> Augmentation:
    """Brightness moved by up to ± `brightness` × 255, contrast scaled by a factor in 1 ± `contrast` about the mean."""
    _check_amounts("brighten", brightness=brightness, contrast=contrast)

    def apply(example: dict, seed: tf.Tensor) -> dict:
        draws = tf.random.stateless_uniform((2,), seed, -1.0, 1.0)
        image = tf.cast(example["image"], tf.float32)
        mean = tf.reduce_mean(image)
        changed = (image - mean) * (1 + contrast * draws[0]) + mean + 255 * brightness * draws[1]
        return {**example, "image": tf.saturate_cast(tf.round(changed), tf.uint8)}

    return apply


def compose(recipe: Sequence[str | dict[str, dict]]) -> Augmentation | None:
    """The augmentations that a recipe lists, one after the other, each with a seed of its own; None for an empty list.

    Raises:
        Fault: an unknown name or argument.
    """
    steps = [_built(entry) for entry in recipe]

    def apply(example: dict, seed: tf.Tensor) -> dict:
        for number, step in enumerate(steps):
            example = step(example, tf.random.experimental.stateless_fold_in(seed, number))
        return example

    return apply if steps else None


def catalogue() -> dict[str, Callable[..., Augmentation]]:
    """Every augmentation that a recipe may name: the public factories of this file."""
    return {
        name: function
        for name, function in globals().items()
        if inspect.isfunction(function)
        and inspect.signature(function).return_annotation is Augmentation
        and not name.startswith("_")
    }


def _built(entry: str | dict[str, dict]) -> Augmentation:
    if isinstance(entry, dict) and len(entry) != 1:
        raise Fault(f"augment must list one augmentation per entry, got {', '.join(entry) or 'an empty mapping'}")
    name, arguments = (entry, None) if isinstance(entry, str) else next(iter(entry.items()))
    known = catalogue()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        meant = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
        raise Fault(f"augment.{name}: unknown augmentation; {meant}")
    check_arguments(known[name], arguments or {}, where=f"augment.{name}")
    return known[name](**(arguments or {}))


def _check_amounts(name: str, **amounts: float) -> None:
    for key, amount in amounts.items():
        number = isinstance(amount, int | float) and not isinstance(amount, bool)
        if not number or not 0 <= amount < math.inf:
            raise Fault(f"augment.{name}.{key} must be a number of at least 0, got {amount!r}")


def _only_image(example: dict, name: str) -> None:
    if unknown := sorted(example.keys() - UNMOVED - {"image"}):
        raise ValueError(f"{name} cannot move {', '.join(unknown)}")
