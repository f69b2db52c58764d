"""`pbcast doctor`: whether this machine, its packages and an object store do what pbcast needs."""

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from packaging.requirements import Requirement

from demo.cli.app import EXIT_CODES
from demo.cli.commands import EXTRAS
from demo.cli.store_shared import DEFAULT_STORE, JsonOption, human, print_json
from demo.console import say

app = typer.Typer(add_completion=False)
DIST = "pbcast"
PATIENCE_S = 10.0
"""How long an endpoint is waited for, s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    name: str
    ok: bool
    said: str
    needed: bool = True
    """Whether pbcast as such needs it; else only a part of it does."""


@app.command(epilog=EXIT_CODES)
def doctor(
    origin: Annotated[
        str | None, typer.Option(help="Try an object store out, too: s3://BUCKET/PREFIX.")
    ] = None,
    store: Annotated[Path, typer.Option(envvar="PBCAST_STORE", help="Folder of the store.")] = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> int:
    """Say what this machine has of what pbcast needs; exit code 1 if it lacks something."""
    findings = [*_machine(store), *_names(), *_packages(), *_network()]
    findings += _endpoint(origin) if origin else ()
    well = all(finding.ok for finding in findings if finding.needed)
    if as_json:
        print_json({"ok": well, "findings": [asdict(finding) for finding in findings]})
    else:
        for finding in findings:
            mark = "ok" if finding.ok else ("FAILS" if finding.needed else "absent")
            say(f"{mark:7} {finding.name}: {finding.said}")
    return 0 if well else 1


def _machine(store: Path) -> Iterator[Finding]:
    version = platform.python_version()
    yield Finding(name="python", ok=sys.version_info >= (3, 11), said=f"{version}, expected 3.11 or later")
    yield Finding(name="system", ok=sys.platform == "linux", said=f"{platform.system()} {platform.machine()}")
    pages, page = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    yield Finding(name="machine", ok=True, said=f"{os.cpu_count()} cores, {human(pages * page)} of memory")
    folder = next(one for one in (store, *store.absolute().parents) if one.is_dir())
    free = shutil.disk_usage(folder).free
    yield Finding(name="disk", ok=free > 1e9, said=f"{human(free)} free at {folder.absolute()}", needed=False)
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".tmp-pbcast-"):
            said = "can be written to"
        yield Finding(name="store", ok=True, said=f"{folder.absolute()} {said}", needed=False)
    except OSError as error:
        yield Finding(name="store", ok=False, said=f"{folder.absolute()}: {error.strerror}", needed=False)


def _names() -> Iterator[Finding]:
    """Whether the four packages are ours: their names are common, and others may use them."""
    home = Path(__file__).parents[2]
    for name in ("pbstore", "radio", "policy", "demo"):
        spec = find_spec(name)
        where = Path(spec.origin).parents[1] if spec is not None and spec.origin else None
        said = f"from {where}" if where == home else f"expected it in {home}, Python takes it from {where}"
        yield Finding(name=f"package {name}", ok=where == home, said=said)


def _packages() -> Iterator[Finding]:
    """The packages that pbcast names, in the versions that it asks for."""
    try:
        wanted = [Requirement(line) for line in metadata.requires(DIST) or ()]
    except metadata.PackageNotFoundError:
        yield Finding(name="packages", ok=False, said="pbcast itself is not installed")
        return
    told: set[str] = set()
    for extra in ("", *EXTRAS):
        for one in wanted:
            plain = one.marker is None or one.marker.evaluate({"extra": ""})
            asked = one.marker is not None and one.marker.evaluate({"extra": extra})
            if one.name not in told and (plain if not extra else (asked and not plain)):
                told.add(one.name)
                yield _package(one, extra)


def _package(wanted: Requirement, extra: str) -> Finding:
    part = f" (for pbcast[{extra}])" if extra else ""
    try:
        there = metadata.version(wanted.name)
    except metadata.PackageNotFoundError:
        said = f"not installed, expected {wanted.specifier}{part}"
        return Finding(name=wanted.name, ok=False, said=said, needed=not extra)
    ok = wanted.specifier.contains(there, prereleases=True)
    return Finding(
        name=wanted.name, ok=ok, said=f"{there}, expected {wanted.specifier}{part}", needed=not extra
    )


def _network() -> Iterator[Finding]:
    """What `pbcast emulate --links shaped` and a fast air need; without it there are plain links."""
    from demo.emulation.links import abilities

    for one in abilities():
        said = one.said if one.ok else f"{one.said}; use --links plain"
        yield Finding(name=one.name, ok=one.ok, said=said, needed=False)


def _endpoint(url: str) -> Iterator[Finding]:
    from pbstore.serve.origin.objects import open_objects
    from pbstore.serve.origin.probe import probe

    for check in probe(open_objects(url, PATIENCE_S)):
        yield Finding(name=f"origin {check.name}", ok=check.ok, said=check.said)
