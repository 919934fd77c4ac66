"""Whether a network's threads share a picture: the choice, from measurements that the tests give."""

from itertools import count

import pytest

from pipelines.serving.converted import threads
from pipelines.serving.converted.threads import Plan

APART, TOGETHER = threads.plans(4)


def measured(seconds):
    """The plan that is chosen where the rounds of each take so long, and how often each was asked."""
    rounds = {plan: iter(taken) for plan, taken in seconds.items()}
    asked = []

    def measure(plan):
        asked.append(plan)
        return next(rounds[plan])

    return threads.fastest(list(seconds), measure), asked


def test_the_threads_of_several_calls_or_of_one_are_as_many_as_the_processors():
    assert [plan.calls * plan.threads for plan in (APART, TOGETHER)] == [4, 4]
    assert (APART.threads, TOGETHER.calls) == (1, 1)


def test_one_processor_leaves_no_choice_and_nothing_is_measured():
    (plan,) = threads.plans(1)
    assert measured({plan: []}) == (Plan(1, 1), [])


@pytest.mark.parametrize(
    ("apart", "together", "expected"),
    [
        ([0.001] * 9, [0.002] * 9, APART),
        ([0.002] * 9, [0.001] * 9, TOGETHER),
        ([0.00101] * 9, [0.001] * 9, APART),  # as good as alike
        ([0.030, 0.001, 0.001, 0.001, 0.001], [0.002] * 9, APART),  # something else was busy in the first round
    ],
)
def test_the_plan_whose_best_round_is_clearly_shorter_is_chosen(apart, together, expected):
    plan, asked = measured({APART: apart, TOGETHER: together})
    assert plan == expected
    assert asked == [APART, TOGETHER] * threads.ROUNDS  # in turns, so that both meet the same load


def test_a_large_network_is_measured_fewer_times():
    plan, asked = measured({APART: [1.0, 1.1], TOGETHER: [1.2, 0.8]})
    assert (plan, asked) == (TOGETHER, [APART, TOGETHER] * 2)


def test_a_round_is_one_call_of_each_caller_by_the_clock():
    calls, clock = [], count(10.0, 0.25)
    assert threads.answered(lambda: calls.append(1), 3, lambda: next(clock)) == 0.25
    assert len(calls) == 3


@pytest.mark.parametrize(("seconds", "expected"), [(0.02, [5, 2]), (0.0011, [3, 2]), (0.0001, [1, 1])])
def test_more_requests_are_worked_on_while_a_network_takes_long_to_answer(seconds, expected):
    assert [threads.requests(plan, seconds) for plan in (APART, TOGETHER)] == expected


def test_the_quickest_call_counts_of_as_many_as_a_short_time_allows():
    calls, clock = [], iter([0.0, 0.0, 0.03, 0.03, 0.05, 0.06])  # the begin, then the begin and end of each
    assert threads.shortest(lambda: calls.append(1), lambda: next(clock)) == pytest.approx(0.02)
    assert len(calls) == 2


@pytest.mark.parametrize(
    ("plan", "words"),
    [(Plan(2, 1), "2 calls at once with 1 thread each"), (Plan(1, 2), "1 call at once with 2 threads")],
)
def test_a_plan_in_words(plan, words):
    assert str(plan) == words
