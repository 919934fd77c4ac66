"""YAML 1.2 of bounded size, read and written: `1e-3` is a number, `no` is a string, a key given twice is an error."""

import io
import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, NodeEvent

from cnn_keras.data.files import input_file
from cnn_keras.errors import Fault
from pipelines.data.schema import value_text

SIZE_LIMIT, DEPTH_LIMIT, NODE_LIMIT = 2**18, 50, 20_000  # bytes, levels, values with all references followed


def read(path: Path) -> dict[str, Any]:
    """The mapping of sections in a YAML file, or a Fault that names the file."""
    document = parse(read_text(path), where=str(path))
    if not isinstance(document, dict):
        raise Fault(f"{path} must contain a mapping of sections, got {value_text(document)}")
    return document


def read_text(path: Path) -> str:
    """The text of a YAML file, of bounded size, or a Fault that names the file."""
    try:
        return str(input_file.read_text(path, limit=SIZE_LIMIT))
    except Fault as fault:  # this file is a setting, and no data
        raise Fault(str(fault)) from None


def parse(text: str, *, where: str) -> Any:
    """YAML 1.2, safely; errors name the line.

    Raises:
        Fault: it is not YAML, too large, or holds what JSON cannot: keys that are lists, say.
    """
    try:
        _check_bounds(text)
        document = YAML(typ="safe", pure=True).load(text)
        json.dumps(document, default=str)
    except Exception as error:  # a reader of YAML has many words for what is none
        words = str(error).split("To suppress")[0].replace('in "<unicode string>", ', "at ")
        reason = " ".join(words.split()) or type(error).__name__
        raise Fault(f"{where} must be YAML: {reason[:400]}") from None
    return document


def _check_bounds(text: str) -> None:
    """Raise a ValueError for YAML that would take long to read or be large when it is, before it is."""
    if len(text) > SIZE_LIMIT:
        raise ValueError(f"it must have at most {SIZE_LIMIT:,} characters, got {len(text):,}")
    sizes: dict[str, int] = {}  # of what has a name
    open_collections: list[tuple[str | None, int]] = []  # each collection's name, and how many values were before it
    count = 0
    for event in YAML(typ="safe", pure=True).parse(text):
        if isinstance(event, CollectionEndEvent):
            name, before = open_collections.pop()
            if name:
                sizes[name] = count - before
        elif isinstance(event, AliasEvent):
            if event.anchor not in sizes:
                raise ValueError(f"*{event.anchor} must refer to a complete value before it")
            count += sizes[event.anchor]
        elif isinstance(event, NodeEvent):
            if isinstance(event, CollectionStartEvent):
                open_collections.append((event.anchor, count))
            elif event.anchor:
                sizes[event.anchor] = 1
            count += 1
        if len(open_collections) > DEPTH_LIMIT:
            raise ValueError(f"it must be at most {DEPTH_LIMIT} levels deep")
        if count > NODE_LIMIT:
            raise ValueError(f"it must contain at most {NODE_LIMIT:,} values, with all references followed")


def dump(recipe: BaseModel) -> str:
    """The resolved recipe as YAML, itself a recipe."""
    return as_yaml(recipe.model_dump(mode="json"))


def as_yaml(values: dict[str, Any]) -> str:
    """A mapping as YAML, a line for each key; in it a list, or a mapping of values alone, is on one line."""
    out = io.StringIO()
    yaml, document = YAML(), CommentedMap(values)
    yaml.default_flow_style = None
    document.fa.set_block_style()
    yaml.dump(document, out)
    return out.getvalue()
