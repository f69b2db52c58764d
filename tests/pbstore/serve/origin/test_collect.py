"""No collection takes what is needed, whoever writes meanwhile, dies, or is slow."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pbstore.errors import ModelExistsError, ModelMissingError
from pbstore.serve.origin import catalog as catalog_module
from pbstore.serve.origin import collect as collect_module
from pbstore.serve.origin import writer as writer_module
from pbstore.serve.origin.catalog import Catalog, newest_keys
from pbstore.serve.origin.collect import DAY_S, _View, collect
from pbstore.serve.origin.errors import LeaseLostError, OriginError, RecordError
from pbstore.serve.origin.lease import Lease, LeaseRecord
from pbstore.serve.origin.marks import Batch
from pbstore.serve.origin.objects import Objects, open_objects
from pbstore.serve.origin.records import LEASES, NAMES, NameRecord
from pbstore.serve.origin.remove import remove
from pbstore.serve.origin.writer import Writer
from tests.pbstore.serve.origin.kit import manifest_of, put_model, read_model, some_blocks
from tests.pbstore.serve.origin.stage import Inline, Stage, StagedObjects

EXPECTED = (LeaseLostError, ModelExistsError, ModelMissingError, OriginError)


@pytest.fixture(autouse=True)
def _inline(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if "threads" not in request.keywords:
        monkeypatch.setattr(catalog_module, "Pool", Inline)
        monkeypatch.setattr(writer_module, "Pool", Inline)


def broken_names(objects: StagedObjects) -> dict[str, set[str]]:
    """Names that mean a model of which something is gone."""
    names = newest_keys(key for key in objects.held if key.startswith(NAMES))
    records = [NameRecord.decode(key, objects.held[key][0]) for key in names.values()]
    return {
        record.name: gone
        for record in records
        if not record.removed and (gone := record.keys - objects.held.keys())
    }


class Play:
    """Writers and collections at random over one origin; `lost` says what was needed and went."""

    def __init__(self, seed: int, *, dies: float, leap_s: float, lease_s: float = 60.0) -> None:
        self.rng = np.random.default_rng(seed)
        self.stage = Stage(self.rng, dies=dies, leap_s=leap_s)
        self.objects = StagedObjects(self.stage)
        self.objects.after_delete = self.note_losses
        self.lease_s = lease_s
        self.lost: list[dict[str, set[str]]] = []
        self.published: dict[str, int] = {}
        self.outcomes: dict[str, int] = {}

    def note_losses(self) -> None:
        if broken := broken_names(self.objects):
            self.lost.append(broken)

    def catalog(self) -> Catalog:
        return Catalog(self.objects)  # type: ignore[arg-type]

    def attempt(self, what: str, action: Callable[[], object]) -> None:
        try:
            action()
        except EXPECTED as error:
            what = f"{what}: {type(error).__name__}"
        self.outcomes[what] = self.outcomes.get(what, 0) + 1

    def writer(self, number: int) -> Callable[[], None]:
        rng = np.random.default_rng([number, int(self.rng.integers(1 << 30))])

        def act() -> None:
            catalog = self.catalog()
            for _ in range(3):
                name = f"m{rng.integers(3)}"
                blocks = some_blocks(sorted(rng.choice(6, 3, replace=False).tolist()))
                self.attempt("write", lambda n=name, b=blocks: self.write(catalog, n, b))
                if rng.random() < 0.5:
                    self.attempt("remove", lambda n=name: remove(catalog, n))
                if rng.random() < 0.3:
                    self.attempt("restore", lambda n=name: self.restore(catalog, n))

        return act

    def write(self, catalog: Catalog, name: str, blocks: list[Any]) -> None:
        with Writer(catalog, self.lease_s) as writer:
            known = writer.known(block.block_id for block in blocks)
            writer.put_blocks(block for block in blocks if block.block_id not in known)
            for _ in range(self.rng.integers(40)):  # it may be slow, and others are at work meanwhile
                self.stage.turn()
            writer.commit(manifest_of(name, blocks), replace=True)

    def restore(self, catalog: Catalog, name: str) -> None:
        with Writer(catalog, self.lease_s) as writer:
            writer.restore(name)

    def collector(self) -> None:
        catalog = self.catalog()
        for _ in range(4):
            grace_s = float(self.rng.choice([0.0, 5.0]))
            self.attempt("collect", lambda g=grace_s: collect(catalog, grace_s=g, trash_s=0.0))

    def run(self) -> None:
        self.errors = self.stage.play([self.writer(1), self.writer(2), self.collector, self.collector])
        self.note_losses()


def plays(count: int, first: int = 0) -> Iterator[Play]:
    for seed in range(first, first + count):
        kind = seed % 3  # nobody dies; some die; everybody is slower than the lease lasts
        play = Play(seed, dies=0.01 if kind == 1 else 0.0, leap_s=20.0 if kind == 2 else 0.5)
        play.run()
        yield play


def check_plays(played: Iterable[Play]) -> None:
    for play in played:
        assert play.lost == []
        assert play.errors == []
        catalog = play.catalog()
        for name, record in catalog.names().items():
            if not record.removed:
                manifest, blocks = read_model(catalog, name)
                assert {block.block_id for block in blocks} == set(manifest.block_ids())


def test_nothing_that_is_needed_goes_whoever_writes_dies_or_is_slow() -> None:
    played = list(plays(24))

    check_plays(played)
    seen = {what for play in played for what in play.outcomes}
    assert {"write", "remove", "restore", "collect", "write: LeaseLostError"} <= seen
    assert sum(play.stage.deaths for play in played) > 2


@pytest.mark.slow
def test_nothing_that_is_needed_goes_in_two_hundred_more_orders() -> None:
    check_plays(plays(200, first=1000))


def sweep_at_once(view: _View, batches: Iterable[Batch], grace_s: float) -> tuple[set[str], set[str]]:
    """As `_due`, of a collection that waits for nobody."""
    return {key for batch in batches for key in batch.keys & (view.sizes.keys() - view.named)}, set()


def delete_lease(objects: Objects, lease: LeaseRecord) -> bool:
    """As `close_lease`, of a collection that leaves no trace."""
    objects.delete([lease.key])
    return True


MUTANTS = {
    "waits for writers": (collect_module, "_due", sweep_at_once),
    "writers pass over what is marked": (writer_module, "marked_keys", lambda _: frozenset()),
    "takes leases over": (collect_module, "close_lease", lambda *_: True),
    "leaves a trace of it": (collect_module, "close_lease", delete_lease),
}


@pytest.mark.slow
@pytest.mark.parametrize("rule", MUTANTS)
def test_the_plays_find_a_collection_without_one_of_its_rules(
    rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(*MUTANTS[rule])

    assert any(play.lost for play in plays(400))


def unused(objects: Objects) -> set[str]:
    """Packs and manifests that a collection would not keep."""
    return {one.key for prefix in ("packs/", "manifests/") for one in objects.list(prefix)}


def test_a_dry_run_says_what_the_run_does_and_touches_nothing() -> None:
    catalog = Catalog(open_objects("memory://dry-run"))
    objects = catalog.objects
    for number in range(4):
        put_model(catalog, f"m{number}", some_blocks([number, number + 1]))
    remove(catalog, "m1")
    remove(catalog, "m2")
    for settings in (
        {"grace_s": 0.0, "trash_s": 0.0},
        {"grace_s": 100.0, "trash_s": 0.0},
        {},
        {"grace_s": 0.0},
    ):
        put_model(catalog, f"m{len(settings)}", some_blocks([10 + len(settings)]), replace=True)
        before = {one.key for one in objects.list("")}
        planned = collect(catalog, dry_run=True, **settings)
        assert {one.key for one in objects.list("")} == before
        done = collect(catalog, **settings)

        assert replace(planned, dry_run=False) == done
        assert len(before - {one.key for one in objects.list("")}) >= done.deleted_objects
    assert catalog.names().keys() == {"m0", "m1", "m2", "m3"}


def test_a_removed_model_comes_back_until_a_collection_lets_go_of_it() -> None:
    catalog = Catalog(open_objects("memory://restore"))
    blocks = some_blocks([1, 2])
    put_model(catalog, "m", blocks)
    remove(catalog, "m")
    assert collect(catalog, grace_s=0.0).in_trash == 1
    with pytest.raises(ModelMissingError):
        catalog.record("m")
    with Writer(catalog) as writer:
        writer.restore("m")
    assert [block.block_id for block in read_model(catalog, "m")[1]] == [block.block_id for block in blocks]

    remove(catalog, "m")
    report = collect(catalog, grace_s=0.0, trash_s=0.0)
    assert report.deleted_bytes > 0
    assert report.kept_bytes == 0
    with Writer(catalog) as writer, pytest.raises(OriginError, match="removed too long ago"):
        writer.restore("m")
    assert unused(catalog.objects) == set()
    put_model(catalog, "m", blocks)
    assert len(read_model(catalog, "m")[1]) == 2


def test_marked_objects_stay_for_the_grace_and_for_writers_at_work() -> None:
    catalog = Catalog(open_objects("memory://grace"))
    put_model(catalog, "m", some_blocks([1]))
    remove(catalog, "m")
    with Writer(catalog) as writer:
        first = collect(catalog, grace_s=0.0, trash_s=0.0)
        again = collect(catalog, grace_s=0.0, trash_s=0.0)
        assert (first.marked_objects, first.deleted_objects) == (2, 0)
        assert (again.marked_objects, again.deleted_objects) == (0, 0)
        assert again.waits_for == first.waits_for != ()
        assert writer.known([some_blocks([1])[0].block_id])  # it may count on what was marked after its start
    assert collect(catalog, grace_s=DAY_S, trash_s=0.0).deleted_objects == 0
    assert collect(catalog, grace_s=0.0, trash_s=0.0).deleted_objects == 2


def test_a_damaged_name_stops_a_collection() -> None:
    catalog = Catalog(open_objects("memory://damaged"))
    put_model(catalog, "m", some_blocks([1]))
    catalog.objects.create(f"{NAMES}n/@0000000001", b"{}")
    before = unused(catalog.objects)
    with pytest.raises(RecordError, match="names/n/@0000000001"):
        collect(catalog, grace_s=0.0, trash_s=0.0)
    assert unused(catalog.objects) == before


def test_a_lease_that_was_taken_over_publishes_nothing_ever() -> None:
    catalog = Catalog(open_objects("memory://lease"))
    blocks = some_blocks([1])
    writer = Writer(catalog, lease_s=1e-6)
    writer.put_blocks(blocks)
    assert collect(catalog).leases_taken_over == 1
    assert collect(catalog).leases_taken_over == 0
    with pytest.raises(LeaseLostError, match="push again"):
        writer.commit(manifest_of("m", blocks))
    writer.close()
    assert [one.key.count("/") for one in catalog.objects.list(LEASES)] == [2]  # it says so for good
    assert catalog.find("m") is None
    put_model(catalog, "m", blocks)


def test_a_collection_publishes_what_a_dead_writer_had_committed() -> None:
    catalog = Catalog(open_objects("memory://commit"))
    put_model(catalog, "m", some_blocks([1]))
    record = catalog.record("m")
    remove(catalog, "m")
    lease = Lease(catalog.objects, 1e-6)
    lease.commit(replace(record, generation=3))
    planned = collect(catalog, dry_run=True, grace_s=0.0, trash_s=0.0)
    assert collect(catalog, grace_s=0.0, trash_s=0.0) == replace(planned, dry_run=False)
    assert catalog.record("m").generation == 3
    assert len(read_model(catalog, "m")[1]) == 1
    assert list(catalog.objects.list(LEASES)) == []
