"""The queue: coalescing, one worker per key, retries, delays, pausing."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from llama_halo.kube import workqueue as queue_module
from llama_halo.kube.cache import Key
from llama_halo.kube.workqueue import Queue
from tests.support.virtual_time import in_virtual_time

A, B = Key("LlamaModel", "llm", "a"), Key("LlamaModel", "llm", "b")


@asynccontextmanager
async def workers(
    queue: Queue, handler: Callable[[Key], Awaitable[float | None]], count: int = 4
) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(queue.work(handler)) for _ in range(count)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@in_virtual_time
async def test_a_key_added_many_times_before_it_is_taken_runs_once() -> None:
    queue, observed = Queue(), Counter[Key]()

    async def handle(key: Key) -> None:
        observed[key] += 1

    for _ in range(10):
        queue.add(A)
    assert queue.depth == 1
    async with workers(queue, handle):
        await asyncio.sleep(0.05)
    assert observed == {A: 1}


@in_virtual_time
async def test_a_key_added_while_it_is_worked_on_runs_again_and_never_beside_itself() -> None:
    queue, running, most, runs = Queue(), 0, 0, 0

    async def handle(_: Key) -> None:
        nonlocal running, most, runs
        running, runs = running + 1, runs + 1
        most = max(most, running)
        if runs == 1:
            queue.add(A)
        await asyncio.sleep(0.02)
        running -= 1

    queue.add(A)
    async with workers(queue, handle):
        await asyncio.sleep(0.1)
    assert (most, runs) == (1, 2)


@in_virtual_time
async def test_different_keys_run_side_by_side() -> None:
    queue, both, met = Queue(), asyncio.Barrier(2), 0

    async def handle(_: Key) -> None:
        nonlocal met
        await both.wait()
        met += 1

    queue.add(A)
    queue.add(B)
    async with workers(queue, handle):
        await asyncio.sleep(0.05)
    assert (queue.depth, both.n_waiting, met) == (0, 0, 2)


@in_virtual_time
async def test_a_failing_key_is_tried_again_and_others_go_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    queue, observed = Queue(), Counter[Key]()

    async def handle(key: Key) -> None:
        observed[key] += 1
        if key == A and observed[A] == 1:
            raise ValueError("the API server hiccups")

    queue.add(A)
    queue.add(B)
    async with workers(queue, handle, count=1):
        await asyncio.sleep(2 * queue_module.BACKOFF_FIRST_SECONDS)
    assert observed == {A: 2, B: 1}
    assert "reconcile failed" in caplog.text


@in_virtual_time
async def test_a_delayed_key_comes_when_it_is_due_and_an_earlier_asking_counts() -> None:
    queue, observed = Queue(), []

    async def handle(key: Key) -> None:
        observed.append(key)

    queue.add(A, after_seconds=60)
    queue.add(A, after_seconds=5)
    queue.add(A, after_seconds=60)
    async with workers(queue, handle):
        await asyncio.sleep(4.9)
        assert observed == []
        await asyncio.sleep(100)
    assert observed == [A]


@in_virtual_time
async def test_a_paused_queue_gives_out_nothing_until_it_is_resumed() -> None:
    queue, observed = Queue(), []

    async def handle(key: Key) -> None:
        observed.append(key)

    queue.paused = True
    queue.add(A)
    async with workers(queue, handle):
        await asyncio.sleep(0.03)
        assert observed == []
        queue.resume()
        await asyncio.sleep(0.03)
    assert observed == [A]


@in_virtual_time
async def test_a_long_queue_that_moves_is_not_stuck() -> None:
    now = [1000.0]
    queue = Queue(clock=lambda: now[0])
    queue.add(A)
    queue.add(B)
    now[0] += 400
    assert queue.stuck_seconds == 400
    assert await queue._take() == A
    now[0] += 5
    assert queue.stuck_seconds == 5, "B waits for 405 s, and the queue moves"
    queue.paused = True
    assert queue.stuck_seconds == 0
