"""What a picture of a network shows: its boxes in a row, and what is inside those that are blocks of layers.

A short chain is a box for each layer that does the work; normalisation, activations, dropout and padding go without.
In a longer network, or one that branches, the layers of a block – of one name, as in `model_summary` – are one box, and
each kind of block gets a letter, under which `model_diagram` draws its inside. Equal neighbours of a very long network
are one box with their count.
"""

import itertools
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import keras

from pipelines.analysis.model_summary import BLOCK, times

MOST = 26  # boxes that fit into a row
# By words in the name of a layer's class; the first that fits. What fits none is drawn inside of blocks only.
KINDS = {
    "input": "InputLayer",
    "up-sampling": "Transpose|UpSampling",
    "convolution": "Conv|LocallyConnected",
    "pooling": "Pooling|SubSampling|Maxout",
    "dense": "Dense|DropConnect|RBF",
    "normalisation": "LocalResponse",
    "network": "Functional|Sequential",
}
UNSEEN = re.compile("Padding|Cropping|Identity|Flatten|Reshape")  # even inside of blocks
UNIT = re.compile(r"stage\d+_unit\d+")
SHORT = {"BatchNormalization": "BN", "LayerNormalization": "LN", "Concatenate": "concat", "PadChannels": "pad"}
SIGNS = {"Add": "+", "Subtract": "−", "Multiply": "×"}


@dataclass(frozen=True)
class Part:
    """One layer: its kind, one of `KINDS`, "merge" or ""; sizes and channels of its output; words; what it reads."""

    name: str
    kind: str
    shape: tuple[int, ...]
    text: str
    inputs: tuple[str, ...]


@dataclass(frozen=True)
class Box:
    """A layer or a block in the row. `inputs` name boxes; `count` equal ones are drawn as one.

    inside: the layers of a block, as `visible_parts` leaves them; "" is what it reads. letter: of the kind of block.
    shortcut: "identity" or "changed" where a sum in the block adds what the block reads: as it is, or behind layers.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    text: str
    inputs: tuple[str, ...]
    inside: tuple[Part, ...] = ()
    letter: str = ""
    shortcut: str = ""
    count: int = 1


def parts(model: keras.Model) -> list[Part]:
    """Every layer of a functional model, in the graph's order."""
    read = {layer["name"]: _read(layer["inbound_nodes"]) for layer in model.get_config()["layers"]}
    parts_ = []
    for layer in model.operations:
        inputs = tuple(dict.fromkeys(read[layer.name]))
        shape = tuple(_first(layer.output).shape[1:])
        parts_.append(Part(layer.name, _kind(layer, inputs), shape, _text(layer, shape), inputs))
    return parts_


def boxes(parts_: list[Part]) -> list[Box]:
    """The row of a network, from its input to its output."""
    row = visible_parts(parts_, _works)
    if len(row) <= MOST and not any(part.kind == "merge" for part in row):
        return [_single(part) for part in row]
    letters: dict[Any, str] = {}
    groups: dict[str, list[Part]] = {}
    for part in parts_:
        groups.setdefault(BLOCK.match(part.name)[0], []).append(part)  # type: ignore[index]
    boxes_: list[Box] = []
    owner: dict[str, str] = {}
    inner = {part.name: part for part in row}
    for name, members in groups.items():
        working = [inner[part.name] for part in members if part.name in inner]
        if _is_block(name, members, working):
            boxes_.append(_block(name, members, working, letters))
            owner |= {part.name: name for part in working}
        else:
            boxes_ += [_single(part) for part in working]
            owner |= {part.name: part.name for part in working}
    boxes_ = [replace(box, inputs=tuple(dict.fromkeys(owner[name] for name in box.inputs))) for box in boxes_]
    return _counted(boxes_) if len(boxes_) > MOST else boxes_


def visible_parts(parts_: Iterable[Part], is_shown: Callable[[Part], bool]) -> list[Part]:
    """The parts that are shown, each reading those that reach it through the others; "" is what lies before."""
    sources: dict[str, tuple[str, ...]] = {}
    visible = []
    for part in parts_:
        inputs = tuple(dict.fromkeys(source for name in part.inputs for source in sources.get(name, ("",))))
        if is_shown(part):
            visible.append(replace(part, inputs=inputs))
            inputs = (part.name,)
        sources[part.name] = inputs
    return visible


def _works(part: Part) -> bool:
    return bool(part.kind)


def _single(part: Part) -> Box:
    return Box(part.name, part.kind, part.shape, part.text, part.inputs)


def _is_block(name: str, members: list[Part], working: list[Part]) -> bool:
    """Whether the layers of this name branch and join among themselves, or are the unit of a stage."""
    names = {part.name for part in members}
    outside = {source for part in working for source in part.inputs if source not in names}
    branches = any(part.kind == "merge" for part in working)
    return len(outside) == 1 and len(working) > 1 and (branches or bool(UNIT.fullmatch(name)))


def _block(name: str, members: list[Part], working: list[Part], letters: dict[Any, str]) -> Box:
    names = {part.name for part in members}
    inside = visible_parts(members, lambda part: not UNSEEN.search(part.text))
    before = tuple(dict.fromkeys(source for part in working for source in part.inputs if source not in names))
    place = {part.name: number for number, part in enumerate(inside)}
    signature = tuple((part.kind, tuple(place.get(source, -1) for source in part.inputs)) for part in inside)
    letter = letters.setdefault(signature, chr(ord("A") + len(letters)))
    sums = [part for part in inside if part.text == SIGNS["Add"]]
    shortcut = ("identity" if any("" in part.inputs for part in sums) else "changed") if sums else ""
    return Box(name, "block", working[-1].shape, name, before, tuple(inside), letter, shortcut)


def _counted(boxes_: list[Box]) -> list[Box]:
    """Neighbouring blocks of one letter and one size of maps as the first of them, with their count."""
    merged: list[Box] = []
    renamed: dict[str, str] = {}
    for _, group in itertools.groupby(boxes_, key=lambda box: (box.letter or box.name, box.shape[:-1])):
        members = list(group)
        renamed |= {box.name: members[0].name for box in members}
        merged.append(replace(members[0], shape=members[-1].shape, count=len(members)))
    return [replace(box, inputs=tuple(renamed[name] for name in box.inputs)) for box in merged]


def _read(node: Any) -> list[str]:
    """The names of the layers whose tensors a saved call speaks of."""
    if isinstance(node, dict) and node.get("class_name") == "__keras_tensor__":
        return [node["config"]["keras_history"][0]]
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list | tuple) else ()
    return [name for child in children for name in _read(child)]


def _first(output: Any) -> Any:
    return keras.tree.flatten(output)[0]


def _kind(layer: Any, inputs: tuple[str, ...]) -> str:
    name = type(layer).__name__
    kind = next((kind for kind, words in KINDS.items() if re.search(words, name)), "")
    return "merge" if len(inputs) > 1 and kind != "network" else kind


def _text(layer: Any, shape: tuple[int, ...]) -> str:
    """A few words for what a layer does: "3×3 conv /2", "2×2 pool", "dense", "+"."""
    name = type(layer).__name__
    window: Any = getattr(layer, "kernel_size", None) or getattr(layer, "pool_size", None)
    strides = tuple(getattr(layer, "strides", ()))
    step = "" if set(strides) <= {1} else f" /{strides[0] if len(set(strides)) == 1 else times(strides)}"
    match _kind(layer, ()):
        case "input":
            return "image" if len(shape) == 3 else "input"
        case "convolution":
            kind = "depthwise" if "Depthwise" in name else "local" if "Locally" in name else "conv"
            groups = getattr(layer, "groups", 1)
            return f"{times(window)} {kind}{step}" + (f", {groups} groups" if groups > 1 else "")
        case "up-sampling":
            return f"{times(window)} up-conv{step}" if window else f"×{times(layer.size)} up"
        case "pooling" if "Maxout" in name:
            return f"maxout of {layer.pieces}"
        case "pooling":
            kind = "max" if "Max" in name else "sub-sampling" if "SubSampling" in name else "average"
            return f"global {kind}" if "Global" in name else f"{times(window)} {kind}{step}"
        case "normalisation":
            return "LRN"
        case "dense":
            return "RBF" if "RBF" in name else "dense"
        case "network":
            return str(layer.name)
    return SIGNS.get(name) or SHORT.get(name) or _other(layer, name)


def _other(layer: Any, name: str) -> str:
    if name == "Activation":
        return str(getattr(layer.activation, "__name__", "activation"))
    if name == "Rescaling":
        return "1 − x" if (layer.scale, layer.offset) == (-1, 1) else f"× {layer.scale:g}"
    return name if name == "ReLU" or UNSEEN.search(name) else name.lower()
