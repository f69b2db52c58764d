"""The report of one run, to and from JSON. The schema is written out in `demo/README.md`."""

import json
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from policy.evaluation import Load
from policy.kept import replace_text
from policy.strict_json import strict_json

REPORT_NAME = "report.json"
CATALOG_FIELD = "catalogue"
"""What the file calls `RunReport.catalog`: a name that is fixed."""
_PACKAGES = ("pbcast", "torch", "transformers", "peft", "safetensors", "numpy", "cvxpy")


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogReport:
    """What the library of models holds, in bytes measured on the disk."""

    models: int
    blocks: int
    """Distinct parameter blocks."""
    raw_bytes: int
    """Sum of all files of all models."""
    file_dedup_bytes: int
    """The same with every distinct file counted once: what the Hugging Face cache does at its best."""
    block_dedup_bytes: int
    """The same with every distinct block counted once, uncoded."""
    disk_bytes: int
    """What the store occupies on the disk: coded blocks, index, manifests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemeReport:
    """One scheme over the slots of a world, in the mean of all, simulated with the beamformers of `radio`."""

    mean_delay_s: float
    p95_delay_s: float
    airtime_s: float
    """Total time the band was busy."""
    migrated_bytes: int
    cloud_bytes: int
    cache_update_bytes: int
    hit_ratio: float
    """Share of requests that were served without the cloud."""
    worst_gap: float
    """Largest 1 - SNR / upper bound of all beamformers solved for the scheme, tried or used."""
    lost_ratio: float = 0.0
    """Share of broadcasts that were lost at first: the true channel carried less than the nodes thought."""
    world_delays_s: tuple[float, ...] = ()
    """Mean delay on each world; the numbers above are means over them."""
    load: Load | None = None
    """How busy band and links were; None in reports that did not measure it."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "world_delays_s", tuple(self.world_delays_s))

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> "SchemeReport":
        """What `asdict` gave; raises TypeError when fields are missing."""
        load = row.get("load")
        return cls(**{**row, "load": None if load is None else Load(**load)})


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryReport:
    """One model delivered to one device with real bytes."""

    model: str
    user: int
    slot: int
    delay_s: float
    bytes_sent: int
    """Coded bytes of the blocks that the device missed and received."""
    sha256_ok: bool
    """Every file of the model equals the source by SHA-256."""
    inference_equal: bool | None
    """The model's output equals the original's on the same input, bit for bit; None: it cannot be run."""
    sample_output: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ZooReport:
    """One model of the zoo: where it comes from and how good it is."""

    model: str
    base: str | None
    kind: str
    raw_bytes: int
    metric: str | None
    value: float | None
    majority: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """All that a run measured."""

    seed: int
    settings: Mapping[str, Any]
    catalog: CatalogReport
    schemes: Mapping[str, SchemeReport]
    deliveries: tuple[DeliveryReport, ...]
    zoo: tuple[ZooReport, ...]
    bounds: Mapping[str, float] = field(default_factory=dict)
    """`unlimited_s`: mean delay that no row can beat, with every block at every node; not in older files."""
    versions: Mapping[str, str] = field(default_factory=lambda: versions())

    def to_dict(self) -> dict[str, Any]:
        """Plain values under the names of the file."""
        return {CATALOG_FIELD if name == "catalog" else name: value for name, value in asdict(self).items()}

    def write(self, folder: Path) -> Path:
        """Write `report.json` into a folder, whole or not at all."""
        path = folder / REPORT_NAME
        replace_text(path, strict_json(self.to_dict()) + "\n")
        return path

    @classmethod
    def read(cls, path: Path) -> "RunReport":
        """Read a report, from its file or from the folder that holds it.

        Raises:
            ValueError: If the file is not a report of a run.
        """
        path = path / REPORT_NAME if path.is_dir() else path
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            return cls(
                seed=data["seed"],
                settings=data["settings"],
                catalog=CatalogReport(**data[CATALOG_FIELD]),
                schemes={name: SchemeReport.from_dict(row) for name, row in data["schemes"].items()},
                deliveries=tuple(DeliveryReport(**row) for row in data["deliveries"]),
                zoo=tuple(ZooReport(**row) for row in data["zoo"]),
                bounds=data.get("bounds", {}),
                versions=data["versions"],
            )
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"{path} is no report of a run: {error!r}") from error


def commit() -> str:
    """Commit of the code that runs, with `+` if files of it were changed since; `unknown` outside a clone."""
    root = Path(__file__).parents[2]
    command = ["git", "-C", str(root), "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return done.stdout.strip() or "unknown" if (root / ".git").exists() else "unknown"


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide the numbers."""
    versions_of = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions_of[package] = version(package)
        except PackageNotFoundError:
            versions_of[package] = "not installed"
    return versions_of
