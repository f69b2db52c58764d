"""A real object store for tests: one monitor, one OSD and one RADOS gateway of Ceph on loopback, in a folder.

`make origin-tools` installs what it needs (Debian: ceph-mon, ceph-osd, radosgw).
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from tests.ports import free_ports

NEEDED = ("ceph-mon", "ceph-osd", "radosgw", "monmaptool", "ceph-authtool", "radosgw-admin")
KEY, SECRET = "pbcasttest", "pbcasttestsecret"
_CONF = """[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{mon_v2}/0,v1:127.0.0.1:{mon_v1}/0]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
keyring = {folder}/keyring
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
run dir = {folder}
admin socket = {folder}/$name.asok
log file = {folder}/$name.log
pid file = {folder}/$name.pid
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 10000
mon data = {folder}/mon
mon data avail crit = 1
mon data avail warn = 1
paxos propose interval = 0.1
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = 2147483648
osd max object name len = 256
osd max object namespace len = 64
ms bind ipv6 = false
[client.rgw]
rgw frontends = beast endpoint=127.0.0.1:{gateway}
rgw dns name = 127.0.0.1
rgw enable usage log = false
rgw enable apis = s3
"""


def why_not() -> str | None:
    """Why it cannot run here, None if it can."""
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing:
        return f"needs {', '.join(missing)}: make origin-tools"
    return None if os.geteuid() == 0 else "a monitor of Ceph wants to be root here"


class Ceph:
    """The processes of the object store; all end with it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_ports(1)[0]
        self._conf = folder / "ceph.conf"
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        fsid = str(uuid.uuid4())
        mon_v1, mon_v2 = free_ports(2)
        ports = {"mon_v1": mon_v1, "mon_v2": mon_v2, "gateway": self.port}
        self._conf.write_text(_CONF.format(fsid=fsid, folder=folder, **ports))
        keyring = folder / "keyring"
        self._call(
            "ceph-authtool", "--create-keyring", keyring, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *"
        )
        for name, caps in (
            ("client.admin", ("mon", "allow *", "osd", "allow *", "mgr", "allow *", "mds", "allow *")),
            ("osd.0", ("mon", "allow profile osd", "osd", "allow *")),
            ("client.rgw", ("mon", "allow rw", "osd", "allow rwx")),
        ):
            pairs = [
                word for kind, cap in zip(caps[::2], caps[1::2], strict=True) for word in ("--cap", kind, cap)
            ]
            self._call("ceph-authtool", keyring, "--gen-key", "-n", name, *pairs)
        address = f"[v2:127.0.0.1:{ports['mon_v2']},v1:127.0.0.1:{ports['mon_v1']}]"
        self._call("monmaptool", "--create", "--addv", "a", address, "--fsid", fsid, folder / "monmap")
        self._call("ceph-mon", "--mkfs", "-i", "a", "--monmap", folder / "monmap", "--keyring", keyring)
        self._start("ceph-mon", "-i", "a")
        (folder / "osd").mkdir()
        osd = str(uuid.uuid4())
        self._call("ceph", "osd", "new", osd, "0")
        self._call("ceph-osd", "--mkfs", "-i", "0", "--osd-uuid", osd)
        self._start("ceph-osd", "-i", "0")
        self._call(
            "radosgw-admin",
            "user",
            "create",
            "--uid=t",
            "--display-name=t",
            f"--access-key={KEY}",
            f"--secret={SECRET}",
        )
        self.start_gateway()

    def _call(self, *command: object) -> str:
        words = [*map(str, command)]
        if words[0] not in ("ceph-authtool", "monmaptool"):
            words[1:1] = ["-c", str(self._conf)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(words)}: {done.stderr[-2000:]}")
        return done.stdout

    def _start(self, program: str, *options: str) -> None:
        log = (self.folder / f"{program}.out").open("wb")
        with log:
            self._running[program] = subprocess.Popen(
                [program, "-c", str(self._conf), "-f", *options],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def environment(self) -> dict[str, str]:
        """What clients need."""
        return {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
        }

    def start_gateway(self) -> None:
        self._start("radosgw", "-n", "client.rgw")
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1.0):
                return
            if time.monotonic() > deadline or self._running["radosgw"].poll() is not None:
                raise RuntimeError(
                    f"the gateway does not start: {(self.folder / 'radosgw.out').read_text()[-2000:]}"
                )
            time.sleep(0.1)

    def kill_gateway(self) -> None:
        self._end("radosgw", signal.SIGKILL)

    def make_bucket(self, name: str) -> None:
        import boto3

        client = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{self.port}",
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            region_name="us-east-1",
        )
        client.create_bucket(Bucket=name)

    def _end(self, program: str, number: int) -> None:
        process = self._running.pop(program)
        process.send_signal(number)
        process.wait(30)

    def close(self) -> None:
        for program in [*reversed(self._running)]:
            self._end(program, signal.SIGKILL)


@contextlib.contextmanager
def ceph(folder: Path) -> Iterator[Ceph]:
    """A running object store."""
    cluster = None
    try:
        cluster = Ceph.__new__(Ceph)
        Ceph.__init__(cluster, folder)
        yield cluster
    finally:
        if cluster is not None:
            cluster.close()
