"""Build the zoo: fetch what it needs, make each member once (two side by side), list what is there."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from demo.blame import is_expected
from demo.zoo.cache import locked, member_folder, sweep_partial, usable_root
from demo.zoo.errors import MemberFailedError, ZooError
from demo.zoo.fetch import fetch, package_folder
from demo.zoo.model import ZooModel, read_zoo_json, write_zoo_json
from demo.zoo.packages import Package
from demo.zoo.progress import Bars, Step
from demo.zoo.recipes import ZOOS, Recipe, recipe_key
from demo.zoo.schedule import run_graph
from demo.zoo.text import DATASET_PACKAGES, DATASETS

WORKERS = 2
"""Members made side by side; each uses one thread, so that it repeats bit for bit."""
_DOWNLOADS = 3
_ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def build_zoo(
    size: str = "small", cache_dir: Path | str | None = None, *, progress: bool = True, workers: int = WORKERS
) -> list[ZooModel]:
    """Every model of the zoo that can be had here; what is in the cache is neither fetched nor trained again.

    Args:
        size: `small` or `full`.
        cache_dir: Where everything is kept; see `demo.zoo.cache.cache_root`.
        progress: Tell on stderr what is done.
        workers: Members made side by side.

    Returns:
        The models, parents before children. A member that cannot be made (a package is gone, a tool is
        absent) is left out with one line on stderr.

    Raises:
        ValueError: If the size is unknown.
        ZooError: If not a single member could be made.
    """
    if size not in ZOOS:
        raise ValueError(f"size must be one of {', '.join(ZOOS)}, got {size!r}")
    root = usable_root(cache_dir).resolve()
    recipes = ZOOS[size]
    with locked(root), Bars(enabled=progress) as bars:
        for folder in ("packages", "models", "training"):
            sweep_partial(root / folder)
        _fetch_all(recipes, root, bars)
        keys = _keys(recipes, root, bars)
        done = _make_all([recipe for recipe in recipes if recipe.name in keys], keys, root, workers, bars)
        models = [_read(root, recipe.name, keys) for recipe in recipes if recipe.name in done]
    if not models:
        raise ZooError("no model of the zoo could be fetched or made; the lines above say why")
    write_zoo_json(root / f"zoo-{size}.json", models)
    return models


def _fetch_all(recipes: Sequence[Recipe], root: Path, bars: Bars) -> None:
    """Fetch every package that is not in the cache; what cannot be had is told once, here."""
    wanted = {str(one): one for recipe in recipes for one in _packages(recipe)}

    def one(name: str) -> None:
        with bars.task(f"fetch {name}"):
            fetch(wanted[name], root)

    jobs: dict[str, list[str]] = {name: [] for name in wanted if not is_fetched(wanted[name], root)}
    run_graph(jobs, one, workers=_DOWNLOADS, expected=ZooError, failed=lambda _, reason: bars.line(reason))


def _packages(recipe: Recipe) -> list[Package]:
    data = DATASET_PACKAGES.get(recipe.dataset or "")
    return [one for one in (recipe.package, data) if one is not None]


def _keys(recipes: Sequence[Recipe], root: Path, bars: Bars) -> dict[str, str]:
    """Key of every member whose package and text are at hand and whose parents have one."""
    digests: dict[str, str] = {}
    for name in sorted({recipe.dataset for recipe in recipes if recipe.dataset}):
        package = DATASET_PACKAGES.get(name)
        if package is not None and not is_fetched(package, root):
            continue  # told when it was fetched
        try:
            digests[name] = DATASETS[name](root).digest
        except Exception as error:
            if not is_expected(error):
                raise
            bars.line(str(error))
    keys: dict[str, str] = {}
    for recipe in recipes:
        lacks = [name for name in recipe.needs if name not in keys]
        lacks += [str(one) for one in _packages(recipe) if not is_fetched(one, root)]
        if recipe.dataset and recipe.dataset not in digests and not lacks:
            lacks = [f"the text {recipe.dataset}"]
        if lacks:
            bars.line(f"{recipe.name} is left out: it needs {', '.join(lacks)}")
        else:
            keys[recipe.name] = recipe_key(recipe, keys, digests.get(recipe.dataset or ""))
    return keys


def _make_all(
    recipes: Sequence[Recipe], keys: Mapping[str, str], root: Path, workers: int, bars: Bars
) -> set[str]:
    """Make the members that are missing; return the names of all that are there."""
    there = {
        recipe.name for recipe in recipes if member_folder(root, recipe.name, keys[recipe.name]).is_dir()
    }
    needs = {
        recipe.name: [name for name in recipe.needs if name not in there]
        for recipe in recipes
        if recipe.name not in there
    }
    children: list[subprocess.Popen[str]] = []

    def make(name: str) -> None:
        with bars.task(name) as step:
            _run_worker(root, name, keys, step, children)

    try:
        finished = run_graph(
            needs,
            make,
            workers=workers,
            expected=ZooError,
            failed=lambda name, reason: bars.line(f"{name} is left out: {reason}"),
        )
    finally:
        for child in children:
            child.kill()
    return there | finished


def _run_worker(
    root: Path, name: str, keys: Mapping[str, str], step: Step, children: list[subprocess.Popen[str]]
) -> None:
    """Make one member in a process of its own, so that a crash or a kill of it harms no other."""
    home = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(part for part in (home, os.environ.get("PYTHONPATH", "")) if part)
    environment = {**os.environ, **dict.fromkeys(_ONE_THREAD, "1"), "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "demo.zoo.worker", str(root), name, json.dumps(dict(keys))]
    log = root / "training" / f"{name.replace('/', '--')}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    reason = ""
    with (
        log.open("w") as stderr,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=environment) as child,
    ):
        children.append(child)
        for line in child.stdout or ():
            event = json.loads(line)
            reason = event.get("error", reason)
            if "step" in event:
                step(event["step"], event["steps"])
    if child.returncode != 0:
        raise MemberFailedError(name, reason or f"its process ended with {child.returncode}, see {log}")


def is_fetched(package: Package, root: Path) -> bool:
    """Whether a package is unpacked in the cache."""
    return package_folder(package, root).is_dir()


def _read(root: Path, name: str, keys: Mapping[str, str]) -> ZooModel:
    return read_zoo_json(member_folder(root, name, keys[name]) / "member.json")[0]
