"""The user's own builders, augmentations, sources, losses, metrics and tasks, which recipes name like the library's.

`package.module:name` is something of a module that is installed, `./file.py:name` something of a file, which stands
alone: what needs several files is a package. A package makes its own known by short names in entry points of the
groups `cnn_keras.builders`, `.augmentations`, `.sources`, `.losses`, `.metrics` and `.tasks`. Nothing is imported to
look a name up; `load` imports.
"""

import ast
import difflib
import functools
import importlib
import importlib.machinery
import importlib.metadata
import importlib.util
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from types import CodeType
from typing import Any

from cnn_keras.errors import Fault

REFERENCE = re.compile(r"(?P<module>[^\W\d]\w*(?:\.[^\W\d]\w*)*|[^:]+\.py):(?P<name>[^\W\d]\w*)")
READ: dict[str, tuple[Path, int | None]] = {}  # modules of the user's own that were read: files, when last written to


def is_reference(name: str) -> bool:
    """Whether a name has the form `package.module:name` or `file.py:name`."""
    return REFERENCE.fullmatch(name) is not None


@functools.cache
def entry_points(group: str) -> dict[str, EntryPoint]:
    """What installed packages make known in `cnn_keras.GROUP`, by its short name, in alphabetical order."""
    points = importlib.metadata.entry_points(group=f"cnn_keras.{group}")
    return {entry.name: entry for entry in sorted(points, key=lambda entry: entry.name)}


def origin(entry: EntryPoint) -> str:
    """The package, with its version, that makes something known."""
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.module


def qualified(name: str, group: str, folder: Path, *, argument: str) -> str:
    """The full name of what is looked up, as it stands if it is neither a reference nor an entry point's name.

    Args:
        name: `package.module:name`, `./file.py:name`, or the name of an entry point.
        group: of the entry points.
        folder: what a file's path is relative to.
        argument: what a message calls the name.

    Returns:
        `package.module:name` or `/folder/file.py:name`.

    Raises:
        Fault: there is no such module, no such file, or no such name in it.
    """
    match = REFERENCE.fullmatch(name)
    if match is None:
        entry = entry_points(group).get(name)
        return entry.value if entry else name
    module, _, attribute = absolute(name, folder).rpartition(":")
    file = source(module)
    if file is None:
        raise Fault(f"{argument} must be of an installed module or of a file, got {name!r}; found no {module}")
    known = defined(file)
    if known is not None and attribute not in known:
        near = difflib.get_close_matches(attribute, known, n=1, cutoff=0.5)
        suggestion = f"; did you mean {near[0]}?" if near else ""
        raise Fault(f"{argument} must be a name in {file}, got {attribute!r}{suggestion}")
    return f"{module}:{attribute}"


def absolute(name: Any, folder: Path = Path()) -> Any:
    """`./file.py:name` with the whole path of the file, which is relative to `folder`; anything else as it stands."""
    match = REFERENCE.fullmatch(name) if isinstance(name, str) else None
    if match is None or not match["module"].endswith(".py"):
        return name
    return f"{(folder / Path(match['module']).expanduser()).resolve()}:{match['name']}"


def source(module: str) -> Path | None:
    """The Python file of a module, or of the path of one; None if there is none. No package is imported."""
    if module.endswith(".py"):
        return Path(module) if Path(module).is_file() else None
    top, *inner = module.split(".")
    spec = importlib.util.find_spec(top)
    for name in inner:
        if spec is None or spec.submodule_search_locations is None:
            return None
        spec = importlib.machinery.PathFinder.find_spec(f"{spec.name}.{name}", spec.submodule_search_locations)
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    return Path(spec.origin)


def package(module: str) -> str:
    """The package that a module is in; a file, by its path, is one of its own."""
    return module if module.endswith(".py") else module.partition(".")[0]


def defined(file: Path) -> set[str] | None:
    """The names that a file gives to something at its top level; None where only running it can tell.

    Raises:
        Fault: it is not Python.
    """
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError) as error:
        raise Fault(f"{file} must be Python, got {error}") from None
    names: set[str] = set()
    for statement in _statements(tree.body):
        match statement:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                names |= {alias.asname or alias.name.partition(".")[0] for alias in aliases}
            case ast.Assign() | ast.AnnAssign():
                named = (node for node in ast.walk(statement) if isinstance(node, ast.Name))
                names |= {node.id for node in named if isinstance(node.ctx, ast.Store)}
    return None if names & {"*", "__getattr__"} else names


def _statements(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """All that are run when a file is, those under `if`, `try` and `with` among them."""
    for statement in body:
        yield statement
        if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            for part in ("body", "handlers", "orelse", "finalbody"):
                yield from _statements(getattr(statement, part, []))


def load(reference: str) -> Any:
    """Import what a full name, as `qualified` gives it, stands for, or the module that a name without a colon is.

    Raises:
        Fault: it cannot be imported.
    """
    module, name = reference.rsplit(":", 1) if ":" in reference else (reference, None)
    try:
        module_ = _module(module)
    except (ImportError, SyntaxError) as error:
        raise Fault(f"{reference} must be importable, got {type(error).__name__}: {error}") from error
    if name is None:
        return module_
    if not hasattr(module_, name):
        raise Fault(f"{reference} must be a name in {module}, got none")
    return getattr(module_, name)


def remember(module: str, file: Path) -> None:
    """Note when the file of a module of the user's own was last written to, where it is read for the first time."""
    READ.setdefault(module, (file, _written(file)))


def forget_edited() -> set[str]:
    """Leave packages of which a file has been written to since it was read to be imported anew by who needs them next.

    Returns:
        The packages, and of files that stand alone the paths.
    """
    edited = {package(module) for module, (file, written) in READ.items() if _written(file) != written}
    for module in [module for module in READ if package(module) in edited]:
        del READ[module]
    for module in [module for module in sys.modules if package(module) in edited]:
        del sys.modules[module]
    return edited


def _written(file: Path) -> int | None:
    """When a file was last written to, in nanoseconds; None if it is gone."""
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return None


class _Loader(importlib.machinery.SourceFileLoader):
    """Compiles a file as it is now: bytecode that is kept is not told from that of an edit within a second."""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


def _module(name: str) -> Any:
    """A module by its name or, under its path as its name, a file."""
    if name in sys.modules or not name.endswith(".py"):
        return importlib.import_module(name)
    spec: Any = importlib.util.spec_from_file_location(name, name, loader=_Loader(name, name))
    remember(name, Path(name))
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def loaded(name: str, group: str) -> Callable[..., Any] | None:
    """What a reference or an entry point's name stands for, a file's path taken from the working directory, or None."""
    full = qualified(name, group, Path.cwd(), argument=group.removesuffix("s"))
    return load(full) if is_reference(full) else None
