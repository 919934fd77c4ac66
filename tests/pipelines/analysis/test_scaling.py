"""The prediction for many GPUs: a ring simulated message by message, and the bottleneck where it is known."""

import pytest

from pipelines.analysis.scaling import Cluster, Step, predict, ring_all_reduce

STEP = Step(batch=32, seconds=0.1, gradients=100_000_000)
CLUSTER = Cluster(gpus=8, link=1e11, network=1e10, latency=0.0, input=1e9)


def simulated(size, members, bandwidth, latency):
    """A ring with a part of the sum for each member: in every round each sends one part to the next."""
    held = [[{member} for _ in range(members)] for member in range(members)]  # whose addends are in each part
    seconds = rounds = 0
    while any(len(part) < members for parts in held for part in parts):
        sent = [(member, (member - rounds) % members) for member in range(members)]
        moved = [(member, part, held[member][part] | set()) for member, part in sent]
        for member, part, addends in moved:
            held[(member + 1) % members][part] |= addends
        seconds += size / members / bandwidth + latency
        rounds += 1
    return seconds


@pytest.mark.parametrize("members", [1, 2, 3, 8])
def test_a_ring_takes_the_time_of_its_messages(members):
    expected = simulated(1e9, members, 1e10, 1e-4)
    assert ring_all_reduce(1e9, members, bandwidth=1e10, latency=1e-4) == pytest.approx(expected)


def test_one_gpu_does_what_it_was_measured_to_do():
    one = predict(STEP, CLUSTER, 1)
    assert one.images_per_second == pytest.approx(320)
    assert (one.efficiency, one.gradients, one.bottleneck) == (1, 0, "computation")


def test_the_slowest_connection_of_the_ring_counts():
    assert predict(STEP, CLUSTER, 8).gradients == pytest.approx(2 * 7 / 8 * 1e8 / 1e11)
    assert predict(STEP, CLUSTER, 9).gradients == pytest.approx(2 * 8 / 9 * 1e8 / 1e10)


@pytest.mark.parametrize(
    ("change", "bottleneck", "rate"),
    [
        ({}, "computation", 64 * 32 / (0.1 + 2 * 63 / 64 * 0.01)),
        ({"network": 1e8}, "gradients", None),
        ({"input": 100}, "input", 800),  # of eight machines
    ],
)
def test_what_takes_longest_is_named(change, bottleneck, rate):
    found = predict(STEP, CLUSTER._replace(**change), 64)
    assert found.bottleneck == bottleneck
    if rate:
        assert found.images_per_second == pytest.approx(rate)
