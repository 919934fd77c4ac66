"""How well distances tell whether two pictures show the same person: rates, thresholds, ranks, with their intervals.

Huang et al., "Labeled faces in the wild", 2007 (accuracy in ten folds); Phillips, Grother and Micheals, "Evaluation
methods in face recognition", 2011 (cumulative match characteristic; detection and identification rate of an open set).

A pair is accepted, called the same, when its distance is at most the threshold. FAR is the share of pairs of two people
that are accepted, TAR that of pairs of one person; FRR is 1 − TAR. `distance` is real (pairs,), `same` bool (pairs,).
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np


class Pairs(NamedTuple):
    """Every pair of two of N pictures: rows `left` < `right`, int (pairs,), their distance, whether they are same."""

    left: np.ndarray
    right: np.ndarray
    distance: np.ndarray
    same: np.ndarray


class Rates(NamedTuple):
    """False- and true-accept rates, float64 (K,), rising with the thresholds; the first accepts nothing."""

    threshold: np.ndarray
    far: np.ndarray
    tar: np.ndarray


def all_pairs(distances, labels):
    """The pairs of N pictures with `distances`, real (N, N), and `labels`, integers (N,)."""
    left, right = np.triu_indices(len(labels), 1)
    return Pairs(left, right, np.asarray(distances)[left, right], labels[left] == labels[right])


def rates(distance, same, weight=None):
    """The rates at every threshold that tells pairs apart; `weight`, real (pairs,), counts each pair so many times.

    Raises:
        ValueError: there are no pairs of one person, or none of two.
    """
    same, order = np.asarray(same, bool), np.argsort(distance, kind="stable")
    weight = np.ones(len(same)) if weight is None else weight
    if not (weight[same].sum() and weight[~same].sum()):
        raise ValueError("same must hold pairs of one person and pairs of two")
    return _rates(np.asarray(distance, np.float64)[order], same[order], weight[order])


def _rates(distance, same, weight):
    last = np.append(distance[1:] != distance[:-1], True)  # equal distances are accepted together
    accepted = [np.append(0.0, np.cumsum(np.where(kind, weight, 0.0))[last]) for kind in (~same, same)]
    far, tar = (sums / sums[-1] for sums in accepted)
    return Rates(np.append(-np.inf, distance[last]), far, tar)


def area(found):
    """The area under the curve of TAR over FAR, in [0, 1]: how often a same pair is closer than another."""
    return float(np.trapezoid(found.tar, found.far))


def equal_error(found):
    """The rate at which false accepts and false rejects are the same share, in [0, 1], between two thresholds."""
    gap = found.far - (1 - found.tar)  # rises from -1 to 1
    after = int(np.argmax(gap >= 0))
    share = -gap[after - 1] / (gap[after] - gap[after - 1])
    return float(found.far[after - 1] + share * (found.far[after] - found.far[after - 1]))


def accepts_at(found, far):
    """The highest TAR whose FAR is at most `far`."""
    return float(found.tar[found.far <= far][-1])


def threshold_at(found, far):
    """The largest threshold whose FAR is at most `far`; it accepts nothing where the very first pair is false."""
    return float(found.threshold[found.far <= far][-1])


def false_accept_curve(found, points=64):
    """A short table of the FAR at rising thresholds, for `threshold_for`: float64 (K, 2), K at most `points`.

    It begins with the first false accept; in between stand rates that are evenly spread in their logarithm.
    """
    known = np.flatnonzero(np.diff(found.far, prepend=0) > 0)
    wanted = np.geomspace(found.far[known[0]], 1, points)
    rows = known[np.unique(np.searchsorted(found.far[known], wanted).clip(max=len(known) - 1))]
    return np.stack([found.threshold[rows], found.far[rows]], axis=1)


def false_reject_curve(distance, points=33):
    """A short table of the FRR at rising thresholds, for `rejects_at`: float64 (points, 2).

    Args:
        distance: of pairs of one person, real (pairs,).
    """
    shares = np.linspace(0, 1, points)
    return np.stack([np.quantile(distance, shares), 1 - shares], axis=1)


def rejects_at(curve, threshold):
    """The FRR at a threshold, between the rows of a `false_reject_curve`: a float."""
    thresholds, rates = np.asarray(curve, np.float64).T
    return float(np.interp(threshold, thresholds, rates, left=1.0, right=0.0))


def threshold_for(curve, far):
    """The threshold whose FAR is `far`, between the rows of a `false_accept_curve` or below the first of them.

    Below, where no pair was accepted at all, the straight line of log FAR over the threshold is drawn on that the
    lowest tenfold of rates lies on. Distances of strangers thin out faster than that, so it errs to the strict side.

    Returns:
        (threshold, measured): a float, and whether it lies between rows.
    """
    thresholds, rates = np.asarray(curve, np.float64).T
    if far >= rates[0] or len(rates) < 2:
        return float(np.interp(np.log(far), np.log(rates), thresholds)), bool(far >= rates[0])
    low = rates <= max(10 * rates[0], rates[1])
    rise, start = np.polyfit(thresholds[low], np.log(rates[low]), 1)
    drawn = (np.log(far) - start) / rise
    return float(np.clip(drawn, 0, thresholds[0])), False


def rates_of(distance, same, threshold):
    """(FAR, FRR) of pairs at one threshold."""
    accepted = np.asarray(distance) <= threshold
    return float(accepted[~same].mean()), float((~accepted[same]).mean())


def resampled(pairs, labels, *, draws, seed=0) -> Iterator[tuple[Rates, np.ndarray]]:
    """Rates as other people would give them: a bootstrap over identities, not over pairs, which are not independent.

    Of P people P are drawn with repetition; a pair of one person counts as often as that person was drawn, one of two
    as often as both. Each draw is given with the weights of the pairs in their order.
    """
    generator, people = np.random.default_rng(seed), len(np.unique(labels))
    numbers = np.unique(labels, return_inverse=True)[1]
    left, right, order = numbers[pairs.left], numbers[pairs.right], np.argsort(pairs.distance, kind="stable")
    distance, same = np.asarray(pairs.distance, np.float64)[order], pairs.same[order]
    for _ in range(draws):
        times = np.bincount(generator.integers(people, size=people), minlength=people)
        weight = np.where(pairs.same, times[left], times[left] * times[right]).astype(float)
        if weight[pairs.same].sum() and weight[~pairs.same].sum():
            yield _rates(distance, same, weight[order]), weight


def fold_accuracy(distance, same, folds):
    """The accuracy of each fold at the threshold that is best on all the others, float64 (folds,).

    Args:
        folds: the fold of each pair, integers (pairs,) from 0.
    """
    return np.array(
        [
            np.mean(
                (distance[folds == fold] <= _best_threshold(distance[folds != fold], same[folds != fold]))
                == same[folds == fold]
            )
            for fold in range(folds.max() + 1)
        ]
    )


def _best_threshold(distance, same):
    order = np.argsort(distance, kind="stable")
    distance, same = distance[order], same[order]
    right = np.append(0, np.cumsum(np.where(same, 1, -1)))  # right answers more than when nothing is accepted
    best = int(np.argmax(right))
    if best == 0:
        return -np.inf
    return distance[best - 1] if best == len(distance) else (distance[best - 1] + distance[best]) / 2


def match_characteristic(distances, labels):
    """How often the right person is among the K nearest of a gallery with one picture of each: float64 (people,).

    Every picture but those enrolled is a probe; the mean over the enrolments of each person's first picture, second
    and so on. Of equal distances the right one counts as the last.

    Args:
        distances: real (N, N); labels: integers (N,) of people with two pictures or more, at least.
    """
    rows = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    found = np.zeros(len(rows))
    probes = 0
    for enrolment in range(max(map(len, rows))):
        gallery = np.array([own[enrolment % len(own)] for own in rows])
        others = np.setdiff1d(np.arange(len(labels)), gallery)
        person = np.searchsorted(np.unique(labels), labels[others])
        against = distances[np.ix_(others, gallery)]
        own = against[np.arange(len(others)), person]
        ranks = (against <= own[:, None]).sum(axis=1)
        found += np.bincount(ranks - 1, minlength=len(rows))
        probes += len(others)
    return np.cumsum(found) / probes


def identification_rate(distances, labels, fars, *, draws=20, seed=0):
    """How often an enrolled person is named rightly when strangers are to be refused: float64 (fars,).

    In every draw half the people are enrolled with one picture each; their other pictures must be named – nearest and
    within the threshold – and all pictures of the others refused. The threshold lets `fars` of these pass.
    """
    generator, people = np.random.default_rng(seed), np.unique(labels)
    shares = []
    for _ in range(draws):
        known = generator.permutation(people)[: len(people) // 2]
        gallery = np.array([generator.choice(np.flatnonzero(labels == label)) for label in known])
        mated = np.setdiff1d(np.flatnonzero(np.isin(labels, known)), gallery)
        strangers = np.flatnonzero(~np.isin(labels, known))
        nearest = distances[np.ix_(mated, gallery)]
        right = known[nearest.argmin(axis=1)] == labels[mated]
        closest = np.sort(distances[np.ix_(strangers, gallery)].min(axis=1))
        # The largest threshold that lets no more than the share pass lies just below the next stranger.
        limits = [closest[min(int(far * len(closest)), len(closest) - 1)] for far in fars]
        shares.append([np.mean(right & (nearest.min(axis=1) < limit)) for limit in limits])
    return np.mean(shares, axis=0)
