"""Every example of policy runs, offline and in seconds, and says something."""

from pathlib import Path

import pytest

from tests.examples import examples_of, run_example


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", examples_of("policy"))
def test_the_example_runs(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_example(name, tmp_path)
    assert capsys.readouterr().out.count("\n") >= 2
