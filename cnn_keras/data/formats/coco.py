"""COCO's JSON: `images`, `annotations` with bbox [left, top, width, height] in pixels, `categories` by name.

Lin et al., "Microsoft COCO: common objects in context", 2014; the format at cocodataset.org. Pictures are looked for
in `images`, or else beside the JSON file and in the folders that COCO itself has beside its `annotations/`.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from cnn_keras.data import annotation, run_length
from cnn_keras.data.annotation import Annotations, Item, Note, Object
from cnn_keras.data.files import file_tree
from cnn_keras.data.files.file_tree import HIDDEN, describe_path, printable_path, refuse
from cnn_keras.data.files.input_file import is_folder, is_regular, read_json
from cnn_keras.data.formats import image_paths
from cnn_keras.data.formats.image_paths import Places
from cnn_keras.errors import Fault

# Where JSON files are below a folder; Roboflow has one in each split's folder.
ROBOFLOW = "_annotations.coco.json"
FILES = ("*.json", "annotations/*.json", f"*/{ROBOFLOW}", "*/*.json", "*/annotations/*.json")
PICTURES = ("images", "JPEGImages", "data")  # folders, in any capitals; FiftyOne has data/ beside labels.json
KEYS = ("images", "annotations", "categories")
BOXES, UNKNOWN = "boxes", "no annotations of COCO's"


class Source(NamedTuple):
    """A JSON file: what it holds, and which of COCO's kinds that is, as `_kind` calls it."""

    file: Path
    document: dict[str, Any]
    kind: str


def read(path: Path, images: Path | None = None) -> Annotations:
    """A JSON file, or a folder of them, each then a split by its name: `instances_train2017.json`.

    Of a folder, the files that hold boxes are taken – `instances_*.json` alone where there are some – and the others
    are left alone.

    Raises:
        Fault: there is no such file, a file is no annotation of COCO's, or a picture is listed in two.
    """
    if is_folder(path):
        sources, notes = _sources(path)
    else:
        document = annotation.read_json_mapping(path)
        sources, notes = [Source(path, document, _kind(document))], []
    contents = [_read(source, images) for source in sources]
    names = [item.id for content in contents for item in content.items]
    alike = len(set(names)) < len(names) and len(sources) > 1  # each split counts its pictures anew
    items = []
    first: dict[Path, Path] = {}
    for source, content in zip(sources, contents, strict=True):
        for item in content.items:
            if (
                item.file
                and (other := first.setdefault(annotation.normalized_path(item.file), source.file)) != source.file
            ):
                raise Fault(
                    f"{path} must list every picture in one file, got {item.id} in {other.name} and "
                    f"{source.file.name}; give one of them as data.path",
                    code=Fault.DATA,
                )
            items.append(item._replace(id=f"{_stem(source.file)}/{item.id}") if alike else item)
    classes = tuple(dict.fromkeys(name for content in contents for name in content.classes))
    notes += [note for content in contents for note in content.notes]
    roots = dict.fromkeys(
        [*([path] if is_folder(path) else []), *(root for content in contents for root in content.roots)]
    )
    return Annotations(items, classes, tuple(notes), tuple(roots))


def write(items: Iterable[Item], folder: Path, *, classes: Sequence[str]) -> None:
    """`images/` and `annotations/instances_SPLIT.json`; category ids count from 1 in the order of `classes`."""
    documents: dict[str, dict[str, Any]] = {}
    for item in items:
        name = f"{item.split or 'all'}/{annotation.inner_name(item)}"
        size = annotation.save(item, folder / "images" / name)
        document = documents.setdefault(item.split or "all", {"images": [], "annotations": []})
        image = {"id": len(document["images"]) + 1, "file_name": name, "height": size[0], "width": size[1]}
        document["images"].append(image)
        for object_ in item.objects:
            number = len(document["annotations"]) + 1
            row = {"id": number, "image_id": image["id"], "category_id": 1 + list(classes).index(object_.name)}
            document["annotations"].append(row | to_json(object_))
    (folder / "annotations").mkdir(parents=True)
    for split, document in documents.items():
        document["categories"] = [{"id": number, "name": name} for number, name in enumerate(classes, 1)]
        file = folder / "annotations" / f"instances_{split}.json"
        file.write_text(json.dumps(document), encoding="utf-8")


def to_json(object_: Object) -> dict[str, Any]:
    """What COCO's files say of one object: bbox, area, iscrowd, its mask, its score as in COCO's files of results.

    `difficult` is an addition of ours.
    """
    left, top, right, bottom = object_.box
    row = {"bbox": [left, top, right - left, bottom - top], "area": (right - left) * (bottom - top)}
    row |= {"iscrowd": int(object_.crowd), "difficult": int(object_.difficult)}
    row |= {} if object_.score is None else {"score": object_.score}
    masked = object_.mask is not None and not isinstance(object_.mask, run_length.Malformed)
    return row | ({"segmentation": object_.mask} if masked else {})


def _sources(path: Path) -> tuple[list[Source], list[Note]]:
    """The files of a folder that hold boxes, from the first place that has some; and what the others there hold."""
    sources: list[Source] = []
    tool = ""  # that wrote what holds no mapping
    for pattern in FILES:
        files = [file for file in sorted(path.glob(pattern)) if _visible(path, file) and is_regular(file)]
        documents = {file: read_json(file) for file in files}
        there = [
            Source(file, document, _kind(document))
            for file, document in documents.items()
            if isinstance(document, dict)
        ]
        sources += there
        tool = next(filter(None, [tool, *map(annotation.tool_of, documents.values())]), "")
        boxes = [source for source in there if source.kind == BOXES]
        if instances := [source for source in boxes if source.file.name.startswith("instances")]:
            boxes = instances
        if boxes:
            others = [source for source in there if source not in boxes]
            kinds = [
                source.kind if source.kind != BOXES else "boxes beside those of instances_*.json" for source in others
            ]
            return boxes, [
                Note("file of another kind", printable_path(source.file.relative_to(path)), kind, "left alone")
                for source, kind in zip(others, kinds, strict=True)
            ]
    if not sources:
        raise Fault(f"data.path must hold JSON files of COCO's, or be one, got {describe_path(path)}{tool}")
    _refuse(sources[0])


def _visible(path: Path, file: Path) -> bool:
    return not any(part.startswith(HIDDEN) for part in file.relative_to(path).parts)


def _kind(document: dict[str, Any]) -> str:
    """What a file holds."""
    rows = document.get("annotations")
    rows = [row for row in rows[:100] if isinstance(row, dict)] if isinstance(rows, list) else []
    if any("segments_info" in row for row in rows):
        return "panoptic segmentation"
    if any("caption" in row for row in rows):
        return "captions"
    if all(isinstance(document.get(key), list) for key in KEYS):
        return BOXES
    if isinstance(document.get("images"), list) and "annotations" not in document:
        return "images without annotations"
    return UNKNOWN


def _refuse(source: Source) -> NoReturn:
    expectation = f"{source.file} must hold the lists images, annotations and categories"
    if source.kind != UNKNOWN:
        raise Fault(f"{expectation}, with a box in each annotation, got {source.kind}", code=Fault.DATA)
    keys = ", ".join(map(str, source.document)) or "nothing"
    raise Fault(f"{expectation}, got {keys[:200]}{annotation.tool_of(source.document)}", code=Fault.DATA)


def _read(source: Source, images: Path | None) -> Annotations:
    file, document, kind = source
    if kind != BOXES:
        _refuse(source)
    names = {
        _key(row["id"]): str(row["name"])
        for row in document["categories"]
        if isinstance(row, dict) and _is_named(row, "name")
    }
    images_ = [row for row in document["images"] if isinstance(row, dict) and _is_named(row, "file_name")]
    if document["images"] and not images_:
        raise Fault(f"{file} must give every image its id and file_name", code=Fault.DATA)
    rows, notes = defaultdict(list), []
    for place, row in enumerate(document["annotations"], 1):
        if isinstance(row, dict) and _is_key(row.get("image_id")):
            rows[_key(row["image_id"])].append(row)
        else:
            row_text = f"row {place} of annotations: {str(row)[:60]}"
            notes.append(Note("malformed annotation", file.name, row_text, annotation.DROPPED))
    if images_ and not document["annotations"]:
        detail = f"its list of annotations is empty, with {len(images_):,} images"
        notes.append(Note("file without annotations", file.name, detail, "all kept as background"))
    counts = Counter(_key(row["id"]) for row in images_)
    stray = [key for key in rows if key not in counts]
    if stray and len(stray) == len(rows):
        raise Fault(f"{file} must annotate images that it lists, got image_id {min(stray)}", code=Fault.DATA)
    file_names = [str(row["file_name"]) for row in images_]
    root = images or _root(file, file_names)
    places = Places([root])
    files = places.files(file_names)
    annotation.check_pictures(files.values(), file, file_names[0] if file_names else "")
    ids = image_paths.ids(root, files)
    items = []
    for row, name in zip(images_, file_names, strict=True):
        key = _key(row["id"])
        if counts[key] > 1:
            row_text = f"{file.name} gives its id {key} to {counts[key]} images"
            items.append(Item(ids[name], partial(refuse, "broken annotation", row_text), file=files[name]))
        else:
            items.append(_item(ids[name], files[name] or root / name, row, rows[key], names))
    for place, row in enumerate(document["images"], 1):
        if not (isinstance(row, dict) and _is_named(row, "file_name")):
            row_text = f"row {place} of images has no id or file_name: {str(row)[:60]}"
            items.append(Item(f"{file.name}, image {place}", partial(refuse, "broken annotation", row_text)))
    for key in stray:
        row_text = f"{file.name} does not list it, but annotates it {len(rows[key])} times"
        items.append(Item(printable_path(f"image_id {key}"), partial(refuse, "missing image", row_text)))
    split = file_tree.split_in(_stem(file))
    items = [item._replace(split=split) for item in items]
    info = document.get("info")
    is_label_studio = isinstance(info, dict) and info.get("contributor") == "Label Studio"
    notes += annotation.out_of_bounds_notes(items, file) if is_label_studio else ()
    return Annotations(items, tuple(names.values()), (*notes, *places.notes(file)), (file.parent, root))


def _item(name: str, path: Path, image: dict[str, Any], rows: Sequence[dict[str, Any]], names: dict[str, Any]) -> Item:
    objects, troubles = [], []
    for row in rows:
        box = annotation.finite_numbers(row["bbox"]) if isinstance(row.get("bbox"), list) else None
        category = row.get("category_id")
        if not _is_key(category) or _key(category) not in names:
            troubles.append(("unknown class", f"annotation {row.get('id')}: category {str(category)[:40]}"))
        elif box is None or len(box) != 4:
            troubles.append(("malformed annotation", f"annotation {row.get('id')}: bbox {str(row.get('bbox'))[:60]}"))
        else:
            left, top, width, height = box
            crowd, difficult = (bool(row.get(key)) for key in ("iscrowd", "difficult"))
            where = (left, top, left + width, top + height)
            mask = run_length.parse(row.get("segmentation"))
            score = annotation.finite_numbers([row.get("score")])
            class_name = names[_key(category)]
            objects.append(Object(where, class_name, difficult, crowd, mask, score=score[0] if score else None))
    size = annotation.stated_size(image.get("height"), image.get("width"))
    read = annotation.image_reader(path)
    return Item(name, read, tuple(objects), size=size, troubles=tuple(troubles), file=path)


def _is_key(value: Any) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def _key(value: Any) -> str:
    """An id as text: 1, 1.0 and "1" are one id, because tools write one of them here and another there."""
    whole = isinstance(value, float) and value.is_integer()
    return str(int(value) if whole else value).strip()


def _is_named(row: dict[str, Any], key: str) -> bool:
    return _is_key(row.get("id")) and isinstance(row.get(key), str | int | float) and str(row[key]).strip() != ""


def _stem(file: Path) -> str:
    """What tells a file apart: its name, or its folder's where Roboflow gives all files one name."""
    return file.parent.name if file.name == ROBOFLOW else file.stem


def _root(file: Path, names: Sequence[str]) -> Path:
    """The folder that the names of pictures are relative to: the first of the usual ones that holds any of them."""
    above, end = file.parent.parent, file.stem.rpartition("_")[2]
    places = Places([])
    folders = ((place, inner) for place in (file.parent, above) for inner in PICTURES)
    usual = [file.parent, *(places.within(place, inner) for place, inner in folders)]
    usual += [above, places.within(above, end), places.within(above, f"images/{end}")]
    roots = [root for root in usual if root is not None]
    sample = names[:20]
    exact = (root for root in roots for name in sample if is_regular(root / name))
    close = (root for root in roots for name in sample if places.file(name, [root]))
    return next(exact, None) or next(close, file.parent)
