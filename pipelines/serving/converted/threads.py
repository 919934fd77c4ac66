"""Whose threads answer a call of a network: those of each call its own, or all of them one call after the other.

Threads that share one picture wait for each other, the more the smaller the network is; large weights are better read
by all of them together. Which way several callers are answered sooner is measured before the server is ready.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

ROUNDS = 5
CALLS = 20  # of which the quickest counts
SECONDS = 0.05  # after which neither a third round begins nor another call
CLEARLY = 0.9  # of the time that the first plan takes, and another one at most: times vary
LOCKED = 0.0005  # seconds of a request that Python's lock is held, about, for the picture and the answer


class Plan(NamedTuple):
    """How a network is asked.

    Attributes:
        calls: that are answered at once.
        threads: of each.
    """

    calls: int
    threads: int

    def __str__(self) -> str:
        counts = {"call": self.calls, "thread": self.threads}
        calls, threads = (f"{count} {word}{'s' * (count > 1)}" for word, count in counts.items())
        return f"{calls} at once with {threads} each" if self.calls > 1 else f"{calls} at once with {threads}"


def plans(processors: int) -> list[Plan]:
    """One thread for each of several calls, or all threads for one."""
    return list(dict.fromkeys([Plan(processors, 1), Plan(1, processors)]))


def fastest(candidates: Sequence[Plan], measure: Callable[[Plan], float]) -> Plan:
    """The plan whose shortest round is the shortest; the first one, unless another is clearly faster.

    Args:
        measure: has a plan answer some callers once, and returns the seconds that took.
    """
    seconds, spent = dict.fromkeys(candidates, float("inf")), 0.0
    for number in range(ROUNDS if len(candidates) > 1 else 0):
        for plan in candidates:
            taken = measure(plan)
            spent += taken
            seconds[plan] = min(seconds[plan], taken)
        if number and spent > SECONDS:
            break
    best = min(candidates, key=seconds.__getitem__)
    return best if seconds[best] < CLEARLY * seconds[candidates[0]] else candidates[0]


def requests(plan: Plan, seconds: float) -> int:
    """How many requests are worked on: one more than calls are answered, as its picture can be prepared meanwhile.

    Fewer where a call takes no longer than what else is done for a request: more threads would only wait for Python's
    lock, and one alone takes all that is waiting at once.

    Args:
        seconds: that a call takes.
    """
    return 1 + min(plan.calls, int(seconds / LOCKED))


def shortest(call: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """The seconds of the quickest of some calls one after the other, since the first ones are slower."""
    seconds, begun = float("inf"), clock()
    for _ in range(CALLS):
        before = clock()
        if before - begun > SECONDS:
            break
        call()
        seconds = min(seconds, clock() - before)
    return seconds


def answered(call: Callable[[], object], callers: int, clock: Callable[[], float] = time.perf_counter) -> float:
    """The seconds that a call takes for each of several callers that ask at once, all of them together."""
    with ThreadPoolExecutor(callers) as threads:
        begun = clock()
        for done in [threads.submit(call) for _ in range(callers)]:
            done.result()
        return clock() - begun
