"""COCO's JSON: `images`, `annotations` with bbox [left, top, width, height] in pixels, `categories` by name.

Lin et al., "Microsoft COCO: common objects in context", 2014; the format at cocodataset.org. Pictures are looked for
in `images`, or else beside the JSON file and in the folders that COCO itself has beside its `annotations/`.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from cnn_keras.data import annotations
from cnn_keras.data.annotations import Annotated, Item, Object
from cnn_keras.data.read import printable, whereabouts
from cnn_keras.fault import Fault


def read(path: Path, images: Path | None = None) -> Annotated:
    """A JSON file, or a folder of them, each then a split by its name: `instances_train2017.json`."""
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    if not files:
        raise Fault(f"data.path must be a JSON file or a folder that holds some, got {whereabouts(path)}")
    found = [_read(file, images) for file in files]
    names = [item.id for one in found for item in one.items]
    alike = len(set(names)) < len(names)  # each split counts its pictures anew
    items = [
        item._replace(id=f"{file.stem}/{item.id}" if alike and len(files) > 1 else item.id)
        for file, one in zip(files, found, strict=True)
        for item in one.items
    ]
    return Annotated(items, tuple(dict.fromkeys(name for one in found for name in one.classes)))


def write(items: Iterable[Item], folder: Path, *, classes: Sequence[str]) -> None:
    """`images/` and `annotations/instances_SPLIT.json`; category ids count from 1 in the order of `classes`."""
    documents: dict[str, dict] = {}
    for item in items:
        name = f"{item.split or 'all'}/{annotations.inner_name(item)}"
        size = annotations.save(item, folder / "images" / name)
        document = documents.setdefault(item.split or "all", {"images": [], "annotations": []})
        image = {"id": len(document["images"]) + 1, "file_name": name, "height": size[0], "width": size[1]}
        document["images"].append(image)
        for found in item.objects:
            number = len(document["annotations"]) + 1
            row = {"id": number, "image_id": image["id"], "category_id": 1 + list(classes).index(found.name)}
            document["annotations"].append(row | annotation(found))
    (folder / "annotations").mkdir(parents=True)
    for split, document in documents.items():
        document["categories"] = [{"id": number, "name": name} for number, name in enumerate(classes, 1)]
        file = folder / "annotations" / f"instances_{split}.json"
        file.write_text(json.dumps(document), encoding="utf-8")


def annotation(found: Object) -> dict:
    """What COCO's files say of one object: bbox, area, iscrowd, its mask; `difficult` is an addition of ours."""
    left, top, right, bottom = found.box
    row = {"bbox": [left, top, right - left, bottom - top], "area": (right - left) * (bottom - top)}
    row |= {"iscrowd": int(found.crowd), "difficult": int(found.difficult)}
    return row | ({} if found.mask is None else {"segmentation": found.mask})


def _read(file: Path, images: Path | None) -> Annotated:
    document = annotations.document(file)
    for key in ("images", "annotations", "categories"):
        if not isinstance(document.get(key), list):
            found = ", ".join(document) or "nothing"
            raise Fault(f"{file} must hold the lists images, annotations and categories, got {found}", code=Fault.DATA)
    try:
        names = {row["id"]: str(row["name"]) for row in document["categories"]}
        rows = defaultdict(list)
        for row in document["annotations"]:
            rows[row["image_id"]].append(row)
        listed = [(image["id"], str(image["file_name"]), image) for image in document["images"]]
    except (TypeError, KeyError) as error:
        raise Fault(
            f"{file} must give every image, annotation and category its ids: {error!r}", code=Fault.DATA
        ) from None
    if stray := rows.keys() - {number for number, _, _ in listed}:
        raise Fault(f"{file} must annotate images that it lists, got image_id {min(stray, key=str)}", code=Fault.DATA)
    root = images or _root(file, [name for _, name, _ in listed])
    annotations.check_pictures([root / name for _, name, _ in listed], file)
    items = [_item(root, name, image, rows[number], names) for number, name, image in listed]
    split = annotations.split_in(file.stem)
    return Annotated([item._replace(split=split) for item in items], tuple(names.values()))


def _item(root: Path, name: str, image: dict, rows: Sequence[dict], names: dict) -> Item:
    objects, troubles = [], []
    for row in rows:
        box = annotations.numbers(row.get("bbox") or ())
        if row.get("category_id") not in names:
            troubles.append(("unknown class", f"annotation {row.get('id')}: category {row.get('category_id')}"))
        elif box is None or len(box) != 4:
            troubles.append(("malformed annotation", f"annotation {row.get('id')}: bbox {row.get('bbox')}"))
        else:
            left, top, width, height = box
            crowd, difficult = (bool(row.get(key)) for key in ("iscrowd", "difficult"))
            mask = row.get("segmentation") or None
            mask = tuple(map(tuple, mask)) if isinstance(mask, list) else mask
            where = (left, top, left + width, top + height)
            objects.append(Object(where, names[row["category_id"]], difficult, crowd, mask))
    stated = annotations.numbers([image.get("height"), image.get("width")])
    size = (int(stated[0]), int(stated[1])) if stated else None
    path = root / name
    return Item(printable(name), annotations.picture(path), tuple(objects), size=size, troubles=tuple(troubles))


def _root(file: Path, names: Sequence[str]) -> Path:
    """The folder that the names of pictures are relative to: the first of the usual ones that holds any of them."""
    above, end = file.parent.parent, file.stem.rpartition("_")[2]
    usual = (file.parent, file.parent / "images", above / "images", above, above / end, above / "images" / end)
    return next((root for root in usual for name in names[:20] if (root / name).is_file()), file.parent)
