"""What evaluate says about an embedder: how often it errs on people it never saw, at which threshold, against what."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cnn_keras import verification
from pipelines import embedder, intake, labelled, stages

if TYPE_CHECKING:
    import keras

    from cnn_keras.data.batch import Arrays
    from pipelines.embedder import Evaluate
    from pipelines.stages import Run

Array = np.ndarray[Any, np.dtype[Any]]

FARS = (0.1, 0.01, 0.001, 0.0001)
RANKS = (1, 5)
FOLDS = 10
COMPONENTS = 128  # of the eigenfaces


@dataclass(frozen=True)
class Answers:
    """Pictures of one split as the model sees them: N of them, with their embeddings and all their distances."""

    pictures: "Arrays"
    embeddings: Array  # float32 (N, dimension)
    distances: Array  # float32 (N, N)

    @property
    def labels(self) -> Array:
        labels: Array = self.pictures.labels
        return labels

    @property
    def pairs(self) -> verification.Pairs:
        return verification.all_pairs(self.distances, self.labels)


def evaluate(run: "Run", folder: Path) -> dict[str, Any]:
    """Measure the model of the stage train on the test people; leave report, tables and pictures in `folder`."""
    from pipelines import verification_charts

    recipe, data = run.recipe, run.facts("prepare")
    settings: Evaluate = recipe.evaluate
    models = embedder.trained(run)
    calibrating, split = labelled.validation_split(data), labelled.test_split(data)
    reference = answers(run, models, calibrating)
    found = answers(run, models, split)
    report = measured(found, settings, folds=_folds(run, found), seed=recipe.seed)
    report |= {"split": split, "calibrated_on": calibrating, "far": settings.far, "loss": recipe.train.loss}
    report["calibration"] = calibrated(reference, found, settings, seed=recipe.seed)
    if settings.baselines:
        run.console.print("          fitting baselines")
        report["baselines"] = baselines(run, found)
    stages.write_json(folder / "report.json", report)
    stages.write_text(folder / "roc.csv", _roc_csv(found))
    verification_charts.draw(found, report, folder, worst=settings.worst)
    _say(run, report)
    numbers = {key: report[key] for key in ("auc", "eer", "accuracy", "rank_1")}
    numbers |= {f"tar_at_far_{far}": row["tar"] for far, row in report["tar_at_far"].items()}
    metrics = {f"test_{key}": value for key, value in numbers.items()}
    metrics |= {key: report["calibration"][key] for key in embedder.RATES}
    return {"metrics": metrics, "failed": embedder.failed(settings, {**report, "tar": _tar(report, settings.far)})}


def answers(run: "Run", models: "tuple[keras.Model, keras.Model]", split: str) -> Answers:
    """The model's embeddings of a split, or of people drawn from it where it is too large to compare all pairs."""
    from cnn_keras.data import batch

    recipe = run.recipe
    pictures = batch.arrays(run.finished("prepare"), split, labelled.shape_of(recipe.data))
    chosen = _of_people(pictures.labels, recipe.evaluate.pictures, recipe.seed)
    if len(chosen) < len(pictures.labels):
        run.console.print(f"          {split}: {len(chosen):,} of {len(pictures.labels):,} pictures, of people drawn")
    pictures = type(pictures)(*(column[chosen] for column in pictures))
    embedding, matcher = models
    rows = []
    with intake.progress(run.console) as bar:
        task = bar.add_task(f"embedding {split}", total=len(chosen))
        for images in np.array_split(pictures.images, max(1, len(chosen) // 64)):
            rows.append(np.asarray(embedding(images, training=False), np.float32))
            bar.advance(task, len(images))
    embeddings = np.concatenate(rows)
    return Answers(pictures, embeddings, embedder.distances(matcher, embeddings, embeddings))


def measured(found: Answers, settings: "Evaluate", *, folds: Array | None, seed: int) -> dict[str, Any]:
    """All figures of one split that need no threshold; intervals hold 95 % of a bootstrap over identities."""
    pairs, labels = found.pairs, found.labels
    rates = verification.rates(pairs.distance, pairs.same)
    draws = [rates for rates, _ in verification.resampled(pairs, labels, draws=settings.draws, seed=seed)]
    others = int((~pairs.same).sum())
    accuracy = _fold_accuracy(pairs, folds, seed)
    ranks = verification.match_characteristic(found.distances, labels)
    opened = verification.identification_rate(found.distances, labels, FARS[:3], seed=seed)
    return {
        "pictures": len(labels),
        "people": len(np.unique(labels)),
        "pairs": {"same": int(pairs.same.sum()), "other": others},
        "auc": verification.area(rates),
        "auc_interval": _interval([verification.area(each) for each in draws]),
        "eer": verification.equal_error(rates),
        "eer_interval": _interval([verification.equal_error(each) for each in draws]),
        "tar_at_far": {
            f"{far:g}": {
                "tar": verification.accepts_at(rates, far),
                "interval": _interval([verification.accepts_at(each, far) for each in draws]),
                "false_accepts": int(far * others),  # with none allowed the figure says little
            }
            for far in FARS
        },
        "accuracy": float(accuracy.mean()),
        "accuracy_standard_error": float(accuracy.std(ddof=1) / len(accuracy) ** 0.5),
        "accuracy_folds": "of the list of pairs"
        if folds is not None
        else "of all same pairs and as many others, drawn",
        **{f"rank_{rank}": float(ranks[min(rank, len(ranks)) - 1]) for rank in RANKS},
        "match_characteristic": ranks.tolist(),
        "identification_at_far": {f"{far:g}": float(rate) for far, rate in zip(FARS, opened, strict=False)},
        "distance": {
            kind: {"mean": float(chosen.mean()), "deviation": float(chosen.std())}
            for kind, chosen in (("same", pairs.distance[pairs.same]), ("other", pairs.distance[~pairs.same]))
        },
    }


def calibrated(reference: Answers, found: Answers, settings: "Evaluate", *, seed: int) -> dict[str, Any]:
    """The threshold at the stated FAR of the reference people's pairs, and the rates that strangers then measure."""
    pairs, tested = reference.pairs, found.pairs
    rates = verification.rates(pairs.distance, pairs.same)
    threshold = verification.threshold_at(rates, settings.far)
    accepts, rejects = verification.rates_of(tested.distance, tested.same, threshold)
    there = verification.rates_of(pairs.distance, pairs.same, threshold)
    accepted = tested.distance <= threshold
    spread = []
    for _, weight in verification.resampled(tested, found.labels, draws=settings.draws, seed=seed):
        spread.append(
            [
                np.average(accepted[~tested.same], weights=weight[~tested.same]),
                np.average(~accepted[tested.same], weights=weight[tested.same]),
            ]
        )
    intervals = [_interval(column) for column in zip(*spread, strict=True)]
    return {
        "threshold": threshold,
        "false_accept_rate": accepts,
        "false_accept_interval": intervals[0],
        "false_reject_rate": rejects,
        "false_reject_interval": intervals[1],
        "calibration_false_accept_rate": there[0],
        "calibration_false_reject_rate": there[1],
        "calibration_people": len(np.unique(reference.labels)),
        "calibration_pairs": len(pairs.same),
        "false_accepts": verification.false_accept_curve(rates).tolist(),
        "false_rejects": verification.false_reject_curve(pairs.distance[pairs.same]).tolist(),
    }


def baselines(run: "Run", found: Answers) -> dict[str, Any]:
    """What needs no network, on the same pairs: the pixels themselves, and eigenfaces fitted on the training people."""
    from cnn_keras.data import batch

    prepared, shape = run.finished("prepare"), labelled.shape_of(run.recipe.data)
    pixels = _flat(found.pictures.images)
    train = _flat(batch.arrays(prepared, "train", shape, limit=embedder.COMPARED * 8).images)
    axes = _eigenfaces(train)
    vectors = {"raw pixels": pixels, f"eigenfaces ({len(axes)})": (pixels - train.mean(axis=0)) @ axes.T}
    report = {}
    for name, rows in vectors.items():
        pairs = verification.all_pairs(_squared(rows), found.labels)
        rates = verification.rates(pairs.distance, pairs.same)
        figures = {"auc": verification.area(rates), "eer": verification.equal_error(rates)}
        report[name] = {**figures, "tar_at_far_0.01": verification.accepts_at(rates, 0.01)}
    return report


def _flat(images: Array) -> Array:
    """Pixels, float32 in [0, 1], a row for each picture, large ones averaged down."""
    from pipelines.baselines import shrink

    return shrink(images, 128).reshape(len(images), -1) / np.float32(255)


def _eigenfaces(rows: Array) -> Array:
    """The principal axes, float32 (components, numbers): Turk and Pentland, "Eigenfaces for recognition", 1991."""
    from sklearn.decomposition import PCA

    fitted = PCA(min(COMPONENTS, len(rows) - 1), svd_solver="randomized", random_state=0).fit(rows)
    return np.asarray(fitted.components_, np.float32)


def _squared(rows: Array) -> Array:
    lengths = (rows**2).sum(axis=1)
    distances: Array = np.maximum(lengths[:, None] + lengths[None, :] - 2 * rows @ rows.T, 0)
    return distances


def _of_people(labels: Array, most: int, seed: int) -> Array:
    """Rows of people drawn at random, whole people, at most so many rows; sorted."""
    if len(labels) <= most:
        return np.arange(len(labels))
    rows: list[int] = []
    for person in np.random.default_rng(seed).permutation(np.unique(labels)):
        own = np.flatnonzero(labels == person).tolist()
        if len(rows) + len(own) <= most:
            rows += own
    return np.array(sorted(rows))


def _folds(run: "Run", found: Answers) -> Array | None:
    """The folds of a list of pairs, one number for each of all pairs, -1 for those that are not on the list."""
    from cnn_keras.data import identities

    listed = run.recipe.data.pairs
    if listed is None:
        return None
    rows = {str(name).rpartition(".")[0]: row for row, name in enumerate(found.pictures.ids)}
    number = len(rows)
    table = np.full((number, number), -1)
    for pair in identities.lfw_pairs(listed.path):
        if pair.left in rows and pair.right in rows:
            left, right = sorted((rows[pair.left], rows[pair.right]))
            table[left, right] = pair.fold
    return table[np.triu_indices(number, 1)]


def _fold_accuracy(pairs: verification.Pairs, folds: Array | None, seed: int) -> Array:
    """LFW's accuracy: of listed pairs, or of all same pairs and as many others, drawn, in ten folds."""
    if folds is None:
        generator = np.random.default_rng(seed)
        folds = np.full(len(pairs.same), -1)
        same, other = np.flatnonzero(pairs.same), np.flatnonzero(~pairs.same)
        for kind in (same, other):
            drawn = generator.permutation(kind)[: min(len(same), len(other))]
            folds[drawn] = np.arange(len(drawn)) % FOLDS
    listed = folds >= 0
    found: Array = verification.fold_accuracy(pairs.distance[listed], pairs.same[listed], folds[listed])
    return found


def _interval(values: Any) -> list[float]:
    """The middle 95 % of a bootstrap."""
    return [float(value) for value in np.quantile(values, (0.025, 0.975))]


def _tar(report: Mapping[str, Any], far: float) -> float:
    return float(report["tar_at_far"].get(f"{far:g}", {"tar": 0.0})["tar"])


def _roc_csv(found: Answers) -> str:
    pairs = found.pairs
    rates = verification.rates(pairs.distance, pairs.same)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["threshold", "far", "tar"])
    every = np.linspace(1, len(rates.far) - 1, min(len(rates.far) - 1, 2000)).astype(int)
    writer.writerows([f"{rates.threshold[k]:.6f}", f"{rates.far[k]:.6f}", f"{rates.tar[k]:.6f}"] for k in every)
    return out.getvalue()


def rates_of(report: Mapping[str, Any]) -> dict[str, float]:
    """The threshold and the error rates that an answer is given with."""
    return {name: float(report["calibration"][name]) for name in embedder.RATES}


def _say(run: "Run", report: Mapping[str, Any]) -> None:
    say, calibration = run.console.print, report["calibration"]
    unseen = "unseen " if report["split"] == "test" else ""
    say(
        f"          {report['people']} {unseen}people, {report['pictures']:,} pictures: "
        f"AUC [bold]{report['auc']:.4f}[/] (95 % {spanned(report['auc_interval'], '.4f')}), "
        f"equal error rate [bold]{report['eer']:.2%}[/] ({spanned(report['eer_interval'], '.2%')})"
    )
    say(
        f"          threshold {calibration['threshold']:.4f}, a FAR of {report['far']:g} on {report['calibrated_on']}: "
        f"here {calibration['false_accept_rate']:.2%} false accepts, {calibration['false_reject_rate']:.2%} false "
        f"rejects; rank 1 {report['rank_1']:.2%}"
    )
    for name, row in report.get("baselines", {}).items():
        better = "  [yellow]better than the network[/]" if row["auc"] > report["auc"] else ""
        say(f"          [dim]{name:>20} AUC {row['auc']:.4f}, equal error rate {row['eer']:.2%}[/]{better}")


def spanned(interval: Sequence[float], form: str) -> str:
    """The two ends in words."""
    low, high = interval
    return f"{low:{form}} to {high:{form}}"
