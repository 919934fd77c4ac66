"""Micro-batching with a model that is a Python function: who shares a call, who is refused, who is told what."""

import asyncio
import threading

import numpy as np
import pytest

from pipelines.serving.batching import Batcher, Job
from pipelines.serving.http.errors import Refusal


class Doubling:
    """A model that doubles `x` and refuses negative rows; it waits for `gate` and remembers the rows of its calls."""

    def __init__(self):
        self.calls = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, signature, tensors):
        self.gate.wait(10)
        x = tensors["x"]
        self.calls.append((signature, x.tolist()))
        if (x < 0).any():
            raise Refusal(400, "x must not be negative")
        if signature == "bug":
            raise ZeroDivisionError("a secret path /home/me")
        return {"y": x[:1] if signature == "narrow" else 2 * x}


def job(*x, signature="double", shared=True, pixels=0):
    values = np.array(x)
    shape = values.shape[1:] if shared else None
    return Job(signature, lambda: {"x": values}, rows=len(x), shape=shape, pixels=pixels)


def answers(*jobs, limit=100, model=None):
    """Run `jobs` that all came while the model was busy with another; their answers or errors, and the model."""
    model = model or Doubling()

    async def main():
        batcher = Batcher(model, batch=8, limit=limit, pixels=100, queue_pixels=250)
        batcher.start()
        model.gate.clear()
        first = asyncio.create_task(batcher(job(0, signature="first")))
        await asyncio.sleep(0.05)
        tasks = [asyncio.create_task(batcher(each)) for each in jobs]
        await asyncio.sleep(0)
        model.gate.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        await first
        assert (batcher.rows, batcher.pixels) == (0, 0)
        await batcher.drain()
        return [result["y"].tolist() if isinstance(result, dict) else result for result in results]

    return asyncio.run(main()), model.calls[1:]


def test_what_has_queued_up_shares_a_call_and_each_gets_its_rows():
    results, calls = answers(job(1), job(2, 3), job(4))
    assert results == [[2], [4, 6], [8]]
    assert calls == [("double", [1, 2, 3, 4])]


def test_a_call_has_no_more_rows_than_the_batch():
    results, calls = answers(*[job(value) for value in range(20)])
    assert results == [[2 * value] for value in range(20)]
    assert [len(rows) for _, rows in calls] == [8, 8, 4]


def test_a_call_has_no_more_pixels_than_may_be_decoded_at_once():
    _, calls = answers(job(1, pixels=60), job(2, pixels=60), job(3, pixels=40))
    assert calls == [("double", [1, 3]), ("double", [2])]


def test_more_pixels_than_may_wait_are_refused():
    (first, second, third), _ = answers(job(1, pixels=200), job(2, pixels=60), job(3, pixels=50))
    assert (first, third) == ([2], [6])
    assert second.status == 429


def test_a_request_of_more_rows_than_a_batch_is_cut_and_joined():
    results, calls = answers(job(*range(20)))
    assert results == [[2 * value for value in range(20)]]
    assert [len(rows) for _, rows in calls] == [8, 8, 4]


def test_other_signatures_and_shapes_have_their_own_calls_in_order():
    results, calls = answers(job(1), job([1, 2]), job(3), job(4, signature="other"))
    assert results == [[2], [[2, 4]], [6], [8]]
    assert calls == [("double", [1, 3]), ("double", [[1, 2]]), ("other", [4])]


def test_a_signature_without_rows_runs_alone():
    _, calls = answers(job(1, shared=False), job(2, shared=False))
    assert calls == [("double", [1]), ("double", [2])]


def test_outputs_without_the_batch_axis_are_never_shared():
    results, _ = answers(job(1, signature="narrow"), job(2, signature="narrow"))
    assert results == [[1], [2]]


def test_one_bad_request_costs_nobody_else_an_answer():
    results, _ = answers(job(1), job(2, -3, 4), job(5))
    assert [results[0], results[2]] == [[2], [10]]
    assert results[1].message == "row 1: x must not be negative"


def test_inputs_that_cannot_be_made_are_their_own_requests_fault():
    def broken():
        raise Refusal(400, "no image")

    results, _ = answers(job(1), Job("double", broken, rows=1, shape=()), job(2))
    assert [results[0], results[2]] == [[2], [4]]
    assert results[1].message == "no image"


def test_a_bug_is_a_500_that_tells_nothing(caplog):
    results, _ = answers(job(1, signature="bug"))
    assert results[0].status == 500
    assert "secret" not in results[0].message
    assert "a secret path" in caplog.text


def test_a_full_queue_refuses_with_429():
    results, _ = answers(*[job(value) for value in range(6)], limit=4)
    assert results[:3] == [[0], [2], [4]]
    assert [result.status for result in results[3:]] == [429] * 3


def test_an_empty_queue_takes_any_request():
    results, _ = answers(limit=1)
    assert results == []

    async def alone():
        batcher = Batcher(Doubling(), batch=8, limit=1)
        batcher.start()
        result = await batcher(job(*range(20)))
        await batcher.drain()
        return len(result["y"])

    assert asyncio.run(alone()) == 20


def test_a_request_given_up_is_not_run_and_leaves_the_queue():
    model = Doubling()

    async def main():
        batcher = Batcher(model, batch=8, limit=10)
        batcher.start()
        model.gate.clear()
        tasks = []
        for value in (1, 2):
            tasks.append(asyncio.create_task(batcher(job(value))))
            await asyncio.sleep(0.05)
        tasks[1].cancel()
        await asyncio.sleep(0)
        model.gate.set()
        await batcher.drain()
        await asyncio.sleep(0)
        return batcher.rows, (await tasks[0])["y"].tolist()

    assert asyncio.run(main()) == (0, [2])
    assert model.calls == [("double", [1])]


def test_draining_answers_everything_accepted():
    model = Doubling()

    async def main():
        batcher = Batcher(model, batch=8, limit=100)
        batcher.start()
        model.gate.clear()
        tasks = [asyncio.create_task(batcher(job(value))) for value in range(30)]
        await asyncio.sleep(0)
        drained = asyncio.create_task(batcher.drain())
        await asyncio.sleep(0.05)
        assert not drained.done()
        model.gate.set()
        await drained
        return [(await task)["y"].tolist() for task in tasks]

    assert asyncio.run(main()) == [[2 * value] for value in range(30)]


def test_the_event_loop_runs_on_while_the_model_works():
    model = Doubling()

    async def main():
        batcher = Batcher(model, batch=8, limit=100)
        batcher.start()
        model.gate.clear()
        task = asyncio.create_task(batcher(job(1)))
        for _ in range(50):
            await asyncio.sleep(0.001)
        assert not task.done()
        model.gate.set()
        await task
        await batcher.drain()

    asyncio.run(main())


@pytest.mark.parametrize("rows", [1, 8])
def test_every_call_is_reported(rows):
    seen = []

    async def main():
        batcher = Batcher(Doubling(), batch=8, limit=100, watch=seen.append)
        batcher.start()
        await batcher(job(*range(rows)))
        await batcher.drain()

    asyncio.run(main())
    assert seen == [rows]


@pytest.mark.parametrize(("x", "signature", "status"), [(3, "double", None), (-1, "double", 400), (3, "bug", 500)])
def test_a_job_that_is_answered_at_once_has_the_answers_and_refusals_of_the_queue(x, signature, status):
    batcher = Batcher(Doubling(), batch=8, limit=100)
    if status is None:
        assert batcher.at_once(job(x)) == {"y": [2 * x]}
        return
    with pytest.raises(Refusal) as refused:
        batcher.at_once(job(x, signature=signature))
    assert refused.value.status == status
