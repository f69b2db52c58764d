"""Fused and split weights in any dtype: found whatever the order of rows, every byte, two steps at most."""

from pathlib import Path

import pytest
import torch

from pbstore import open_store
from pbstore.codecs.derive.case import Case
from pbstore.codecs.derive.draft import Parent
from pbstore.codecs.derive.joined import joined
from pbstore.codecs.derive.probes import begins_a_row, lies_along
from pbstore.codecs.sketch import probe
from tests.pbstore.codecs.edits import raw_of
from tests.pbstore.folders import folder_content
from tests.pbstore.test_derived import Tensors, write

LAYERS, WIDTH, ROWS = 3, 96, {"q": 192, "k": 96, "v": 120}
TYPES = {
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp8": torch.float8_e4m3fn,
    "f64": torch.float64,
    "f32": torch.float32,
}
Rows = torch.Tensor


def parts(seed: int = 0, dtype: torch.dtype = torch.float32) -> list[Rows]:
    """Query, key and value; some are minus zero, which a sum could lose."""
    g = torch.Generator().manual_seed(seed)
    made = [torch.randn(rows, WIDTH, generator=g) * 0.05 for rows in ROWS.values()]
    for one in made:
        one[::7, 3::5] = -0.0
    return [one.to(dtype) for one in made]


def by_heads(tensors: list[Rows]) -> Rows:
    """Heads of each in turn, as some layers have them."""
    return torch.cat(
        [rows for head in zip(*(one.split(24) for one in tensors), strict=False) for rows in head]
    )


LAYOUTS = {
    "one after the other": lambda x: torch.cat(x),
    "backwards": lambda x: torch.cat(x[::-1]),
    "two of them": lambda x: torch.cat(x[:2]),
    "head by head": by_heads,
    "stacked, with rows of others between": lambda x: torch.cat([x[0], torch.ones(9, WIDTH), x[1]]),
    "a part": lambda x: x[1][7:70],
}


@pytest.mark.sampled(4)
@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("source", ["f32", "bf16", "f64"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_rows_of_three_are_predicted_exactly_in_any_dtype(layout: str, source: str, kind: str) -> None:
    tensors = parts(dtype=TYPES[source])
    raw, spec = raw_of(LAYOUTS[layout](tensors).float().to(TYPES[kind]))
    case = Case(memoryview(raw), spec)
    others = [Parent(f"other{n}", *raw_of(one)) for n, one in enumerate(parts(5, TYPES[source]))]

    found = joined(case, [*others, *(Parent(f"p{n}", *raw_of(one)) for n, one in enumerate(tensors))])

    assert found is not None
    assert all(need.startswith("p") for need in found.needs)
    (predicted,) = found.derived.alternatives(0, spec.num_elements)
    given = predicted.tobytes() == raw
    assert given or layout.startswith("stacked")
    assert (predicted == case.bits).mean() > 0.96


def test_nothing_is_joined_of_what_has_no_row_in_common() -> None:
    raw, spec = raw_of(torch.cat(parts(1)).bfloat16())
    assert joined(Case(memoryview(raw), spec), [Parent("p", *raw_of(one)) for one in parts(2)]) is None


@pytest.mark.parametrize("kind", TYPES)
def test_probes_tell_parts_and_wholes_from_others(kind: str) -> None:
    tensors = parts(3)
    whole = torch.cat(tensors)
    raw, spec = raw_of(whole.to(TYPES[kind]))
    for seed, tells in ((3, True), (4, False)):
        for one in parts(seed):
            known = probe(*raw_of(one))
            assert known is not None
            assert begins_a_row(raw, spec, known, raw_of(one)[1]) or not tells
            assert lies_along(raw, spec, known, raw_of(one)[1]) == tells
    known = probe(*raw_of(whole))
    assert known is not None
    for seed, tells in ((3, True), (4, False)):
        raw, spec = raw_of(parts(seed)[0].to(TYPES[kind]))
        assert lies_along(raw, spec, known, raw_of(whole)[1]) == tells


def model(*, fused: bool, tuned: bool = False, dtype: torch.dtype = torch.float32) -> Tensors:
    """Layers whose query, key and value are one tensor or three."""
    made: Tensors = {}
    for layer in range(LAYERS):
        g = torch.Generator().manual_seed(layer + 50)
        own = [torch.randn(rows, WIDTH, generator=g) * 0.05 for rows in ROWS.values()]
        out = torch.randn(WIDTH, 192, generator=g) * 0.05
        if tuned:
            own, out = ([x + 1e-3 * torch.randn(x.shape, generator=g) for x in y] for y in (own, [out]))
            (out,) = out
        named = {"qkv": torch.cat(own)} if fused else dict(zip(ROWS, own, strict=True))
        made |= {f"layer.{layer}.{name}.weight": one for name, one in {"out": out, **named}.items()}
    return {name: one.to(dtype) for name, one in made.items()}


@pytest.mark.sampled(4)
@pytest.mark.parametrize("tuned", [False, True], ids=["base", "fine-tune"])
@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("fused", [True, False], ids=["fused", "split"])
def test_fused_and_split_models_cost_next_to_nothing(
    tmp_path: Path, fused: bool, kind: str, tuned: bool
) -> None:
    stored = {"base": model(fused=not fused)}
    if tuned:
        stored["tuned"] = model(fused=not fused, tuned=True)
    folders = {name: write(tmp_path / name, tensors) for name, tensors in stored.items()}
    folders["edit"] = write(tmp_path / "edit", model(fused=fused, tuned=tuned, dtype=TYPES[kind]))
    with open_store(tmp_path / "store", durable=False) as store:
        for name in stored:
            store.add(folders[name], name)
        report = store.add(folders["edit"], "edit")
        assert report.stored_bytes < 0.05 * report.raw_bytes + 2500
        for name, folder in folders.items():
            store.checkout(name, tmp_path / "out" / name)
            assert folder_content(tmp_path / "out" / name) == folder_content(folder)
        assert store.verify().ok
