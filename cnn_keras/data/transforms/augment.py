"""Augmentations: factories of functions of (example, seed), and what a recipe makes of them.

An example is a dict with `image`, uint8 (height, width, channels), 0–255, and whatever else it carries; a seed is
int32 (2,). The same seed gives the same picture in whatever order threads run, because nothing here keeps state. An
augmentation moves every key it knows – `cnn_keras.data.transforms.transform` says which and how – and refuses an
example with one that it cannot move.

A recipe names them in order: `augment: [mirror, {affine: {rotate: 10, shift: 0.1}}]`. The factories are in
`geometric.py`, `photometric.py`, `addons.py`, `rand_augment.py` and, for whole batches, `mixing.py`. To add one, write
a factory there whose annotation says what it returns. One of the user's own is named as `cnn_keras.plugins` says.
"""

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import ModuleType
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from cnn_keras import plugins
from cnn_keras.data.transforms import addons, geometric, mixing, photometric
from cnn_keras.data.transforms import rand_augment as rand_augment_transforms
from cnn_keras.data.transforms.geometric import (
    affine,
    crop,
    elastic,
    flip,
    mirror,
    resized_crop,
    rotate,
    scale_jitter,
    shear,
)  # fmt: skip
from cnn_keras.data.transforms.mixing import Mixing, cutmix, mixup, mosaic
from cnn_keras.data.transforms.opencv_chain import Decoder, OpenCVChain, is_deferrable
from cnn_keras.data.transforms.photometric import (
    blur,
    brighten,
    cutout,
    fit_pca_colour,
    grey,
    noise,
    pca_colour,
    saturate,
    tint,
)  # fmt: skip
from cnn_keras.data.transforms.rand_augment import Policy, rand_augment
from cnn_keras.data.transforms.transform import Chain, Colour, Geometry, Step
from cnn_keras.errors import Fault, check_arguments

Augmentation = Callable[[dict[str, Any], tf.Tensor], dict[str, Any]]
KINDS = (Geometry, Colour, Policy, Mixing)  # what a factory returns
FITTED = {"pca_colour": fit_pca_colour}  # augmentations with arguments that are fitted on the training split

__all__ = [
    "Augmentation", "Composed", "affine", "augmented_batches", "blur", "brighten", "catalogue", "compose", "crop",
    "cutmix", "cutout", "elastic", "fit", "flip", "grey", "mirror", "mixup", "mosaic", "noise", "pca_colour",
    "rand_augment", "resized_crop", "rotate", "saturate", "scale_jitter", "shear", "tint",
]  # fmt: skip


class Composed:
    """What a recipe lists, one after the other, each with a seed of its own.

    Args:
        on: "host" augments batches by OpenCV; "device" leaves the pixels of their images to the training step, as
            `cnn_keras.data.transforms.deferred.DeferredImages`.

    Attributes:
        mixes: whether `mix` does anything, and labels must be one-hot.
        source: (height, width) that pictures are to be read at; None is the size they end with.
        moves_pixels: whether a step moves the picture alone and refuses boxes, landmarks and masks.
    """

    def __init__(
        self,
        parts: Sequence[Step | Policy | Mixing],
        *,
        compiled: bool | None = None,
        on: Literal["host", "device"] = "host",
    ) -> None:
        single = [(number, part) for number, part in enumerate(parts) if not isinstance(part, Mixing)]
        flat = [
            (number, step) for number, part in single for step in (part.steps if isinstance(part, Policy) else [part])
        ]
        self._numbers = [number for number, _ in flat]
        self._chain = Chain([step for _, step in flat], compiled=compiled)
        self._batch_chain = OpenCVChain(self._chain, defers=on == "device")
        self.mixings = [(number, part) for number, part in enumerate(parts) if isinstance(part, Mixing)]
        self.mixes = bool(self.mixings)
        self.moves_pixels = any(isinstance(step, Colour) and step.moves_pixels for _, step in flat)
        self.source = next((part.source for _, part in single if isinstance(part, Geometry) and part.source), None)

    def __call__(self, example: dict[str, Any], seed: tf.Tensor) -> dict[str, Any]:
        """Augment one example."""
        return self._chain(example, self._seeds(seed))

    def takes_batches(self, spec: dict[str, tf.TensorSpec], *, decodes: bool = False) -> bool:
        """Whether examples of this kind are augmented, or decoded and augmented, faster by `batch`."""
        return self._batch_chain.takes(spec, decodes=decodes)

    def batch(self, examples: dict[str, Any], seeds: tf.Tensor, decoder: Decoder | None = None) -> dict[str, Any]:
        """Augment a batch of examples, each by its seed, int32 (N, 2); see `OpenCVChain`, which may defer images."""
        return self._batch_chain(examples, seeds, self._numbers, decoder)

    def _seeds(self, seed: tf.Tensor) -> list[tf.Tensor]:
        return [tf.random.experimental.stateless_fold_in(seed, number) for number in self._numbers]

    def mix(self, batch: dict[str, Any], seed: tf.Tensor) -> dict[str, Any]:
        """Mix the examples of a batch, after each was augmented: see `cnn_keras.data.transforms.mixing`."""
        for number, step in self.mixings:
            batch = step(batch, tf.random.experimental.stateless_fold_in(seed, number))
        return batch


def augmented_batches(
    source: tf.data.Dataset,
    read: Callable[..., tuple[dict[str, Any], tf.Tensor]],
    augmentation: Augmentation | None,
    batch_size: int,
    decoder: Decoder | None = None,
) -> tf.data.Dataset:
    """Batches of what `read` makes of a data set's elements, pairs of (example, seed), each augmented by its seed.

    Args:
        read: takes an element, or a batch of them and then gives a batch of examples and of seeds.
        decoder: decodes the images of the examples, which are scalar strings then.
    """
    # Not of `source.map(read)`: inside a graph that would be a second reader, which no optimizer can take away.
    example, _ = tf.function(read).get_concrete_function(*source.element_spec).structured_outputs
    spec = {key: tf.TensorSpec(values.shape, values.dtype) for key, values in example.items()}
    if decoder:
        spec = {**spec, "image": tf.TensorSpec(decoder.shape, tf.uint8)}
    if augmentation is None and decoder:
        augmentation = Composed([])
    if isinstance(augmentation, Composed) and augmentation.takes_batches(spec, decodes=decoder is not None):
        batches = source.batch(batch_size)
        return batches.map(lambda *rows: augmentation.batch(*read(*rows), decoder), num_parallel_calls=tf.data.AUTOTUNE)

    def augmented(*row: Any) -> dict[str, Any]:
        example, seed = read(*row)
        if decoder:
            example = {**example, "image": decoder(example["image"])}
        return example if augmentation is None else augmentation(example, seed)

    return source.map(augmented, num_parallel_calls=tf.data.AUTOTUNE).batch(batch_size)


def compose(
    recipe: Sequence[str | dict[str, dict[str, Any]]],
    *,
    size: tuple[int, int] | None = None,
    fitted: Mapping[str, Mapping[str, Any]] | None = None,
    on: Literal["host", "device"] = "host",
) -> Composed | None:
    """The augmentations that a recipe lists; None for an empty list.

    Args:
        recipe: names, or one-entry mappings of a name to arguments; those of batches last.
        size: (height, width) that pictures must end with: what crops cut unless the recipe says otherwise. None lets
            them keep the picture's.
        fitted: what `fit` found on the training split.
        on: as of `Composed`.

    Raises:
        Fault: an unknown name or argument, amounts that change nothing, another size at the end, an augmentation of
            batches before one of examples, or one that exists on the host alone with `on="device"`.
    """
    parts = [_built(entry, size, fitted or {}) for entry in recipe]
    kinds = [isinstance(part, Mixing) for part in parts]
    if kinds != sorted(kinds):
        late = next(part for part in parts if isinstance(part, Mixing))
        raise Fault(f"augment.{late.name} must stand after all that are not of batches; move it to the end of the list")
    sized = [(part.name, part.size) for part in parts if isinstance(part, Geometry) and part.size]
    if size and sized and sized[-1][1] != tuple(size):
        raise Fault(f"augment.{sized[-1][0]}.size must be data.size, {list(size)}, got {list(sized[-1][1])}")
    if on == "device":
        _require_deferrable(parts)
    return Composed(parts, on=on) if parts else None


def fit(
    recipe: Sequence[str | dict[str, dict[str, Any]]], images: Callable[[], Iterable[np.ndarray]]
) -> dict[str, dict[str, Any]]:
    """What the augmentations of a recipe must know of the training split: JSON, `fitted` of `compose`.

    Args:
        images: opens a pass over the training split, in batches of uint8 (N, height, width, channels); nothing is
            read if the recipe needs nothing.
    """
    needed = {_entry(entry)[0] for entry in recipe} & FITTED.keys()
    return {name: FITTED[name](images()) for name in sorted(needed)}


def catalogue() -> dict[str, Callable[..., Step | Policy | Mixing]]:
    """Every augmentation that a recipe may name: the public factories of five files."""
    return {
        name: function
        for module in (geometric, photometric, addons, rand_augment_transforms, mixing)
        for name, function in _factories(module)
    }


def _factories(module: ModuleType) -> list[tuple[str, Callable[..., Any]]]:
    return [
        (name, function)
        for name, function in vars(module).items()
        if inspect.isfunction(function)
        and function.__module__ == module.__name__
        and inspect.signature(function).return_annotation in KINDS
        and not name.startswith("_")
    ]


def _entry(entry: str | dict[str, dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    if isinstance(entry, dict) and len(entry) != 1:
        raise Fault(f"augment must list one augmentation per entry, got {', '.join(entry) or 'an empty mapping'}")
    name, arguments = (entry, None) if isinstance(entry, str) else next(iter(entry.items()))
    return name, arguments or {}


def _built(
    entry: str | dict[str, dict[str, Any]], size: tuple[int, int] | None, fitted: Mapping[str, Mapping[str, Any]]
) -> Step | Policy | Mixing:
    name, arguments = _entry(entry)
    factory = _factory(name)
    settings = {**fitted.get(name, {}), **arguments}
    check_arguments(factory, settings, where=f"augment.{name}")
    crops = size and {"size", "source"} <= inspect.signature(factory).parameters.keys()
    step = factory(**{"size": size, **settings} if crops else settings)
    if not isinstance(step, KINDS):
        kinds = ", ".join(kind.__name__ for kind in KINDS)
        raise Fault(f"augment.{name} must return one of {kinds}, got {type(step).__name__}")
    _require_amount(name, factory, settings)
    return step


def _factory(name: str) -> Callable[..., Any]:
    """The augmentation of this name, or of the user's own."""
    known = catalogue()
    if name in known:
        return known[name]
    own = plugins.loaded(name, "augmentations")
    if own is None:
        near = difflib.get_close_matches(name, [*known, *plugins.entry_points("augmentations")], n=1, cutoff=0.5)
        suggestion = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
        raise Fault(f"augment.{name}: unknown augmentation; {suggestion}")
    if not callable(own):
        raise Fault(f"augment.{name} must be a function, got {type(own).__name__}")
    return own


def _require_deferrable(parts: Sequence[Step | Policy | Mixing]) -> None:
    left = [
        "rand_augment" if isinstance(part, Policy)
        else f"{part.name} with fill: wrap" if getattr(part, "fill", None) == "wrap"
        else part.name
        for part in parts
        if not is_deferrable(part)
    ]  # fmt: skip
    if left:
        raise Fault(
            "augment must hold only what is a matrix for each image with train.augment_on: device, got "
            f"{', '.join(dict.fromkeys(left))}, which exist on the host alone; leave them out, or take "
            "train.augment_on: host"
        )


def _require_amount(name: str, function: Callable[..., Any], settings: Mapping[str, Any]) -> None:
    """Refuse what would change nothing: all its amounts are 0 unless the recipe says more, or cuts to a size."""
    parameters = inspect.signature(function).parameters.values()
    amounts = {parameter.name: parameter.default for parameter in parameters if type(parameter.default) in (int, float)}
    if amounts and not any(
        {**amounts, **settings}[name] for name in [*amounts, *(settings.keys() & {"size", "source"})]
    ):
        raise Fault(
            f"augment.{name} must have at least one of {', '.join(amounts)} above 0, got none, which changes nothing; "
            f"write {name}: {{{next(iter(amounts))}: 0.2}}, for example"
        )
