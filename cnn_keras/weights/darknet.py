"""Darknet's files: a `.cfg` that describes a network, a `.weights` of nothing but numbers, read and written.

Both ways for the networks of `cnn_keras.models.darknet` and the published ones of `cnn_keras.models.yolo`. A `.cfg` is
compared, section by section, with what ours would write, before any number is read: what is not the same network is
refused. Redmon, "Darknet: open source neural networks in C", 2013–2018; keys of its fork by Bochkovskiy where they say
the same.
"""

import re
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers

from cnn_keras import models
from cnn_keras.data.files import durable
from cnn_keras.errors import Fault
from cnn_keras.models import yolo
from cnn_keras.ops import yolo_head
from cnn_keras.weights.darknet_numbers import as_weights, kernel_shape, read, read_file

SIDE = 416  # what is written of a network whose sides are open
# What of a section shapes the network, by its kind, with Darknet's defaults; empty where there is none.
COUNTED = {
    "convolutional": {"filters": "1", "size": "1", "stride": "1", "batch_normalize": "0", "activation": "logistic"},
    "maxpool": {"size": "", "stride": "1"},
    "route": {"layers": ""},
    "shortcut": {"from": "", "activation": "linear"},
    "upsample": {"stride": "2"},
    "reorg": {"stride": "1"},
    "region": {"softmax": "0", "coords": "4"},
    "yolo": {"scale_x_y": "1"},
}
# What would shape it too, with the only value of which we build it: that of a network without such things.
PLAIN = {
    "convolutional": {
        **dict.fromkeys(("xnor", "binary", "bin_output", "antialiasing", "assisted_excitation", "coordconv"), "0"),
        **dict.fromkeys(("sway", "rotate", "stretch", "stretch_sway", "flipped", "dontload", "dontloadscales"), "0"),
        **{"groups": "1", "dilation": "1", "reverse": "0"},
    },
    "maxpool": {"maxpool_depth": "0", "out_channels": "1", "antialiasing": "0", "maxpool_zero_nonmax": "0"},
    "route": {"groups": "1", "group_id": "0"},
    "shortcut": {"weights_type": "none", "weights_normalization": "none", "alpha": "1", "beta": "0"},
    "upsample": {"scale": "1"},
    "reorg": {"reverse": "0", "flatten": "0", "extra": "0"},
    "region": {"classfix": "0", "background": "0"},
    "yolo": {"new_coords": "0"},
    "softmax": {"groups": "1", "temperature": "1", "spatial": "0"},
}
# What else may stand there: it says how to train or what to leave out of the answers, and shapes nothing.
ASIDE = {
    "convolutional": "pad padding cbn dot angle grad_centr",
    "maxpool": "padding",
    "region": "anchors num classes map max log sqrt focal_loss jitter resize rescore thresh absolute random "
    "coord_scale object_scale noobject_scale mask_scale class_scale bias_match nms_threshold",
    "yolo": "anchors mask num classes map max show_details max_delta counters_per_class label_smooth_eps "
    "objectness_smooth iou_normalizer obj_normalizer cls_normalizer delta_normalizer iou_loss iou_thresh_kind beta_nms "
    "nms_kind jitter resize focal_loss ignore_thresh truth_thresh iou_thresh random thresh nms_threshold",
    "softmax": "noloss",
    "cost": "type scale ratio noobj thresh",
}
ASIDE_EVERYWHERE = (
    "clip learning_rate stopbackward onlyforward dont_update burnin_update train_only_bn stream wait_stream"
)


class Section(NamedTuple):
    """One section of a `.cfg`: its kind – net, convolutional, yolo … – and its settings as they are written."""

    kind: str
    settings: dict[str, Any]  # text where they were read, numbers too where they are to be written


class Described(NamedTuple):
    """The builder that a `.cfg` is of, and its arguments."""

    builder: str
    arguments: dict[str, Any]


# Reading


def parse(text: str) -> list[Section]:
    """The sections of a `.cfg`: lines of `[kind]` and of `key = value`; those that begin with # or ; say nothing.

    Raises:
        Fault: for any other line, naming it.
    """
    sections = []
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.strip()
        if not line or line[0] in "#;":
            continue
        key, equals, value = line.partition("=")
        if line.startswith("[") and line.endswith("]"):
            sections.append(Section(line[1:-1].strip(), {}))
        elif equals and sections:
            sections[-1].settings[key.strip()] = value.strip()
        else:
            raise Fault(
                f"cfg must have lines of [section] and key=value, got {line!r} in line {number}", code=Fault.DATA
            )
    return sections


def describe(sections: list[Section]) -> Described:
    """Which of our builders makes the network of these sections, and of what arguments.

    Raises:
        Fault: when it is none of them.
    """
    try:
        return _described(sections)
    except (LookupError, ValueError) as error:
        raise Fault(f"cfg must have the settings that Darknet wants, got {error!r}", code=Fault.DATA) from None


def _described(sections: list[Section]) -> Described:
    kinds = [section.kind for section in sections]
    if not kinds or kinds[0] not in ("net", "network"):
        raise Fault(f"cfg must begin with [net], got {f'[{kinds[0]}]' if kinds else 'nothing'}", code=Fault.DATA)
    settings = sections[0].settings
    shape = tuple(int(settings.get(key, default)) for key, default in (("height", 0), ("width", 0), ("channels", 3)))
    heads = [section for section in sections if section.kind in ("yolo", "region")]
    name = _name(kinds)
    filters = [int(section.settings["filters"]) for section in sections if section.kind == "convolutional"]
    if not heads:
        return Described(name, {"input_shape": shape, "classes": filters[-1]})
    arguments = {"input_shape": shape, "classes": int(heads[0].settings.get("classes", 20))}
    arguments["anchors"] = _anchors(heads, shape)
    arguments["objective"] = "squared" if float(heads[0].settings.get("scale_x_y", 1)) == 1 else "ciou"
    if name == "yolo.yolov2_tiny":
        arguments["last"] = filters[-2]
    if name == "yolo.yolo_small":
        arguments["filters"] = filters[0]
    return Described(name, arguments)


def _name(kinds: list[str]) -> str:
    """The builder whose network could have these sections."""
    match kinds.count("region"), kinds.count("yolo"):
        case 1, 0:
            return "yolo.yolov2" if "reorg" in kinds else "yolo.yolov2_tiny"
        case 0, 3:
            return "yolo.yolov3"
        case 0, 2:
            return "yolo.yolo_small" if "shortcut" in kinds else "yolo.yolov3_tiny"
        case 0, 0:
            return "darknet.darknet53" if "shortcut" in kinds else "darknet.darknet19"
    raise Fault(
        "cfg must be that of Darknet-19, Darknet-53, YOLOv2, YOLOv3 or one of their tiny forms, got "
        f"{kinds.count('region')} sections [region] and {kinds.count('yolo')} sections [yolo]",
        code=Fault.DATA,
    )


def _anchors(heads: list[Section], shape: tuple[int, ...]) -> list[tuple[float, float]]:
    """Widths and heights as fractions of the picture, the finest scale first: v2 counts in cells, v3 in pixels."""
    height, width, _ = shape
    anchors = []
    for head in reversed(heads):
        unit = 32 if head.kind == "region" else 1
        numbers = [float(number) for number in head.settings["anchors"].split(",")]
        pairs = list(zip(numbers[::2], numbers[1::2], strict=True))
        mask = [int(number) for number in head.settings["mask"].split(",")] if "mask" in head.settings else None
        pairs = pairs if mask is None else [pairs[number] for number in mask]
        anchors += [(unit * across / width, unit * down / height) for across, down in pairs]
    return anchors


def load(cfg: Path, weights: Path) -> tuple[str, dict[str, Any], keras.Model]:
    """The network that a `.cfg` describes, with the numbers of a `.weights`.

    Returns:
        The builder's name, its arguments, and the `keras.Model`, which takes RGB images in [0, 1] as Darknet does.

    Raises:
        Fault: files that are not there, another network than ours, or too few or too many numbers.
    """
    sections = parse(read_file(cfg).decode("utf-8", "replace"))
    name, arguments = describe(sections)
    _check_keys(sections, cfg)
    network = models.build(name, **arguments)
    _compare(sections, parse(as_cfg(network)), cfg)
    if fresh := read(network, weights):
        raise Fault(
            f"weights must fill the network of {cfg}, got {weights} without {', '.join(fresh)}", code=Fault.DATA
        )
    return name, arguments, network


def _check_keys(sections: list[Section], cfg: Path) -> None:
    """Refuse a key that makes another network than any of ours, or that we do not know to make none."""
    for place, section in enumerate(sections[1:]):
        plain = PLAIN.get(section.kind, {})
        known = {*COUNTED.get(section.kind, ()), *ASIDE.get(section.kind, "").split(), *ASIDE_EVERYWHERE.split()}
        for key, value in section.settings.items():
            if key in plain and _number(value) != plain[key]:
                expectation = f"have {key}={plain[key]}"
            elif key not in plain and key not in known and section.kind in COUNTED:
                expectation = "have no unknown key"
            else:
                continue
            raise Fault(
                f"cfg must {expectation} in layer {place} [{section.kind}], got {key}={value} in {cfg}: its network "
                "may not be the one that would be built",
                code=Fault.DATA,
            )


def _compare(sections: list[Section], ours: list[Section], cfg: Path) -> None:
    """Refuse a description that is not ours: at the first section that differs."""
    sections, ours = (
        [section for section in part[1:] if section.kind not in ("softmax", "cost")] for part in (sections, ours)
    )
    for place, (theirs, own) in enumerate(zip(sections, ours, strict=False)):
        if (actual := _essence(theirs, place)) != (expected := _essence(own, place)):
            raise Fault(f"cfg must describe {expected} as layer {place}, got {actual} in {cfg}", code=Fault.DATA)
    if len(sections) != len(ours):
        raise Fault(f"cfg must have {len(ours)} layers, got {len(sections)} in {cfg}", code=Fault.DATA)


def _essence(section: Section, place: int) -> str:
    """What of a section shapes the network, in words; references to other layers counted from the first."""
    defaults = COUNTED.get(section.kind, {})
    values = {key: _number(section.settings.get(key, default)) for key, default in defaults.items()}
    for key in ("layers", "from"):
        if key in values:
            numbers = [int(number) for number in values[key].split(",")]
            values[key] = ",".join(str(number + place if number < 0 else number) for number in numbers)
    if section.kind == "maxpool":
        values["size"] = values["size"] or values["stride"]
        values["padding"] = section.settings.get("padding", str(int(values["size"]) - 1))
    if section.kind == "convolutional":
        padded = _number(section.settings.get("pad", "0")) != "0"
        values["padding"] = str(int(values["size"]) // 2) if padded else section.settings.get("padding", "0")
    return " ".join([f"[{section.kind}]", *(f"{key}={value}" for key, value in values.items())])


def _number(value: str) -> str:
    """A setting in one spelling: "1.0" and "1" are the same."""
    try:
        return f"{float(value):g}"
    except ValueError:
        return value.replace(" ", "")


# Writing


def save(network: keras.Model, cfg: Path, weights: Path, *, threshold: float = 0.0) -> None:
    """Write both files of a network of ours, which Darknet and OpenCV can read; `threshold` as of `as_cfg`.

    Raises:
        Fault: when Darknet has no word for a layer of it.
    """
    text = as_cfg(network, threshold=threshold)
    for path, data in ((Path(weights), as_weights(network)), (Path(cfg), text.encode())):
        with durable.atomic_write(path) as temporary:
            temporary.write_bytes(data)


def as_cfg(network: keras.Model, *, threshold: float = 0.0) -> str:
    """The `.cfg` of a network: its layers in the order of its convolutions, anchors in pixels or, of v2, in cells.

    Args:
        network: one of the builders of `cnn_keras.models.darknet` or `cnn_keras.models.yolo`.
        threshold: OpenCV sets scores of at most this to 0. Darknet's own detector is told its threshold when it is
            called; it trains v2 with this one, for which its authors have 0.6: write that before you train there.

    Raises:
        Fault: when Darknet has no word for a layer of it.
    """
    height, width, channels = (size or SIDE for size in network.inputs[0].shape[1:])
    net = {"batch": 1, "subdivisions": 1, "width": width, "height": height, "channels": channels}
    sections = [Section("net", net)]
    numbers: dict[str, int] = {}  # of the section that makes a layer's output, by the layer's name
    for layer, inputs in _ordered(network):
        from_ = [numbers[name] for name in inputs]
        last = len(sections) - 2
        kind, settings = _words(layer, [number - last - 1 for number in from_], network)
        if kind in ("region", "yolo"):
            settings["thresh"] = f"{threshold:g}"
        if kind in ("alias", "setting"):
            if kind == "setting":
                sections[from_[0] + 1].settings.update(settings)
            numbers[layer.name] = from_[0] if from_ else -1
            continue
        if kind not in ("route", "shortcut") and from_[0] != last:
            sections.append(Section("route", {"layers": from_[0] - last - 1}))
        sections.append(Section(kind, settings))
        numbers[layer.name] = len(sections) - 2
    if "logits" in numbers:
        sections.append(Section("softmax", {"groups": 1}))
    lines = ("".join(f"{key}={value}\n" for key, value in section.settings.items()) for section in sections)
    return "\n".join(f"[{section.kind}]\n{text}" for section, text in zip(sections, lines, strict=True))


def _ordered(network: keras.Model) -> list[tuple[layers.Layer, list[str]]]:
    """Layers with the names of those they stand on, as Darknet counts: behind the last convolution they are made of."""
    maker = {id(tensor): layer for layer in network.layers for tensor in keras.tree.flatten(layer.output)}
    sections_ = []
    latest: dict[str, int] = {}
    for place, layer in enumerate(network.layers):  # in an order that the graph allows
        inputs = [] if isinstance(layer, layers.InputLayer) else keras.tree.flatten(layer.input)
        names = [maker[id(tensor)].name for tensor in inputs]
        own = int(layer.name[4:]) if re.fullmatch(r"conv\d+", layer.name) else 0
        latest[layer.name] = max([own, *(latest[name] for name in names)])
        sections_.append((latest[layer.name], place, layer, names))
    return [(layer, names) for _, _, layer, names in sorted(sections_, key=lambda entry: entry[:2])]


def _words(layer: layers.Layer, back: list[int], network: keras.Model) -> tuple[str, dict[str, Any]]:
    """What Darknet calls a layer, and its settings; `back` are the layers it stands on, as −1 for the one before."""
    match layer:
        case layers.InputLayer() | layers.ZeroPadding2D() | layers.Identity():
            return "alias", {}
        case layers.BatchNormalization():
            return "setting", {"batch_normalize": 1}
        case layers.LeakyReLU():
            return "setting", {"activation": "leaky"}
        case layers.Conv2D() | layers.Dense():
            size, _, _, filters = kernel_shape(layer)
            stride = getattr(layer, "strides", (1,))[0]
            return "convolutional", {
                "filters": filters, "size": size, "stride": stride, "pad": 1, "activation": "linear"
            }  # fmt: skip
        case layers.MaxPooling2D():
            return "maxpool", {"size": layer.pool_size[0], "stride": layer.strides[0]}
        case layers.GlobalAveragePooling2D():
            return "avgpool", {}
        case layers.UpSampling2D():
            return "upsample", {"stride": layer.size[0]}
        case layers.Add() if -1 in back:
            return "shortcut", {"from": min(back), "activation": "linear"}
        case layers.Concatenate():
            return "route", {"layers": ",".join(map(str, back))}
        case yolo.Reorg():
            return "reorg", {"stride": 2}
        case yolo_head.Grid():
            return _end(layer, network)
    raise Fault(f"network must be one of Darknet's, got {network.name} with a {type(layer).__name__}")


def _end(grid: yolo_head.Grid, network: keras.Model) -> tuple[str, dict[str, Any]]:
    """The section of a scale."""
    grids = sorted(
        (layer for layer in network.layers if isinstance(layer, yolo_head.Grid)), key=lambda each: each.stride
    )
    pairs = np.concatenate([each.sides * (1 if grid.softmax else each.stride) for each in grids])
    settings = {
        "anchors": ", ".join(f"{number:.7g}" for number in pairs.ravel()),
        "classes": network.output[grid.name].shape[-1] - 5,
        "num": len(pairs),
    }
    if grid.softmax:
        if grid.reach != 1:
            raise Fault("objective must be squared in Darknet's files of v2, got one whose centres leave their cells")
        return "region", {**settings, "coords": 4, "softmax": 1, "absolute": 1, "bias_match": 1}
    start = sum(len(each.anchors) for each in grids if each.stride < grid.stride)
    mask = ",".join(str(start + number) for number in range(len(grid.anchors)))
    return "yolo", {"mask": mask, **settings, "ignore_thresh": yolo_head.IGNORED, "scale_x_y": grid.reach}
