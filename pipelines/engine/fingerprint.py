"""The fingerprint of a stage's code: every definition that its function can reach, and the libraries that these import.

Nothing is listed by hand. From the function of a stage the names that it uses are followed through both packages, into
other functions, classes and constants, wherever the imports stand. A definition counts by its syntax tree without its
docstring and the annotations of its arguments, so comments, layout and types make nothing stale. What is imported under
`TYPE_CHECKING` is not followed. A string that is the name of a module, as in a table of sources, means all of that
module; a module that the recipe names, as its builder's, is a root of its own, and where it is the user's own, its
package is followed like these two.
"""

import ast
import gc
import hashlib
import importlib.metadata
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from cnn_keras import plugins

SOURCES = Path(__file__).parents[2]
PACKAGES = ("cnn_keras", "pipelines")
# What shows or records a result has no part in it.
APART = ("pipelines.tracking", "pipelines.cli", "rich", "typer", "mlflow", "filelock", "psutil")
DISTRIBUTIONS = {
    "PIL": "pillow",
    "cv2": "opencv-contrib-python-headless",
    "ruamel": "ruamel.yaml",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "tensorflow_addons": "tensorflow-addons",
}

NAME_OF_MODULE = rf"(?:{'|'.join(PACKAGES)})(?:\.\w+)+"

DOCUMENTED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
Reference = tuple[str, str | None]  # a module and one of its names; None is all of it


@dataclass
class Module:
    """The source of a module, by its names: what defines each, what each import brings, and what runs on import."""

    name: str
    path: Path
    definitions: dict[str, list[ast.stmt]] = field(default_factory=dict)
    imports: dict[str, Reference] = field(default_factory=dict)
    effects: list[ast.stmt] = field(default_factory=list)


def code(roots: Sequence[str], *, without: Sequence[str] = ()) -> dict[str, str]:
    """Digests of the code that can be reached from `roots`, and the versions of the libraries that it imports.

    Args:
        roots: `package.module:name`, or for all of it `package.module` or `/folder/file.py`. Their packages are
            followed.
        without: packages that are not followed, besides those of `APART`.

    Returns:
        `code.FILE` → "sha256:…" for each file that is followed, `library.NAME` → its version.
    """
    collecting = gc.isenabled()
    gc.disable()  # syntax trees are very many objects, none of which is garbage
    try:
        reached, external = closure(tuple(roots), (*APART, *without))
    finally:
        if collecting:
            gc.enable()
    digests = {f"code.{_shown(_module(name))}": _digest(name, tuple(sorted(names))) for name, names in reached.items()}
    return digests | {f"library.{name}": _version(name) for name in external}


def renew() -> None:
    """Have the user's own code read and imported again where a file of it has been written to since it was read.

    For a process that lasts longer than an edit, such as a notebook's. This repository's own code stays as it is.
    """
    if plugins.forget_edited():
        forget()


def forget() -> None:
    """Forget all code that has been read."""
    for function in (closure, _path, _module, _effects, _definition, _digest):
        function.cache_clear()


@cache
def closure(roots: tuple[str, ...], apart: tuple[str, ...] = APART) -> tuple[dict[str, set[str]], list[str]]:
    """The names of each module that can be reached from `roots`, and the libraries that are imported on the way."""
    queue = list(map(_reference, roots))
    followed = {*PACKAGES, *(plugins.package(name) for name, _ in queue)}
    reached: dict[str, set[str]] = {}
    external: set[str] = set()
    while queue:
        name, attribute = queue.pop()
        if f"{name}.".startswith(tuple(f"{package}." for package in apart)):
            continue
        if plugins.package(name) not in followed:
            external.add(plugins.package(name))
            continue
        module = _module(name)
        if name not in reached:
            reached[name] = set()
            queue += _effects(name)[1]
        names = set(module.definitions) if attribute is None else {attribute}
        for reference in names - reached[name]:
            if reference in module.definitions:
                reached[name].add(reference)
                queue += _definition(name, reference)[1]
            elif reference in module.imports:  # handed on from another module
                queue.append(module.imports[reference])
            elif _is_module(f"{name}.{reference}", own=plugins.package(name)):
                queue.append((f"{name}.{reference}", None))
    return reached, sorted(external - set(sys.stdlib_module_names))


def _reference(root: str) -> Reference:
    module, _, name = root.partition(":")
    return module, name or None


def _shown(module: Module) -> str:
    """The file of a module, from the folder that its package is in."""
    if module.name.endswith(".py"):
        return module.path.name
    inside = module.name.count(".") + (module.path.name == "__init__.py")
    return module.path.relative_to(module.path.parents[inside]).as_posix()


@cache
def _path(name: str) -> Path | None:
    if plugins.package(name) not in PACKAGES:
        return plugins.source(name)
    stem = SOURCES.joinpath(*name.split("."))
    return next((path for path in (stem.with_suffix(".py"), stem / "__init__.py") if path.is_file()), None)


def _is_module(name: str, *, own: str = "cnn_keras") -> bool:
    """Whether a module of this name is in one of both packages or in `own`, the package that names it."""
    return not name.endswith(".") and plugins.package(name) in (*PACKAGES, own) and _path(name) is not None


@cache
def _module(name: str) -> Module:
    path = _path(name)
    if path is None:
        raise ModuleNotFoundError(f"no module {name} in {SOURCES}")
    if plugins.package(name) not in PACKAGES:
        plugins.remember(name, path)
    module, tree = Module(name, path), ast.parse(path.read_text(encoding="utf-8"))
    for statement in tree.body:
        match statement:
            case ast.Import() | ast.ImportFrom():
                module.imports |= _imported(statement, module)
            case ast.FunctionDef(name=defined) | ast.ClassDef(name=defined):
                module.definitions.setdefault(defined, []).append(statement)
            case ast.Assign() | ast.AnnAssign() | ast.AugAssign():
                for target in _targets(statement):
                    module.definitions.setdefault(target, []).append(statement)
            case ast.If(test=ast.Name(id="TYPE_CHECKING")) | ast.Expr(value=ast.Constant()):
                pass
            case _:
                module.effects.append(statement)
    return module


def _targets(statement: ast.Assign | ast.AnnAssign | ast.AugAssign) -> Iterator[str]:
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
    for target in targets:
        yield from (node.id for node in ast.walk(target) if isinstance(node, ast.Name))


def _imported(statement: ast.Import | ast.ImportFrom, module: Module) -> dict[str, Reference]:
    """What an import binds: the module, or the name in a module, that each local name stands for."""
    if isinstance(statement, ast.Import):
        return {(alias.asname or alias.name.partition(".")[0]): (alias.name, None) for alias in statement.names}
    source = _source(statement, module)
    references: dict[str, Reference] = {}
    for alias in statement.names:
        whole, own = f"{source}.{alias.name}", plugins.package(module.name)
        references[alias.asname or alias.name] = (whole, None) if _is_module(whole, own=own) else (source, alias.name)
    return references


def _source(statement: ast.ImportFrom, module: Module) -> str:
    """The module that names are imported from; dots at its beginning are the packages around the importing one."""
    if not statement.level:
        return str(statement.module)
    packages = module.name.split(".") if module.path.name == "__init__.py" else module.name.split(".")[:-1]
    around = packages[: len(packages) - statement.level + 1]
    return ".".join([*around, *([statement.module] if statement.module else [])])


@cache
def _effects(module: str) -> tuple[str, list[Reference]]:
    return _read(_module(module), _module(module).effects)


@cache
def _definition(module: str, name: str) -> tuple[str, list[Reference]]:
    return _read(_module(module), _module(module).definitions[name])


def _read(module: Module, statements: list[ast.stmt]) -> tuple[str, list[Reference]]:
    """The syntax of some statements as text, and what they name of their own module and of others."""
    reader = _Reader()
    for node in statements:
        reader.read(node)
    bound = dict(module.imports)
    for statement in reader.imports:
        bound |= _imported(statement, module)
    references: list[Reference] = [(text, None) for text in reader.texts if _is_module(text)]
    for name, attribute in reader.names:
        if attribute and bound.get(name, ("", ""))[1] is None:
            references.append((bound[name][0], attribute))
        elif name in bound:
            references.append(bound[name])
        elif name in module.definitions:
            references.append((module.name, name))
    return "\n".join(reader.syntax), references


class _Reader:
    """One walk through a syntax tree, for its text and for the names in it.

    Attributes:
        syntax: all of the tree but docstrings and the annotations of arguments.
        names: each name that is read, with the attribute that is taken of it, or None.
        imports: the statements that import.
        texts: strings that may be names of modules.
    """

    def __init__(self) -> None:
        self.syntax: list[str] = []
        self.names: list[tuple[str, str | None]] = []
        self.imports: list[ast.Import | ast.ImportFrom] = []
        self.texts: list[str] = []

    def read(self, node: ast.AST) -> None:
        self.syntax.append(node.__class__.__name__)
        left_out = "ctx"  # whether a name is read or written can be seen by where it stands
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            self.syntax += (node.value.id, node.attr)
            self.names.append((node.value.id, node.attr))
            return
        if isinstance(node, ast.Name):
            self.syntax.append(node.id)
            if isinstance(node.ctx, ast.Load):
                self.names.append((node.id, None))
            return
        if isinstance(node, ast.Constant):
            self.syntax.append(repr(node.value))
            if isinstance(node.value, str) and re.fullmatch(NAME_OF_MODULE, node.value):
                self.texts.append(node.value)
            return
        if isinstance(node, ast.Import | ast.ImportFrom):
            self.imports.append(node)
        elif isinstance(node, ast.arg):
            left_out = "annotation"
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            left_out = "returns"
        for name in node._fields:
            if name == left_out:
                continue
            value = getattr(node, name)
            if isinstance(value, ast.AST):
                self.read(value)
            elif isinstance(value, list):
                self.syntax.append("[")
                for inner in value[name == "body" and _is_documented(node) :]:
                    if isinstance(inner, ast.AST):
                        self.read(inner)
                    else:
                        self.syntax.append(repr(inner))
                self.syntax.append("]")
            else:
                self.syntax.append(repr(value))


def _is_documented(node: ast.AST) -> bool:
    first = node.body[0].value if isinstance(node, DOCUMENTED) and isinstance(node.body[0], ast.Expr) else None
    return isinstance(first, ast.Constant) and isinstance(first.value, str)


@cache
def _digest(module: str, names: tuple[str, ...]) -> str:
    texts = [*(_definition(module, name)[0] for name in names), _effects(module)[0]]
    return "sha256:" + hashlib.sha256("\n".join(texts).encode()).hexdigest()


@cache
def _version(name: str) -> str:
    try:
        return importlib.metadata.version(DISTRIBUTIONS.get(name, name))
    except importlib.metadata.PackageNotFoundError:
        return "none"
