"""Hostile clients: seeded requests that mean no good, and what must not come of them.

`python tests/benchmarks/bench_hostile.py` sends 100,000 to a server of its own.
"""

import gzip
import os
import random
import re
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

from pbstore.serve.http.guard_tokens import new_token
from pbstore.serve.http.openapi import OPERATIONS, Operation
from tests.pbstore.serve.stores import family_store

ROOT = Path(__file__).resolve().parents[3]
FILE = "model.safetensors"
CANARY = b"canary-9b1f: no client may see this"
PATIENCE_S = 30.0
FDS_OF_A_THREAD = 3
"""A thread that reads the index keeps its own connection: the database, its log, and their shared memory."""

MOST_THREADS = 64

MOST_GROWN_BYTES = 160 << 20
"""Of the server's memory under all this: blocks that it decodes and keeps, and its allocator."""
EXPECTED = {503, 507}
"""Errors of a server that are no fault of it: busy, full."""
COMMAND = [sys.executable, "-c", "import sys; from demo.cli import main; sys.exit(main())"]
BOMB = gzip.compress(bytes(16 << 20))


@dataclass
class Target:
    """A server under attack, and what its attackers know."""

    port: int
    process: psutil.Process
    token: str
    outside: Path
    """A file that is none of the store's."""
    signed: str = ""
    """A signed address of a block, path and query."""
    hashes: tuple[str, ...] = ()
    problems: list[str] = field(default_factory=list)
    codes: Counter[str] = field(default_factory=Counter)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class Attacker:
    """Makes requests and looks at the answers."""

    def __init__(self, target: Target, seed: int) -> None:
        self.target, self.random = target, random.Random(seed)
        outside = str(target.outside)
        self.words = [
            *("..", ".", "", "../../../../etc/passwd", "..%2f..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e/packs"),
            *(
                "..%252f..%252fetc%252fpasswd",
                "..\\..\\x",
                "%00",
                "a%00b",
                "%0d%0aX-Injected:%201",
                "//",
                "~",
            ),
            *(
                "%ff%fe",
                "%c0%ae%c0%ae/",
                "%u002e",
                "{{7*7}}",
                "${jndi:ldap://x}",
                "' OR 1=1--",
                "index.sqlite",
            ),
            *(
                "x" * 3000,
                "%" * 40,
                "..;/",
                "packs/pack-0",
                "main",
                "base",
                "org",
                FILE,
                "0" * 64,
                "-",
                "%2d",
            ),
            *(
                outside,
                outside.replace("/", "%2f"),
                "/" + outside,
                "..%2f" * 9 + outside[1:],
                "api",
                "resolve",
            ),
            *target.hashes,
        ]

    def run(self, count: int) -> None:
        opened: socket.socket | None = None
        for _ in range(count):
            attack = self.random.choices(
                (self.asked, self.signed, self.raw, self.body, self.left), (60, 8, 12, 16, 4)
            )
            try:
                opened = opened or self.connect()
                opened = attack[0](opened)
            except (ConnectionError, TimeoutError, OSError) as error:
                if isinstance(error, TimeoutError):
                    self.target.problems.append(f"no answer within {PATIENCE_S} s: {attack[0].__name__}")
                if opened is not None:
                    opened.close()
                opened = None
        if opened is not None:
            opened.close()

    def connect(self) -> socket.socket:
        opened = socket.create_connection(("127.0.0.1", self.target.port), PATIENCE_S)
        opened.settimeout(PATIENCE_S)
        return opened

    def word(self) -> str:
        one = self.random.choice(self.words)
        return one if self.random.random() < 0.8 else one + "/" + self.random.choice(self.words)

    def asked(self, opened: socket.socket) -> socket.socket | None:
        """A request of the page with hostile words for its parameters."""
        one = self.random.choice(OPERATIONS)
        return self.exchange(opened, one.method.upper(), self.path_of(one), self.headers(), b"")

    def path_of(self, one: Operation) -> str:
        right = {"owner": "org", "model": "base", "revision": "main", "path": FILE}
        path = re.sub(
            r"{(\w+)}",
            lambda match: right.get(match[1], "0" * 64) if self.random.random() < 0.5 else self.word(),
            one.path,
        )
        query = "&".join(f"{name}={self.word()}" for name in one.query if self.random.random() < 0.6)
        return path.replace(" ", "%20") + (f"?{query.replace(' ', '+')}" if query else "")

    def signed(self, opened: socket.socket) -> socket.socket | None:
        """A signed address, replayed with other ranges and methods, or altered."""
        path = self.target.signed
        for _ in range(self.random.choice((0, 1, 1, 2))):
            where = self.random.randrange(1, len(path))
            path = path[:where] + self.random.choice("0123456789abcdef&=-,%?/") + path[where + 1 :]
        method = self.random.choice(("GET", "GET", "HEAD", "POST", "DELETE"))
        ranges = self.random.choice(("bytes=0-9", "bytes=-1", "bytes=0-99999999", "bytes=0-1,5-9", "x"))
        altered = path != self.target.signed
        return self.exchange(opened, method, path, {"range": ranges}, b"", unsigned=altered)

    def headers(self) -> dict[str, str]:
        size = self.random.choice((0, 1, 10**6, 10**18, 2**64, -1))
        choices: list[tuple[str, str]] = [
            (
                "range",
                self.random.choice((f"bytes={size}-", f"bytes=-{size}", f"bytes=0-{size}", "bytes=5-2")),
            ),
            ("range", "bytes=" + ",".join(f"{n}-{n + 1}" for n in range(self.random.choice((2, 40, 900))))),
            ("if-none-match", '"' + "x" * 500 + '"'),
            ("if-range", self.word()),
            ("accept-encoding", "gzip, br, zstd"),
            ("x-forwarded-for", self.word()),
            ("origin", "http://elsewhere"),
            ("expect", "100-continue"),
            ("cookie", "a=b;" * 300),
        ]
        found = dict(self.random.sample(choices, self.random.randrange(0, 4)))
        token = self.target.token
        bearer = self.random.choice(
            (*[token] * 9, None, token[:-1], token + "x", "", "\x7f", "read.9999999999.00")
        )
        return found if bearer is None else {**found, "authorization": f"Bearer {bearer}"}

    def body(self, opened: socket.socket) -> socket.socket | None:
        """A body that is none of those that are expected: bombs, batches, cut-off frames, wrong lengths."""
        takers = [one for one in OPERATIONS if one.body]
        one = self.random.choice(takers)
        noise = self.random.randbytes(self.random.choice((0, 1, 60, 5000, 200_000)))
        data = self.random.choice(
            (noise, BOMB, b"{" * 20_000, b"[" * 20_000, b"paths=" + b"a&paths=" * 5000, b"\0" * 70_000)
        )
        headers = {
            **self.headers(),
            "content-type": one.body or "",
            "authorization": f"Bearer {self.target.token}",
        }
        if data is BOMB:
            headers["content-encoding"] = "gzip"
        return self.exchange(opened, one.method.upper(), self.path_of(one), headers, data)

    def raw(self, opened: socket.socket) -> socket.socket | None:
        """What is hardly HTTP."""
        good = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
        data = bytearray(good)
        for _ in range(self.random.randrange(1, 6)):
            data[self.random.randrange(len(data))] = self.random.randrange(256)
        opened.sendall(
            self.random.choice(
                (
                    bytes(data) + b"\r\n\r\n",
                    self.random.randbytes(300) + b"\r\n\r\n",
                    b"PUT / HTTP/1.1\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
                    + good,
                    b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffff\r\n",
                    b"GET " + b"/" * 70_000 + b" HTTP/1.1\r\n\r\n",
                    b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n",
                    good * 40,
                    b"CONNECT x:1 HTTP/1.1\r\n\r\n",
                    b"GET / HTTP/1.1\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
                    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                )
            )
        )
        opened.settimeout(0.05)  # whatever comes, or nothing; what hangs is the next one's matter
        try:
            self.look(opened.recv(1 << 16), "raw")
        except TimeoutError:
            self.target.codes["raw: no answer"] += 1
        opened.close()
        return None

    def left(self, opened: socket.socket) -> socket.socket | None:
        """Half of a request, or a download that is left."""
        path = f"/org/base/resolve/main/{FILE}"
        whole = (
            f"GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {self.target.token}\r\n\r\n".encode()
        )
        opened.sendall(whole[: self.random.randrange(1, len(whole) + 1)])
        if self.random.random() < 0.5:
            opened.shutdown(socket.SHUT_WR)
        if self.random.random() < 0.3:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        opened.close()
        self.target.codes["left"] += 1
        return None

    def exchange(
        self,
        opened: socket.socket,
        method: str,
        path: str,
        headers: dict[str, str],
        data: bytes,
        *,
        unsigned: bool = False,
    ) -> socket.socket | None:
        lines = [
            f"{method} {path} HTTP/1.1",
            "host: node",
            *(f"{key}: {value}" for key, value in headers.items()),
        ]
        if data or method in ("POST", "PUT"):
            lines.append(f"content-length: {len(data)}")
        opened.sendall("\r\n".join([*lines, "", ""]).encode("utf-8", "replace") + data)
        head, rest = b"", b""
        while b"\r\n\r\n" not in head:
            part = opened.recv(1 << 16)
            if not part:
                raise ConnectionError("closed")
            head += part
            if head.startswith(b"HTTP/1.1 100"):
                head = head.partition(b"\r\n\r\n")[2]
        head, _, rest = head.partition(b"\r\n\r\n")
        code = self.look(head, f"{method} {path[:200]}")
        if unsigned and code in (200, 206) and "/-/xorbs" in path:
            self.target.problems.append(f"an altered address was answered: {path}")
        length = re.search(rb"content-length: (\d+)", head.lower())
        if method == "HEAD" or code in (204, 304):
            return opened
        if length is None or int(length[1]) > 4 << 20 or b"connection: close" in head.lower():
            opened.close()
            return None
        while len(rest) < int(length[1]):
            part = opened.recv(1 << 18)
            if not part:
                raise ConnectionError("closed in an answer")
            rest += part
        self.look(rest, path, is_body=True)
        return opened

    def look(self, data: bytes, what: str, *, is_body: bool = False) -> int:
        """Nothing of what lies outside, and no fault of the server."""
        for secret in (CANARY, b"root:x:0:0", b"Traceback", self.target.token.encode()):
            if secret in data:
                self.target.problems.append(f"{secret!r} in the answer to {what}")
        if is_body or not data.startswith(b"HTTP/1."):
            return 0
        code = int(data[9:12])
        self.target.codes[str(code)] += 1
        if re.search(rb"\nx-injected:", data.lower()) or (code >= 500 and code not in EXPECTED):
            self.target.problems.append(f"{data[:80]!r} to {what}")
        return code


@contextmanager
def attacked(work: Path) -> Iterator[Target]:
    """A server with a store, tokens and pushes, in a process of its own."""
    family_store(work).close()
    token, line = new_token("write", "attacker")
    (work / "tokens").write_text(line)
    (work / "tokens").chmod(0o600)
    outside = work / "outside.txt"
    outside.write_bytes(CANARY)
    command = [
        *COMMAND,
        "serve",
        "--store",
        str(work / "store"),
        "--port",
        "0",
        "--tokens",
        str(work / "tokens"),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with (
        (work / "errors").open("wb") as errors,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
        ) as process,
    ):
        try:
            port = int((process.stdout or sys.stdin).readline().rsplit(":", 1)[1])
            target = Target(port, psutil.Process(process.pid), token, outside)
            _learn(target)
            yield target
        finally:
            process.terminate()
            process.wait(60)


def _learn(target: Target) -> None:
    """What an attacker with a token knows."""
    headers = {"authorization": f"Bearer {target.token}"}
    with httpx.Client(base_url=target.url, headers=headers, timeout=60) as client:
        xet = client.head(f"/org/base/resolve/main/{FILE}").headers["x-xet-hash"]
        plan = client.get(
            f"/v2/reconstructions/{xet}",
            headers={
                "authorization": "Bearer "
                + client.get("/api/models/org/base/xet-read-token/main").json()["accessToken"]
            },
        ).json()
    first = next(iter(plan["xorbs"].values()))[0]["url"]
    target.signed = first[len(target.url) :] if first.startswith(target.url) else "/" + first.split("/", 3)[3]
    target.hashes = (xet, *list(plan["xorbs"])[:3])


def attack(target: Target, requests: int, *, threads: int = 8, seed: int = 0) -> None:
    """Send so many requests; what must not have happened is in `target.problems`."""
    work = target.outside.parent
    warm = min(requests // 5, 2000)
    before = files_of(work)
    right = good(target)
    _spread(target, warm, threads, seed)
    _settle(target, 0)
    fds, threads_then, memory = (
        target.process.num_fds(),
        target.process.num_threads(),
        target.process.memory_info().rss,
    )
    _spread(target, requests - warm, threads, seed + 1000)
    _settle(target, fds)
    began = max(
        target.process.num_threads() - threads_then, 0
    )  # a pool starts its threads as they are needed
    expect(
        target,
        target.process.num_fds() <= fds + 2 + FDS_OF_A_THREAD * began,
        f"{target.process.num_fds()} files are open, {fds} before; {began} threads began",
    )
    expect(target, target.process.num_threads() <= MOST_THREADS, "threads grow")
    grown = target.process.memory_info().rss - memory
    expect(target, grown < MOST_GROWN_BYTES, f"memory grew by {grown >> 20} MiB")
    expect(target, good(target) == right, "a right request is answered otherwise than before")
    expect(target, files_of(work) == before, f"files outside the store: {files_of(work) ^ before}")
    expect(target, target.outside.read_bytes() == CANARY, "the file outside was changed")
    errors = (work / "errors").read_text()
    expect(target, "Traceback" not in errors, f"a traceback: {errors[-1500:]}")


def expect(target: Target, holds: bool, problem: str) -> None:
    if not holds:
        target.problems.append(problem)


def _spread(target: Target, requests: int, threads: int, seed: int) -> None:
    with ThreadPoolExecutor(threads) as pool:
        jobs = [
            pool.submit(Attacker(target, seed + number).run, requests // threads + 1)
            for number in range(threads)
        ]
        for job in jobs:
            job.result()


def _settle(target: Target, fds: int) -> None:
    """Wait until connections that were left are noticed."""
    deadline = time.monotonic() + 20
    time.sleep(1)
    while time.monotonic() < deadline and (target.process.num_fds() > fds + 2 if fds else False):
        time.sleep(0.2)


def good(target: Target) -> bytes:
    headers = {"authorization": f"Bearer {target.token}"}
    return httpx.get(f"{target.url}/org/base/resolve/main/{FILE}", headers=headers, timeout=60).content


def files_of(work: Path) -> set[str]:
    """All files but the store's own."""
    return {str(path) for path in work.rglob("*") if "store" not in path.relative_to(work).parts[:1]}
