"""Jobs in threads: in order, all ended when their pool ends, and no wait at the end of the process."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import pytest

from pbstore.pool import Pool, in_order, settle

ROOT = Path(__file__).parents[2]
INTERRUPTED = """
import threading
from pbstore.codecs import chunked
from pbstore.pool import Pool, in_order

def interrupted(self, timeout=None):
    threading.Event.wait = wait
    raise KeyboardInterrupt

pool = {pool}
wait, threading.Event.wait = threading.Event.wait, interrupted  # where a starting thread is waited for
try:
    pool.submit(print)
except KeyboardInterrupt:
    print("interrupted")
{then}
"""


def run(script: str, timeout_s: float) -> str:
    command = [sys.executable, "-c", script]
    return subprocess.run(
        command, cwd=ROOT, timeout=timeout_s, check=True, capture_output=True, text=True
    ).stdout


@pytest.mark.parametrize("pool", ["chunked._pool(2)", "Pool(1, 'one')"])
def test_a_thread_that_an_interrupt_hit_while_it_started_is_not_waited_for(pool: str) -> None:
    assert run(INTERRUPTED.format(pool=pool, then=""), 30) == "interrupted\n"


def test_a_pool_goes_on_after_an_interrupt() -> None:
    then = "print(sum(in_order(pool, abs, range(-4, 0))))"

    assert run(INTERRUPTED.format(pool="Pool(1, 'one')", then=then), 30) == "interrupted\n10\n"


def test_results_come_in_order_from_so_many_threads() -> None:
    names = set()

    def job(item: int) -> int:
        names.add(threading.current_thread().name)
        time.sleep(0.002 * (item % 3))
        return item

    with Pool(3, "jobs") as pool:
        assert list(in_order(pool, job, range(30))) == list(range(30))
    assert names == {"jobs"}


class Counted:
    """Jobs that say how many of them are at work; those from 4 on wait until one is cancelled."""

    def __init__(self) -> None:
        self.began = self.ended = 0
        self.cancelled = threading.Event()

    def __call__(self, item: int) -> int:
        self.began += 1
        if item >= 4:
            self.cancelled.wait()
        time.sleep(0.03)  # longer than it takes not to wait for it
        self.ended += 1
        return 1 // (3 - item)


class Watched(Pool):
    """A pool that tells jobs of the first one that is cancelled: on no machine are all done before."""

    def __init__(self, workers: int, jobs: Counted) -> None:
        super().__init__(workers, "jobs")
        self._jobs = jobs

    def submit(self, *call: object) -> "Future[int]":  # type: ignore[override]
        future = super().submit(*call)
        future.add_done_callback(lambda one: one.cancelled() and self._jobs.cancelled.set())
        return future


@pytest.mark.parametrize("stop", [lambda: None, lambda: 1 // 0])
def test_no_job_is_at_work_behind_an_error(stop: Callable[[], None]) -> None:
    jobs = Counted()

    def consume() -> None:
        for _ in in_order(pool, jobs, range(20)):
            stop()

    with Watched(2, jobs) as pool:
        with pytest.raises(ZeroDivisionError):
            consume()
        assert jobs.began == jobs.ended < 20


def test_a_pool_ends_behind_its_jobs() -> None:
    jobs = Counted()
    with Pool(2, "jobs") as pool:
        futures = [pool.submit(jobs, item) for item in (0, 1, 2)]

    assert [future.result(0) for future in futures] == [0, 0, 1]
    with pytest.raises(RuntimeError, match="closed"):
        pool.submit(jobs, 0)
    assert not any(thread.name == "jobs" for thread in threading.enumerate())


def test_jobs_that_have_not_begun_are_cancelled() -> None:
    jobs = Counted()
    pool = Watched(1, jobs)
    futures = [pool.submit(jobs, item) for item in range(9) if item != 3]
    futures[0].result()
    pool.shutdown(cancel_futures=True)

    assert jobs.began == jobs.ended < 8
    assert sum(future.cancelled() for future in futures) == 8 - jobs.began


def test_settled_jobs_are_at_work_no_longer() -> None:
    jobs = Counted()
    with Watched(2, jobs) as pool:
        futures = [pool.submit(jobs, item) for item in (0, 1, *range(4, 11))]
        settle(futures)
        assert jobs.began == jobs.ended < 9


def test_a_result_is_let_go_of_while_the_next_is_awaited() -> None:
    class Large:
        held = 0

        def __init__(self) -> None:
            Large.held += 1

        def __del__(self) -> None:
            Large.held -= 1

    with Pool(1, "jobs") as pool:
        results = in_order(pool, lambda _: Large(), range(3))
        for left in (2, 1, 0):
            next(results)
            assert Large.held <= left


def test_a_pool_has_a_worker() -> None:
    with pytest.raises(ValueError, match="workers must be >= 1"):
        Pool(0, "none")
