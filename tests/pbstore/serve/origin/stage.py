"""Actors whose every request is a turn: a seeded draw says whose is next, who dies, and when time passes."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from typing import Any

import numpy as np

from pbstore.serve.origin.objects import Meta


class Killed(BaseException):
    """The actor was killed: it does nothing more, not even in `finally`."""


class Inline(Executor):
    """Does each job at once, in the thread that asks."""

    def __init__(self, workers: int, name: str) -> None:
        pass

    def submit(self, fn: Callable[..., Any], /, *args: object, **kwargs: object) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        pass


class Stage:
    """Lets one actor at a time go on, until all are done."""

    def __init__(self, rng: np.random.Generator, *, dies: float = 0.0, leap_s: float = 0.0) -> None:
        self.rng, self.dies, self.leap_s = rng, dies, leap_s
        self.now_s = 1000.0
        self.deaths = self.turns = 0
        self.dead: set[threading.Thread] = set()
        self._change = threading.Condition()
        self._waiting: list[threading.Thread] = []
        self._alive: set[threading.Thread] = set()
        self._next: threading.Thread | None = None

    def turn(self) -> None:
        """Wait for this actor's turn; whoever is no actor goes on at once."""
        me = threading.current_thread()
        if me in self.dead:
            raise Killed
        with self._change:
            if me not in self._alive:
                return
            self._waiting.append(me)
            self._change.notify_all()
            self._change.wait_for(lambda: self._next is me)
            self._next = None
            if self.rng.random() < self.dies:
                self.dead.add(me)
                self.deaths += 1
                raise Killed

    def play(self, actors: Sequence[Callable[[], None]]) -> list[BaseException]:
        """Let them all come to their ends; errors other than being killed."""
        errors: list[BaseException] = []

        def act(actor: Callable[[], None]) -> None:
            try:
                self.turn()  # none runs beside another, not even at its start
                actor()
            except Killed:
                pass
            except BaseException as error:
                errors.append(error)
            finally:
                with self._change:
                    self._alive.discard(threading.current_thread())
                    self._change.notify_all()

        threads = [threading.Thread(target=act, args=(actor,), daemon=True) for actor in actors]
        self._alive = set(threads)
        for thread in threads:
            thread.start()
        with self._change:
            while True:
                assert self._change.wait_for(self._all_wait, 60.0), "an actor hangs"
                if not self._alive:
                    return errors
                self.turns += 1
                self.now_s += float(self.rng.exponential(self.leap_s)) if self.leap_s else 0.001
                order = sorted(self._waiting, key=threads.index)
                self._next = order[self.rng.integers(len(order))]
                self._waiting.remove(self._next)
                self._change.notify_all()
                self._change.wait_for(lambda: self._next is None)

    def _all_wait(self) -> bool:
        return len(self._waiting) == len(self._alive)


class StagedObjects:
    """Objects in memory behind a stage; `after_delete` is called with the keys that are left."""

    url = "staged://"

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.held: dict[str, tuple[bytes, float]] = {}
        self.after_delete: Callable[[], None] = lambda: None

    def create(self, key: str, data: bytes | memoryview) -> bool:
        self.stage.turn()
        if key in self.held:
            return self.held[key][0] == bytes(data)
        self.held[key] = (bytes(data), self.stage.now_s)
        return True

    def read(self, key: str) -> bytes:
        self.stage.turn()
        if key not in self.held:
            raise FileNotFoundError(key)
        return self.held[key][0]

    def read_range(self, key: str, start: int, stop: int) -> bytes:
        return self.read(key)[start:stop]

    def read_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[memoryview]:
        data = self.read(key)
        return [memoryview(data[start:stop]) for start, stop in ranges]

    def list(self, prefix: str) -> Iterator[Meta]:
        self.stage.turn()
        return iter([Meta(k, len(d), s) for k, (d, s) in self.held.items() if k.startswith(prefix)])

    def modified_s(self, key: str) -> float:
        self.stage.turn()
        return self.held[key][1]

    def delete(self, keys: Sequence[str]) -> None:
        for key in keys:  # one at a time: a killed one has deleted some of them
            self.stage.turn()
            self.held.pop(key, None)
            self.after_delete()
