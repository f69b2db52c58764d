"""Finished episodes on disk, so that an interrupted evaluation goes on where it stopped."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from policy.evaluation.episodes import EpisodeResult
from policy.evaluation.sources import code_version
from policy.kept import KeptRows
from policy.play.scheme import SchemeEntry
from policy.scenario import Scenario


def scenario_digest(scenario: Scenario) -> str:
    """SHA-256 over settings and catalog."""
    hasher = hashlib.sha256(json.dumps(scenario.config.to_dict(), sort_keys=True).encode())
    catalog = scenario.catalog
    forms = catalog.forms
    other = () if forms is None else (forms.alone_bytes, forms.content, forms.together)
    for array in (catalog.sizes_bytes, catalog.members, catalog.requires, catalog.whole_bytes, *other):
        hasher.update(f"{array.dtype.str}{array.shape}".encode())
        hasher.update(array.tobytes())
    hasher.update("\n".join(catalog.block_names).encode())
    return hasher.hexdigest()


class ResultFolder:
    """A file for each scheme with its code, its scenario and the digest of how worlds are made."""

    def __init__(
        self,
        root: Path,
        scenario: Scenario,
        maker: str,
        entries: Mapping[str, SchemeEntry] | None = None,
    ) -> None:
        self.path = root
        self._made_by = {"scenario": scenario_digest(scenario), "maker": maker}
        self._name = scenario.config.name
        self._entries = entries or {}
        self._rows: dict[str, KeptRows | None] = {}

    def read(self, names: Sequence[str]) -> dict[tuple[str, int, int], EpisodeResult]:
        """Finished episodes of these schemes by (scheme, world, seed); a torn last line is skipped."""
        finished = {}
        for name in names:
            for row in self.rows(name) or ():
                try:
                    result = EpisodeResult.from_dict(row)
                except (TypeError, KeyError):
                    continue
                finished[(result.scheme, result.world, result.seed)] = result
        return finished

    def append(self, results: Iterable[EpisodeResult]) -> None:
        """Add finished episodes, one write each."""
        for result in results:
            rows = self.rows(result.scheme)
            if rows is not None:
                rows.append(result.to_dict())

    def rows(self, name: str) -> KeptRows | None:
        """What is kept of one scheme; None if nothing names all that its decisions depend on."""
        if name not in self._rows:
            code = code_version(self._entries.get(name, name))
            made_by = {**self._made_by, "scheme": name, "code": code}
            self._rows[name] = None if code is None else KeptRows(self.path, f"{self._name}-{name}", made_by)
        return self._rows[name]
