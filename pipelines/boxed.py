"""Images with boxes: the data section of a detector's recipe, and the prepared splits that it becomes on disk.

`prepare` leaves TFRecord shards of each split, `split.csv` (what went where), `problems.csv` (what was odd),
`truth-SPLIT.json` (COCO's format, in pixels of the images), `data.json` and pictures; `facts` of the stage repeat
`data.json`: classes, counts, `most_boxes` (the padded length) and anchors.
"""

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from pydantic import Field

from cnn_keras.fault import Fault
from pipelines import intake, stages
from pipelines import recipe as recipes
from pipelines.intake import Examined, Problem
from pipelines.labelled import test_split as test_split
from pipelines.labelled import validation_split as validation_split
from pipelines.recipe import Fraction, Positive, RecipePath, Section

if TYPE_CHECKING:
    from cnn_keras.data.annotations import Item, Object
    from cnn_keras.data.batch import Shape
    from pipelines.stages import Run

SAMPLES = 30  # pictures on the contact sheet
COUNTS = (1, 2, 3, 5, 6, 9, 12)  # of anchors, to compare the chosen count with
ROUNDING = 1.0  # pixels that a box may stick out, as annotators' tools round, before it is said
DROPPED = "box dropped"


class Tile(Section):
    """How large photographs are cut, see `cnn_keras.data.tiles`; those of the test stay whole and are read in tiles."""

    size: Positive = 200  # pixels of a side
    overlap: Fraction = 0.25  # of tiles in training and in reading; those of the validation overlap as little as may be
    keep: Annotated[float, Field(gt=0, le=1)] = 0.4  # share of a box that must be inside


class Composites(Section):
    """What scenes are made of: see `cnn_keras.data.composites`."""

    count: Positive = 1000
    side: Positive = 160
    things: tuple[int, int] = (1, 5)
    scale: tuple[float, float] = (0.15, 0.4)
    cutouts: Literal["digits", "mnist5k", "folder"] = "digits"
    backgrounds: Literal["sklearn", "skimage"] = "sklearn"


class Cards(Section):
    """What pictures of cards are like: see `cnn_keras.data.cards`."""

    count: Positive = 1000
    side: Positive = 128
    scale: tuple[float, float] = (0.4, 0.8)
    tilt: Annotated[float, Field(ge=0, le=180)] = 40.0
    empty: Fraction = 0.15


class Data(Section):
    """Where the images and their boxes come from, and what shape they are given."""

    source: Literal["coco", "voc", "yolo", "csv", "labelme", "deepforest", "composites", "points", "cards"]
    path: RecipePath | None = None
    images: RecipePath | None = None  # where the images are, if not where the annotations say
    classes: tuple[str, ...] | None = None  # all there are, in this order; else those found
    group: str | None = None  # a regular expression; what its parenthesis finds in a path stays in one split
    size: tuple[Positive, Positive] = (416, 416)  # height, width
    channels: Literal[3] = 3
    fit: Literal["pad", "stretch"] = "pad"
    tile: Tile | None = None
    composites: Composites | None = None
    cards: Cards | None = None
    validation: Fraction = 0.1
    test: Fraction = 0.2
    out_of_bounds: Literal["clip", "drop"] = "clip"  # what becomes of a box that sticks out of its image
    max_bad: Fraction = 0.1  # a larger share of unusable images, or of dropped boxes, is refused
    anchors: Positive | None = 9  # how many are found by k-means; null finds none
    memory_gb: Annotated[float, Field(gt=0)] = 2.0  # a larger decoded training split is streamed


class Kept(NamedTuple):
    """An image that can be used, with what is in it; its `objects` are inside it and have a class."""

    item: "Item"
    digest: str
    size: tuple[int, int]  # height, width


class Columns(NamedTuple):
    """What a record of boxes is made of."""

    classes: Sequence[str]
    most: int  # rows of boxes
    landmarks: Sequence[str] = ()


def prepare(run: "Run", folder: Path) -> dict[str, Any]:
    """Validate, split, cut into tiles and record the images and boxes of `run.recipe.data`; find anchors."""
    data: Data = run.recipe.data
    items, declared = annotated(data, run.recipe.seed)
    examined = intake.examine(items, console=run.console)
    kept, boxes = _checked(items, examined, data)
    problems = [problem for found in examined for problem in found.problems] + intake.duplicates(items, examined)
    intake.report(
        [*problems, *boxes], len(items), path=folder / "problems.csv", max_bad=data.max_bad, console=run.console
    )
    _refuse_dropped(items, boxes, data)
    classes = class_names(kept, declared, data)
    splits = _tiled(kept, splits_of(kept, data, run.recipe.seed), data)
    if len(splits["train"]) > 1:
        splits["train"] = _shuffled(splits["train"], run.recipe.seed)
    stages.write_text(folder / "split.csv", _split_csv(splits))
    seen = [one for split, members in splits.items() if split != "test" or not data.tile for one in members]
    most = max(1, *(len(_learnt(one.item.objects)) for one in seen))  # photographs have more, but those are in `truth`
    landmarks = landmark_names(kept)
    _write_records(run, folder, splits, Columns(classes, most, landmarks))
    truths = {split: coco_truth(members, classes) for split, members in splits.items()}
    for split in truths.keys() - {"train"}:
        stages.write_json(folder / f"truth-{split}.json", truths[split])
    facts = {
        **_counted(splits, classes),
        "source": data.source,
        "location": str(data.path or data.source),
        "classes": classes,
        "most_boxes": most,
        "landmarks": landmarks,
        **(_anchors(run, _sizes(splits["train"], data), data.anchors) if data.anchors else {"anchors": []}),
        "problems": {kind: len(group) for kind, group in intake.grouped([*problems, *boxes]).items()},
    }
    content = [most, facts["anchors"], stages.file_digest(folder / "split.csv"), *shape_of(data)]
    facts["digest"] = stages.digest([*content, truths])  # not of the location: data that moved is the same data
    stages.write_json(folder / "data.json", facts)
    _draw_data(folder, splits, facts, data)
    shares = ", ".join(f"{len(splits[split]):,} {split} with {facts['boxes'][split]:,} boxes" for split in splits)
    run.console.print(f"          {len(classes)} classes; images: {shares}; at most {most} boxes in one")
    return facts


def depends(recipe: Any) -> dict[str, Any]:
    """What the result of `prepare` depends on besides the recipe: the files of the source, and the code."""
    code = ["cnn_keras/data", "cnn_keras/anchors.py", "cnn_keras/boxes.py", "pipelines/intake.py", "pipelines/boxed.py"]
    return {"code": stages.code_digest(*code), "files": files_digest(recipe.data)}


def files_digest(data: Data) -> str | None:
    """Changes when a file of the source is added, removed or written to; nothing is read.

    Raises:
        Fault: the source needs a path and has none. Here, not in the section: such a recipe can still be shown.
    """
    if data.path is None and data.source not in ("deepforest", "composites", "cards"):
        raise Fault(f"data.path is required with source: {data.source}; write it there or --set data.path=PATH")
    if data.path is None or not data.path.exists():
        return None  # reading the source will say what is wrong
    folder = data.path if data.path.is_dir() else data.path.parent
    roots = {folder.parent if data.source == "coco" and folder.name == "annotations" else folder}
    roots |= {data.images} if data.images else set()
    if data.source == "yolo":
        told = described(data.path / "data.yaml" if data.path.is_dir() else data.path)
        roots |= {(folder / str(told["path"])).resolve()} if told.get("path") else set()
    files = sorted({file for root in roots for file in root.rglob("*") if file.is_file()})
    return stages.digest([(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files])


def shape_of(data: Data) -> "Shape":
    from cnn_keras.data.batch import Shape

    return Shape(data.size, data.channels, data.fit)


def annotated(data: Data, seed: int) -> "tuple[list[Item], tuple[str, ...]]":
    """The items of the recipe's source, unread, and the classes that it declares."""
    from cnn_keras.data import annotations

    given: dict[str, Any] = {"path": data.path, "images": data.images}
    if data.source == "yolo" and data.path is not None:
        path = data.path / "data.yaml" if data.path.is_dir() else data.path
        given |= {"path": path, "described": described(path)}
    for source, settings, defaults in (
        ("composites", data.composites, Composites),
        ("cards", data.cards, Cards),
    ):
        if data.source == source:
            given |= {**(settings or defaults()).model_dump(), "seed": seed}
        elif settings is not None:
            raise Fault(f"data.{source} goes with source: {source}, got source: {data.source}")
    found = annotations.annotated(data.source, group=data.group, **given)
    return found.items, found.classes


def described(path: Path) -> dict[str, Any]:
    """What a YOLO data.yaml says."""
    from cnn_keras.data.read import whereabouts

    if not path.is_file():
        raise Fault(f"data.path must be a YAML file that names the images and classes, got {whereabouts(path)}")
    found = recipes.parse(path.read_text(encoding="utf-8-sig"), where=str(path))
    if not isinstance(found, dict):
        raise Fault(f"{path} must hold a mapping with train and names, got {type(found).__name__}", code=Fault.DATA)
    return found


def class_names(kept: Sequence[Kept], declared: Sequence[str], data: Data) -> list[str]:
    """The classes: those of the recipe; else those found, in the order in which the source declares them."""
    from cnn_keras.data import read

    if data.classes:
        return list(data.classes)
    found = {one.name for image in kept for one in image.item.objects}
    order = {name: place for place, name in enumerate(declared)}
    names = sorted(found, key=lambda name: (order.get(name, len(order)), read.natural(name)))
    if not names:
        raise Fault(f"{data.source} must hold at least one usable box, got none", code=Fault.DATA)
    return names


def landmark_names(kept: Sequence[Kept]) -> list[str]:
    """What landmarks things have, in the order of the first that has them."""
    return list(dict.fromkeys(mark.name for one in kept for found in one.item.objects for mark in found.landmarks))


def splits_of(kept: Sequence[Kept], data: Data, seed: int) -> list[str]:
    """The split of each image: the source's own where it has one, else drawn; groups and copies stay whole.

    A class's images are spread over the splits as far as it has enough of them; an image counts for its rarest class.
    """
    from cnn_keras.data import split

    prescribed = [one.item.split for one in kept]
    fractions = {"validation": data.validation, "test": data.test}
    fractions = {name: share for name, share in fractions.items() if name not in prescribed and share > 0}
    free = [row for row, name in enumerate(prescribed) if name in (None, "train")]
    if "train" in prescribed or "test" in prescribed:
        fractions.pop("test", None)  # a source that prescribes a split decides what is tested
    if None not in prescribed and "validation" in prescribed:
        fractions = {}
    groups = split.linked([kept[row].item.group for row in free], [kept[row].digest for row in free])
    if len(set(groups)) <= len(fractions):
        raise Fault(
            f"data.path must hold at least {len(fractions) + 1} images or groups that differ, one for each split, got "
            f"{len(set(groups))}; add images, or set data.validation or data.test to 0",
            code=Fault.DATA,
        )
    labels = _rarest([kept[row] for row in free], groups, least=2 * (len(fractions) + 1))
    splits = [name or "train" for name in prescribed]
    for row, name in zip(free, split.stratified(labels, groups, fractions=fractions, seed=seed), strict=True):
        splits[row] = str(name)
    return splits


def coco_truth(members: Sequence[Kept], classes: Sequence[str]) -> dict[str, Any]:
    """The images and boxes of a split as COCO's JSON: image ids are rows of the split, category ids class numbers."""
    from cnn_keras.data import coco

    images: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for row, one in enumerate(members):
        images.append({"id": row, "file_name": one.item.id, "height": one.size[0], "width": one.size[1]})
        for found in one.item.objects:
            number = {"id": len(rows) + 1, "image_id": row, "category_id": classes.index(found.name)}
            rows.append({**number, **coco.annotation(found)})
    categories = [{"id": number, "name": name} for number, name in enumerate(classes)]
    return {"info": {}, "images": images, "annotations": rows, "categories": categories}


def samples(data: Data, count: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """The first readable images with boxes, framed, for `cnn augment`: dicts of image and padded boxes (M, 4)."""
    import numpy as np
    import tensorflow as tf

    from cnn_keras import boxes
    from cnn_keras.data.encoded import Unreadable, decode, plain
    from cnn_keras.data.framing import frame

    found: list[dict[str, Any]] = []
    for item in _unread_tiles(annotated(data, seed)[0], data):
        try:
            image = decode(tf.constant(plain(item.read())[0]), channels=data.channels)
        except (OSError, Unreadable, tf.errors.InvalidArgumentError, UnicodeDecodeError):
            continue  # `cnn prepare` reports what cannot be read
        if not item.objects:
            continue
        extent = tuple(image.shape[:2])
        moved = boxes.letterbox(_fractions(item.objects, extent), extent, data.size, fit=data.fit)
        found.append({"image": frame(image, data.size, fit=data.fit).numpy(), "boxes": moved.numpy()})
        if len(found) == count:
            break
    if not found:
        raise Fault(f"{data.source} must hold at least one readable image with a box, got none", code=Fault.DATA)
    most = max(len(one["boxes"]) for one in found)
    return [{**one, "boxes": np.pad(one["boxes"], ((0, most - len(one["boxes"])), (0, 0)))} for one in found]


def _checked(items: "Sequence[Item]", examined: Sequence[Examined], data: Data) -> tuple[list[Kept], list[Problem]]:
    """What can be used of each image that can be read, and what is odd about its boxes."""
    kept, problems = [], []
    for item, found in zip(items, examined, strict=True):
        for kind, detail in item.troubles:
            background = kind == "without annotation"
            problems.append(Problem(kind, item.id, detail, "kept as background" if background else DROPPED))
        if found.digest is None:
            continue
        if item.size and tuple(item.size) != tuple(found.size):
            stated, real = (f"{width}x{height}" for height, width in (item.size, found.size))
            problems.append(
                Problem("size differs", item.id, f"annotated as {stated}, is {real}", "boxes kept as they are")
            )
        objects: dict[Any, Object] = {}
        for one in item.objects:
            good, trouble = _inside(one, found.size, data)
            key = (one.name, one.box)
            if good is not None and key in objects:
                good, trouble = None, ("duplicate box", DROPPED)
            if trouble:
                box = ", ".join(f"{value:.6g}" for value in one.box)
                problems.append(Problem(trouble[0], item.id, f"{one.name} [{box}]", trouble[1]))
            if good is not None:
                objects[key] = good
        kept.append(Kept(item._replace(objects=tuple(objects.values())), found.digest, found.size))
    return kept, problems


def _inside(one: "Object", size: tuple[int, int], data: Data) -> "tuple[Object | None, tuple[str, str] | None]":
    """The box cut to its image, None where it is of no use; and the kind of trouble with it and what was done."""
    (left, top, right, bottom), (height, width) = one.box, size
    if data.classes and one.name not in data.classes:
        return None, ("unknown class", DROPPED)
    if right < left or bottom < top:
        return None, ("inverted box", DROPPED)
    if right == left or bottom == top:
        return None, ("empty box", DROPPED)
    cut = (max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height)))
    if cut[2] <= cut[0] or cut[3] <= cut[1]:
        return None, ("box outside the image", DROPPED)
    if right - left < 1 or bottom - top < 1:
        return None, ("box smaller than a pixel", DROPPED)
    out = max(abs(given - kept) for given, kept in zip(one.box, cut, strict=True))
    if out <= ROUNDING:
        return one._replace(box=cut), None
    if data.out_of_bounds == "drop":
        return None, ("box out of bounds", DROPPED)
    return one._replace(box=cut), ("box out of bounds", "box clipped")


def _refuse_dropped(items: "Sequence[Item]", problems: Sequence[Problem], data: Data) -> None:
    dropped = Counter(problem.kind for problem in problems if problem.action == DROPPED)
    bad, said = sum(dropped.values()), (kind for item in items for kind, _ in item.troubles)
    total = sum(len(item.objects) for item in items) + sum(kind != "without annotation" for kind in said)
    if bad > data.max_bad * total:
        kinds = ", ".join(f"{count} {kind}" for kind, count in dropped.most_common())
        raise Fault(
            f"data.max_bad must be at least the share of boxes dropped, got {data.max_bad:.0%} and {bad} of {total} "
            f"({bad / total:.0%}): {kinds}. problems.csv lists them; mend them, or raise data.max_bad.",
            code=Fault.DATA,
        )


def _rarest(kept: Sequence[Kept], groups: Sequence[str], *, least: int) -> list[str]:
    """The rarest class of each image; "" for those of classes with fewer than `least` groups, and for background."""
    frequency = Counter(name for one in kept for name in {found.name for found in one.item.objects})
    labels = [
        min((found.name for found in one.item.objects), key=lambda name: (frequency[name], name), default="")
        for one in kept
    ]
    members: dict[str, set[str]] = {}
    for label, group in zip(labels, groups, strict=True):
        members.setdefault(label, set()).add(group)
    labels = [label if len(members[label]) >= least else "" for label in labels]
    mixed = {group for label, group in zip(labels, groups, strict=True) if label == ""}
    return [""] * len(labels) if mixed and len(mixed) < least else labels


def _tiled(kept: Sequence[Kept], splits: Sequence[str], data: Data) -> dict[str, list[Kept]]:
    """The images of each split, or the tiles they are cut into."""
    from cnn_keras.data import tiles

    found: dict[str, list[Kept]] = {}
    for split in ("train", "validation", "test"):
        for one in (one for one, name in zip(kept, splits, strict=True) if name == split):
            parts = [one]
            if data.tile and split != "test":
                overlap = data.tile.overlap if split == "train" else 0.0
                settings = {"size": data.tile.size, "overlap": overlap, "keep": data.tile.keep}
                cut = tiles.tiled(one.item, one.size, **settings)
                parts = [one] if cut == [one.item] else [Kept(tile, one.digest, tile.size) for tile in cut]
            found.setdefault(split, []).extend(parts)
    return found


def _unread_tiles(items: "Sequence[Item]", data: Data) -> "Iterator[Item]":
    """Items, or tiles of those whose size is stated, without anything being read."""
    from cnn_keras.data import tiles

    for item in items:
        if data.tile and item.size:
            yield from tiles.tiled(item, item.size, **data.tile.model_dump())
        else:
            yield item


def _split_csv(splits: dict[str, list[Kept]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["id", "split", "group", "boxes", "height", "width", "sha256"])
    for split, members in splits.items():
        for one in members:
            writer.writerow([one.item.id, split, one.item.group or "", len(one.item.objects), *one.size, one.digest])
    return out.getvalue()


def _learnt(objects: "Sequence[Object]") -> "list[Object]":
    """The objects that go into the records: crowds are known to the evaluation only."""
    return [one for one in objects if not one.crowd]


def _fractions(objects: "Sequence[Object]", size: tuple[int, int]) -> Any:
    """Boxes in [0, 1] of an image of (height, width): float32 (M, 4)."""
    import numpy as np

    height, width = size
    pixels = np.array([one.box for one in objects], np.float64).reshape(-1, 4)
    return np.clip(pixels / (width, height, width, height), 0, 1).astype(np.float32)


def _shuffled(members: Sequence[Kept], seed: int) -> list[Kept]:
    """The images in an order that the seed draws; the tiles of one stay together, because decoding it takes long."""
    import numpy as np

    generator = np.random.default_rng(seed)
    drawn = [members[row] for row in generator.permutation(len(members))]
    first: dict[str, int] = {}
    for place, one in enumerate(drawn):
        first.setdefault(one.item.id.partition("@")[0], place)
    return sorted(drawn, key=lambda one: first[one.item.id.partition("@")[0]])


def _write_records(run: "Run", folder: Path, splits: dict[str, list[Kept]], columns: Columns) -> None:
    """Write the shards of each split, in the order of its images."""
    from cnn_keras.data import records

    with intake.progress(run.console) as bar:
        task = bar.add_task("writing records", total=sum(len(members) for members in splits.values()))
        for split, members in splits.items():
            rows = _record_rows(members, columns, told=lambda: bar.advance(task))
            features = records.boxed(columns.most, len(columns.landmarks))
            records.write(folder, split, rows, features=features)


def _record_rows(members: Sequence[Kept], columns: Columns, *, told: Callable[[], None]) -> Iterator[tuple[Any, ...]]:
    import numpy as np

    from cnn_keras.data.encoded import plain

    most, numbers = columns.most, {name: number for number, name in enumerate(columns.classes)}
    for one in members:
        objects = _learnt(one.item.objects)[:most]
        boxes, named, difficult = np.zeros((most, 4), np.float32), np.zeros(most, np.int64), np.zeros(most, np.int64)
        boxes[: len(objects)] = _fractions(objects, one.size)
        named[: len(objects)] = [numbers[found.name] for found in objects]
        difficult[: len(objects)] = [found.difficult for found in objects]
        marks = [_landmarks(objects, one.size, columns)] if columns.landmarks else []
        yield one.item.id, plain(one.item.read())[0], boxes, named, difficult, *marks
        told()


def _landmarks(objects: "Sequence[Object]", size: tuple[int, int], columns: Columns) -> Any:
    """x, y in [0, 1] of an image of (height, width), and 1 for what is visible in it: float32 (most, landmarks, 3)."""
    import numpy as np

    height, width = size
    found = np.zeros((columns.most, len(columns.landmarks), 3), np.float32)
    for row, one in enumerate(objects):
        for mark in one.landmarks:
            seen = mark.visible and 0 <= mark.x <= width and 0 <= mark.y <= height
            found[row, columns.landmarks.index(mark.name)] = mark.x / width, mark.y / height, seen
    return found


def _counted(splits: dict[str, list[Kept]], classes: Sequence[str]) -> dict[str, Any]:
    """How many images, boxes – also of each class – and images of nothing each split has."""
    found: dict[str, Any] = {"splits": {}, "boxes": {}, "class_boxes": {}, "background": {}}
    for split, members in splits.items():
        named = Counter(one.name for image in members for one in _learnt(image.item.objects))
        found["splits"][split] = len(members)
        found["boxes"][split] = named.total()
        found["class_boxes"][split] = {name: named[name] for name in classes}
        found["background"][split] = sum(not image.item.objects for image in members)
    return found


def _sizes(members: Sequence[Kept], data: Data) -> Any:
    """Widths and heights of the boxes as the network sees them: float64 (N, 2), in [0, 1] of the frame."""
    import numpy as np

    from cnn_keras import boxes

    sizes = [np.zeros((0, 2))]
    by_extent: dict[tuple[int, int], list[Any]] = {}
    for one in members:
        by_extent.setdefault(one.size, []).append(_fractions(_learnt(one.item.objects), one.size))
    for extent, found in by_extent.items():
        moved = boxes.letterbox(np.concatenate(found), extent, data.size, fit=data.fit).numpy()
        sizes.append(np.float64(moved[:, 2:]) - moved[:, :2])
    return np.concatenate(sizes)


def _anchors(run: "Run", sizes: Any, count: int) -> dict[str, Any]:
    """The anchors of the chosen count, and how well they and other counts fit: shown, and returned as facts."""
    from cnn_keras import anchors

    if not len(sizes):
        raise Fault("the training split must hold at least one box, got none", code=Fault.DATA)
    table: dict[str, Any] = {}
    for number in sorted({*COUNTS, count}):
        found = anchors.found(sizes, number, seed=run.recipe.seed)
        best = anchors.best_overlap(sizes, found)
        fit = {"mean_iou": round(float(best.mean()), 4), "recall": round(float((best >= 0.5).mean()), 4)}
        table[str(number)] = {"anchors": [[round(float(side), 5) for side in size] for size in found], **fit}
        mark = "  ← data.anchors" if number == count else ""
        line = f"mean IoU {fit['mean_iou']:.3f}, recall at 0.5 {fit['recall']:.3f}"
        run.console.print(f"          {number:>2} anchors: {line}{mark}")
    chosen = table[str(count)]
    fit = {key: chosen[key] for key in ("mean_iou", "recall")}
    return {"anchors": chosen["anchors"], "anchor_fit": fit, "anchor_table": table}


def _draw_data(folder: Path, splits: dict[str, list[Kept]], facts: dict[str, Any], data: Data) -> None:
    import numpy as np
    import tensorflow as tf

    from cnn_keras.data import records
    from pipelines import box_sizes, charts, pictures

    charts.class_balance(facts["class_boxes"], folder / "class_balance.png")
    box_sizes.draw(_sizes(splits["train"], data), facts["anchors"], data.size, folder / "box_sizes.png")
    images, titles = [], []
    read = records.read(folder, "train", features=records.boxed(facts["most_boxes"], len(facts["landmarks"])))
    step = max(1, facts["splits"]["train"] // SAMPLES) if data.tile else 1  # tiles of one photograph are alike
    for example in read.shard(step, 0).take(SAMPLES):
        image = tf.io.decode_image(example["image"], channels=3, expand_animations=False).numpy()
        height, width = image.shape[:2]
        rows = np.flatnonzero((example["boxes"][:, 2] > example["boxes"][:, 0]).numpy())
        boxes = example["boxes"].numpy()[rows] * (width, height, width, height)
        numbers = example["classes"].numpy()[rows]
        names = [facts["classes"][number] if len(facts["classes"]) > 1 else "" for number in numbers]
        drawn = pictures.boxed(image, boxes, names, classes=numbers.tolist(), side=320)
        for marks in example["landmarks"].numpy()[rows] if facts["landmarks"] else ():
            drawn = pictures.dotted(drawn, marks[:, :2] * drawn.shape[1::-1], seen=marks[:, 2] > 0)
        images.append(drawn)
        titles.append(Path(example["id"].numpy().decode()).name)
    only = f", all of the class {facts['classes'][0]}" if len(facts["classes"]) == 1 else ""
    heading = f"{len(images)} of {facts['splits']['train']:,} training images, boxes as they are recorded{only}"
    pictures.contact_sheet(images, titles, folder / "contact_sheet.png", columns=5, size=2.6, heading=heading)
