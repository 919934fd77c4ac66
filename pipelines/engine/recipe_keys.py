"""What the keys of a recipe mean: the comments beside the fields of its sections, for people who never open these.

A section's field without a comment is told by the first sentence of its own section's docstring.
"""

import ast
import inspect
import io
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from textwrap import dedent
from typing import Any

from pydantic import BaseModel

from pipelines.data import yaml_file
from pipelines.data.schema import Section, sections
from pipelines.engine import recipe as recipes

COLUMN = 36  # where comments begin, if a line leaves room


def commented_yaml(recipe: recipes.Recipe) -> str:
    """The resolved recipe as YAML, itself a recipe, each key with its meaning as a comment."""
    lines = _lines(recipe.model_dump(mode="json"), (type(recipe),), "")
    return "".join(f"{line:<{COLUMN}}  # {meaning}\n" if meaning else f"{line}\n" for line, meaning in lines)


@cache
def meanings(section: type[BaseModel]) -> dict[str, str]:
    """What is said of each of a section's own fields and those it inherits; "" where nothing is."""
    meaning_of = dict.fromkeys(section.model_fields, "")
    for owner in reversed(section.__mro__):
        if issubclass(owner, Section) and owner is not Section:
            meaning_of |= {
                name: comment for name, comment in _comments(owner).items() if comment and name in meaning_of
            }
    for name, comment in meaning_of.items():
        inner = next(sections(section.model_fields[name].annotation), None)
        if not comment and inner is not None:
            meaning_of[name] = _first_sentence(inner)
    return meaning_of


def undocumented(section: type[BaseModel], above: str = "") -> Iterator[str]:
    """The keys, dotted, of a section and those in it of which nothing is said."""
    for name, meaning in meanings(section).items():
        if not meaning:
            yield above + name
        for inner in sections(section.model_fields[name].annotation):
            yield from undocumented(inner, f"{above}{name}.")


def _comments(section: type[BaseModel]) -> dict[str, str]:
    """The comments in a section's source by its fields: behind one or in it, else on the lines before it."""
    source = dedent(inspect.getsource(section))
    tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    comments = {token.start[0]: token for token in tokens if token.type == tokenize.COMMENT}
    alone = {line for line, token in comments.items() if not token.line[: token.start[1]].strip()}
    comment_of = {}
    for node in ast.parse(source).body[0].body:  # type: ignore[attr-defined]  # a class has one
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            first = node.lineno
            while first - 1 in alone:
                first -= 1
            lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
            own = [line for line in lines if line in comments] or range(first, node.lineno)
            comment_of[node.target.id] = " ".join(_plain(comments[line].string) for line in own)
    return comment_of


def _plain(comment: str) -> str:
    """Without its sign, and without what is said to a type checker."""
    return _lowered(re.sub(r"# type: ignore\S*", "", comment).strip("# "))


def _lowered(sentence: str) -> str:
    """Without its full stop and its capital, unless that is a name's."""
    return re.sub("^[A-Z](?=[a-z ])", lambda first: first[0].lower(), sentence.strip()).removesuffix(".")


def _first_sentence(section: type[BaseModel]) -> str:
    return _lowered(" ".join((inspect.getdoc(section) or "").partition("\n\n")[0].split()))


def _lines(values: dict[str, Any], kinds: tuple[type[BaseModel], ...], pad: str) -> Iterator[tuple[str, str]]:
    """The lines of a section, which is of one of these kinds, each with what its key means."""
    for key, value in values.items():
        owner = next((kind for kind in kinds if key in kind.model_fields), None)
        meaning = meanings(owner)[key] if owner else ""
        if isinstance(value, dict) and value:
            yield pad + yaml_file.as_yaml({key: None}).rstrip(), meaning
            inner = tuple(sections(owner.model_fields[key].annotation)) if owner else kinds
            yield from _lines(value, inner, pad + "  ")
        else:
            first, *rest = yaml_file.as_yaml({key: value}).splitlines()
            yield pad + first + " null" * (value is None), meaning
            yield from ((pad + line, "") for line in rest)
