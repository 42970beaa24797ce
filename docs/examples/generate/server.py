"""A small language model behind HTTP: it learns from a text which characters follow which, and goes on.

    python3 server.py --host 127.0.0.1 --port 8000 --text alice.txt

GET /health            200 once it has learned
GET /                  what it is: version, characters learned, requests answered
POST /generate         {"prompt": "Alice ", "tokens": 40, "temperature": 0.8, "seed": 1, "stream": true}
GET /generate?prompt=Alice&tokens=40

With "stream" the tokens (characters) come as server-sent events, one at a time, as they are generated.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import signal
import sys
import threading
import time
from collections import Counter, defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Dict, Iterator, Tuple
from urllib.parse import parse_qsl, urlsplit

ORDER = 5
MOST_TOKENS = 20_000


class Model:
    """Which character follows which: after the last five, where these were seen, or after fewer."""

    def __init__(self, text: str) -> None:
        self.characters = len(text)
        self._next: Dict[str, Counter[str]] = defaultdict(Counter)
        for place, character in enumerate(text):
            for length in range(min(ORDER, place) + 1):
                self._next[text[place - length : place]][character] += 1

    def tokens(self, prompt: str, temperature: float, source: random.Random) -> Iterator[str]:
        """Without end."""
        context = prompt[-ORDER:]
        while True:
            while context not in self._next:
                context = context[1:]
            choices = self._next[context]
            weights = [count ** (1 / temperature) for count in choices.values()]
            token = source.choices(list(choices), weights)[0]
            yield token
            context = (context + token)[-ORDER:]


class Request:
    """What is to be generated. Raises ValueError for what cannot be."""

    def __init__(self, fields: Dict[str, Any]) -> None:
        self.prompt = str(fields.get("prompt", ""))
        self.count = int(fields.get("tokens", 40))
        self.temperature = float(fields.get("temperature", 0.8))
        self.seed = fields.get("seed")
        self.stream = str(fields.get("stream", "false")).lower() in ("1", "true", "yes")
        if not 1 <= self.count <= MOST_TOKENS:
            raise ValueError(f"tokens: {self.count} is not from 1 to {MOST_TOKENS}")
        if not 0.1 <= self.temperature <= 10:
            raise ValueError(f"temperature: {self.temperature} is not from 0.1 to 10")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server
    # One write for the head and what follows: two small ones would wait for each other.
    wbufsize = -1

    def do_GET(self) -> None:
        path, query = self._target()
        if path == "/health":
            self._answer(200, {"status": "ready"})
        elif path == "/":
            model, requests = self.server.model, next(self.server.answered)
            about = {"version": self.server.version, "characters": model.characters, "requests": requests}
            self._answer(200, about)
        elif path == "/generate":
            self._generate(query)
        else:
            self._answer(404, {"error": f"there is nothing at {path}"})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path, _ = self._target()
        if path != "/generate":
            self._answer(404, {"error": f"there is nothing at {path}"})
            return
        try:
            fields = json.loads(body or b"{}")
        except ValueError as error:
            self._answer(400, {"error": f"the body is not JSON: {error}"})
            return
        self._generate(fields if isinstance(fields, dict) else {})

    def _generate(self, fields: Dict[str, Any]) -> None:
        try:
            request = Request(fields)
        except (TypeError, ValueError) as error:
            self._answer(400, {"error": str(error)})
            return
        source = random.Random(request.seed)
        tokens = self.server.model.tokens(request.prompt, request.temperature, source)
        chosen = itertools.islice(tokens, request.count)
        if request.stream:
            self._stream(chosen)
        else:
            self._answer(200, {"text": "".join(chosen), "version": self.server.version})

    def _stream(self, tokens: Iterator[str]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for number, token in enumerate(tokens):
            self._event(json.dumps({"n": number, "token": token, "version": self.server.version}))
            time.sleep(self.server.pause)
        self._event("[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def _event(self, text: str) -> None:
        data = f"data: {text}\n\n".encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def _answer(self, status: int, value: Dict[str, Any]) -> None:
        data = json.dumps(value).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _target(self) -> Tuple[str, Dict[str, str]]:
        parts = urlsplit(self.path)
        return parts.path, dict(parse_qsl(parts.query))

    def log_message(self, format: str, *arguments: Any) -> None:
        """The gateway has an access log."""


class Server(ThreadingHTTPServer):
    # Many may come at once.
    request_queue_size = 1024
    daemon_threads = True

    def __init__(self, address: Tuple[str, int], model: Model, pause: float) -> None:
        super().__init__(address, Handler)
        self.model, self.pause = model, pause
        self.version = os.environ.get("VERSION", "1")
        self.answered = itertools.count(1)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever hangs up in the middle is no mistake of ours."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--text", default="alice.txt", help="what it learns from")
    parser.add_argument("--tokens-per-second", type=float, default=25, help="of a stream")
    options = parser.parse_args()
    with open(options.text, encoding="utf-8") as file:
        model = Model(file.read())
    server = Server((options.host, options.port), model, 1 / options.tokens_per_second)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print(f"version {server.version} serves on {options.host}:{options.port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
