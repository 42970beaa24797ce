"""The resolver of the HTTP functions, where two of them live in one process."""

from __future__ import annotations

import threading
from typing import Any

from aws_lambda_powertools import Logger

from stix.runtime.http import ResolverOfEachThread, answer, new_resolver, node_of, user_of

DEADLINE = 60.0


def request(path: str, context: dict[str, Any]) -> dict[str, Any]:
    return {
        "version": "2.0",
        "rawPath": path,
        "rawQueryString": "",
        "headers": {},
        "isBase64Encoded": False,
        "requestContext": {
            "stage": "$default",
            "authorizer": {"lambda": context},
            "http": {"method": "GET", "path": path},
        },
    }


USER = request("/people", {"kind": "user", "workspace": "default", "user": "ann"})
NODE = request("/nodes", {"kind": "node", "workspace": "default", "cluster_id": "c-1", "rank": 0})


def test_resolver_keeps_its_caller_when_another_answers_meanwhile():
    people, nodes = new_resolver(Logger(service="api")), new_resolver(Logger(service="agent"))
    inside, answered = threading.Event(), threading.Event()

    @people.get("/people")
    def ask() -> Any:
        inside.set()
        assert answered.wait(DEADLINE)
        return answer({"user": user_of(people).user})

    @nodes.get("/nodes")
    def tell() -> Any:
        return answer({"rank": node_of(nodes).rank})

    answers: list[dict[str, Any]] = []
    thread = threading.Thread(target=lambda: answers.append(people.resolve(USER, None)))
    thread.start()
    assert inside.wait(DEADLINE)
    told = nodes.resolve(NODE, None)
    answered.set()
    thread.join(DEADLINE)

    assert (told["statusCode"], told["body"]) == (200, '{"rank":0}')
    assert (answers[0]["statusCode"], answers[0]["body"]) == (200, '{"user":"ann"}')


def test_resolver_of_each_thread_answers_two_callers_when_they_come_at_once():
    inside, answered = threading.Event(), threading.Event()

    def add_routes(app: Any) -> None:
        @app.get("/nodes/<name>")
        def tell(name: str) -> Any:
            if name == "slow":
                inside.set()
                assert answered.wait(DEADLINE)
            return answer({"name": name, "rank": node_of(app).rank})

    app = ResolverOfEachThread(Logger(service="agent"), add_routes)

    def ask(name: str, rank: int) -> Any:
        caller = {"kind": "node", "workspace": "default", "cluster_id": "c-1", "rank": rank}
        return app.resolve(request(f"/nodes/{name}", caller), None)["body"]

    answers: list[str] = []
    thread = threading.Thread(target=lambda: answers.append(ask("slow", 1)))
    thread.start()
    assert inside.wait(DEADLINE)
    assert ask("quick", 2) == '{"name":"quick","rank":2}'
    answered.set()
    thread.join(DEADLINE)
    assert answers == ['{"name":"slow","rank":1}']
