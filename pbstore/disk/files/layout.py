"""Names inside a store's folder, and the settings that stand in its STORE.json."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from blake3 import blake3

from pbstore.disk.files import fsio
from pbstore.disk.files.sheaf import SHEAF_SUFFIX
from pbstore.errors import NotAStoreError
from pbstore.folders.nesting import FORMAT, SETTINGS_FILE

VERSION = 1
SHEAF_VERSION = 2
"""That of a store with sheaves of manifests; code that does not know them must not open it."""
MANIFEST_SUFFIX = ".json"
TRASH_SUFFIX = ".trash"
PAST_SUFFIX = ".past"
TAGS_SUFFIX = ".tags"
DEFAULT_PACK_BYTES = 1 << 30
DEFAULT_TRASH_DAYS = 7.0
MAX_TRASH_DAYS = 36_500


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a store keeps about itself."""

    capacity_bytes: int | None = None
    """Most payload bytes that fit, None without a limit."""
    pack_bytes: int = DEFAULT_PACK_BYTES
    """A pack that has reached this length gets no further blocks."""
    trash_days: float = DEFAULT_TRASH_DAYS
    """A gc leaves removed models alone for so long."""
    version: int = VERSION
    """Of the format."""

    def __post_init__(self) -> None:
        if self.version not in (VERSION, SHEAF_VERSION):
            raise ValueError(f"version must be {VERSION} or {SHEAF_VERSION}, got {self.version}")
        if self.capacity_bytes is not None and self.capacity_bytes < 0:
            raise ValueError(f"capacity_bytes must be >= 0, got {self.capacity_bytes}")
        if self.pack_bytes < 4096:
            raise ValueError(f"pack_bytes must be >= 4096, got {self.pack_bytes}")
        if not 0 <= self.trash_days <= MAX_TRASH_DAYS:
            raise ValueError(f"trash_days must be in 0..{MAX_TRASH_DAYS}, got {self.trash_days}")


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths of a store."""

    root: Path

    @property
    def settings(self) -> Path:
        """Format, version and settings; a folder is a store because of this file."""
        return self.root / SETTINGS_FILE

    @property
    def packs(self) -> Path:
        """Folder of the packs."""
        return self.root / "packs"

    @property
    def manifests(self) -> Path:
        """Folder of the manifests."""
        return self.root / "manifests"

    @property
    def index(self) -> Path:
        """The SQLite index."""
        return self.root / "index.sqlite"

    @property
    def lock(self) -> Path:
        """The writer's lock."""
        return self.root / "lock"

    @property
    def reserve(self) -> Path:
        """Room that is held back for the index: a file that means nothing."""
        return self.root / "reserve"

    @property
    def audit(self) -> Path:
        """What changed when, a line of JSON each."""
        return self.root / "changes.jsonl"

    @property
    def snapshot(self) -> Path:
        """A copy of the index, for when it is lost."""
        return self.root / "index.snapshot"

    @property
    def uses(self) -> Path:
        """Uses of models that are not yet counted in the index, a line each."""
        return self.root / "uses"

    def manifest(self, name: str) -> Path:
        """File of a model's manifest: named by a hash, so that no model name can leave the folder."""
        return self.manifests / manifest_file(name)

    def tags(self, name: str) -> Path:
        """File of a model's tags."""
        return self.manifests / f"{_stem(name)}{TAGS_SUFFIX}"

    def trashed_manifests(self) -> list[Path]:
        """Manifests of removed models, sorted."""
        return self._named(TRASH_SUFFIX)

    def past_manifests(self) -> list[Path]:
        """Manifests of earlier revisions, sorted."""
        return self._named(PAST_SUFFIX)

    def tag_files(self) -> list[Path]:
        """Tags of models, sorted."""
        return self._named(TAGS_SUFFIX)

    @staticmethod
    def waiting(manifest: Path) -> Path:
        """Where a manifest's file lies until its model is committed."""
        return manifest.with_name(f".new-{manifest.name}")

    def waiting_manifests(self) -> dict[Path, Path]:
        """Manifests that are not in place: their place, and where they lie."""
        return {path.with_name(path.name[5:]): path for path in self.manifests.glob(".new-*")}

    def placed_manifests(self) -> list[Path]:
        """Manifests that are in place, sorted."""
        return self._named(MANIFEST_SUFFIX)

    def sheaf_files(self) -> list[Path]:
        """Sheaves of manifests, sorted."""
        return self._named(SHEAF_SUFFIX)

    def all_manifests(self) -> list[Path]:
        """Manifests in files of their own: of models, of earlier revisions and of what is in the trash."""
        return [*self.placed_manifests(), *self.past_manifests(), *self.trashed_manifests()]

    def _named(self, suffix: str) -> list[Path]:
        return sorted(path for path in self.manifests.glob(f"*{suffix}") if not path.name.startswith("."))


def manifest_file(name: str) -> str:
    """Name of the file of a model's manifest."""
    return f"{_stem(name)}{MANIFEST_SUFFIX}"


def past_file(name: str, stamp_ms: int) -> str:
    """Name of the file of the manifest of an earlier revision."""
    return f"{_stem(name)}.{stamp_ms}{PAST_SUFFIX}"


def trash_file(name: str, stamp_ms: int, past_ms: int | None = None) -> str:
    """Name of the file of a removed model's manifest, or of that of an earlier revision of it."""
    past = "" if past_ms is None else f".{past_ms}"
    return f"{_stem(name)}{past}.{stamp_ms}{TRASH_SUFFIX}"


def _stem(name: str) -> str:
    return blake3(name.encode()).hexdigest(length=20)


def default_pack_bytes(capacity_bytes: int | None) -> int:
    """Packs of 1 GiB; smaller ones in a small store, so that a gc needs little room."""
    if capacity_bytes is None:
        return DEFAULT_PACK_BYTES
    return max(1 << 20, min(DEFAULT_PACK_BYTES, capacity_bytes // 8))


def prepare(root: Path, capacity_bytes: int | None, pack_bytes: int | None) -> tuple[Layout, Settings]:
    """Open a store's folder, or make it if it is missing or empty.

    Raises:
        NotAStoreError: If the folder holds something else, or a version that this code does not know.
    """
    layout = Layout(root)
    if root.exists() and not root.is_dir():
        raise NotAStoreError(str(root), "expected a folder")
    if not layout.settings.exists() and not _is_filled(layout):
        root.mkdir(parents=True, exist_ok=True)
        settings = Settings(
            capacity_bytes=capacity_bytes, pack_bytes=pack_bytes or default_pack_bytes(capacity_bytes)
        )
        write_settings(layout, settings)
    else:
        settings = read_settings(layout)
    layout.packs.mkdir(exist_ok=True)
    layout.manifests.mkdir(exist_ok=True)
    return layout, settings


def write_settings(layout: Layout, settings: Settings) -> None:
    """Put STORE.json in place."""
    fsio.write_file(layout.settings, settings_text(settings).encode())


def settings_text(settings: Settings) -> str:
    """What stands in STORE.json: the settings and a checksum of them."""
    tree = {"format": FORMAT, **asdict(settings)}
    return json.dumps({**tree, "check": _check_of(tree)}, sort_keys=True, indent=1) + "\n"


def _check_of(tree: dict[str, Any]) -> str:
    """Checksum of what STORE.json says, without its `check`."""
    rest = {key: value for key, value in tree.items() if key != "check"}
    return blake3(json.dumps(rest, sort_keys=True).encode()).hexdigest(length=8)


def read_settings(layout: Layout) -> Settings:
    """Read and check STORE.json.

    Raises:
        NotAStoreError: If it is not ours, or of another version.
    """
    if not layout.settings.exists():
        raise NotAStoreError(str(layout.root), f"it has no {SETTINGS_FILE}{_hint(layout)}")
    return parse_settings(layout.settings.read_bytes()[:65536], str(layout.root), _hint(layout))


def _hint(layout: Layout) -> str:
    """What helps where STORE.json is damaged, if the folder looks like a store."""
    return ": `pbcast store repair` writes it anew" if layout.index.exists() else ""


def parse_settings(text: str | bytes, root: str, hint: str = "") -> Settings:
    """Settings from the text of a STORE.json.

    Raises:
        NotAStoreError: As `read_settings`.
    """
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError):
        raise NotAStoreError(root, f"{SETTINGS_FILE} is not JSON{hint}") from None
    if not isinstance(tree, dict) or tree.get("format") != FORMAT:
        raise NotAStoreError(root, f"{SETTINGS_FILE} does not say format {FORMAT}{hint}")
    if "check" in tree and tree["check"] != _check_of(tree):
        raise NotAStoreError(root, f"{SETTINGS_FILE} does not match its checksum{hint}")
    if tree.get("version") not in (VERSION, SHEAF_VERSION):
        expected = f"expected {VERSION} or {SHEAF_VERSION}"
        raise NotAStoreError(root, f"format version {tree.get('version')!r} is unknown, {expected}")
    try:
        return Settings(
            capacity_bytes=tree["capacity_bytes"],
            pack_bytes=int(tree["pack_bytes"]),
            trash_days=float(tree.get("trash_days", DEFAULT_TRASH_DAYS)),
            version=int(tree["version"]),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise NotAStoreError(root, f"bad setting in {SETTINGS_FILE}: {error}{hint}") from None


def _is_filled(layout: Layout) -> bool:
    """Whether another process has made the store since; a folder with anything else is refused."""
    root = layout.root
    filled = root.exists() and any(not path.name.startswith(".tmp-") for path in root.iterdir())
    if filled and not layout.settings.exists():
        raise NotAStoreError(str(root), f"the folder is not empty and has no {SETTINGS_FILE}{_hint(layout)}")
    return filled
