"""`cnn export --format`: a trained network in other formats, each proved on the test split before it is there."""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from cnn_keras import inference
from cnn_keras.data.files import durable
from cnn_keras.errors import Fault
from pipelines.data import image_dataset, run_files, validation
from pipelines.engine.stages import Run, locked
from pipelines.engine.startup import silent_libraries
from pipelines.export import formats, runtimes
from pipelines.export.formats import Convertible, Outputs
from pipelines.export.runtimes import Array, Ask, Target

AT_ONCE = 32  # rows of a proof's batches, at most


class Proof(NamedTuple):
    """How a converted network compares with the trained one on a split.

    Attributes:
        split, examples: that both were asked about.
        difference: the largest of any output, see `Convertible.difference`.
        changed, decisions: decisions that differ, of so many.
        metric: the task's, by name.
        value, interval: of the metric of the converted network, and its interval of 95 %.
        original, original_interval: those of the trained one.
    """

    split: str
    examples: int
    difference: float
    changed: int
    decisions: int
    metric: str
    value: float
    interval: tuple[float, float]
    original: float
    original_interval: tuple[float, float]


def export(run: Run, wanted: Sequence[Target]) -> list[dict[str, Any]]:
    """Convert the trained network, prove every target on the test split, and publish those below `formats/`.

    Returns:
        The descriptions, which `network.json` has.

    Raises:
        Fault: the network cannot be converted, or loses more of the task's metric than `export.max_drop`.
    """
    with locked(run.folder):
        return _export(run, wanted)


def _export(run: Run, wanted: Sequence[Target]) -> list[dict[str, Any]]:
    convertible: Convertible = run.task.convertible(run)
    for target in wanted:
        formats.check(convertible.model, target)
    rows = calibration_rows(run, convertible) if any(target.precision == "int8" for target in wanted) else None
    folders = [run.folder / f".{runtimes.FOLDER}-{target}.partial" for target in wanted]
    try:
        for target, folder in zip(wanted, folders, strict=True):
            run.console.print(f"          converting to {target.format}, {target.precision}")
            _write(run, convertible, target, folder, rows)
            runtimes.try_apart(folder)
        with silent_libraries():
            networks = [runtimes.Network(folder) for folder in folders]
        return _publish(run, convertible.sign, networks, prove(run, convertible, networks))
    finally:
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)


def _write(run: Run, convertible: Convertible, target: Target, folder: Any, rows: Array | None) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    durable.mkdir(folder)
    with silent_libraries():
        formats.write(convertible, folder, target, rows)
    tensor, exported = convertible.tensor, run.facts("export")
    description = {
        "task": run.recipe.task,
        "name": exported["name"],
        "version": exported["version"],
        **target._asdict(),
        **({"calibration": len(rows)} if rows is not None and target.precision == "int8" else {}),
        "file": runtimes.FORMATS[target.format].file,
        "input": {"name": tensor.name, "dtype": tensor.dtype.name, "shape": tensor.shape.as_list()},
        **convertible.about,
        "trained": run.facts("train").get("digest"),
        "bytes": runtimes.size(folder),
    }
    reference = run.folder / "export" / exported["name"] / str(exported["version"]) / run_files.REFERENCE
    if reference.is_file():
        durable.mkdir((folder / run_files.REFERENCE).parent)
        shutil.copyfile(reference, folder / run_files.REFERENCE)
    run_files.write_json(folder / runtimes.DESCRIPTION, description)


def calibration_rows(run: Run, convertible: Convertible) -> Array:
    """Rows of the network's input, `export.calibration` of them, drawn evenly from the whole training split.

    Where a network is asked about parts of an example, as a segmenter about patches, those are drawn from.

    Raises:
        Fault: there is no training split.
    """
    count = run.facts("prepare")["splits"].get("train", 0)
    if not count:
        raise Fault("--precision int8 must be calibrated on a training split, and the prepared data has none")

    def examples() -> Iterator[Any]:
        with validation.progress(run.console) as bar:
            task = bar.add_task("reading training examples", total=count)
            for inputs, _ in convertible.examples("train"):
                rows = [inputs] if convertible.ask else inputs
                yield from rows
                bar.advance(task, len(rows))

    rows = _sample(examples(), run.recipe.export.calibration, run.recipe.seed)
    if convertible.ask:
        rows = _sample(_asked_about(convertible, rows), run.recipe.export.calibration, run.recipe.seed)
    return np.stack(rows).astype(convertible.tensor.dtype.as_numpy_dtype)


def _sample(stream: Iterable[Any], size: int, seed: int) -> list[Any]:
    """So many of a stream, each as likely as any other; all, where there are no more. (Vitter's algorithm R, 1985.)"""
    generator = np.random.default_rng(seed)
    kept: list[Any] = []
    for number, one in enumerate(stream):
        place = number if number < size else int(generator.integers(number + 1))
        if place < size:
            kept[place : place + 1] = [np.array(one)]
    return kept


def _asked_about(convertible: Convertible, examples: Sequence[Any]) -> Iterator[Any]:
    """The rows that a network is asked about for each of these examples."""
    graph = tf.function(convertible.answer, autograph=False).get_concrete_function(convertible.tensor)
    shapes = {name: output.shape[1:] for name, output in graph.structured_outputs.items()}
    rows: list[Any] = []

    def ask(batch: Array) -> dict[str, Array]:
        rows.extend(batch)
        return {name: np.zeros((len(batch), *shape), np.float32) for name, shape in shapes.items()}

    for example in examples:
        convertible.ask(ask, example)  # type: ignore[misc]
        yield from rows
        rows.clear()


def prove(run: Run, convertible: Convertible, networks: Sequence[runtimes.Network]) -> list[Proof]:
    """Ask the trained and the converted networks about the whole test split."""
    split = image_dataset.test_split(run.facts("prepare"))
    is_sized = None not in convertible.model.input.shape[1:]
    shape = None if is_sized else convertible.tensor.shape[1:]  # a graph may resize or cut what the network is given
    at_once = min(AT_ONCE, inference.batch_limit(convertible.model, input_shape=shape))
    networks_asked: list[Ask] = [inference.compiled(convertible.answer), *networks]
    trained, *asked = [
        partial(convertible.ask or _in_batches, partial(inference.predict_in_batches, ask, size=at_once))
        for ask in networks_asked
    ]
    count, changed, decisions = 0, np.zeros(len(networks), int), np.zeros(len(networks), int)
    differences = np.zeros(len(networks))
    scores: list[list[Any]] = [[] for _ in range(len(networks) + 1)]  # the trained network's are the last
    with validation.progress(run.console) as bar:
        task = bar.add_task("comparing", total=run.facts("prepare")["splits"].get(split))
        for inputs, truth in convertible.examples(split):
            expected = trained(inputs)
            scores[-1].append(convertible.score(expected, truth))
            for number, ask in enumerate(asked):
                actual = ask(inputs)
                differences[number] = max(differences[number], _difference(convertible, expected, actual))
                changed[number], decisions[number] = np.add(
                    (changed[number], decisions[number]), convertible.changed(expected, actual)
                )
                scores[number].append(convertible.score(actual, truth))
            rows = 1 if convertible.ask else len(inputs)
            count += rows
            bar.advance(task, rows)
    *measured, original = [convertible.measure(rows) for rows in scores]
    return [
        Proof(split, count, float(differences[number]), int(changed[number]), int(decisions[number]),
              convertible.metric, *figure, *original)
        for number, figure in enumerate(measured)
    ]  # fmt: skip


def _in_batches(ask: Ask, inputs: Any) -> Outputs:
    return ask(inputs)


def _difference(convertible: Convertible, expected: Outputs, actual: Outputs) -> float:
    """The largest of any output that is no class, as the task compares them; infinite where one is not a number."""
    names = [name for name in expected if np.asarray(expected[name]).dtype.kind == "f"]
    one, other = ({name: np.asarray(outputs[name], np.float64) for name in names} for outputs in (expected, actual))
    if any(np.isnan(values).any() for outputs in (one, other) for values in outputs.values()):
        return float("inf")
    if convertible.difference:
        return convertible.difference(one, other)
    return max(float(np.abs(one[name] - other[name]).max(initial=0.0)) for name in names)


def _publish(
    run: Run, sign: int, networks: Sequence[runtimes.Network], proofs: Sequence[Proof]
) -> list[dict[str, Any]]:
    """Put the networks in their place whose metric holds; a Fault names those that do not."""
    most = run.recipe.export.max_drop
    published, lost = [], []
    for network, proof in zip(networks, proofs, strict=True):
        description = {**network.description, "proof": proof._asdict(), "versions": run_files.versions()}
        target = Target(description["format"], description["precision"])
        drop = sign * (proof.original - proof.value)
        run.console.print(f"          {target}: {_sentence(proof, description['bytes'])}", highlight=False)
        if not drop <= most:
            lost.append(f"{target} loses {drop:.4f} of {proof.metric}, more than export.max_drop {most}")
            continue
        run_files.write_json(network.folder / runtimes.DESCRIPTION, description)
        place = run.folder / runtimes.FOLDER / str(target)
        runtimes.set_aside(place, description["version"])
        run_files.publish(network.folder, place, keep=False)
        published.append(description)
    if lost:
        raise Fault("\n".join(lost), code=Fault.GATE)
    return published


def _sentence(proof: Proof, size: int) -> str:
    low, high = proof.interval
    return (
        f"{size / 1e6:.2f} MB; {proof.metric} {proof.value:.4f} ({low:.4f} to {high:.4f}) beside {proof.original:.4f}; "
        f"{proof.changed:,} of {proof.decisions:,} decisions changed; largest difference {proof.difference:.1e}"
    )
