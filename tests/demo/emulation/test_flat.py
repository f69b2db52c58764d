"""A live edge lives on what it has: nothing of it grows with the number of slots or of threads."""

import gc
import os
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest

from demo.emulation.desk import Desk, DeskClosedError
from demo.emulation.device import Device
from demo.emulation.log.events import SlotBegan
from demo.emulation.roles.device import DeviceRole
from demo.emulation.wire.air import AirObject
from demo.emulation.wire.band import MemoryBand
from demo.jobs.emulate import emulate
from demo.jobs.emulate_config import EmulateConfig
from demo.parts import CodedPart, Part
from pbstore import BlockId, BlockInfo, hash_block
from tests.demo.emulation.conftest import small_run


def index_descriptors(folder: Path) -> int:
    """Open files of this process that are of indexes below a folder."""
    named = [link.readlink() for link in Path("/proc/self/fd").iterdir() if os.path.lexists(link)]
    return sum(path.is_relative_to(folder) and path.name.startswith("index.sqlite") for path in named)


def part_of_bytes(payload: bytes) -> CodedPart:
    block_id = BlockId(hash_block(payload))
    info = BlockInfo(
        block_id=block_id, raw_bytes=len(payload), stored_bytes=len(payload), codec="raw", needs=()
    )
    return CodedPart(part=Part(block_id, 0, 1), info=info, payload=payload)


def together(jobs: list[Callable[[], object]], then: Callable[[], object]) -> None:
    """Do jobs in as many threads; when all are done, and all threads still there, do one thing more."""
    over = threading.Barrier(len(jobs), then)

    def work(job: Callable[[], object]) -> None:
        job()
        over.wait()

    threads = [threading.Thread(target=work, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_threads_that_a_device_answers_in_cost_no_descriptors(tmp_path: Path) -> None:
    rng, role, seen = np.random.default_rng(0), DeviceRole(0, tmp_path, MemoryBand()), list[int]()
    objects = [AirObject(parts=(part_of_bytes(rng.bytes(100)),)).encode() for _ in range(24)]
    role.hear(objects[0], 0.0)
    before = index_descriptors(tmp_path)
    jobs = [partial(role.hear, one, 0.0) for one in objects]
    together(jobs, lambda: seen.append(index_descriptors(tmp_path)))
    assert seen == [before]
    role.close()
    assert index_descriptors(tmp_path) == 0


def test_a_device_that_changes_its_mind_for_ever_takes_bounded_room_on_disk(tmp_path: Path) -> None:
    device, rng = Device(tmp_path), np.random.default_rng(0)
    for _ in range(12):
        coded = part_of_bytes(rng.bytes(1 << 20))
        device.receive(coded)
        device.keep(frozenset([coded.part]))
        assert device.store.get(coded.part.block_id) == coded.payload
    used = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert used < 8 << 20
    device.store.close()


def test_a_desk_does_jobs_in_one_thread_and_parts_of_jobs_at_once() -> None:
    desk, seen = Desk("one"), set[int]()
    together([lambda: seen.add(desk.do(threading.get_ident))] * 8, lambda: None)
    assert len(seen) == 1
    assert desk.do(lambda: desk.do(lambda: 7)) == 7
    with pytest.raises(ZeroDivisionError):
        desk.do(lambda: 1 // 0)
    last: list[int] = []
    for _ in range(2):
        desk.close(lambda: last.append(threading.get_ident()))
    assert set(last) == seen
    assert len(last) == 1
    with pytest.raises(DeskClosedError, match="one has ended"):
        desk.do(lambda: 7)


def left_over() -> tuple[int, int, int]:
    """Descriptors, threads and children of this process."""
    gc.collect()
    own = psutil.Process()
    return own.num_fds(), own.num_threads(), len(own.children(recursive=True))


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["threads", "processes"])
def test_a_second_life_leaves_no_more_behind_than_the_first(
    family: Path, tmp_path: Path, runtime: str
) -> None:
    seen = []
    for number in range(2):
        run = small_run(family, slots=2)
        config = EmulateConfig(run=run, clients=0, loss=0.05, runtime=runtime)  # type: ignore[arg-type]
        assert emulate(config, tmp_path / str(number), progress=False).good
        seen.append(left_over())
    end = time.monotonic() + 20.0
    while any(now > then for now, then in zip(left_over(), seen[0], strict=True)):
        assert time.monotonic() < end, f"after the first {seen[0]}, after the second {left_over()}"
        time.sleep(0.1)


@pytest.mark.slow
def test_slots_cost_no_descriptors_of_indexes(family: Path, tmp_path: Path) -> None:
    most: list[int] = []

    def look(event: object) -> None:
        if isinstance(event, SlotBegan):
            most.append(index_descriptors(tmp_path))

    config = EmulateConfig(run=small_run(family, slots=12), clients=0)
    assert emulate(config, tmp_path / "out", progress=False, listener=look).good
    # A node: desk, event loop, three readers (index, log), one shm, the relay. A device: two threads.
    assert max(most) <= 2 * (5 * 2 + 1 + 3) + 3 * (2 * 2 + 1)
