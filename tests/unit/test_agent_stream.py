"""A tunnel's two ends over a network that loses, repeats and reorders, simulated second by second."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stix.agent.stream import FRAME_BYTES, WINDOW, Stream
from stix.agent.tunnel import socket_url

STEP = 0.25


class Side:
    """An end with something to say and a reader that takes ``appetite`` frames a step."""

    def __init__(self, name: str, says: bytes, appetite: int = 1000):
        self.stream = Stream(name, 0.0)
        self.left = says
        self.appetite = appetite
        self.read = b""
        self.read_all = False

    def act(self) -> None:
        while self.left and self.stream.has_room:
            self.stream.write(self.left[:FRAME_BYTES])
            self.left = self.left[FRAME_BYTES:]
        if not self.left:
            self.stream.finish()
        for _ in range(self.appetite):
            there, data = self.stream.next_frame()
            if not there:
                break
            if data is None:
                self.read_all = True
            else:
                self.read += data
            self.stream.handed_on()
        self.stream.owe_ack()


def play(one: Side, two: Side, carry, *, seconds: float = 600.0) -> None:
    """Let both act until they are over; ``carry(sender, messages)`` says which arrive, in which order."""
    now = 0.0
    while now < seconds and not (one.stream.over and two.stream.over):
        for sender, receiver in ((one, two), (two, one)):
            sender.act()
            for text in carry(sender, sender.stream.messages(now)):
                receiver.stream.receive(text.encode(), now)
        now += STEP
    for side in (one, two):
        side.appetite = 1000
        side.act()


@given(
    seed=st.integers(0, 2**32),
    sizes=st.tuples(st.integers(0, 5 * FRAME_BYTES), st.integers(0, 5 * FRAME_BYTES)),
    loss=st.sampled_from((0.0, 0.1, 0.4)),
    appetite=st.sampled_from((1, 1000)),
)
def test_every_byte_arrives_once_and_in_order_when_messages_do_not(seed, sizes, loss, appetite):
    chance = random.Random(seed)
    held: dict[int, list[str]] = {}

    def carry(sender: Side, messages: list[str]) -> list[str]:
        late = held.get(id(sender), [])
        arriving = [*late, *messages, *(text for text in messages if chance.random() < 0.3)]
        held[id(sender)] = [text for text in arriving if chance.random() < 0.3]
        sent = [text for text in arriving if chance.random() >= loss]
        chance.shuffle(sent)
        return sent

    one, two = (Side(name, chance.randbytes(size), appetite) for name, size in zip("ab", sizes, strict=True))
    said = one.left, two.left
    play(one, two, carry)
    assert (two.read, one.read) == said
    # The very last acknowledgement may be lost for ever: then its end waits, and gives up in the end.
    assert one.read_all
    assert two.read_all


def test_sender_waits_when_the_reader_takes_nothing():
    one, two = Side("a", bytes(FRAME_BYTES * WINDOW * 3)), Side("b", b"", appetite=0)
    seen = []

    def carry(sender, messages):
        seen.extend(json.loads(text)["s"] for text in messages if '"d"' in text)
        return messages

    play(one, two, carry, seconds=30)
    assert max(seen) == WINDOW - 1
    assert len(one.left) == FRAME_BYTES * WINDOW * 2
    # Asking again and again whether there is room is bounded too.
    assert len(seen) < 2 * WINDOW
    two.appetite = 1000
    play(one, two, carry, seconds=30)
    assert two.read == bytes(FRAME_BYTES * WINDOW * 3)


def test_what_was_under_way_is_sent_again_when_the_connection_is_new():
    one, two = Stream("a", 0.0), Stream("b", 0.0)
    one.write(b"lost")
    assert len(one.messages(0.0)) == 1
    assert one.messages(0.1) == []
    one.reconnected(0.2)
    [again] = one.messages(0.2)
    two.receive(again.encode(), 0.2)
    assert two.next_frame() == (True, b"lost")


@pytest.mark.parametrize(
    ("word", "failure"),
    [
        ("closed", "the tunnel was closed"),
        ("left", "the other side is silent"),
        ("away", "the other side is silent"),
    ],
)
def test_stream_fails_within_seconds_when_the_relay_says_that_the_other_end_is_gone(word, failure):
    stream = Stream("a", 0.0)
    stream.receive(b'{"type":"tunnel","n":"b","a":0}', 0.0)
    stream.receive(json.dumps({"x": word}).encode(), 1.0)
    stream.messages(11.5)
    assert stream.failure == failure
    assert stream.over


def test_stream_goes_on_when_the_other_end_comes_back_in_time():
    stream = Stream("a", 0.0)
    stream.receive(b'{"type":"tunnel","n":"b","a":0}', 0.0)
    stream.receive(b'{"x":"left"}', 1.0)
    stream.receive(b'{"x":"here"}', 2.0)
    stream.receive(b'{"type":"tunnel","n":"b","a":0}', 3.0)
    stream.messages(20.0)
    assert stream.failure is None


def test_stream_ends_well_when_the_last_acknowledgement_was_lost():
    one, two = Stream("a", 0.0), Stream("b", 0.0)
    two.finish()
    for text in two.messages(0.0):
        one.receive(text.encode(), 0.0)
    one.next_frame()
    one.handed_on()
    one.finish()
    assert len(one.messages(0.0)) == 1
    one.receive(b'{"x":"left"}', 0.5)
    assert one.over
    assert one.failure is None


def test_stream_fails_when_the_other_end_began_anew_gave_up_or_never_came():
    stream = Stream("a", 0.0)
    stream.receive(b'{"type":"tunnel","n":"b","a":0}', 0.0)
    stream.receive(b'{"type":"tunnel","n":"c","a":0}', 0.0)
    assert stream.failure == "the other side began anew"

    one, two = Stream("a", 0.0), Stream("b", 0.0)
    two.receive(one.give_up("the node ends").encode(), 0.0)
    assert two.failure == one.failure == "the node ends"

    alone = Stream("a", 0.0)
    alone.messages(39.0)
    assert alone.failure is None
    alone.messages(41.0)
    assert alone.failure == "the other side did not come"


@pytest.mark.parametrize(
    "text",
    [b"", b"[]", b"nonsense", b"{}", b'{"type":"tunnel"}', b'{"type":"tunnel","n":"b","a":"x"}',
     b'{"type":"tunnel","n":"b","a":0,"s":0,"d":"***"}',
     b'{"type":"tunnel","n":"b","a":0,"s":999,"d":"YQ=="}',
     b'{"type":"tunnel","n":"b","a":7}'],
)  # fmt: skip
def test_message_is_as_good_as_lost_when_it_is_malformed_or_out_of_bounds(text):
    stream = Stream("a", 0.0)
    stream.receive(text, 0.0)
    assert stream.failure is None
    assert stream.next_frame() == (False, None)


def test_message_fits_one_frame_of_the_gateway_when_it_is_full():
    stream = Stream("0123456789ab", 0.0)
    stream.write(bytes(FRAME_BYTES))
    [text] = stream.messages(0.0)
    assert len(text) <= 32 * 1024


@pytest.mark.parametrize(
    ("base", "url", "whole"),
    [
        ("http://127.0.0.1:1", "/socket?tunnel=t", "ws://127.0.0.1:1/socket?tunnel=t"),
        ("https://h/sub/", "/socket?tunnel=t", "wss://h/sub/socket?tunnel=t"),
        ("https://h", "wss://w/live?tunnel=t", "wss://w/live?tunnel=t"),
    ],
)
def test_address_of_a_tunnel_is_whole(base, url, whole):
    assert socket_url(base, url) == whole
