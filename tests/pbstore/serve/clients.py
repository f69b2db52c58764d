"""Real clients in processes of their own, and a relay between them and a server, which counts or cuts."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import httpx

web = SimpleNamespace(
    **{name: partial(getattr(httpx, name), verify=False) for name in ("get", "head", "post", "Client")}
)
"""httpx without certificates: to read those of the system takes longer than most tests."""


class Relay:
    """Passes connections on to a server and counts what is sent, and what comes back.

    `cut_after` makes each connection end after so many bytes of answers, as long as there are cuts left.
    """

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        self._target = (parts.hostname, parts.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.received_bytes = self.sent_bytes = 0
        self.cut_after, self.cuts_left, self.cuts = 0, 0, 0
        self._mutex = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def taken(self) -> int:
        """Bytes since this was last asked."""
        with self._mutex:
            taken, self.received_bytes = self.received_bytes, 0
        return taken

    def given(self) -> int:
        """Bytes that clients have sent since this was last asked."""
        with self._mutex:
            given, self.sent_bytes = self.sent_bytes, 0
        return given

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
                for job in ((client, server, False), (server, client, True)):
                    threading.Thread(target=self._pass_on, args=job, daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, counted: bool) -> None:
        passed = 0
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if counted:
                    passed += len(data)
                    with self._mutex:
                        self.received_bytes += len(data)
                        cut = self.cuts_left > 0 and passed > self.cut_after > 0
                        self.cuts_left -= cut
                        self.cuts += cut
                    if cut:
                        break
                else:
                    with self._mutex:
                        self.sent_bytes += len(data)
                sink.sendall(data)
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            if counted:
                one.close()


@contextmanager
def relayed(target: str) -> Iterator[Relay]:
    relay = Relay(target)
    try:
        yield relay
    finally:
        relay.close()


def run_client(
    script: str, url: str, home: Path, *words: str, socket_path: Path | None = None, **more: str
) -> Any:  # noqa: ANN401
    """Run a program of the unmodified client; what it prints last is JSON.

    Its environment has no other endpoint, token or cache than those given.
    """
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING"))}
    environment = {
        **clean,
        "HF_ENDPOINT": url,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "NO_PROXY": "*",
        **more,
    }
    if socket_path is not None:
        environment["HF_XET_CLIENT_UNIX_SOCKET_PATH"] = str(socket_path)
    done = subprocess.run(
        [sys.executable, "-c", script, *words], env=environment, capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


PULL = """
import hashlib, json, sys
from pathlib import Path
from huggingface_hub import snapshot_download
found = {}
for name in sys.argv[1:]:
    folder = Path(snapshot_download(name))
    found[name] = {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*") if path.is_file()
    }
print(json.dumps(found))
"""
"""Download models; print the sha256 of each of their files."""

PUSH = """
import json, sys
from huggingface_hub import HfApi
api = HfApi(token="anything")
commits = []
for name, folder in zip(sys.argv[1::2], sys.argv[2::2]):
    api.create_repo(name, exist_ok=True)
    commits.append(api.upload_folder(repo_id=name, folder_path=folder).oid)
print(json.dumps(commits))
"""
"""Upload folders, given as name and folder; print the commits."""
