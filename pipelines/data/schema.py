"""What the sections of all recipes are made of: a base class, types of values, and words for what is wrong."""

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from cnn_keras import plugins
from cnn_keras.errors import Fault
from cnn_keras.weights import catalog

SHOWN = 60  # characters of a wrong value in a message
KINDS = {  # pydantic's words for what a setting must be, in those of a recipe's author
    "array": "a list",
    "boolean": "true or false",
    "integer": "a whole number",
    "number": "a number",
    "string": "a text",
    "an object": "a section of keys",
}

Fraction = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[int, Field(ge=1)]
Bits = Annotated[int, Field(ge=0, le=64)]  # of a hash that differ
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=200)]  # of folders, with endings
Checked = TypeVar("Checked", bound=BaseModel)


def _from_recipe(path: Path, info: ValidationInfo) -> Path:
    try:
        return (info.context["folder"] / path.expanduser()).resolve() if info.context else path
    except (OSError, RuntimeError) as error:  # a home that nobody has, links in a circle
        raise ValueError(str(error)) from None


def _several(paths: Any) -> Any:
    """One path or a list of them as a tuple; anything else as it is, which is refused."""
    return (paths,) if isinstance(paths, str) else tuple(paths) if isinstance(paths, list) else paths


def _weights(weights: str, info: ValidationInfo) -> str:
    return weights if weights in catalog.KINDS else str(_from_recipe(Path(weights), info))


def _own(name: str) -> str:
    if not plugins.is_reference(name):
        raise ValueError(f"must be package.module:name, ./file.py:name or what a package makes known, got {name!r}")
    return name


RecipePath = Annotated[Path, AfterValidator(_from_recipe)]  # relative to the recipe's file
RecipePaths = Annotated[tuple[RecipePath, ...], BeforeValidator(_several)]  # several of them, or one
Own = Annotated[str, AfterValidator(_own)]  # something of the user's own, by its full name
GivenWeights = Annotated[str, AfterValidator(_weights)]  # imagenet, edges, coco, or a file's path


def kind_alone(value: Any) -> Any:
    """A section whose `kind` may be given by a word alone, before it is checked: whole."""
    return {"kind": value} if isinstance(value, str) else value


class Section(BaseModel):
    """A part of a recipe: unknown keys are errors, values keep the type they were written in, nothing changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Fold(Section):
    """A part of all the data that tests, while the others train and validate."""

    number: Positive  # of this part, from 1
    of: Annotated[int, Field(ge=2)]  # how many parts there are

    @model_validator(mode="after")
    def _is_one_of_them(self) -> Self:
        if self.number > self.of:
            raise ValueError(f"number must be at most {self.of}, got {self.number}")
        return self

    @property
    def place(self) -> tuple[int, int]:
        return self.number, self.of


def parse_section(schema: type[Checked], document: dict[str, Any], *, folder: Path) -> Checked:
    """The document as a `schema`; all that is wrong in it is one Fault."""
    try:
        # Through JSON, where a list may become a tuple and a string a path although the types are strict.
        return schema.model_validate_json(json.dumps(document, default=str), context={"folder": folder})
    except ValidationError as errors:
        lines = sorted({_explained(error, schema) for error in errors.errors()})
        raise Fault("\n".join(lines)) from None


def _explained(error: Any, schema: type[BaseModel]) -> str:
    """One pydantic error in the words of a recipe's author."""
    location = [part for part in error["loc"] if not str(part).startswith(("function-", "constrained-", "<"))]
    path = ".".join(map(str, location))
    value_note = "" if isinstance(error["input"], dict) else f", got {value_text(error['input'])}"
    match error["type"]:
        case "extra_forbidden":
            known = list(_fields(schema, location[:-1]))
            near = difflib.get_close_matches(str(location[-1]), known, n=1)
            return f"{path}: unknown key; " + (f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}")
        case "missing":
            return f"{path}: is required"
        case "value_error":
            return f"{path}: {error['ctx']['error']}" if path else str(error["ctx"]["error"])
        case "string_pattern_mismatch":
            return f"{path}: must match {error['ctx']['pattern']}{value_note}"
        case _:
            expectation = error["msg"].rpartition(" should ")[2]
            if expectation.startswith("have "):  # so many characters or entries
                return f"{path}: must {expectation}{value_note}"
            expectation = expectation.removeprefix("be ").removeprefix("a valid ")
            return f"{path}: must be {KINDS.get(expectation, expectation)}{value_note}"


def value_text(value: Any) -> str:
    """A wrong value for a message, as YAML names it, cut where it is long."""
    text = json.dumps(value) if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def _fields(schema: type[BaseModel], location: Sequence[Any]) -> Iterator[str]:
    """The keys known at `location` of a recipe."""
    for part in location:
        if part not in schema.model_fields:
            continue  # the place of a section in a list, or its name among others
        inner = list(sections(schema.model_fields[part].annotation))
        if not inner:
            return
        schema = inner[0]
    yield from schema.model_fields


def sections(kind: Any) -> Iterator[type[BaseModel]]:
    """The sections in an annotation, such as `dict[str, Range | …]`."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind
    for inner in get_args(kind):
        yield from sections(inner)


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one level of dotted keys: {"train": {"epochs": 3}} → {"train.epochs": 3}."""
    if not isinstance(value, Mapping) or not value:
        return {prefix: value}
    pairs = (flatten(inner, f"{prefix}.{key}" if prefix else str(key)) for key, inner in value.items())
    return {key: inner for pair in pairs for key, inner in pair.items()}
