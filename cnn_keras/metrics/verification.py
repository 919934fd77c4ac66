"""How well distances tell whether two pictures show the same person: rates, thresholds, ranks, with their intervals.

Huang et al., "Labeled faces in the wild", 2007 (accuracy in ten folds); Phillips, Grother and Micheals, "Evaluation
methods in face recognition", 2011 (cumulative match characteristic; detection and identification rate of an open set);
Lake et al., "One shot learning of simple visual concepts", 2011 (accuracy among N classes).

A pair is accepted, called the same, when its distance is at most the threshold. FAR is the share of pairs of two people
that are accepted, TAR that of pairs of one person; FRR is 1 − TAR. `distance` is real (pairs,), `same` bool (pairs,).
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy import sparse, stats

from cnn_keras.errors import Fault

POINTS = 4096  # thresholds at which the rates of draws are told
CONFIDENCE = 0.95  # that a bound of the FAR holds
FARTHER = 1.5  # times as far below the measured thresholds as a straight line says; `tests/benchmarks/bench_far.py`
CELLS = 2**23  # weights of pairs of people that are held at once


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


class Episodes(NamedTuple):
    """Whether each of the few-shot questions was answered rightly, bool (episodes,), and whom it asked about, int64."""

    right: np.ndarray
    identity: np.ndarray

    def interval(self, draws: int = 1000, seed: int = 0) -> list[float]:
        """The middle 95 % of the accuracy in a bootstrap over the identities asked about."""
        _, place = np.unique(self.identity, return_inverse=True)
        asked, right = np.bincount(place), np.bincount(place, weights=self.right)
        rows = np.random.default_rng(seed).integers(len(asked), size=(draws, len(asked)))
        return [float(end) for end in np.quantile(right[rows].sum(axis=1) / asked[rows].sum(axis=1), (0.025, 0.975))]


def all_pairs(distances: np.ndarray, labels: np.ndarray) -> Pairs:
    """The pairs of N pictures with `distances`, real (N, N), and `labels`, integers (N,)."""
    left, right = np.triu_indices(len(labels), 1)
    return Pairs(left, right, np.asarray(distances)[left, right], labels[left] == labels[right])


def rates(distance: np.ndarray, same: np.ndarray) -> Rates:
    """The rates at every threshold that tells pairs apart, from distances and bools, each (pairs,).

    Raises:
        ValueError: there are no pairs of one person, or none of two.
    """
    same, order = np.asarray(same, bool), np.argsort(distance, kind="stable")
    if same.all() or not same.any():
        raise ValueError("same must hold pairs of one person and pairs of two")
    distance, same = np.asarray(distance, np.float64)[order], same[order]
    last = np.append(distance[1:] != distance[:-1], True)  # equal distances are accepted together
    far, tar = (np.append(0.0, np.cumsum(kind)[last] / kind.sum()) for kind in (~same, same))
    return Rates(np.append(-np.inf, distance[last]), far, tar)


def roc_auc(rates: Rates) -> float:
    """The area under the curve of TAR over FAR, in [0, 1]: how often a same pair is closer than another."""
    return float(np.trapezoid(rates.tar, rates.far))


def equal_error_rate(rates: Rates) -> float:
    """The rate at which false accepts and false rejects are the same share, in [0, 1], between two thresholds."""
    gap = rates.far - (1 - rates.tar)  # rises from -1 to 1
    after = int(np.argmax(gap >= 0))
    share = -gap[after - 1] / (gap[after] - gap[after - 1])
    return float(rates.far[after - 1] + share * (rates.far[after] - rates.far[after - 1]))


def true_accept_rate(rates: Rates, far: float) -> float:
    """The highest TAR whose FAR is at most `far`."""
    return float(rates.tar[rates.far <= far][-1])


def false_accept_bounds(pairs: Pairs, labels: np.ndarray, points: int = 100) -> np.ndarray:
    """A short table of what the FAR is at most at rising thresholds, for `threshold_for`: float64 (K, 2), both rising.

    What pairs measure is right on average, and for half of all other people too low. The bound is the upper end of an
    interval over people, right for CONFIDENCE of them: Student's t with P − 1 degrees of freedom on the logarithm of
    the FAR, whose error is that of the jackknife which leaves out one person with all pairs, because pairs that share a
    person are not independent (Efron and Stein, "The jackknife estimate of variance", 1981). It begins with the first
    false accept; in between stand rates that are evenly spread in their logarithm.

    Args:
        labels: integers (N,) of the pictures that the pairs are of, two people or more.
    """
    numbers = np.unique(labels, return_inverse=True)[1]
    people, others = int(numbers.max()) + 1, ~pairs.same
    distance = np.sort(pairs.distance[others]).astype(np.float64)
    threshold = np.unique(distance[np.geomspace(1, len(distance), points).astype(int) - 1])
    place = np.searchsorted(threshold, pairs.distance[others])
    sides = [numbers[side[others]] * len(threshold) + place for side in (pairs.left, pairs.right)]
    each = np.sum([np.bincount(side, minlength=people * len(threshold)) for side in sides], axis=0)
    accepts = np.cumsum(each.reshape(people, -1), axis=1)  # that a person has a part in
    every, total = accepts.sum(axis=0) / 2, accepts[:, -1:].sum() / 2
    far = every / total
    if people > 2:
        without = (every - accepts) / (total - accepts[:, -1:])
        error = np.sqrt((people - 1) / people * np.square(without - without.mean(axis=0)).sum(axis=0))
    else:
        error = far  # of one pair of people nothing is known about others
    bound = np.minimum(far * np.exp(stats.t.ppf(CONFIDENCE, people - 1) * error / far), 1)
    bound = np.maximum.accumulate(bound)
    last = np.append(bound[1:] > bound[:-1], True)
    return np.stack([threshold[last], bound[last]], axis=1)


def least_shown(people: int) -> float:
    """The least FAR that so many people can show: what is to be feared where none of their pairs was accepted.

    Of N pairs of people without an accept the rate is at most 1 − 0.05^(1 / N), about 3 / N, with a CONFIDENCE of 0.95
    (Hanley and Lippman-Hand, "If nothing goes wrong, is everything all right?", 1983). More pictures of the same people
    show no more.
    """
    return 1 - (1 - CONFIDENCE) ** (2 / (people * (people - 1)))


def false_reject_curve(distance: np.ndarray, points: int = 33) -> np.ndarray:
    """A short table of the FRR at rising thresholds, for `false_reject_rate`: float64 (points, 2).

    Args:
        distance: of pairs of one person, real (pairs,).
    """
    shares = np.linspace(0, 1, points)
    return np.stack([np.quantile(distance, shares), 1 - shares], axis=1)


def false_reject_rate(curve: Sequence[Sequence[float]] | np.ndarray, threshold: float) -> float:
    """The FRR at a threshold, between the rows of a `false_reject_curve`, real (points, 2): a float in [0, 1]."""
    thresholds, rates = np.asarray(curve, np.float64).T
    return float(np.interp(threshold, thresholds, rates, left=1.0, right=0.0))


def threshold_for(table: Sequence[Sequence[float]] | np.ndarray, far: float) -> float:
    """The threshold whose FAR is `far`, between the rows (rows, 2) of `false_accept_bounds` or below the first of them.

    Below, where no pair was accepted at all, the straight line of log FAR over the threshold is drawn on that the
    lowest tenfold of rates lies on, and followed FARTHER, because of few people its slope is little known.
    """
    thresholds, rates = np.asarray(table, np.float64).T
    if far >= rates[0]:
        return float(np.interp(np.log(far), np.log(rates), thresholds))
    if len(rates) < 2:
        return 0.0  # nothing to draw a line through
    low = rates <= max(10 * rates[0], rates[1])
    rise = np.polyfit(thresholds[low], np.log(rates[low]), 1)[0]
    return float(max(thresholds[0] + FARTHER * np.log(far / rates[0]) / rise, 0))


def rates_at(rates: Rates, threshold: float) -> tuple[float, float]:
    """(FAR, TAR) at one threshold."""
    place = np.searchsorted(rates.threshold, threshold, side="right") - 1
    return float(rates.far[place]), float(rates.tar[place])


def rates_of(distance: np.ndarray, same: np.ndarray, threshold: float) -> tuple[float, float]:
    """(FAR, FRR) of pairs at one threshold."""
    accepted = np.asarray(distance) <= threshold
    return float(accepted[~same].mean()), float((~accepted[same]).mean())


def bootstrap(
    pairs: Pairs, labels: np.ndarray, *, draws: int, seed: int = 0, also: Sequence[float] = ()
) -> Iterator[Rates]:
    """Rates as other people would give them: a bootstrap over identities, not over pairs, which are not independent.

    Of P people P are drawn with repetition; a pair of one person counts as often as that person was drawn, one of two
    as often as both. The rates of all draws are at the same thresholds: every distance of a pair, or, of more than
    POINTS, so many, dense where few pairs are accepted; and those of `also`.

    Args:
        labels: integers (N,) of the pictures that the pairs are of.
    """
    numbers = np.unique(labels, return_inverse=True)[1]
    left, right, people = numbers[pairs.left], numbers[pairs.right], int(numbers.max()) + 1
    threshold = np.union1d(_thinned(pairs.distance, pairs.same), np.asarray(also, np.float64))
    place = np.searchsorted(threshold, pairs.distance)  # of the first threshold that accepts
    both, other = np.unique(left[~pairs.same] * people + right[~pairs.same], return_inverse=True)
    kinds: tuple[tuple[np.ndarray, np.ndarray, Callable[[np.ndarray], np.ndarray]], ...] = (
        (place[~pairs.same], other, lambda times: times[both // people] * times[both % people]),
        (place[pairs.same], left[pairs.same], lambda times: times),
    )
    counts = [_table(rows, columns, len(threshold)) for rows, columns, _ in kinds]
    generator = np.random.default_rng(seed)
    at_once = max(1, CELLS // len(both))
    for start in range(0, draws, at_once):
        size = min(at_once, draws - start)
        times = generator.multinomial(people, np.full(people, 1 / people), size=size).T.astype(float)
        accepted = [table @ weigh(times)[: table.shape[1]] for table, (_, _, weigh) in zip(counts, kinds, strict=True)]
        for others, same in zip(*(np.cumsum(sums, axis=0).T for sums in accepted), strict=True):
            if others[-1] and same[-1]:
                far, tar = np.append(0, others / others[-1]), np.append(0, same / same[-1])
                yield Rates(np.append(-np.inf, threshold), far, tar)


def _thinned(distance: np.ndarray, same: np.ndarray) -> np.ndarray:
    """Distances of pairs, rising, at most POINTS: of each kind some evenly spread in rank, others in its logarithm."""
    distinct = np.unique(distance)
    if len(distinct) > POINTS:
        ordered = [np.sort(distance[kind]) for kind in (same, ~same)]
        ranks = [
            np.concatenate([spread(1, len(own), POINTS // 4) for spread in (np.linspace, np.geomspace)])
            for own in ordered
        ]
        distinct = np.unique([own[rank.astype(int) - 1] for own, rank in zip(ordered, ranks, strict=True)])
    return distinct.astype(np.float64)


def _table(rows: np.ndarray, columns: np.ndarray, height: int) -> sparse.csr_array:
    """How many pairs there are in each row and column, as a sparse matrix of float64."""
    width = int(columns.max(initial=-1)) + 1
    return sparse.coo_array((np.ones(len(rows)), (rows, columns)), shape=(height, width)).tocsr()


def fold_accuracy(distance: np.ndarray, same: np.ndarray, folds: np.ndarray) -> np.ndarray:
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


def _best_threshold(distance: np.ndarray, same: np.ndarray) -> float:
    order = np.argsort(distance, kind="stable")
    distance, same = distance[order], same[order]
    right = np.append(0, np.cumsum(np.where(same, 1, -1)))  # right answers more than when nothing is accepted
    best = int(np.argmax(right))
    if best == 0:
        return -np.inf
    return distance[best - 1] if best == len(distance) else (distance[best - 1] + distance[best]) / 2


def cumulative_match_characteristic(distances: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How often the right person is among the K nearest of a gallery with one picture of each: float64 (people,).

    Every picture but those enrolled is a probe; the mean over the enrolments of each person's first picture, second
    and so on. Of equal distances the right one counts as the last.

    Args:
        distances: real (N, N); labels: integers (N,) of people with two pictures or more, at least.
    """
    rows = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    hits = np.zeros(len(rows))
    probes = 0
    for enrolment in range(max(map(len, rows))):
        gallery = np.array([own[enrolment % len(own)] for own in rows])
        others = np.setdiff1d(np.arange(len(labels)), gallery)
        person = np.searchsorted(np.unique(labels), labels[others])
        against = distances[np.ix_(others, gallery)]
        own = against[np.arange(len(others)), person]
        ranks = (against <= own[:, None]).sum(axis=1)
        hits += np.bincount(ranks - 1, minlength=len(rows))
        probes += len(others)
    return np.cumsum(hits) / probes


def n_way_accuracy(
    distances: np.ndarray,
    labels: np.ndarray,
    *,
    ways: int = 20,
    shots: int = 1,
    groups: Sequence[str] | None = None,
    episodes: int = 4000,
    seed: int = 0,
) -> Episodes:
    """Whether the right one of `ways` identities is nearest, in episodes drawn at random.

    Lake, Salakhutdinov, Gross and Tenenbaum, "One shot learning of simple visual concepts", 2011: an episode draws the
    identities, of one group where there are some, `shots` pictures of each, and another picture of the first of them,
    which must be nearest to its own pictures by the mean distance. Of equal distances the right one counts as the
    last. Identities with fewer than shots + 1 pictures are not asked about, groups of fewer than `ways` are left out.

    Differs from the paper: there two drawers, each with all 20 characters, give 20 questions; here every question has
    its own identities and pictures.

    Args:
        distances: real (N, N), rows are probes.
        labels: integers (N,).
        groups: of each picture, such as its alphabet; all identities are one group unless given.

    Raises:
        Fault: no group has so many identities with shots + 1 pictures.
    """
    generator = np.random.default_rng(seed)
    group_of = np.zeros(len(labels), np.int64) if groups is None else np.unique(groups, return_inverse=True)[1]
    rows_of = {label: np.flatnonzero(labels == label) for label in np.unique(labels)}
    identities: dict[int, list[int]] = {}
    for label, rows in rows_of.items():
        if len(rows) > shots:
            identities.setdefault(int(group_of[rows[0]]), []).append(label)
    whole = [members for members in identities.values() if len(members) >= ways]
    if not whole:
        raise Fault(f"ways must be at most the identities of a group with {shots + 1} pictures, got {ways}")
    shares = np.array([len(members) for members in whole]) / sum(map(len, whole))
    right, identity = np.empty(episodes, bool), np.empty(episodes, np.int64)
    for episode in range(episodes):
        drawn = generator.permutation(whole[generator.choice(len(whole), p=shares)])[:ways]
        probe, *own = generator.permutation(rows_of[drawn[0]])[: shots + 1]
        support = [own, *(generator.permutation(rows_of[label])[:shots] for label in drawn[1:])]
        mean = distances[probe, np.array(support)].mean(axis=1)
        right[episode], identity[episode] = mean[0] < mean[1:].min(), drawn[0]
    return Episodes(right, identity)


def identification_rate(
    distances: np.ndarray, labels: np.ndarray, fars: Sequence[float], *, draws: int = 20, seed: int = 0
) -> np.ndarray:
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
