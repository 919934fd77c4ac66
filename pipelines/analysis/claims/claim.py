"""Claims: the field's folklore, each a small experiment in one YAML file of `recipes/claims/`.

A claim trains `variants` of a recipe, or counts `networks` without training any, and says what it expects of the
figures (`pipelines/analysis/claims/runner.py`); whether it holds is checked, not told
(`pipelines/analysis/claims/report.py`).
"""

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from cnn_keras.data.files import input_file
from cnn_keras.errors import Fault
from pipelines.data import run_files, yaml_file
from pipelines.data.schema import SHOWN, Name, Positive, Section, parse_section
from pipelines.engine import recipe as recipes
from pipelines.engine.recipe import Model

SHIPPED = recipes.SHIPPED / "claims"
VERDICT = "verdict.json"

Term = float | str  # a number, or `QUANTITY of VARIANT`


class Network(Model):
    """A network to count: its builder with any arguments, and which of its layers count, or how it slides."""

    layers: str = "*"
    windows: Literal["naive", "convolutional"] | None = None  # how it looks at every window of a larger picture
    picture: tuple[Positive, Positive] | None = None  # height and width of that

    @model_validator(mode="after")
    def _slides_over_something(self) -> Self:
        if bool(self.windows) != bool(self.picture):
            raise ValueError("windows and picture require each other")
        return self


class Choice(Section):
    """Which run of a sweep stands for its variant: the lowest or highest in a quantity, the first of equals."""

    lowest: str | None = None
    highest: str | None = None
    where: dict[str, float] = Field(default_factory=dict)  # quantity: the most it may be

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.lowest is None) == (self.highest is None):
            raise ValueError("choose must be lowest or highest, one of the two")
        return self


class Plot(Section):
    """One panel of the picture."""

    curves: str | None = None  # a quantity over the epochs, of each variant
    sweep: str | None = None  # a quantity over the swept setting
    bars: str | None = None  # a quantity of each variant
    log: Literal["", "x", "y", "xy"] = ""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(kind is not None for kind in (self.curves, self.sweep, self.bars)) != 1:
            raise ValueError("plot must be curves, sweep or bars, one of the three")
        return self


class Expectation(Section):
    """A statement about two terms a and b: a > times · b + by, a ≤ times · b + by, or |a - b| ≤ by."""

    greater: tuple[Term, Term] | None = None
    at_most: tuple[Term, Term] | None = None
    equal: tuple[Term, Term] | None = None
    times: float = 1
    by: float = 0

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(pair is not None for pair in (self.greater, self.at_most, self.equal)) != 1:
            raise ValueError("expect must be greater, at_most or equal, one of the three")
        return self

    @property
    def terms(self) -> tuple[Term, Term]:
        return self.greater or self.at_most or self.equal or (0, 0)

    def holds(self, first: float, second: float) -> bool:
        """Whether the first figure stands to the second as is expected."""
        bound = self.times * second + self.by
        if self.equal:
            return abs(first - second) <= self.by
        return first > bound if self.greater else first <= bound

    def written(self, first: str, second: str) -> str:
        """The statement with its terms as words or as figures."""
        bound = second if self.times == 1 else f"{self.times:g} · {second}"
        if self.equal:
            return f"{first} = {second}" + (f" ± {self.by:g}" if self.by else "")
        return f"{first} {'>' if self.greater else '≤'} {bound}" + (f" + {self.by:g}" if self.by else "")


class Claim(Section):
    """A claim's file."""

    name: Name
    claim: str
    holds: bool = True  # whether it did, as its header says
    base: str | None = None  # the recipe that the variants change
    set: dict[str, Any] = Field(default_factory=dict)  # settings of every variant
    stage: Literal["train", "evaluate"] = "train"  # the last that is run
    variants: dict[Name, dict[str, Any]] = Field(default_factory=dict)
    sweep: Annotated[dict[str, tuple[int | float, ...]], Field(max_length=1)] = Field(default_factory=dict)
    seeds: Positive = 1  # trainings of each variant, of the seeds 0, 1, …; with several, statements are about means
    reach: Annotated[dict[str, float], Field(max_length=1)] = Field(default_factory=dict)
    choose: Choice | None = None
    networks: dict[Name, Network] = Field(default_factory=dict)
    show: Annotated[tuple[str, ...], Field(min_length=1)]
    plot: tuple[Plot, ...] = ()
    expect: Annotated[tuple[Expectation, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if bool(self.variants) == bool(self.networks) or bool(self.base) != bool(self.variants):
            raise ValueError("a claim must have variants of a base, or networks")
        if bool(self.sweep) != bool(self.choose):
            raise ValueError("sweep and choose require each other")
        if self.seeds > 1 and (self.sweep or self.networks):
            raise ValueError("seeds requires variants without a sweep")
        known = [*self.variants, *self.networks]
        for term in (term for statement in self.expect for term in statement.terms if isinstance(term, str)):
            quantity, of, variant = term.partition(" of ")
            if not (quantity and of and variant in known):
                near = difflib.get_close_matches(variant, known, n=1, cutoff=0.5) or known
                raise ValueError(f"expect must name QUANTITY of VARIANT, got {term!r}; variants: {', '.join(near)}")
        return self

    @property
    def settings(self) -> dict[str, tuple[int | float, ...]]:
        """What each variant is trained with, one value after another: those of the sweep, or several seeds."""
        return {"seed": tuple(range(self.seeds))} if self.seeds > 1 else self.sweep

    @property
    def swept(self) -> str:
        """The setting that is swept by its last word: learning_rate, or seed."""
        return next((key.rpartition(".")[2] for key in self.settings), "")


def shipped() -> list[str]:
    """The names of the claims that come with the package."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def locate(reference: str) -> Path:
    """The file of a claim, by its name or path, or a Fault with the nearest names."""
    name = reference.removeprefix("claims/")
    for path in (Path(reference), SHIPPED / f"{name}.yaml"):
        if input_file.is_regular(path) and path.suffix in (".yaml", ".yml"):
            return path.resolve()
    near = difflib.get_close_matches(name[:SHOWN], shipped(), n=3, cutoff=0.4)
    suggestion = f"did you mean {' or '.join(near)}?" if near else "`cnn claim` lists them."
    raise Fault(f"NAME must be a shipped claim or a .yaml file, {recipes.unfound(reference)}; {suggestion}")


def load(reference: str) -> Claim:
    """Read a claim.

    Raises:
        Fault: no such claim, or anything wrong in it.
    """
    path = locate(reference)
    document = yaml_file.read(path)
    document.setdefault("name", path.stem)
    if isinstance(document.get("base"), str) and input_file.is_regular(path.parent / document["base"]):
        document["base"] = str(path.parent / document["base"])
    return parse_section(Claim, document, folder=path.parent)


def last(name: str, runs: Path) -> dict[str, Any]:
    """The last verdict on a claim; `holds` is None where there is none."""
    path = folder_of(name, runs) / VERDICT
    return run_files.kept_json(path) or {"name": name, "claim": load(name).claim, "holds": None}


def folder_of(name: str, runs: Path) -> Path:
    """The folder that holds the runs and the report of a claim."""
    return (runs / "claims" / name).resolve()
