"""The adapters behind each port, one fixture parameter each, on fresh storage for every test."""

from __future__ import annotations

import http.client
import itertools
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import pytest

from stix.adapters.dynamodb import DynamoStateStore
from stix.adapters.dynamodb_table import create_table_request
from stix.adapters.local_files import LocalObjectStore
from stix.adapters.s3 import S3ObjectStore, create_s3_client
from stix.adapters.sqlite import SqliteStateStore
from stix.application.tokens import create_user_token
from stix.model.errors import ForbiddenError, InvalidInputError
from stix.ports.object_store import ObjectNotFoundError, SignedUrl
from stix.runtime.bootstrap import install
from tests.contract.state_store_model import LaggingIndexes
from tests.unit.world import WORKSPACE, ControlPlane

REGION = "eu-west-1"
_numbers = itertools.count()


class FakeClock:
    """A clock that stands still until a test moves it."""

    def __init__(self, now: float = 1_800_000_000.25):
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(scope="session")
def dynamodb_client() -> Iterator[Any]:
    """moto's DynamoDB. Its conditional writes are not atomic between threads: one request at a time."""
    import boto3
    from moto import mock_aws
    from moto.dynamodb.responses import DynamoHandler

    lock = threading.RLock()
    original = DynamoHandler.call_action

    def call_action(self: Any) -> Any:
        with lock:
            return original(self)

    with pytest.MonkeyPatch.context() as patch, mock_aws():
        patch.setattr(DynamoHandler, "call_action", call_action)
        yield boto3.client("dynamodb", region_name=REGION)


@pytest.fixture
def dynamodb_table(dynamodb_client) -> Iterator[Callable[[], tuple[str, Any]]]:
    """Makes a table of its own with each call: name and client. moto copies a whole table per transaction."""
    client = dynamodb_client
    names: list[str] = []

    def create() -> tuple[str, Any]:
        names.append(f"stix-{next(_numbers)}")
        client.create_table(**create_table_request(names[-1]))
        return names[-1], client

    yield create
    for name in names:
        client.delete_table(TableName=name)


@pytest.fixture
def make_store(request: pytest.FixtureRequest, tmp_path, clock) -> Iterator[Callable[[str], Any]]:
    """``make_store("sqlite" | "dynamodb")`` gives an empty store each time."""
    opened: list[SqliteStateStore] = []

    def make(technology: str) -> Any:
        if technology == "dynamodb":
            name, client = request.getfixturevalue("dynamodb_table")()
            return DynamoStateStore(name, client, clock=clock)
        opened.append(SqliteStateStore(tmp_path / f"state-{next(_numbers)}.db", clock=clock))
        return opened[-1]

    yield make
    for store in opened:
        store.close()


@pytest.fixture(params=["sqlite", "dynamodb", "sqlite-lagging", "dynamodb-lagging"])
def store(request: pytest.FixtureRequest, make_store, clock) -> Any:
    technology, _, lagging = request.param.partition("-")
    made = make_store(technology)
    return LaggingIndexes(made, clock) if lagging else made


@pytest.fixture
def settle(store) -> Callable[[], None]:
    """Lets lagging indexes catch up."""
    return store.catch_up if isinstance(store, LaggingIndexes) else lambda: None


@dataclass(frozen=True)
class Answer:
    status: int
    content: bytes


@dataclass(frozen=True)
class ObjectStoreUnderTest:
    store: Any
    technology: str

    def send(self, signed: SignedUrl, data: bytes | None = None) -> Answer:
        """The request that the URL permits, over real HTTP, with its headers and no others."""
        url = urlsplit(signed.url)
        connection = http.client.HTTPConnection(url.hostname, url.port, timeout=60)
        try:
            connection.request(
                signed.method, f"{url.path}?{url.query}", body=data, headers=dict(signed.headers)
            )
            response = connection.getresponse()
            return Answer(response.status, response.read())
        finally:
            connection.close()


@pytest.fixture(params=["local", "s3"])
def objects(request: pytest.FixtureRequest, tmp_path) -> Iterator[ObjectStoreUnderTest]:
    if request.param == "s3":
        client = request.getfixturevalue("s3_client")
        bucket = f"stix-{next(_numbers)}"
        client.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
        yield ObjectStoreUnderTest(S3ObjectStore(bucket, client), "s3")
        return
    with _object_server() as (server, base_url):
        server.store = store = LocalObjectStore(tmp_path / "store", base_url, bytes(range(32)))
        yield ObjectStoreUnderTest(store, "local")


@pytest.fixture(scope="session")
def s3_client() -> Iterator[Any]:
    """A client of moto's S3 behind a real port."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        patch.setenv("AWS_DEFAULT_REGION", REGION)
        patch.setenv("AWS_ENDPOINT_URL_S3", f"http://{host}:{port}")
        client = create_s3_client(s3={"addressing_style": "path"})
    yield client
    server.stop()


class _ObjectRequests(BaseHTTPRequestHandler):
    """The few lines that the embedded server needs around ``open_signed`` and ``writer``."""

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def _answer(self) -> None:
        store: LocalObjectStore = self.server.store
        path, _, query = self.path.partition("?")
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length)
        try:
            allowed = store.open_signed(self.command, path, query, store._clock())
            if self.command == "PUT":
                with store.writer(allowed.key, allowed.size, allowed.sha256) as writer:
                    writer.write(body[:3])
                    writer.write(body[3:])
                self._send(200, b"")
            else:
                self._send(200, allowed.path.read_bytes())
        except ForbiddenError as exc:
            self._send(403, str(exc).encode())
        except InvalidInputError as exc:
            self._send(400, str(exc).encode())
        except ObjectNotFoundError:
            self._send(404, b"")

    def _send(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


class _object_server:  # noqa: N801 - a context manager, used like a function
    def __enter__(self) -> tuple[Any, str]:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _ObjectRequests)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        return self._server, f"http://127.0.0.1:{self._server.server_port}"

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A real Kubernetes control plane, for tests marked ``kubernetes``."""
    from tests.substrate.kubernetes.control_plane import ControlPlane

    made = ControlPlane(tmp_path_factory.mktemp("kubernetes"))
    yield made
    made.close()


@pytest.fixture
def plane(tmp_path) -> Iterator[ControlPlane]:
    """A control plane that the functions' handlers find, with the token ``ann-token``."""
    made = ControlPlane(tmp_path)
    create_user_token(made.world, token="ann-token", workspace=WORKSPACE, user="ann")
    install(made.world)
    yield made
    install(None)
    made.close()
