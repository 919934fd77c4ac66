"""The eighty classes of COCO's detection challenge: Lin et al., "Microsoft COCO: common objects in context", 2014."""

from pathlib import Path


def class_names() -> list[str]:
    """The names in the order of COCO's category ids, which is that of detectors trained on all of them."""
    return Path(__file__).with_name("coco_classes.txt").read_text(encoding="utf-8").splitlines()
