"""Recipes: one YAML file says everything about a run.

A recipe is read as YAML 1.2 of bounded size (`1e-3` is a number, `no` is a string, a key given twice is an error),
changed by `--set key=value`, checked against typed sections, and written back resolved – with every default spelled
out – as a file that is itself a recipe. A path in a recipe is relative to the recipe's file; a path in `--set` is
relative to the working directory. Every setting that is a path is called `path`; those of further data are `also`.
"""

import difflib
import importlib
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

from cnn_keras import plugins
from cnn_keras.data.files import input_file
from cnn_keras.errors import Fault
from cnn_keras.weights import catalog
from pipelines.data import yaml_file
from pipelines.data.schema import (
    SHOWN,
    Fold,
    Fraction,
    GivenWeights,
    Name,
    Own,
    Positive,
    Section,
    flatten,
    parse_section,
    sections,
    value_text,
)
from pipelines.engine import plugins as plug_ins
from pipelines.engine.startup import silent_libraries

log = logging.getLogger(__name__)

SHIPPED = Path(__file__).parents[1] / "recipes"
TASKS = Path(__file__).parents[1] / "tasks"
# Keys of `train` that not every task takes any more, switched off: earlier versions wrote them into resolved recipes.
FORMER = {"label_smoothing": 0.0, "focal_gamma": None, "class_weights": None, "transfer": None, "ensemble": None}
ALIKE = 0.6  # of two names from which one may have been meant for the other
SAME_TASK = 0.1  # how much more alike recipes of one task are


class Model(Section):
    """Which network: `builder` is a file and a function of `cnn_keras.models`; further keys are its arguments."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True, allow_inf_nan=False)

    # file.function of cnn_keras.models, `cnn models list` has them, or package.module:function or ./file.py:function;
    # further keys are its arguments
    builder: str  # its last part is enough if no other has it
    weights: GivenWeights | None = None  # to start from: imagenet, edges, coco, or a file

    @field_validator("builder", mode="before")
    @classmethod
    def _whole_name(cls, values: Any) -> Any:
        if isinstance(values, str) and not re.fullmatch(r"\w+(\.\w+)?|[^:]+:\w+", values):
            raise ValueError(f"must be such as lenet.lenet5, package.module:name or ./file.py:name, got {values!r}")
        if not isinstance(values, str) or ":" in values or _is_built_in(values):
            return values
        from cnn_keras import models  # start-up: TensorFlow, for a name without its family alone

        with silent_libraries():
            try:
                return models.whole_name(values)
            except Fault as fault:
                raise ValueError(str(fault)) from None

    @property
    def arguments(self) -> dict[str, Any]:
        return dict(self.__pydantic_extra__ or {})


def _is_built_in(builder: str) -> bool:
    """Whether a family's file defines a builder, by its whole name; nothing is imported."""
    family, _, name = builder.partition(".")
    file = plugins.source(f"cnn_keras.models.{family}")
    return file is not None and name in (plugins.defined(file) or ())


class Transfer(Section):
    """What is trained of a network that starts from given weights; see `pipelines.engine.training.transfer`."""

    # the classifier alone, on cached features, the last blocks, everything, or one after the other
    mode: Literal["head", "cached", "partial", "full", "staged"]
    blocks: Positive | None = None  # of partial: how many blocks before the classifier are trained with it
    head_epochs: Positive = 5  # of staged: epochs of the classifier alone, among all the epochs
    unfrozen_rate: Annotated[float, Field(gt=0)] = 0.1  # of staged: what learning_rate is multiplied by after them
    layer_decay: Annotated[float, Field(gt=0, le=1)] | None = None  # rate of each block against the one behind it

    @model_validator(mode="after")
    def _mode_is_whole(self) -> Self:
        if (self.mode == "partial") != bool(self.blocks):
            raise ValueError("blocks is required with mode: partial and allowed only with it")
        if self.layer_decay and self.mode in ("head", "cached"):
            raise ValueError(f"layer_decay cannot be combined with mode: {self.mode}, which trains only the classifier")
        return self


class Train(Section):
    """How the weights are found. The defaults suit a small network on a small data set."""

    epochs: Positive = 20  # passes over the training split
    batch_size: Positive = 128  # examples of one step
    optimizer: Literal["sgd", "adam", "adamw"] = "adam"  # sgd with momentum, adam, or adamw
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3  # the highest that the schedule reaches; `cnn lr` suggests one
    momentum: Fraction = 0.9  # of sgd
    weight_decay: Annotated[float, Field(ge=0)] = 0.0  # of kernels, not of biases and normalisation
    # of the learning rate: as it is, in steps, at plateaus, or down to 0 along a cosine
    schedule: Literal["constant", "step", "plateau", "cosine"] = "constant"
    warmup_epochs: Annotated[int, Field(ge=0)] = 0  # a linear climb before any schedule
    milestones: tuple[Positive, ...] = ()  # of step: the rate is divided by 10 after these epochs
    plateau_patience: Positive = 5  # of plateau: epochs without improvement before the rate is divided by 10
    clip_norm: Annotated[float, Field(gt=0)] | None = None  # the gradient's largest norm, over all weights
    accumulate: Positive = 1  # batches whose gradients are averaged into one step
    ema: Fraction | None = None  # momentum of a moving average of the weights, which is what is measured and kept
    monitor: Literal["val_loss"] = "val_loss"  # what is best in the best epoch
    patience: Positive | None = None  # epochs without improvement before training stops; null never stops early
    # what is computed in; weights are kept in float32: bfloat16 for CPUs and GPUs that have it, float16 for older GPUs;
    # auto measures a few steps and takes the fastest whose loss agrees with that of float32
    precision: Literal["float32", "bfloat16", "float16", "auto"] = "float32"
    xla: bool = False  # compile the step; pays on a GPU alone, and is not deterministic
    steps_per_execution: Positive = 1  # steps of one call of the graph: less overhead for small networks
    # the same weights twice, which costs some speed on a GPU; auto: on a CPU, unless XLA compiles the step
    deterministic: bool | Literal["auto"] = "auto"
    devices: Literal["auto", "cpu"] | Positive = (
        "auto"  # that share each batch; auto: every GPU, or the CPU without one
    )
    synchronize_batch_norm: bool = False  # statistics of the whole batch, not of each device's part of it

    @model_validator(mode="after")
    def _schedule_is_whole(self) -> Self:
        if (self.schedule == "step") != bool(self.milestones):
            raise ValueError("milestones are required with schedule: step and allowed only with it")
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs must be below epochs ({self.epochs}), got {self.warmup_epochs}")
        check_xla(self.xla, self.deterministic)
        if self.schedule == "plateau" and self.warmup_epochs:
            raise ValueError("warmup_epochs cannot be combined with schedule: plateau")
        return self


class ImageTrain(Train):
    """How the weights are found where examples are images, which may be augmented."""

    # where images are moved and coloured: by OpenCV on the host, or in the training step, for a GPU that waits for it
    augment_on: Literal["host", "device"] = "host"

    @model_validator(mode="after")
    def _warps_without_xla(self) -> Self:
        if self.augment_on == "device" and self.xla:
            raise ValueError(
                "augment_on must be host with xla, which cannot compile the warp of the images, got device"
            )
        return self


class TransferTrain(Train):
    """How the weights are found where a network may start from given ones and keep some of them."""

    transfer: Transfer | None = None  # what of a network with weights to start from is trained; null trains it all

    @model_validator(mode="after")
    def _stages_have_epochs(self) -> Self:
        if self.transfer and self.transfer.mode == "staged":
            least = self.transfer.head_epochs + self.warmup_epochs
            if self.epochs <= least:
                raise ValueError(f"epochs must be above transfer.head_epochs + warmup_epochs ({least})")
        return self


def check_xla(xla: bool, deterministic: bool | str) -> None:
    """Raise a ValueError where Keras would leave XLA out without a word."""
    if xla and deterministic is True:
        raise ValueError("xla does not go with deterministic: true, which makes Keras leave it out; take auto or false")


class Evaluate(Section):
    """What is measured by functions of the user's own, and what must hold before the model is exported."""

    MEASURED: ClassVar[tuple[str, ...]] = ()  # what the task measures itself, and may be demanded

    metrics: tuple[Own, ...] = ()  # of your own
    require: dict[str, float] = Field(default_factory=dict)  # metric: the least it must be
    at_most: dict[str, float] = Field(default_factory=dict)  # metric: the most it may be

    @model_validator(mode="after")
    def _metrics_are_measured(self) -> Self:
        known = [*self.MEASURED, *map(plug_ins.short, self.metrics)]
        if twice := sorted({name for name in known if known.count(name) > 1}):
            raise ValueError(f"metrics must have names of their own, got {twice[0]} twice")
        for key in ("require", "at_most"):
            for name in sorted(getattr(self, key).keys() - set(known)):
                near = difflib.get_close_matches(name, known, n=1)
                meant = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
                raise ValueError(f"{key} must name a metric that is measured, got {name!r}; {meant}")
        return self


class Views(Section):
    """Views of an image whose answers are joined; see `ops.test_time_augmentation`. A word alone is the kind."""

    # as it is and mirrored, along the last of its axes, or that at 5/6 and 2/3 of the size, too
    kind: Literal["flip", "multiscale"]
    mirror: bool = True  # false for what is not itself in a mirror, such as digits

    @model_validator(mode="after")
    def _has_two_views(self) -> Self:
        if self.kind == "flip" and not self.mirror:
            raise ValueError("mirror must be true with kind: flip, which has no other view; take multiscale")
        return self


class Export(Section):
    """What the exported model is called, and how far one in another format may stray from the trained one."""

    name: Name | None = None  # the run's name unless given
    # how much worse the task's metric may be, on the test split, in a format that `cnn export --format` writes
    max_drop: Annotated[float, Field(ge=0)] = 0.005
    calibration: Positive = 200  # training examples by which int8 finds the ranges of a network's values
    register_model: bool = True  # in MLflow's registry, as candidate


class Range(Section):
    """Numbers from `low` to `high`, both included; whole ones if both are whole."""

    low: int | float  # the least
    high: int | float  # the most
    log: bool = False  # as many between 1e-4 and 1e-3 as between 1e-3 and 1e-2

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low must be below high, got {self.low} and {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"low must be above 0 where log is true, got {self.low}")
        return self


Choices = Annotated[tuple[Any, ...], Field(min_length=2)]
Candidates = Annotated[
    Annotated[Range, Tag("<range>")] | Annotated[Choices, Tag("<choices>")],
    Discriminator(lambda given: "<range>" if isinstance(given, dict | Range) else "<choices>"),
]


class Tune(Section):
    """A search for settings; see `pipelines.engine.experiments.tuning`."""

    space: Annotated[dict[str, Candidates], Field(min_length=1)]  # by key, dotted as in --set
    trials: Positive = 20  # that are finished, stopped or diverged when the search is over
    metric: Literal["val_loss"] = "val_loss"  # of each trial's best epoch
    prune: Positive | None = None  # epochs after which a trial worse than the median of the others is stopped


class Recipe(Section):
    """What every task's recipe has; the task's file adds its own sections."""

    # what is done: classify, detect, localize, regress, segment, signals, steer, stylize, verify, volumes, or a
    # package.module
    task: Name
    name: Name  # of the run's folder; the file's name unless given
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0  # of splits, first weights, order and augmentation
    fold: Fold | None = None  # which part of the data is tested; `cnn cross-validate` goes through all
    tune: Tune | None = None  # what `cnn tune` tries

    @property
    def untrained(self) -> str | None:
        """Why no network is trained by minibatches; None where one is."""
        return None

    @property
    def undivided(self) -> str | None:
        """Why the data is not divided into folds; None where it can be."""
        return None


def load(reference: str, overrides: Sequence[str] = (), sections: Mapping[str, Any] | None = None) -> Recipe:
    """Read the recipe named `reference` – a shipped one such as `classify/digits-lenet5`, or a YAML file's path.

    Args:
        reference: of the recipe.
        overrides: settings as `--set` has them, `train.epochs=5`.
        sections: settings as the recipe has them, `{"train": {"epochs": 5}}`; what they do not name stays.

    Raises:
        Fault: no such recipe, or anything wrong in it; every error is named at once.
    """
    path = locate(reference)
    document = yaml_file.read(path)
    document.setdefault("name", path.stem)
    for override in overrides:
        _set(document, override)
    for key, value in flatten(sections or {}).items():
        if key:
            _put(document, key, value)
    return validate(document, folder=path.parent)


def locate(reference: str) -> Path:
    """The file of a recipe, or a Fault with the nearest names."""
    for path in (Path(reference), SHIPPED / f"{reference}.yaml"):
        if input_file.is_regular(path) and path.suffix in (".yaml", ".yml"):
            return path.resolve()
    near = _near(reference[:SHOWN])
    suggestion = f"did you mean {' or '.join(near)}?" if near else "`cnn recipes` lists them."
    raise Fault(f"recipe must be a shipped recipe or a .yaml file, {unfound(reference)}; {suggestion}")


def _near(reference: str) -> list[str]:
    """The shipped recipes whose names, behind the task, are like that of a reference; those of its task first."""
    task, _, name = reference.lower().removesuffix(".yaml").rpartition("/")
    likeness: dict[str, float] = {}
    for shipped_name in shipped():
        inner = Path(shipped_name).name
        likeness[shipped_name] = (
            1.0 if name and inner.startswith(name) else difflib.SequenceMatcher(None, inner, name).ratio()
        )
        likeness[shipped_name] += SAME_TASK if shipped_name.startswith(f"{task}/") else 0.0
    near = (name for name, ratio in likeness.items() if ratio >= ALIKE)
    return sorted(near, key=lambda name: -likeness[name])[:3]


def unfound(reference: str) -> str:
    """For a message: what a reference is that leads nowhere."""
    verb = "found no file" if Path(reference).suffix in (".yaml", ".yml") else "got"
    return f"{verb} {value_text(reference)}"


def shipped() -> list[str]:
    """The names of the recipes that come with the package: their folders are tasks, unlike `claims`."""
    names = (path.relative_to(SHIPPED).with_suffix("") for path in SHIPPED.glob("*/*.yaml"))
    return sorted(str(name) for name in names if (TASKS / name.parent / "__init__.py").is_file())


def header(reference: str) -> str:
    """The comment at the head of a recipe's file: what it is, what was published, what we measured."""
    lines = yaml_file.read_text(locate(reference)).splitlines()
    end = next((number for number, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return "\n".join(line.removeprefix("#").strip() for line in lines[:end])


def _set(document: dict[str, Any], override: str) -> None:
    """Apply one `key=value` of the command line; the value is YAML."""
    key, equals, text = override.partition("=")
    if not equals or not all(key.split(".")):
        raise Fault(f"--set must be KEY=VALUE such as train.epochs=5, got {override!r}")
    _put(document, key, yaml_file.parse(text, where=f"--set {key}"))


def _put(document: dict[str, Any], key: str, value: Any) -> None:
    """Change the setting with this dotted key; a path is taken from the working directory."""
    *sections, last = key.split(".")
    for section in sections:
        inner = document.setdefault(section, {})
        if not isinstance(inner, dict):
            raise Fault(f"--set {key}: {section} is a value, not a section")
        document = inner
    if value is None and sections == ["model"]:  # an argument of the builder, which has its own default
        document.pop(last, None)
    else:
        document[last] = _from_here(last, value)


def _from_here(key: str, value: Any) -> Any:
    """A setting's value, its paths and files of Python taken from the working directory."""
    if isinstance(value, dict):
        return {plugins.absolute(inner): _from_here(str(inner), folder) for inner, folder in value.items()}
    if isinstance(value, list):
        return [_from_here(key, item) for item in value]
    if isinstance(value, str | Path) and (key in ("path", "also") or (key == "weights" and value not in catalog.KINDS)):
        try:
            return str(Path.cwd() / Path(value).expanduser())
        except RuntimeError as error:  # a home that nobody has
            raise Fault(f"--set {key}: {error}") from None
    return plugins.absolute(value)


def validate(document: dict[str, Any], *, folder: Path) -> Recipe:
    """Check `document` against the sections of its task; `folder` is what its paths are relative to."""
    document = _without_mixed_precision(document)
    if document.get("task") not in tasks() and not plug_ins.is_module(document.get("task")):
        raise Fault(f"task must be one of {', '.join(tasks())}, got {value_text(document.get('task'))}")
    schema = schema_of(document["task"])
    return parse_section(schema, plug_ins.qualified(_current(document, schema), folder), folder=folder)


def _current(document: dict[str, Any], schema: type[Recipe]) -> dict[str, Any]:
    """The document without former keys that are switched off and mean nothing to its task."""
    train, field = document.get("train"), schema.model_fields.get("train")
    if not isinstance(train, dict) or field is None:
        return document
    known = {key for section in sections(field.annotation) for key in section.model_fields}
    former = {key for key, off in FORMER.items() if key in train and train[key] == off and key not in known}
    return {**document, "train": {key: value for key, value in train.items() if key not in former}}


def _without_mixed_precision(document: dict[str, Any]) -> dict[str, Any]:
    """The document with `train.precision` in the place of `train.mixed_precision` of earlier versions; that is told."""
    train = document.get("train")
    if not isinstance(train, dict) or not isinstance(mixed := train.get("mixed_precision"), bool):
        return document
    if mixed and "precision" in train:
        raise Fault("train.mixed_precision is now train.precision: leave it out")
    painting = document.get("task") == "stylize" and train.get("method", "picture") == "picture"
    half = "bfloat16" if painting else "float16"
    if mixed:
        log.warning("train.mixed_precision: true is now train.precision: %s", half)
    others = {key: value for key, value in train.items() if key != "mixed_precision"}
    return {**document, "train": others | ({"precision": half} if mixed else {})}


def tasks() -> list[str]:
    """The names of all tasks, those that installed packages make known at the end."""
    own = plugins.entry_points("tasks").keys() - set(built_in())
    return [*built_in(), *sorted(own)]


def built_in() -> list[str]:
    """The names of this application's tasks."""
    return sorted(path.parent.name for path in TASKS.glob("*/__init__.py"))


def schema_of(task: str) -> type[Recipe]:
    """What a recipe of a task may hold."""
    schema: type[Recipe] = module_of(task).Recipe
    return schema


def module_of(task: str) -> Any:
    """The package of a task: its recipe, `depends`, `check` and the four verbs; one of the user's own by its module."""
    if task in built_in():
        return importlib.import_module(f"pipelines.tasks.{task}")
    entry = plugins.entry_points("tasks").get(task)
    return plugins.load(entry.value if entry else task)
