"""A node that is killed while it serves and takes blocks gives no wrong byte and keeps what it promised."""

from pathlib import Path

import pytest

from tests.pbstore.serve.kills import kill_rounds


@pytest.mark.slow
def test_kills_under_load_cost_no_right_byte_and_no_promise(tmp_path: Path) -> None:
    seen = kill_rounds(tmp_path, 8)
    assert seen.problems == []
    assert seen.right_bytes > 0
    assert seen.acknowledged
