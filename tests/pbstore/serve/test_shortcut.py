"""What is answered the short way is what the full way answers, whatever happens to the store."""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from pbstore import DiskBlockStore
from pbstore.serve import StoreLibrary, create_app, serving
from pbstore.serve.http import shortcut
from tests.pbstore.serve.stores import family_store

FILE = "model.safetensors"
ASKED = [
    {},
    {"range": "bytes=0-0"},
    {"range": "bytes=5-70000"},
    {"range": "bytes=70000-99999999999"},
    {"range": "bytes=100-"},
    {"range": "bytes=-100"},
    {"range": "bytes=9-3"},
    {"range": "bytes=99999999999-99999999999"},
    {"range": "bytes=0-9,20-29"},
    {"range": "lines=0-9"},
    {"if-none-match": "*"},
    {"if-match": '"other"', "range": "bytes=0-9"},
    {"if-range": '"other"', "range": "bytes=0-9"},
    {"host": "elsewhere:80"},
]
_PASSING = {"date", "content-type"}
"""Headers that differ from answer to answer; the boundary of several ranges is in one of them."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DiskBlockStore]:
    with family_store(tmp_path) as opened:
        yield opened


@pytest.fixture
def short_ways(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths that were answered the short way."""
    taken: list[str] = []
    find = shortcut.Shortcut._find

    def counted(self: shortcut.Shortcut, scope: dict) -> object:  # type: ignore[type-arg]
        found = find(self, scope)
        if found is not None:
            taken.append(scope["path"])
        return found

    monkeypatch.setattr(shortcut.Shortcut, "_find", counted)
    return taken


def url_of(name: str) -> str:
    return f"/{name}/resolve/main/{FILE}"


def about(answer: httpx.Response) -> tuple[int, dict[str, str], int]:
    headers = {name: value for name, value in answer.headers.items() if name not in _PASSING}
    return answer.status_code, headers, len(answer.content)


def test_both_ways_give_the_same_answer(store: DiskBlockStore, short_ways: list[str]) -> None:
    with serving(StoreLibrary(store)) as url, httpx.Client(base_url=url) as client:
        client.get(url_of("org/base"))  # hashes are there from now on
        full = {}
        for way in ("full", "short"):
            for number, headers in enumerate(ASKED):
                if way == "full":
                    client.get(f"{url_of('org/base')}?full", headers=headers)
                answer = client.get(url_of("org/base") + ("?full" if way == "full" else ""), headers=headers)
                body = answer.content if "," not in headers.get("range", "") else b""
                if way == "full":
                    full[number] = (*about(answer), body)
                else:
                    assert (*about(answer), body) == full[number], headers
    assert len(short_ways) >= 4


def test_the_short_way_is_for_hot_files_only(store: DiskBlockStore, short_ways: list[str]) -> None:
    with serving(StoreLibrary(store)) as url:
        for _ in range(3):
            for name in ("org/base", "org/tuned"):
                assert httpx.get(url + url_of(name)).status_code == 200
    assert set(short_ways) == {url_of("org/base")}


def test_a_change_of_the_store_is_seen_at_once(
    store: DiskBlockStore, tmp_path: Path, short_ways: list[str]
) -> None:
    base, tuned = (tmp_path / "folders" / name / FILE for name in ("org/base", "org/tuned"))
    with serving(StoreLibrary(store)) as url, httpx.Client(base_url=url) as client:

        def content() -> bytes | int:
            answer = client.get(url_of("org/base"))
            return answer.content if answer.status_code == 200 else answer.status_code

        assert [content() for _ in range(3)] == [base.read_bytes()] * 3
        assert short_ways
        store.forms.cool("org/base")
        assert content() == base.read_bytes()
        store.forms.heat("org/base")
        assert [content() for _ in range(3)] == [base.read_bytes()] * 3
        store.remove("org/base", trash=False)
        assert content() == 404
        store.gc()
        assert content() == 404
        shutil.copy(tuned, base)
        store.add(tmp_path / "folders" / "org/base", "org/base", form="hot")
        assert [content() for _ in range(3)] == [tuned.read_bytes()] * 3


def test_a_pack_that_is_overwritten_is_not_sent(store: DiskBlockStore, short_ways: list[str]) -> None:
    with serving(StoreLibrary(store)) as url, httpx.Client(base_url=url) as client:
        right = client.get(url_of("org/base")).content
        assert client.get(url_of("org/base")).content == right
        assert short_ways
        for pack in (store.path / "packs").iterdir():
            data = pack.read_bytes()
            position = data.find(right[-2000:-1000])
            if position >= 0:
                with pack.open("r+b") as file:
                    os.pwrite(file.fileno(), b"\xff" * 8, position + 100)
        with pytest.raises(httpx.HTTPError):
            client.get(url_of("org/base")).raise_for_status()


def test_a_library_that_remembers_nothing_takes_the_full_way(
    store: DiskBlockStore, short_ways: list[str]
) -> None:
    class Plain:
        def __init__(self, library: StoreLibrary) -> None:
            self._library = library

        def __getattr__(self, name: str) -> object:
            if name in ("quick", "known_extents"):
                raise AttributeError(name)
            return getattr(self._library, name)

    with serving(create_app(Plain(StoreLibrary(store)))) as url:  # type: ignore[arg-type]
        assert len({httpx.get(url + url_of("org/base")).content for _ in range(3)}) == 1
    assert short_ways == []


def test_routes_in_the_metrics_are_words_of_ours_whatever_is_asked(store: DiskBlockStore) -> None:
    paths = [
        "/nothing",
        "/a/b/c/d",
        "/org/none/resolve/main/x",
        "/api/agent-harnesses",
        "/%00",
        "//",
        "/api/models/x",
    ]
    with serving(StoreLibrary(store)) as url, httpx.Client(base_url=url) as client:
        for path in [*paths, url_of("org/base"), url_of("org/base")]:
            client.get(path)
        page = client.get("/metrics").text
    routes = set(re.findall(r'pbcast_http_requests_total{code="\d+",route="([^"]*)"}', page))
    assert {"hub.resolve", "other"} <= routes
    assert all(re.fullmatch(r"other|hub\.\w+|\w+", route) for route in routes)
    assert "resolve" not in routes
