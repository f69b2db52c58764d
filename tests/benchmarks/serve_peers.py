"""Servers beside ours for the benchmark of serving: nginx, olah, `python -m http.server`, each one worker."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil
from environment import make_environment

from demo.zoo import cache_root

OLAH, GRANIAN = "olah==0.5.4", "granian==2.8.9"
PBCAST = (sys.executable, "-c", "import sys; from demo.cli import main; sys.exit(main())")
ROOT = Path(__file__).resolve().parents[2]
_NGINX = """
worker_processes 1; daemon off; pid {work}/nginx.pid; error_log {work}/nginx.log warn;
events {{ worker_connections 1024; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000; root {files};
  client_body_temp_path {work}/body; proxy_temp_path {work}/proxy; fastcgi_temp_path {work}/fastcgi;
  uwsgi_temp_path {work}/uwsgi; scgi_temp_path {work}/scgi;
  server {{ listen 127.0.0.1:{port}; location / {{ }} }}
}}
"""


class Skipped(RuntimeError):
    """A peer cannot be run here; the text says why."""


@dataclass(frozen=True)
class Server:
    """A server that runs."""

    port: int
    process: psutil.Process
    path: Callable[[str, str], str]
    """Of a file of a model."""
    has_ranges: bool = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cpu_s(self) -> float:
        """Processor time of it and its workers so far."""
        times = [one.cpu_times() for one in self._all()]
        return sum(one.user + one.system for one in times)

    def rss_bytes(self) -> int:
        return max(one.memory_info().rss for one in self._all())

    def _all(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@contextmanager
def running(
    command: list[str], port: int, path: Callable[[str, str], str], work: Path, *, has_ranges: bool = True
) -> Iterator[Server]:
    """A server in a process of its own, which is ended with all that it started."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with (work / f"server-{port}.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=work, stdout=log, stderr=log, env=environment, start_new_session=True
        )
    try:
        _wait(port, process)
        yield Server(port, psutil.Process(process.pid), path, has_ranges)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise Skipped(f"it ended at once with exit code {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise Skipped("it did not listen within 60 s")


def hub_path(name: str, file: str) -> str:
    return f"/{name}/resolve/main/{file}"


def plain_path(name: str, file: str) -> str:
    return f"/{name}/{file}"


@contextmanager
def ours(store: Path, work: Path, *options: str) -> Iterator[Server]:
    port = free_port()
    command = [*PBCAST, "serve", "--store", str(store), "--port", str(port), *options]
    with running(command, port, hub_path, work) as server:
        yield server


@contextmanager
def nginx(files: Path, work: Path) -> Iterator[Server]:
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        raise Skipped("nginx is not installed: make serve-peers")
    port = free_port()
    (work / "nginx.conf").write_text(_NGINX.format(work=work, files=files, port=port))
    if os.geteuid() == 0:  # its worker is another user then
        for folder in (files, *files.parents):
            if folder.stat().st_mode & 0o005 != 0o005:
                (work / "nginx.conf").write_text(
                    f"user root;{_NGINX.format(work=work, files=files, port=port)}"
                )
                break
    with running([program, "-c", str(work / "nginx.conf")], port, plain_path, work) as server:
        yield server


@contextmanager
def http_server(files: Path, work: Path) -> Iterator[Server]:
    port = free_port()
    command = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "-d", str(files), str(port)]
    with running(command, port, plain_path, work, has_ranges=False) as server:
        yield server


def _python_with(package: str) -> Path:
    """Python of an environment of its own with a package."""

    def install(pip: list[str]) -> None:
        if subprocess.run([*pip, package], capture_output=True, check=False).returncode:
            raise Skipped(f"{package} could not be installed")

    return make_environment(cache_root() / "peers" / package.replace("==", "_"), install)


@contextmanager
def granian(store: Path, work: Path) -> Iterator[Server]:
    """Our application as another server runs it: through memory, since it sends no parts of files."""
    python, port = _python_with(GRANIAN), free_port()
    (work / "on_granian.py").write_text(
        f"from pbstore import open_store\nfrom pbstore.serve import StoreLibrary, create_app\n"
        f"app = create_app(StoreLibrary(open_store({str(store)!r}, read_only=True)))\n"
    )
    command = [
        str(python),
        "-m",
        "granian",
        "--interface",
        "asgi",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    with running(
        [*command, "--workers", "1", "--loop", "uvloop", "on_granian:app"], port, hub_path, work
    ) as server:
        yield server


@contextmanager
def olah(upstream: str, files: list[tuple[str, str]], work: Path) -> Iterator[Server]:
    """The mirror, with a cache that has the files already."""

    python = _python_with(OLAH)
    port, upper = free_port(), urlsplit(upstream).netloc
    command = [str(python), "-m", "olah.server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--hf-scheme", "http", "--hf-netloc", upper, "--hf-lfs-netloc", upper]
    command += ["--mirror-netloc", f"127.0.0.1:{port}", "--mirror-lfs-netloc", f"127.0.0.1:{port}"]
    command += ["--repos-path", str(work / "olah"), "--log-path", str(work / "olah-logs")]
    with running(command, port, hub_path, work) as server:
        for name, file in files:
            with urllib.request.urlopen(f"{server.url}{hub_path(name, file)}", timeout=120) as answer:
                while answer.read(1 << 20):
                    pass
        yield server
