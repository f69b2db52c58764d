"""Many clients that read ranges over HTTP, in one process: `python serve_load.py JOB.json` prints JSON.

The kernel throws the bodies away (MSG_TRUNC of tcp(7)), so that what is measured is the server; that the
bytes are right is looked at elsewhere.
"""

import json
import random
import resource
import selectors
import socket
import sys
import time
from pathlib import Path
from typing import Any

_HEAD_END = b"\r\n\r\n"


class Reader:
    """One connection that asks for one range after the other."""

    def __init__(self, address: tuple[str, int], job: dict[str, Any], seed: int) -> None:
        self.job, self.random = job, random.Random(seed)
        self.address = address
        self.socket = socket.create_connection(address)
        self.left, self.head, self.start = -1, b"", 0.0
        self.closes = False
        """Whether the server ends the connection behind its answer."""

    def ask(self) -> None:
        path, size = self.random.choice(self.job["files"])
        count = min(self.job["range_bytes"] or size, size)
        first = self.random.randrange(0, size - count + 1)
        about = f"Range: bytes={first}-{first + count - 1}\r\n" if self.job["range_bytes"] else ""
        self.left, self.head, self.start = -1, b"", time.perf_counter()
        self.socket.sendall(f"GET {path} HTTP/1.1\r\nHost: load\r\n{about}\r\n".encode())

    def take(self, buffer: bytearray) -> tuple[int, bool]:
        """Bytes of the body that came, and whether the answer is whole."""
        if self.left < 0:
            self.head += self.socket.recv(4096)
            if not self.head:
                raise ConnectionError("the server closed a connection")
            end = self.head.find(_HEAD_END)
            if end < 0:
                return 0, False
            if self.head[9:12] not in (b"200", b"206"):
                raise ConnectionError(f"the server answered {self.head[:200]!r}")
            lines = self.head[:end].lower().split(b"\r\n")
            self.closes = lines[0].startswith(b"http/1.0") or b"connection: close" in lines
            self.left = int(next(line[15:] for line in lines if line.startswith(b"content-length:")))
            got = len(self.head) - end - len(_HEAD_END)
        else:
            got = self.socket.recv_into(buffer, min(self.left, len(buffer)), socket.MSG_TRUNC)
            if not got:
                raise ConnectionError("the server closed a connection in the middle of an answer")
        self.left -= got
        return got, self.left == 0


def load(job: dict[str, Any]) -> dict[str, Any]:
    """Keep `clients` connections busy for `seconds`."""
    selector, buffer = selectors.EpollSelector(), bytearray(4 << 20)
    for seed in range(job["clients"]):
        reader = Reader((job["host"], job["port"]), job, seed)
        selector.register(reader.socket, selectors.EVENT_READ, reader)
        reader.ask()
    took, total, start = [], 0, time.perf_counter()
    while (now := time.perf_counter()) < start + job["seconds"]:
        for key, _ in selector.select(1):
            reader = key.data
            got, whole = reader.take(buffer)
            total += got
            if whole:
                took.append(time.perf_counter() - reader.start)
                if reader.closes:
                    selector.unregister(reader.socket)
                    reader.socket.close()
                    reader.socket = socket.create_connection(reader.address)
                    selector.register(reader.socket, selectors.EVENT_READ, reader)
                reader.ask()
    took.sort()
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "bytes": total,
        "wall_s": now - start,
        "answers": len(took),
        "p50_ms": 1e3 * took[len(took) // 2] if took else None,
        "p99_ms": 1e3 * took[int(0.99 * len(took))] if took else None,
        "client_cpu_s": usage.ru_utime + usage.ru_stime,
    }


if __name__ == "__main__":
    print(json.dumps(load(json.loads(Path(sys.argv[1]).read_text()))))
