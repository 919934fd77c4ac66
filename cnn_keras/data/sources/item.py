"""What a source of labelled images is made of."""

from collections.abc import Callable
from typing import Any, NamedTuple


class Item(NamedTuple):
    """One labelled image that has not been read yet."""

    id: str  # the path below the source's folder, or a running number
    label: str  # the class's name
    read: Callable[[], Any]  # of an image the encoded file, bytes; raises Unreadable for what is none
    split: str | None = None  # "train", "validation" or "test" where the source prescribes it
    group: str | None = None  # items of one group (a patient, a scene) stay in one split
