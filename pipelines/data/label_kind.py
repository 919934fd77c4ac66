"""One class an image, or any number of labels: what of prepared data depends on it.

`data.labels` of a recipe says which; `of` gives the kind. `pipelines.engine.classification.label_kind` has what of
training depends on it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cnn_keras.data import records
from cnn_keras.data import split as splitting
from cnn_keras.data.sources import classification, multi_label
from pipelines.data.validation import Problem


class SingleLabel:
    """One class an image: records hold its number."""

    def items(self, data: Any, seed: int = 0) -> list[Any]:
        """The items of the source that a data section names; nothing is read."""
        return classification.items(data.source, path=data.path, classes=data.classes, group=data.group)

    def names(self, item: Any) -> tuple[str, ...]:
        """The classes of an item."""
        return (item.label,)

    def problems(self, items: Sequence[Any]) -> list[Problem]:
        """What the source says wrongly about the labels of its items."""
        return []

    def features(self, classes: int) -> Mapping[str, Any]:
        """Of the records; see `cnn_keras.data.records`."""
        return records.FEATURES

    def target(self, item: Any, numbers: Mapping[str, int]) -> Any:
        """The value of the feature `label`; `numbers` are those of the classes."""
        return numbers[item.label]

    def stratified(self, items: Sequence[Any], groups: Sequence[str], **settings: Any) -> Any:
        """The split of each item; see `cnn_keras.data.split.stratified`, which takes the settings."""
        return splitting.stratified([item.label for item in items], groups, **settings)

    def title(self, target: Any, classes: Sequence[str]) -> str:
        """The label of an example, as its record has it, in words."""
        return str(classes[target])

    def facts(self, counts: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
        """More facts of the stage prepare; `counts` says how many images of each class each split has."""
        return {}


class MultiLabel(SingleLabel):
    """Any number of labels an image: records hold 1 for each class that it has, else 0."""

    def items(self, data: Any, seed: int = 0) -> list[Any]:
        """The items; a label that `data.classes` does not name is among the item's troubles, not among its labels."""
        arguments: dict[str, Any] = {"path": data.path, "images": data.images}
        if data.source == "composites":
            arguments |= {**(data.composites.model_dump() if data.composites else {}), "seed": seed}
        items = multi_label.items(data.source, separator=data.separator, group=data.group, **arguments)
        return [self._known(item, data.classes) for item in items] if data.classes else items

    def names(self, item: Any) -> tuple[str, ...]:
        return tuple(item.labels)

    def problems(self, items: Sequence[Any]) -> list[Problem]:
        return [Problem(kind, item.id, detail, "") for item in items for kind, detail in item.troubles]

    def features(self, classes: int) -> Mapping[str, Any]:
        return {**records.FEATURES, "label": records.label_feature(classes)}

    def target(self, item: Any, numbers: Mapping[str, int]) -> Any:
        target = np.zeros(len(numbers), np.float32)
        target[[numbers[name] for name in item.labels]] = 1
        return target

    def stratified(self, items: Sequence[Any], groups: Sequence[str], **settings: Any) -> Any:
        """As `cnn_keras.data.split.iteratively_stratified`."""
        return splitting.iteratively_stratified([item.labels for item in items], groups, **settings)

    def title(self, target: Any, classes: Sequence[str]) -> str:
        return ", ".join(name for name, value in zip(classes, target, strict=True) if value >= 0.5) or "none"

    def facts(self, counts: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
        return {"labels": "multi", "counts": {split: dict(inner) for split, inner in counts.items()}}

    def _known(self, item: multi_label.MultiLabelItem, classes: Sequence[str]) -> multi_label.MultiLabelItem:
        unknown = [("unknown class", name) for name in item.labels if name not in classes]
        known = tuple(name for name in item.labels if name in classes)
        return item._replace(labels=known, troubles=(*item.troubles, *unknown))


SINGLE, MULTI = SingleLabel(), MultiLabel()


def of(data: Any) -> SingleLabel:
    """The kind of labels that a data section names."""
    return MULTI if getattr(data, "labels", "single") == "multi" else SINGLE
