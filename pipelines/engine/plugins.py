"""What a recipe names of the user's own code: builder, augmentations, source, loss, metrics; see `cnn_keras.plugins`.

A recipe that is read has their full names, `package.module:name` or `/folder/file.py:name`, and so have the recipe that
is written back and the fingerprint. A name of this library goes before one that a package makes known.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeGuard

from cnn_keras import plugins
from cnn_keras.errors import Fault

SOURCES = "cnn_keras.data.sources.classification"
AUGMENTATIONS = "cnn_keras.data.transforms.augment"
COLLECTIONS = ("keras", "sktime", "tfds")  # of data sets: `keras:mnist` is a source of this library


def qualified(document: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The document of a recipe with full names; what has another form than it should is left to the schema.

    Args:
        document: sections by name.
        folder: what paths of files are relative to.

    Raises:
        Fault: a module, a file or a name in it is not there.
    """
    sections = ("model", "data", "augment", "train", "evaluate")
    model, data, augment, train, evaluate = (document.get(key) for key in sections)
    result = dict(document)
    if isinstance(model, dict) and isinstance(name := model.get("builder"), str) and plugins.is_reference(name):
        full = plugins.qualified(name, "builders", folder, argument="model.builder")
        result["model"] = {**model, "builder": full}
    if isinstance(data, dict) and isinstance(name := data.get("source"), str):
        result["data"] = {**data, "source": _source(name, folder)}
    if isinstance(augment, list):
        result["augment"] = [_augmentation(entry, folder) for entry in augment]
    if isinstance(train, dict) and "loss" in train:
        result["train"] = {**train, "loss": _loss(train["loss"], folder)}
    if isinstance(evaluate, dict) and isinstance(evaluate.get("metrics"), list):
        result["evaluate"] = {**evaluate, "metrics": [_metric(name, folder) for name in evaluate["metrics"]]}
    return result


def roots(recipe: Any, stage: str) -> list[str]:
    """The user's own code that a stage of a recipe runs: of a builder the whole module, of the others what is named."""
    if stage == "prepare":
        source = getattr(getattr(recipe, "data", None), "source", None)
        return [source] if is_own(source) else []
    builder = getattr(getattr(recipe, "model", None), "builder", None)
    references = [builder.rpartition(":")[0]] if is_own(builder) else []
    names: list[Any] = []
    if stage == "train":
        entries = getattr(recipe, "augment", ())
        names = [name for entry in entries for name in (entry if isinstance(entry, dict) else [entry])]
        loss = getattr(getattr(recipe, "train", None), "loss", None)
        names += [getattr(loss, "own", loss)]
    if stage == "evaluate":
        names += getattr(getattr(recipe, "evaluate", None), "metrics", ())
    return references + [name for name in names if is_own(name)]


def is_own(name: Any) -> TypeGuard[str]:
    """Whether a setting is the full name of something of the user's own."""
    return isinstance(name, str) and name.partition(":")[0] not in COLLECTIONS and plugins.is_reference(name)


def short(name: str) -> str:
    """The name of something of the user's own without its module or file."""
    return name.rpartition(":")[2]


def measure(metrics: Sequence[str], *arguments: Any) -> dict[str, float]:
    """What the user's own metrics say of their arguments, by their short names.

    Raises:
        Fault: one of them gives something else than a number.
    """
    values: dict[str, float] = {}
    for name in metrics:
        value = plugins.load(name)(*arguments)
        try:
            values[short(name)] = float(value)
        except (TypeError, ValueError):
            raise Fault(f"evaluate.metrics: {name} must return a number, got {type(value).__name__}") from None
    return values


def is_module(task: Any) -> bool:
    """Whether a task is the name of an installed module, `package.module`."""
    dotted = isinstance(task, str) and re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)+", task)
    return bool(dotted) and plugins.source(task) is not None


def _source(name: str, folder: Path) -> str:
    if name.partition(":")[0] in COLLECTIONS:
        return name
    return _qualified(name, "sources", SOURCES, folder, "data.source")


def _loss(entry: Any, folder: Path) -> Any:
    """A loss by its name, or a section that has one of the user's own."""
    if isinstance(entry, dict) and isinstance(name := entry.get("own"), str):
        return {**entry, "own": plugins.qualified(name, "losses", folder, argument="train.loss.own")}
    if isinstance(entry, str):
        return plugins.qualified(entry, "losses", folder, argument="train.loss")
    return entry


def _metric(name: Any, folder: Path) -> Any:
    return plugins.qualified(name, "metrics", folder, argument="evaluate.metrics") if isinstance(name, str) else name


def _augmentation(entry: Any, folder: Path) -> Any:
    """One entry of a list, a name or names with arguments."""
    if isinstance(entry, str):
        return _qualified(entry, "augmentations", AUGMENTATIONS, folder, "augment")
    if isinstance(entry, dict):
        return {_augmentation(name, folder): arguments for name, arguments in entry.items()}
    return entry


def _qualified(name: str, group: str, module: str, folder: Path, argument: str) -> str:
    """The full name of an entry of a group, unless a module of this library has it."""
    file = plugins.source(module)
    if file and name in plugins.entry_points(group) and name in (plugins.defined(file) or ()):
        return name
    return plugins.qualified(name, group, folder, argument=argument)
