"""The networks: one file per family, and the file system is the registry.

A builder is a public function of a family's file (or a `functools.partial` of one) that takes keyword arguments only,
`input_shape` and `classes` among them, and returns a functional `keras.Model` from `image` to `logits`. One that paints
takes `styles` instead, and its model goes to `painting`. A builder's name is its path: `lenet.lenet5` is the function
`lenet5` of `cnn_keras/models/lenet.py`. Builders of the user's own are named as `cnn_keras.plugins` says.

Importing this package imports neither Keras nor TensorFlow; the first call does.
"""

import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from cnn_keras import plugins
from cnn_keras.errors import Fault
from cnn_keras.weights import pretrained

if TYPE_CHECKING:
    import keras


def catalogue() -> dict[str, Callable[..., Any]]:
    """Every builder of this package by its name, `family.builder`, in alphabetical order of the families."""
    families = [importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
    return {
        f"{family.__name__.rpartition('.')[2]}.{name}": builder
        for family in families
        for name, builder in vars(family).items()
        if not name.startswith("_") and _is_builder(builder, family)
    }


def _is_builder(thing: Any, family: ModuleType) -> bool:
    """Whether something of a family's file is a builder; those of this package take keyword arguments alone."""
    if not inspect.isfunction(_function(thing)) or _function(thing).__module__ != family.__name__:
        return False
    kinds = {parameter.kind for parameter in inspect.signature(thing).parameters.values()}
    return kinds == {inspect.Parameter.KEYWORD_ONLY} and _takes(thing)


def _function(builder: Callable[..., Any]) -> Callable[..., Any]:
    return builder.func if isinstance(builder, functools.partial) else builder


def _takes(builder: Callable[..., Any]) -> bool:
    """Whether something takes the arguments of a builder, by their names."""
    parameters = inspect.signature(builder).parameters
    known = "input_shape" in parameters and bool({"classes", "styles"} & parameters.keys())
    named = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return known and all(parameter.kind in named for parameter in parameters.values())


def whole_name(last: str) -> str:
    """The name, `family.builder` or `package.module:builder`, of the builder that a single word means.

    Raises:
        Fault: when no family and no installed package has such a builder, or several have.
    """
    names = [name for name in catalogue() if name.rpartition(".")[2] == last]
    if last in plugins.entry_points("builders"):
        names.append(plugins.entry_points("builders")[last].value)
    if len(names) > 1:
        raise Fault(f"name must say which family's builder it is, got {last!r}: {' or '.join(names)}")
    return names[0] if names else _known(last)


def signature(name: str) -> inspect.Signature:
    """The arguments that the builder of this name takes, without their types, as messages show them.

    Raises:
        Fault: when no builder has this name; the message lists the nearest ones.
    """
    parameters = inspect.signature(_builder(name)).parameters.values()
    return inspect.Signature([parameter.replace(annotation=parameter.empty) for parameter in parameters])


def check(name: str, /, *, weights: str | Path | None = None, **arguments: Any) -> None:
    """Refuse arguments that the builder of this name does not take, or lacks, without building anything.

    Raises:
        Fault: naming the builder, the argument with the builder's signature, or weights that there are not.
    """
    parameters = signature(name)
    for argument in arguments:
        if argument not in parameters.parameters:
            raise Fault(
                f"{argument} must be an argument of {name}{parameters}, got an unknown name"
                + (_nearest(argument, parameters.parameters) or "; in a recipe, null removes it")
            )
    for argument, parameter in parameters.parameters.items():
        if parameter.default is parameter.empty and argument not in arguments:
            raise Fault(f"{argument} must be given to {name}{parameters}, got nothing; add it to the arguments")
    if weights is not None:
        pretrained.check(name, weights)


def build(name: str, /, *, weights: str | Path | None = None, **arguments: Any) -> "keras.Model":
    """The model that the builder of this name makes of these arguments.

    Args:
        name: of the builder.
        weights: "imagenet", "edges" or the path of a file, to start from instead of from chance, see
            `cnn_keras.weights.pretrained.load`.
        arguments: of the builder.

    Raises:
        Fault: see `check`; what the builder itself refuses; and weights that cannot be had or do not fit.
    """
    import keras  # start-up: names and arguments are checked without it

    check(name, weights=weights, **arguments)
    network = _builder(name)(**arguments)
    if not isinstance(network, keras.Model):
        raise Fault(f"{name} must return a keras.Model, got {type(network).__name__}")
    if weights is not None:
        pretrained.load(network, name, weights)
    return network


def auxiliary_weight(name: str) -> float:
    """What the loss of an auxiliary head of this family counts against that of `logits`: the paper's figure.

    Raises:
        Fault: when no builder has this name.
    """
    return float(getattr(family(name), "AUXILIARY_WEIGHT", 1.0))


def family(name: str) -> ModuleType:
    """The module of the builder of this name.

    Raises:
        Fault: when no builder has this name.
    """
    return importlib.import_module(_function(_builder(name)).__module__)


def require_size(input_shape: Sequence[int | None], smallest: int) -> None:
    """Refuse images, signals or volumes of which a builder's layers would leave nothing.

    Args:
        input_shape: sizes and, last, channels; a size of None is any size.
        smallest: that each side must have.

    Raises:
        Fault: when a side has less.
    """
    *sizes, _ = input_shape
    if any(size is not None and size < smallest for size in sizes):
        actual = "×".join(str(size) for size in sizes)
        raise Fault(f"input_shape must be at least {smallest} on each side, got {actual}; resize the images")


def _known(name: str) -> str:
    builders = catalogue()
    if name not in builders:
        families = ", ".join(sorted({name.partition(".")[0] for name in builders}))
        remedy = _nearest(name, [*builders, *plugins.entry_points("builders")]) or f"; the families are {families}"
        raise Fault(f"name must be a builder, such as lenet.lenet5, got {name!r}{remedy}")
    return name


def _builder(name: str) -> Callable[..., Any]:
    builder = plugins.loaded(name, "builders")
    if builder is None:
        return catalogue()[_known(name)]
    if not callable(builder) or not _takes(builder):
        signature_ = inspect.signature(builder) if callable(builder) else f", {type(builder).__name__}"
        raise Fault(
            f"{name} must be a builder, a function with the arguments input_shape and classes, got {name}{signature_}"
        )
    return builder


def _nearest(name: str, known: Iterable[str]) -> str:
    short = {full.rpartition(".")[2]: full for full in known} if "." not in name else {full: full for full in known}
    matches = [short[match] for match in get_close_matches(name, short, cutoff=0.5)]
    return f"; did you mean {' or '.join(matches)}?" if matches else ""
