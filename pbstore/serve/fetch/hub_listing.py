"""What a Hub says of a model: its commit, and its files with sizes and hashes. Nothing of it is believed."""

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import httpx

from pbstore.errors import ManifestError, ModelMissingError, RevisionMissingError
from pbstore.manifest import check_name, check_path
from pbstore.serve.fetch.http_source import CONNECT_S, SILENCE_S
from pbstore.serve.fetch.source import SourceError

MOST_FILES = 100_000
MOST_FILE_BYTES = 1 << 44
_PAGE_BYTES = 64 << 20
_COMMIT = re.compile("[0-9a-f]{40}")
_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class HubFile:
    """A file as a Hub lists it."""

    path: str
    size_bytes: int
    git_sha1: str = ""
    """Of the Git blob; empty for a large file, where it is that of a pointer."""
    sha256: str = ""
    """Of a large file (LFS or Xet)."""

    @property
    def key(self) -> str:
        """What its content is known by."""
        return self.sha256 or self.git_sha1


@dataclass(frozen=True, slots=True, kw_only=True)
class HubListing:
    """A model in one commit."""

    name: str
    commit: str
    files: tuple[HubFile, ...]


class HubClient:
    """Asks a Hub over plain HTTP.

    Args:
        url: Its address, as of HF_ENDPOINT.
        token: Bearer token; it is not sent to other hosts that the Hub sends one to.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        self.url = url
        bearer = {"Authorization": f"Bearer {token}"} if token else {}
        self._client = httpx.AsyncClient(
            headers={"Accept-Encoding": "identity", **bearer},
            timeout=httpx.Timeout(SILENCE_S, connect=CONNECT_S),
            follow_redirects=True,
            trust_env=False,
            verify=url.startswith("https:"),
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def listing(self, name: str, revision: str) -> HubListing:
        """A model's files.

        Raises:
            ModelMissingError: If the Hub has no such model, or not for us.
            RevisionMissingError: If it has, but not in this revision.
            SourceError: If it cannot be reached, or lists what cannot be.
        """
        api = f"{self.url}/api/models/{quote(check_name(name))}"
        tree, _ = await self._json(f"{api}/revision/{quote(revision, safe='')}", name, revision)
        commit = tree.get("sha") if isinstance(tree, dict) else None
        if not isinstance(commit, str) or not _COMMIT.fullmatch(commit):
            raise SourceError(self.url, f"gave no commit of {name}")
        files: list[HubFile] = []
        page: str | None = f"{api}/tree/{commit}?recursive=true&expand=false"
        while page is not None:
            entries, page = await self._json(page, name, commit)
            files += [self._file(entry) for entry in entries if entry.get("type") == "file"]
            if len(files) > MOST_FILES:
                raise SourceError(self.url, f"lists more than {MOST_FILES} files of {name}")
        return HubListing(name=name, commit=commit, files=tuple(files))

    async def bytes_of(
        self, name: str, commit: str, path: str, start: int, stop: int
    ) -> AsyncIterator[bytes]:
        """Bytes `start` to `stop` of a file, as they come; never more of them.

        Raises:
            SourceError: If the Hub gives something else, or stops early.
        """
        if start >= stop:
            return
        url = f"{self.url}/{quote(name)}/resolve/{commit}/{quote(path)}"
        async with self._reply(url, {"Range": f"bytes={start}-{stop - 1}"}) as reply:
            at = start if reply.status_code == 206 else 0
            if at and not reply.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
                raise SourceError(self.url, f"gave another range of {path} than was asked for")
            if at == 0 and start:
                raise SourceError(self.url, f"gives {path} only from its start")
            async for data in reply.aiter_raw():
                data = data[: stop - at]
                at += len(data)
                yield data
                if at >= stop:
                    return
        raise SourceError(self.url, f"{path} ends at byte {at}, before {stop}")

    def _file(self, entry: Mapping[str, Any]) -> HubFile:
        size, lfs, oid = entry.get("size"), entry.get("lfs"), entry.get("oid")
        sha256 = str(lfs.get("oid")) if isinstance(lfs, dict) else ""
        size = lfs.get("size", size) if isinstance(lfs, dict) else size
        good = isinstance(size, int) and 0 <= size <= MOST_FILE_BYTES
        known = _SHA256.fullmatch(sha256) if lfs else _COMMIT.fullmatch(str(oid))
        try:
            path = check_path(entry.get("path"))
        except ManifestError as error:
            raise SourceError(self.url, str(error)) from None
        if not good or not known:
            raise SourceError(self.url, f"lists {path!r} with no size or hash that can be")
        return HubFile(path=path, size_bytes=int(size or 0), sha256=sha256, git_sha1="" if lfs else str(oid))

    async def _json(self, url: str, name: str, revision: str) -> tuple[Any, str | None]:
        """A document, and the address of the next page of it."""
        async with self._reply(url, {}, name, revision) as reply:
            text = bytearray()
            async for data in reply.aiter_raw():
                text += data
                if len(text) > _PAGE_BYTES:
                    raise SourceError(self.url, f"an answer has more than {_PAGE_BYTES} bytes")
            link = reply.links.get("next", {}).get("url")
        following = None if link is None else urljoin(url, link)
        if following is not None and urlsplit(following)[:2] != urlsplit(self.url)[:2]:
            raise SourceError(self.url, "sends us to another host for the next page")
        try:
            return httpx.Response(200, content=bytes(text)).json(), following
        except (ValueError, RecursionError):
            raise SourceError(self.url, "gave no JSON") from None

    @asynccontextmanager
    async def _reply(
        self, url: str, headers: Mapping[str, str], name: str = "", revision: str = ""
    ) -> AsyncIterator[httpx.Response]:
        try:
            async with self._client.stream("GET", url, headers=headers) as reply:
                code = reply.headers.get("X-Error-Code", "")
                if name and code == "RevisionNotFound":
                    raise RevisionMissingError(name, revision)
                if name and reply.status_code in (401, 403, 404):
                    raise ModelMissingError(name, f"at {self.url}")
                if reply.status_code not in (200, 206):
                    raise SourceError(self.url, f"answers {reply.status_code}")
                yield reply
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise SourceError(self.url, str(error) or type(error).__name__) from error
