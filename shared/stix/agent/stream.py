"""A byte stream both ways over messages that may be lost, repeated or reordered; no socket, no clock here.

A message is a JSON object. ``n`` names the end that sent it, one life long. ``s`` and ``d`` are a frame's
number and its bytes (base64), ``f`` in place of ``d`` says that no more will follow. ``a`` acknowledges all
frames below it, once they were handed on: so it is the flow control too. ``r`` gives the stream up and says
why. The relay itself says ``x``: the other end is ``here``, is ``away``, has ``left``, or the stream is
``closed``.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections import OrderedDict, deque
from typing import Deque, Dict, List, Optional, Tuple

FRAME_BYTES = 22_500
"""With its wrapping below 32 kB: what API Gateway takes as one frame and bills as one message."""

WINDOW = 48
"""Frames that may be under way, which bounds both ends' memory to about 1 MiB each."""

_REPEAT_FIRST, _REPEAT_LAST = 1.5, 12.0
_SIGN_OF_LIFE = 15.0
_SILENCE = 50.0
_FIRST_WORD = 40.0
_RETURN = 10.0


class Stream:
    """One end. Times are seconds of one monotonic clock; the caller holds a lock."""

    def __init__(self, name: str, now: float) -> None:
        self._name = name
        self._peer = ""
        self._unacked: OrderedDict[int, Optional[bytes]] = OrderedDict()
        self._unsent: Deque[int] = deque()
        self._next = 0
        self._early: Dict[int, Optional[bytes]] = {}
        self._ready: Deque[Optional[bytes]] = deque()
        self._expected = 0
        self._handed_on = 0
        self._told = 0
        self._owes_ack = True
        self._repeat_after = _REPEAT_FIRST
        self._repeat_at: Optional[float] = None
        self._speak_at = now
        self._deadline = now + _FIRST_WORD
        self._finished = False
        self._ended = False
        self._leaving = False
        self.failure: Optional[str] = None

    # -- bytes out -------------------------------------------------------------------------------------------

    @property
    def has_room(self) -> bool:
        """Whether another frame may be written."""
        return len(self._unacked) < WINDOW

    def write(self, data: bytes) -> None:
        """Takes at most ``FRAME_BYTES``, when there is room."""
        self._add(data)

    def finish(self) -> None:
        """Nothing more will be written."""
        if not self._finished:
            self._finished = True
            self._add(None)

    # -- bytes in --------------------------------------------------------------------------------------------

    def next_frame(self) -> Tuple[bool, Optional[bytes]]:
        """(whether there is one, its bytes or None for the end), in order; ``handed_on`` follows."""
        return (True, self._ready.popleft()) if self._ready else (False, None)

    def handed_on(self) -> int:
        """The frame that was taken last has left: how many the other end does not know of."""
        self._handed_on += 1
        return self._handed_on - self._told

    # -- the state of things ---------------------------------------------------------------------------------

    @property
    def over(self) -> bool:
        """Both directions have ended, or the stream was given up."""
        return self.failure is not None or (self._ended and self._finished and not self._unacked)

    @property
    def heard(self) -> bool:
        """Whether the other end has ever spoken."""
        return bool(self._peer)

    @property
    def began(self) -> bool:
        """Whether any of the other end's bytes have come."""
        return self._expected > 0

    def patience(self, now: float) -> float:
        """Seconds after which ``messages`` has something to say, or the state has changed."""
        due = [self._speak_at, self._deadline]
        if self._repeat_at is not None:
            due.append(self._repeat_at)
        return max(0.0, min(due) - now)

    def expire(self, now: float) -> None:
        """The stream has failed where the other end was not heard of for too long."""
        if self.failure is None and now >= self._deadline:
            self.failure = "the other side is silent" if self._peer else "the other side did not come"

    def give_up(self, reason: str) -> str:
        """Ends the stream; the message that tells the other end."""
        self.failure = self.failure or reason
        return json.dumps({"type": "tunnel", "n": self._name, "r": reason})

    # -- messages --------------------------------------------------------------------------------------------

    def reconnected(self, now: float) -> None:
        """Whatever was under way may be lost."""
        self._unsent = deque(self._unacked)
        self._speak_at = now
        self._repeat_after = _REPEAT_FIRST

    def owe_ack(self) -> None:
        """The next ``messages`` say what was handed on."""
        self._owes_ack = self._owes_ack or self._told < self._handed_on

    def messages(self, now: float) -> List[str]:
        """What is to be sent now, in any order and as often as one likes."""
        self.expire(now)
        if self.failure is not None:
            return []
        if self._repeat_at is not None and now >= self._repeat_at and self._unacked:
            # The oldest alone: it asks whether the others arrived, and whether there is room again.
            self._unsent.appendleft(next(iter(self._unacked)))
            self._repeat_after = min(self._repeat_after * 2, _REPEAT_LAST)
            self._repeat_at = now + self._repeat_after
        said = [self._frame(seq, now) for seq in self._unsent if seq in self._unacked]
        self._unsent.clear()
        if not said and (self._owes_ack or now >= self._speak_at):
            said = [self._message({})]
        if said:
            self._owes_ack = False
            self._told = self._handed_on
            self._speak_at = now + _SIGN_OF_LIFE
        return said

    def receive(self, text: bytes, now: float) -> None:
        """Takes a message; one that is malformed is as good as lost."""
        try:
            message = json.loads(text)
            if message.get("x"):
                self._hear_relay(str(message["x"]), now)
            elif message.get("type") == "tunnel":
                self._hear_peer(message, now)
        except (ValueError, AttributeError, TypeError, KeyError, binascii.Error):
            return

    def _hear_relay(self, word: str, now: float) -> None:
        if word == "here":
            self.reconnected(now)
        elif word == "away" and self._peer:
            self._expect_soon(now)
        elif word == "left":
            if self._ended and self._finished:
                # It had said all and heard all; its last word was lost on the way.
                self._unacked.clear()
            self._expect_soon(now)
        elif word == "closed":
            self.failure = self.failure or "the tunnel was closed"

    def _expect_soon(self, now: float) -> None:
        if not self._leaving:
            self._leaving = True
            self._deadline = min(self._deadline, now + _RETURN)

    def _hear_peer(self, message: Dict[str, object], now: float) -> None:
        name = str(message["n"])
        if self._peer and name != self._peer:
            self.failure = self.failure or "the other side began anew"
            return
        self._peer = name
        self._leaving = False
        self._deadline = now + _SILENCE
        if "r" in message:
            self.failure = self.failure or str(message["r"]) or "the other side gave up"
            return
        self._take_ack(int(str(message["a"])), now)
        if "s" in message:
            data = None if message.get("f") else base64.b64decode(str(message["d"]), validate=True)
            self._take_frame(int(str(message["s"])), data)

    def _take_ack(self, below: int, now: float) -> None:
        before = len(self._unacked)
        while self._unacked and next(iter(self._unacked)) < min(below, self._next):
            self._unacked.popitem(last=False)
        if len(self._unacked) < before:
            self._repeat_after = _REPEAT_FIRST
            self._repeat_at = now + self._repeat_after if self._unacked else None

    def _take_frame(self, seq: int, data: Optional[bytes]) -> None:
        if seq < self._expected or seq in self._early:
            self._owes_ack = True  # A repetition: the acknowledgement was lost, or is still owed.
            return
        if seq >= self._handed_on + WINDOW:
            return
        self._early[seq] = data
        while self._expected in self._early and not self._ended:
            piece = self._early.pop(self._expected)
            self._expected += 1
            self._ready.append(piece)
            self._ended = piece is None

    def _add(self, data: Optional[bytes]) -> None:
        self._unacked[self._next] = data
        self._unsent.append(self._next)
        self._next += 1

    def _frame(self, seq: int, now: float) -> str:
        if self._repeat_at is None:
            self._repeat_at = now + self._repeat_after
        data = self._unacked[seq]
        if data is None:
            return self._message({"s": seq, "f": 1})
        return self._message({"s": seq, "d": base64.b64encode(data).decode("ascii")})

    def _message(self, fields: Dict[str, object]) -> str:
        values = {"type": "tunnel", "n": self._name, "a": self._handed_on, **fields}
        return json.dumps(values, separators=(",", ":"))
