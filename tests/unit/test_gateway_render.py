"""HAProxy's configuration, and the way from one state of its servers to another."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stix.gateway.render import Settings, certificate_file, render, side_files, structure
from stix.gateway.runtime_api import changes
from stix.gateway.slots import Server, assign, servers_of
from stix.gateway.view import Replica, Service, Tls

A = Replica("a", "1", "10.0.0.4", 80)
B = Replica("b", "2", "fd00::1", 81, weight=3)
CHAT = Service("chat", 8080, replicas=(A, B))


def shown(service: Service, up: bool = True, **settings: object) -> str:
    slots = assign((), service.replicas, set())
    servers = servers_of(service, slots, {one.key: up for one in service.replicas})
    return render({service.name: service}, {service.name: servers}, Settings(**settings))


@pytest.mark.parametrize(
    ("fields", "lines"),
    [
        ({"policy": "round_robin"}, ["balance roundrobin", "server s2 [fd00::1]:81 weight 100"]),
        ({"policy": "weighted"}, ["balance roundrobin", "server s1 10.0.0.4:80 weight 85"]),
        ({"policy": "least_load"}, ["balance leastconn", "server s1 10.0.0.4:80 weight 100"]),
        (
            {"policy": "instance_aware_least_load"},
            ["balance leastconn", "server s2 [fd00::1]:81 weight 256"],
        ),
        ({"policy": "sticky"}, ["cookie stix-chat insert indirect nocache httponly dynamic"]),
        (
            {"policy": "sticky", "sticky_header": "X-Session"},
            ["balance hdr(X-Session)", "hash-type consistent"],
        ),
        ({"stream_timeout_seconds": 900}, ["timeout client 900s", "timeout server 900s"]),
        ({"wait_seconds": 7, "max_queue": 9}, ["lua.wait_for_replica chat 7 9 if"]),
    ],
)
def test_a_field_of_a_service_is_in_its_configuration(fields, lines):
    text = shown(replace(CHAT, **fields))
    for line in lines:
        assert line in text


def test_only_a_private_service_asks_for_tokens():
    assert "401" not in shown(CHAT)
    text = shown(replace(CHAT, tokens=()))
    assert "unless { http_auth_bearer,sha2(256),hex,lower -m str -f chat.tokens }" in text
    assert text.index("401") < text.index("lua.wait_for_replica")


def test_replicas_that_are_not_ready_are_disabled():
    assert "server s1 10.0.0.4:80 weight 100 disabled" in shown(CHAT, up=False)


def test_what_the_run_time_api_changes_is_no_other_structure():
    def digest(service: Service, up: bool = True) -> str:
        slots = assign((), service.replicas, set())
        servers = servers_of(service, slots, {one.key: up for one in service.replicas})
        return structure({service.name: service}, {service.name: servers}, Settings())

    private = replace(CHAT, tokens=("ab" * 32,))
    assert digest(CHAT) == digest(CHAT, up=False) == digest(replace(CHAT, replicas=(A,)))
    assert digest(private) == digest(replace(private, tokens=()))
    tls = replace(CHAT, tls=Tls("certificate", "key"))
    others = [
        replace(CHAT, port=1),
        replace(CHAT, policy="sticky"),
        replace(CHAT, wait_seconds=1),
        private,
        tls,
        replace(tls, tls=Tls("another", "key")),
        replace(CHAT, replicas=tuple(replace(A, id=str(number)) for number in range(9))),
    ]
    assert len({digest(one) for one in (CHAT, *others)}) == 1 + len(others)


def test_the_certificate_and_the_tokens_are_files_of_their_own():
    service = replace(CHAT, tls=Tls(" certificate\n", "key"), tokens=("ab" * 32,))
    servers = {"chat": servers_of(service, (A.key, None), {})}
    files = side_files({"chat": service}, servers)
    assert files[certificate_file(service)] == "certificate\nkey\n"
    assert files["chat.tokens"] == "ab" * 32 + "\n"
    assert files["chat.labels"] == "s1 a/1\ns2 /\n"


def test_a_slot_that_is_busy_is_not_given_away_and_one_that_stays_never_moves():
    slots = assign((), (A, B), set())
    assert slots[:2] == (A.key, B.key)
    c = replace(A, id="c")
    assert assign(slots, (B, c), {A.key})[:3] == (A.key, B.key, c.key)
    assert assign(slots, (B, c), set())[:3] == (c.key, B.key, None)


def test_a_replica_at_another_address_is_another_one():
    moved = replace(A, port=99)
    slots = assign(assign((), (A,), set()), (moved,), {A.key})
    assert slots[:2] == (A.key, moved.key)


def test_a_server_is_off_while_its_address_changes():
    commands = list(
        changes(
            "chat",
            {"s1": Server("10.0.0.4", 80, 100, True, "a/1")},
            {"s1": Server("::1", 81, 50, True, "b/2")},
            "l",
        )
    )
    assert commands == [
        "set server chat/s1 state maint",
        "set server chat/s1 addr ::1 port 81",
        "set map l s1 b/2",
        "set server chat/s1 weight 50",
        "set server chat/s1 state ready",
    ]


replicas = st.lists(st.integers(0, 40), unique=True, max_size=30).map(
    lambda ids: tuple(Replica(str(one), "1", "10.0.0.1", 1000 + one) for one in ids)
)


@given(st.lists(replicas, min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_every_replica_has_one_slot_whatever_came_before(history: list, chance: random.Random):
    slots: tuple = ()
    for shown in history:
        busy = {key for key in slots if key and chance.random() < 0.3}
        before, slots = slots, assign(slots, shown, busy)
        held = [key for key in slots if key]
        assert len(held) == len(set(held))
        assert {one.key for one in shown} | busy == set(held)
        assert len(slots) >= len(before)
        for index, key in enumerate(before):
            if key and key in held:
                assert slots[index] == key
