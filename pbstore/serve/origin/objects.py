"""Create-only objects in a bucket: the few things that an origin asks of an object store, through obstore.

Nothing is ever overwritten: `create` asks with `If-None-Match: *`, and never with the etag of an object,
which some stores refuse whatever it is. A put that was sent twice, because its first answer was lost, meets
its own first success: the same bytes under the key are success.
"""

import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from pbstore.disk.files import fsio
from pbstore.hashing import Buffer
from pbstore.serve.origin.errors import OriginError

RETRIES = 30
"""Times that a request is sent again."""
METADATA_HOST = "169.254.169.254"
"""Where clients of S3 look for credentials on a machine of AWS, when the environment has none."""
MAX_BACKOFF_S = 1.0
"""Longest pause before that, s."""
RETRY_S = 60.0
"""No request is sent again this long after it was first sent, s."""
REQUEST_S = 300.0
"""One request with its answer takes at most this long, s."""
SCHEMES = ("s3", "file", "memory")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Meta:
    """One object of a listing."""

    key: str
    size_bytes: int
    modified_s: float
    """When it was created, s since 1970, by the clock of the object store."""


class Objects:
    """Objects by key in a bucket; for any number of threads.

    Args:
        url: For messages.
        bucket: A store of obstore.
        folder: Where the objects are files: the folder. Obstore renames files but does not force them to the
            disk, so they are written here.
        patience_s: Nothing is tried again this long after it was first tried.
    """

    def __init__(
        self,
        url: str,
        bucket: Any,  # noqa: ANN401 - obstore is untyped here
        folder: Path | None = None,
        patience_s: float = RETRY_S,
    ) -> None:
        import obstore

        self.url, self._bucket, self._folder, self._obstore = url, bucket, folder, obstore
        self._patience_s = patience_s

    def __repr__(self) -> str:
        return f"Objects({self.url!r})"

    def create(self, key: str, data: Buffer) -> bool:
        """Create an object; False if there is another one under the key, which stays.

        Raises:
            OriginError: If the store does not answer for as long as is tried.
        """
        deadline = time.monotonic() + self._patience_s
        while True:
            if self._retried(lambda: self._put(key, data), deadline):
                return True
            try:
                return self.read(key) == bytes(data)
            except FileNotFoundError:  # a put that is under way elsewhere, or one that was deleted meanwhile
                if time.monotonic() > deadline:
                    raise OriginError(self.url, f"{key} exists and cannot be read") from None
                time.sleep(0.05)

    def read(self, key: str) -> bytes:
        """All bytes of an object.

        Raises:
            FileNotFoundError: If it is not there.
        """
        return bytes(self._asked(lambda: self._obstore.get(self._bucket, key).bytes()))

    def read_range(self, key: str, start: int, stop: int) -> bytes:
        """Bytes of an object from `start` to before `stop`, fewer where it ends sooner."""
        return bytes(self._asked(lambda: self._obstore.get_range(self._bucket, key, start=start, end=stop)))

    def read_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[memoryview]:
        """Bytes of several ranges; ranges that lie close together are one request."""
        starts, stops = [start for start, _ in ranges], [stop for _, stop in ranges]
        parts = self._asked(
            lambda: self._obstore.get_ranges(self._bucket, key, starts=starts, ends=stops, coalesce=1 << 16)
        )
        return [memoryview(part) for part in parts]

    def list(self, prefix: str) -> Iterator[Meta]:
        """Objects whose keys start with a prefix, which ends in `/`; in no particular order."""
        for page in self._asked(lambda: list(self._obstore.list(self._bucket, prefix))):
            for one in page:
                yield Meta(one["path"], int(one["size"]), one["last_modified"].timestamp())

    def modified_s(self, key: str) -> float:
        """When an object was created, by the clock of the store."""
        meta = self._asked(lambda: self._obstore.head(self._bucket, key))
        return float(meta["last_modified"].timestamp())

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects; those that are not there do not matter."""
        for first in range(0, len(keys), 1000):
            some = list(keys[first : first + 1000])
            if self._folder is not None:
                for key in some:
                    (self._folder / key).unlink(missing_ok=True)
            elif some:
                self._asked(partial(self._obstore.delete, self._bucket, some))

    def _put(self, key: str, data: Buffer) -> bool:
        if self._folder is not None:
            return _link_file(self._folder, key, data)
        try:
            self._obstore.put(self._bucket, key, data, mode="create", use_multipart=False)
        except self._obstore.exceptions.AlreadyExistsError:
            return False
        except FileNotFoundError:
            raise OriginError(self.url, "there is no such bucket") from None
        return True

    def _asked(self, call: Callable[[], T]) -> T:
        """Call; obstore sends again by itself what can be sent twice."""
        try:
            return call()
        except self._obstore.exceptions.BaseError as error:
            raise OriginError(self.url, _first_line(error)) from error

    def _retried(self, call: Callable[[], T], deadline: float) -> T:
        """Call, again and again: obstore does not send a create again whose answer was lost."""
        pause = 0.05
        while True:
            try:
                return self._asked(call)
            except OriginError as error:
                cause = error.__cause__
                final = cause is None or type(cause).__name__ not in (
                    "GenericError",
                    "JoinError",
                    "BaseError",
                )
                if final or _is_final(str(cause)) or time.monotonic() > deadline:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, MAX_BACKOFF_S)


_FINAL = (
    "NoSuchBucket",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "status: 400",
    "status: 403",
    "MissingCred",
)


def _is_final(text: str) -> bool:
    """Whether asking again would give the same answer."""
    return any(word in text for word in _FINAL) or "builder error" in text


def _first_line(error: BaseException) -> str:
    """What an error of obstore says, without the tree of its causes and the document that came with it."""
    text = str(error)
    if METADATA_HOST in text:
        return "there are no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    code = re.search(r"<Code>([A-Za-z]{1,60})</Code>", text)
    said = " ".join(text.split("\n\nDebug source")[0].split("<?xml")[0].split())[:300]
    return f"{said} {code[1]}" if code else said


def _link_file(folder: Path, key: str, data: Buffer) -> bool:
    """Write a file and give it its name, if nobody else has it; False if somebody has."""
    path = folder / key
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".tmp-{os.getpid()}-{threading.get_ident()}-{time.monotonic_ns()}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        try:
            fsio.write_at(fd, data, 0)
            os.fsync(fd)
        finally:
            os.close(fd)
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        fsio.fsync_folder(path.parent)
        return True
    finally:
        temporary.unlink(missing_ok=True)


_in_memory: dict[str, Any] = {}
_memory_mutex = threading.Lock()


def open_objects(url: str, patience_s: float = RETRY_S) -> Objects:
    """Open a bucket by URL.

    Args:
        url: `s3://BUCKET/PREFIX`, with credentials, region and endpoint from the environment as obstore reads
            them (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`, `AWS_ENDPOINT_URL`, ...);
            `file:///FOLDER`; or `memory://NAME`, which lasts as long as this process.
        patience_s: Nothing is tried again this long after it was first tried.

    Raises:
        ValueError: If it is anything else.
        OriginError: If obstore is not installed, or does not take the settings.
    """
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES or parts.query or parts.fragment or parts.username:
        raise ValueError(f"expected an origin s3://BUCKET/PREFIX or file:///FOLDER, got {url[:200]!r}")
    try:
        from obstore import store
    except ModuleNotFoundError:
        raise OriginError(url, "needs the package obstore: install pbcast[s3]") from None
    if parts.scheme == "memory":
        with _memory_mutex:
            return Objects(url, _in_memory.setdefault(url, store.MemoryStore()))
    if parts.scheme == "file":
        if parts.netloc or not parts.path.startswith("/"):
            raise ValueError(f"expected file:///FOLDER with three slashes, got {url[:200]!r}")
        folder = Path(unquote(parts.path))
        folder.mkdir(parents=True, exist_ok=True)
        return Objects(url, store.LocalStore(prefix=folder), folder)
    if not parts.netloc:
        raise ValueError(f"expected s3://BUCKET/PREFIX, got {url[:200]!r}")
    return Objects(url, _s3(store, url, patience_s), None, patience_s)


def _s3(store: Any, url: str, patience_s: float) -> Any:  # noqa: ANN401 - obstore is untyped here
    """An S3 bucket, patient with an endpoint that is away for a minute."""
    named = (os.environ.get(name) for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"))
    endpoint = next((one for one in named if one), "")
    try:
        return store.S3Store.from_url(
            url.rstrip("/"),
            client_options={
                "allow_http": endpoint.startswith("http://"),  # only where the environment says so
                "timeout": timedelta(seconds=REQUEST_S),
                "connect_timeout": timedelta(seconds=5),
                "user_agent": "pbcast",
            },
            retry_config={
                "max_retries": RETRIES,
                "retry_timeout": timedelta(seconds=patience_s),
                "backoff": {
                    "init_backoff": timedelta(milliseconds=50),
                    "max_backoff": timedelta(seconds=MAX_BACKOFF_S),
                    "base": 2,
                },
            },
        )
    except Exception as error:  # obstore's own classes, one for each setting
        if type(error).__module__.startswith(("obstore", "builtins")):
            raise OriginError(url, _first_line(error)) from error
        raise
