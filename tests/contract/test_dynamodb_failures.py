"""What DynamoDB and the network do besides answering: lost answers, contention, partial batches, absence."""

from __future__ import annotations

import itertools
import json

import boto3
import pytest
from botocore.config import Config
from moto.dynamodb.responses import DynamoHandler

from stix.adapters.dynamodb import DynamoStateStore
from stix.adapters.dynamodb_table import create_table_request, table_definition
from stix.adapters.dynamodb_transactions import retry_delay
from stix.model.errors import StixError, UnavailableError
from stix.ports.state_store import Delete, Item, Key, Put, VersionConflictError
from tests.contract.conftest import REGION

KEY = Key.top("team", "cluster", "train")
OTHER = Key.top("team", "cluster", "other")


def _refusal(code: str, reasons: list[str] | None = None) -> tuple[int, dict[str, str], str]:
    """An error as DynamoDB sends it: status, headers and body."""
    content: dict = {"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": "refused"}
    if reasons is not None:
        content["CancellationReasons"] = [{"Code": reason} for reason in reasons]
    return 400, {"Content-Type": "application/x-amz-json-1.0"}, json.dumps(content)


@pytest.fixture
def private_client(dynamodb_client):
    """A client of its own: the handlers that a test hangs on it end with it."""
    return boto3.client(
        "dynamodb", region_name=REGION, config=Config(retries={"mode": "standard", "total_max_attempts": 3})
    )


@pytest.fixture
def store(dynamodb_table, private_client, clock) -> DynamoStateStore:
    return DynamoStateStore(dynamodb_table()[0], private_client, clock=clock)


@pytest.fixture
def intercept(monkeypatch):
    """``intercept(operation, answers)`` gives its first requests these answers; returns a list that grows by
    request."""

    def hang(operation: str, answers) -> list[int]:
        requests: list[int] = []
        waiting = iter(answers)
        original = DynamoHandler.call_action

        def call_action(self):
            if not self.headers["X-Amz-Target"].endswith("." + operation):
                return original(self)
            requests.append(1)
            return next(waiting, None) or original(self)

        monkeypatch.setattr(DynamoHandler, "call_action", call_action)
        return requests

    return hang


def _lose_first_answer(client, operation: str) -> list[int]:
    """The first request succeeds there, but its answer never comes: the client sends it again."""
    sent: list[int] = []

    def needs_retry(response, **_):
        sent.append(1)
        return 0 if len(sent) == 1 else None

    client.meta.events.register_first(f"needs-retry.dynamodb.{operation}", needs_retry)
    return sent


def test_put_succeeds_when_its_first_answer_was_lost(store, private_client):
    sent = _lose_first_answer(private_client, "PutItem")
    written = store.put(Item(KEY, {"n": 1}))
    assert len(sent) == 2
    assert written.version == 1
    assert store.get(KEY) == written
    with pytest.raises(VersionConflictError):
        store.put(Item(KEY, {"n": 1}))


def test_put_is_refused_when_another_wrote_the_same_content(store):
    first = store.put(Item(KEY, {"n": 0}))
    store.put(first.changed(body={"n": 1}))
    with pytest.raises(VersionConflictError):
        store.put(first.changed(body={"n": 1}))


@pytest.mark.parametrize(
    ("operation", "refusal", "write"),
    [
        ("PutItem", ("TransactionConflictException",), lambda store: store.put(Item(KEY))),
        (
            "TransactWriteItems",
            ("TransactionCanceledException", ["None", "TransactionConflict"]),
            lambda store: store.transact([Put(Item(KEY)), Put(Item(OTHER))]),
        ),
        ("PutItem", ("ProvisionedThroughputExceededException",), lambda store: store.put(Item(KEY))),
    ],
)
def test_write_is_repeated_when_it_met_another(store, intercept, operation, refusal, write):
    requests = intercept(operation, [_refusal(*refusal), _refusal(*refusal)])
    write(store)
    assert len(requests) == 3
    assert store.get(KEY).version == 1


def test_write_is_unavailable_when_the_contention_does_not_end(store, intercept, monkeypatch):
    monkeypatch.setattr("stix.adapters.dynamodb_transactions._FIRST_DELAY", 0.0)
    refusal = ("TransactionCanceledException", ["TransactionConflict"])
    requests = intercept("TransactWriteItems", (_refusal(*refusal) for _ in itertools.count()))
    with pytest.raises(UnavailableError, match="TransactionCanceledException"):
        store.transact([Put(Item(KEY)), Put(Item(OTHER))])
    assert len(requests) == 6


def test_transaction_is_a_plain_write_when_it_has_one(store, intercept):
    """A transaction is charged twice."""
    transactions, single = intercept("TransactWriteItems", []), intercept("PutItem", [])
    [written] = store.transact([Put(Item(KEY))])
    store.transact([Put(Item(KEY, {"by": "us"}), unconditional=True)])
    with pytest.raises(VersionConflictError):
        store.transact([Put(written)])
    store.transact([Delete(KEY, 2)])
    assert store.get(KEY) is None
    assert (len(transactions), len(single)) == (0, 2)


def test_transaction_is_not_repeated_when_a_condition_failed(store, intercept):
    refusal = _refusal(
        "TransactionCanceledException", ["TransactionConflict", "ConditionalCheckFailed", "None"]
    )
    requests = intercept("TransactWriteItems", [refusal])
    third = Key.top("team", "cluster", "third")
    with pytest.raises(VersionConflictError) as conflict:
        store.transact([Put(Item(KEY)), Put(Item(OTHER)), Delete(third)])
    assert conflict.value.keys == (OTHER,)
    assert len(requests) == 1


def test_retry_delay_is_bounded_and_grows():
    refusal = (None, {"Error": {"Code": "TransactionConflictException"}})
    for attempts in range(1, 6):
        delays = [retry_delay(response=refusal, attempts=attempts) for _ in range(50)]
        assert all(0 <= delay <= min(0.8, 0.05 * 2**attempts) for delay in delays)
        assert len(set(delays)) > 1
    assert retry_delay(response=refusal, attempts=6) is None
    assert retry_delay(response=(None, {"Error": {"Code": "ValidationException"}}), attempts=1) is None
    assert retry_delay(response=(None, {}), attempts=1) is None
    assert retry_delay(response=None, attempts=1) is None


def test_unconditional_put_in_a_transaction_wins_when_the_item_moves_meanwhile(store, private_client):
    store.put(Item(KEY, {"n": 0}))
    moves = iter([True, True])

    def move(**_):
        if next(moves, False):
            store.put(Item(KEY, {"by": "heartbeat"}), unconditional=True)

    private_client.meta.events.register_first("before-call.dynamodb.TransactWriteItems", move)
    written = store.transact([Put(Item(KEY, {"by": "us"}), unconditional=True), Put(Item(OTHER))])
    assert [item.version for item in written] == [4, 1]
    assert store.get(KEY) == written[0]


def test_get_many_asks_again_when_the_answer_was_partial(store, private_client):
    items = [store.put(Item(Key("team", "node", "train", str(n)), {"n": n})) for n in range(5)]
    asked: list[int] = []

    def halve(params, context, **_):
        keys = params["RequestItems"][store._table]["Keys"]
        asked.append(len(keys))
        assert params["RequestItems"][store._table]["ConsistentRead"] is True
        context["unanswered"] = keys[2:]
        return {"RequestItems": {store._table: {"Keys": keys[:2], "ConsistentRead": True}}}

    def report(parsed, context, **_):
        if context.get("unanswered"):
            parsed["UnprocessedKeys"] = {store._table: {"Keys": context["unanswered"]}}

    private_client.meta.events.register("provide-client-params.dynamodb.BatchGetItem", halve)
    private_client.meta.events.register("after-call.dynamodb.BatchGetItem", report)
    assert store.get_many([item.key for item in items]) == items
    assert asked == [5, 3, 1]


def test_store_says_so_when_the_table_is_absent(private_client):
    store = DynamoStateStore("nowhere", private_client)
    for operation in (
        lambda: store.get(KEY),
        lambda: store.get_many([KEY]),
        lambda: store.put(Item(KEY)),
        lambda: store.put(Item(KEY), unconditional=True),
        lambda: store.delete(KEY),
        lambda: store.transact([Put(Item(KEY)), Put(Item(OTHER))]),
        lambda: store.children("team", "node", "train"),
        lambda: store.list("team", "node"),
        lambda: store.due("node", 0, 1.0),
    ):
        with pytest.raises(UnavailableError, match=r"table nowhere does not exist.*stix deploy"):
            operation()


def test_store_is_unavailable_when_nothing_answers():
    client = boto3.client(
        "dynamodb",
        region_name=REGION,
        endpoint_url="http://127.0.0.1:9",
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
        config=Config(retries={"total_max_attempts": 1}, connect_timeout=2),
    )
    with pytest.raises(UnavailableError, match=r"table stix cannot be reached.*127\.0\.0\.1"):
        DynamoStateStore("stix", client).get(KEY)


def test_store_shows_the_words_of_aws_when_access_is_denied(store, intercept):
    intercept("GetItem", [_refusal("AccessDeniedException")])
    with pytest.raises(StixError, match=r"AccessDeniedException\): refused"):
        store.get(KEY)


def test_stored_item_has_the_attributes_of_the_definition(store, private_client, clock):
    key = Key("team", "node", "train", "0")
    store.put(
        Item(key, {"n": 1.5}, live=True, due_at=7.25, listed=True, created_at=3.0, expires_at=clock.now + 9)
    )
    (raw,) = private_client.scan(TableName=store._table)["Items"]
    assert (raw["pk"]["S"], raw["sk"]["S"]) == ("team#node#train", "0")
    assert raw["body"] == {"S": '{"n":1.5}'}
    assert raw["due_pk"]["S"] == f"node#{key.shard:02d}"
    assert raw["due_at"] == {"N": "7.25"}
    assert raw["list_pk"]["S"] == "team#node"
    assert raw[table_definition().ttl_attribute]["N"].isdigit()
    table = private_client.describe_table(TableName=store._table)["Table"]
    assert {index["IndexName"]: index["Projection"] for index in table["GlobalSecondaryIndexes"]} == {
        "due": {"ProjectionType": "KEYS_ONLY"},
        "list": {"ProjectionType": "ALL"},
    }
    assert create_table_request("t")["BillingMode"] == "PAY_PER_REQUEST"


def test_heartbeat_keeps_out_of_the_indexes(store, private_client):
    store.put(Item(KEY, due_at=5.0), unconditional=True)
    (raw,) = private_client.scan(TableName=store._table)["Items"]
    assert {"due_pk", "list_pk", "list_sk", "expires_at"}.isdisjoint(raw)


def test_reads_by_key_ask_for_consistency(store, private_client):
    """moto is always consistent; what DynamoDB would be asked is in the request."""
    asked: dict[str, bool] = {}

    def note(params, model, **_):
        asked[model.name] = params.get("ConsistentRead", False)

    private_client.meta.events.register("provide-client-params.dynamodb", note)
    store.get(KEY)
    store.children("team", "node", "train")
    assert asked == {"GetItem": True, "Query": True}
    store.list("team", "node")
    assert asked["Query"] is False


def test_store_makes_its_own_client_when_given_none(dynamodb_table, monkeypatch):
    name, _ = dynamodb_table()
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    store = DynamoStateStore(name)
    written = store.put(Item(KEY, {"n": 1}))
    assert store.get(KEY) == written
    config = store._client.meta.config
    assert (config.retries["mode"], config.connect_timeout, config.read_timeout) == ("standard", 1.5, 4.0)
