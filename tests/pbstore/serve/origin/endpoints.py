"""Endpoints on loopback: moto, which is a mock of S3, and a smaller one that can be told to misbehave."""

import contextlib
import threading
import uuid
from collections.abc import Iterator
from email.utils import formatdate
from hashlib import md5
from xml.sax.saxutils import escape

import flask
from moto.server import ThreadedMotoServer
from werkzeug.serving import make_server

from tests.pbstore.serve.origin.kit import environment

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}


@contextlib.contextmanager
def moto_bucket() -> Iterator[str]:
    """URL of a new bucket of moto; the environment says where it is."""
    import boto3

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        with environment(**CREDENTIALS, AWS_ENDPOINT_URL=f"http://{host}:{port}"):
            boto3.client("s3", endpoint_url=f"http://{host}:{port}").create_bucket(Bucket="bucket")
            yield f"s3://bucket/{uuid.uuid4()}"  # moto keeps its buckets as long as the process
    finally:
        server.stop()


class FakeS3:
    """As much of S3 as a probe asks for; `faults` names what it does wrong."""

    def __init__(self, *faults: str) -> None:
        self.faults = faults
        self.objects: dict[str, bytes] = {}
        self.puts = 0
        self._mutex = threading.Lock()
        self.app = flask.Flask("fake")
        self.app.add_url_rule("/<bucket>", view_func=self.bucket, methods=["GET", "POST"])
        self.app.add_url_rule("/<bucket>/<path:key>", view_func=self.object, methods=["GET", "PUT", "DELETE"])

    def bucket(self, bucket: str) -> flask.Response | str:
        if "is broken" in self.faults:
            return flask.Response("<Error><Code>Broken</Code></Error>", 400)
        if flask.request.method == "POST":
            body = flask.request.get_data(as_text=True)
            keys = [key.split("<")[0] for key in body.split("<Key>")[1:]]
            for key in keys:
                self.objects.pop(key, None)
            deleted = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)
            return f"<DeleteResult>{deleted}</DeleteResult>"
        prefix = flask.request.args.get("prefix", "")
        found = [] if "stale listing" in self.faults else [k for k in self.objects if k.startswith(prefix)]
        time = "2026-01-01T00:00:00.000Z"
        entries = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>{time}</LastModified><ETag>x</ETag>"
            f"<Size>{len(self.objects[key])}</Size></Contents>"
            for key in found
        )
        return f"<ListBucketResult><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>"

    def object(self, bucket: str, key: str) -> flask.Response:
        with self._mutex:
            return self._put(key) if flask.request.method == "PUT" else self._get(key)

    def _put(self, key: str) -> flask.Response:
        self.puts += 1
        asked = flask.request.headers.get("If-None-Match") == "*"
        if asked and key in self.objects and "ignores If-None-Match" not in self.faults:
            return flask.Response("", 412)
        self.objects[key] = flask.request.get_data()
        if "loses answers" in self.faults and self.puts % 2:  # it was done, and nobody hears of it
            return flask.Response("", 500)
        return flask.Response("", 200, {"ETag": md5(self.objects[key]).hexdigest()})

    def _get(self, key: str) -> flask.Response:
        if key not in self.objects:
            return flask.Response("<Error><Code>NoSuchKey</Code></Error>", 404)
        data = self.objects[key]
        headers = {"ETag": "x", "Last-Modified": formatdate(1.7e9, usegmt=True)}
        asked = flask.request.headers.get("Range")
        if asked is None or "answers ranges with 200" in self.faults:
            return flask.Response(data, 200, headers)
        start, stop = (int(number) for number in asked.removeprefix("bytes=").split("-"))
        stop = min(stop + 1, len(data))
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
        if "gives other bytes" in self.faults:
            start, stop = (start + 1, stop + 1) if stop < len(data) else (start - 1, stop - 1)
        return flask.Response(data[start:stop], 206, headers)


@contextlib.contextmanager
def fake_bucket(*faults: str) -> Iterator[str]:
    """URL of a bucket of a `FakeS3`; the environment says where it is."""
    server = make_server("127.0.0.1", 0, FakeS3(*faults).app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        with environment(**CREDENTIALS, AWS_ENDPOINT_URL=f"http://127.0.0.1:{server.port}"):
            yield "s3://bucket/some/prefix"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
