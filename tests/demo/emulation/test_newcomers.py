"""A node that has just started answers nothing that hangs on what has been, until it has heard of it."""

from pathlib import Path

import numpy as np
import pytest

from demo.jobs.emulate_config import EmulateConfig
from demo.jobs.originals import of_store
from demo.jobs.run import offer_of
from demo.jobs.stage import Stage, ThreadRoles
from pbstore import open_store
from tests.demo.emulation.conftest import small_run

REQUEST = {"slot": 2, "user": 1, "xy": [0.0, 0.0], "model": 0}


def test_a_node_that_was_not_introduced_decides_nothing(family: Path, tmp_path: Path) -> None:
    config = EmulateConfig(run=small_run(family))
    with open_store(family, read_only=True) as store:
        bases = {name: one.base for name, one in of_store(store).items()}
        stage = Stage(config=config, offer=offer_of(config.run, store, bases), bases=bases, folder=tmp_path)
        roles = ThreadRoles(stage, store)
        roles.origin_url = "http://127.0.0.1:9"
        role = roles("node 1", False)
        verbs = role._verbs()  # type: ignore[attr-defined]
        for name in ("decide", "request", "close", "serve", "mend"):
            with pytest.raises(ValueError, match="node 1 has not been told yet who else there is"):
                verbs[name]({**REQUEST, "open": [], "again": False, "wait_s": 0.0})
        assert role.reports.rows == []  # type: ignore[attr-defined]
        hello = {"collector": "", "now_s": 1.0, "nodes": {"1": ""}, "devices": {}, "slot": 2}
        verbs["hello"](hello)
        verbs["request"](REQUEST)
        verbs["close"]({"slot": 2, "wait_s": 0.0})
        rows = role.reports.rows  # type: ignore[attr-defined]
        assert [row.user_xy.shape for row in rows] == [(3, 2)] * 3
        np.testing.assert_array_equal(rows[2].requests, [-1, 0, -1])
        role.close()
