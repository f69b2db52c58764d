import multiprocessing
import sys
from functools import partial
from operator import add, floordiv
from types import SimpleNamespace

import pytest

from policy.errors import PolicyError
from policy.parallel import spread


@pytest.mark.parametrize("workers", [1, 2])
def test_every_item_is_worked_on(workers: int) -> None:
    assert sorted(spread(partial(add, 10), range(5), workers)) == [10, 11, 12, 13, 14]


def test_an_error_ends_all_workers() -> None:
    with pytest.raises(ZeroDivisionError):
        list(spread(partial(floordiv, 1), [1, 0, 1, 1], workers=2))

    assert not multiprocessing.active_children()


def test_ray_is_asked_for_by_name_when_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)

    with pytest.raises(PolicyError, match=r"pip install 'pbcast\[ray\]'"):
        list(spread(abs, [1], ray=True))


def test_ray_gets_the_work_once_and_every_item(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a stand-in with Ray's own names: what is remote runs at once, references are what they hold."""
    puts: list[object] = []
    fake = SimpleNamespace(
        is_initialized=lambda: True,
        put=lambda value: puts.append(value) or value,
        remote=lambda function: SimpleNamespace(remote=function),
        wait=lambda waiting: (waiting[:1], waiting[1:]),
        get=lambda references: references,
    )
    monkeypatch.setitem(sys.modules, "ray", fake)

    assert list(spread(abs, [-3, 4], ray=True)) == [3, 4]
    assert puts == [abs]
