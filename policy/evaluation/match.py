"""What is played on the worlds of one scenario: what of it is done, and what is missing.

Several matches can be played in one pool of processes (`play`); an evaluation is one match.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from policy.evaluation.closure import function_digest
from policy.evaluation.episodes import EpisodeResult, Job, WorldMaker, run_job
from policy.evaluation.results import ResultFolder
from policy.parallel import spread
from policy.play.scheme import SchemeEntry
from policy.scenario import Scenario

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Told how many worlds are done, of how many."""
Wanted = Mapping[int, tuple[tuple[str, int], ...]]
"""Schemes and bounds with their seeds, by the seed of the world."""


class Match:
    """Schemes and bounds on the worlds of one scenario, as far as they are played.

    Args:
        scenario: The problem.
        wanted: What is to be played.
        make_world: How worlds are made.
        folder: Finished episodes are kept and found here; None: nowhere. Nothing is kept of worlds of which
            nothing names all that they depend on.
        own: Schemes that no registry has.
    """

    def __init__(
        self,
        scenario: Scenario,
        wanted: Wanted,
        make_world: WorldMaker,
        folder: Path | None = None,
        own: Mapping[str, SchemeEntry] | None = None,
    ) -> None:
        self.scenario, self.wanted, self._make_world, self._own = scenario, wanted, make_world, own or {}
        self._kept = None
        if folder is not None and self.maker is None:
            log.warning("episodes are not kept: nothing names all that %r depends on", make_world)
        elif folder is not None and self.maker is not None:
            self._kept = ResultFolder(folder, scenario, self.maker, own)
        names = list(dict.fromkeys(name for items in wanted.values() for name, _ in items))
        self.done = self._kept.read(names) if self._kept else {}
        """Finished episodes by (scheme, world, seed)."""

    @cached_property
    def maker(self) -> str | None:
        """Digest of how worlds are made; None if nothing names it."""
        return function_digest(self._make_world)

    def missing(self) -> list[Job]:
        """A job for each world on which something is not played yet."""
        jobs = [
            Job(world=world, wanted=tuple(one for one in items if (one[0], world, one[1]) not in self.done))
            for world, items in self.wanted.items()
        ]
        return [job for job in jobs if job.wanted]

    def run(self, job: Job) -> list[EpisodeResult]:
        """Play a job, keep nothing."""
        return run_job(self.scenario, job, self._make_world, self._own)

    def bare(self) -> "Match":
        """What another process needs to play: nothing that is done, no folder."""
        return Match(self.scenario, {}, self._make_world, None, self._own)

    def add(self, results: Iterable[EpisodeResult]) -> None:
        """Take finished episodes, and keep them."""
        fresh = list(results)
        self.done.update({(r.scheme, r.world, r.seed): r for r in fresh})
        if self._kept:
            self._kept.append(fresh)


Item = tuple[int, Match, Job]
"""Number of a match, what it plays, one of its jobs."""


def play(
    matches: Sequence[Match], workers: int = 1, ray: bool = False, progress: Progress | None = None
) -> None:
    """Play all that is missing, first the first missing world of every match, then the second ones.

    Args:
        matches: Each takes its own results.
        workers: Processes, for all of them.
        ray: Run on Ray instead of local processes.
        progress: Called after each world, if only to say that all were done before.
    """
    items = list(_in_turn(matches))
    total = sum(len(match.wanted) for match in matches)
    ready = total - len(items)
    for number, results in spread(_play_item, items, workers, ray):
        matches[number].add(results)
        ready += 1
        if progress:
            progress(ready, total)


def _in_turn(matches: Sequence[Match]) -> Iterator[Item]:
    jobs = [match.missing() for match in matches]
    bare = [match.bare() for match in matches]
    for turn in range(max(map(len, jobs), default=0)):
        for number, mine in enumerate(jobs):
            if turn < len(mine):
                yield number, bare[number], mine[turn]


def _play_item(item: Item) -> tuple[int, list[EpisodeResult]]:
    number, match, job = item
    return number, match.run(job)
