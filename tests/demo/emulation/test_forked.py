"""Roles in processes are forked from one that has imported what they need, and nothing that they do not."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

ROOT = Path(__file__).parents[3]
NOT_NEEDED = {"torch", "transformers", "peft", "cvxpy", "matplotlib", "pandas", "ray", "gymnasium", "pytest"}
NEEDED = {"demo.emulation.roles.edge", "httpcore", "numba", "policy.serving.kernels", "raptorq"}


@pytest.fixture(scope="module")
def lived() -> dict[str, Any]:
    """What two roles of a program told, and one of them after it was killed and started again."""
    program = Path(__file__).with_name("forked_roles.py")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, program], env=environment, capture_output=True, text=True, check=True
    )
    told: dict[str, Any] = {**json.loads(done.stdout), "said": done.stderr}
    return told


def test_roles_have_what_they_need_and_nothing_else(lived: dict[str, Any]) -> None:
    for one in lived["told"]:
        assert NOT_NEEDED.isdisjoint(one["modules"])
        assert set(one["modules"]) >= NEEDED


def test_the_main_program_needs_no_torch_to_start_them(lived: dict[str, Any]) -> None:
    assert NOT_NEEDED.isdisjoint(lived["modules"])


def test_each_is_a_process_of_its_own_with_one_parent(lived: dict[str, Any]) -> None:
    assert len({one["pid"] for one in lived["told"]}) == 3
    assert len({one["parent"] for one in lived["told"]}) == 1


def test_who_comes_back_is_where_it_was(lived: dict[str, Any]) -> None:
    assert lived["urls"][2] == lived["urls"][0] != lived["urls"][1]


def test_the_main_program_is_not_run_again_in_them(lived: dict[str, Any]) -> None:
    assert lived["said"].count("the main program runs") == 1


def test_nothing_is_left(lived: dict[str, Any]) -> None:
    for pid in {one[name] for one in lived["told"] for name in ("pid", "parent")}:
        assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
