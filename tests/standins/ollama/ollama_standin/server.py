"""The HTTP interface."""

from __future__ import annotations

import datetime as dt
import http.server
import json
import time
import typing as t

from ollama_standin import VERSION, captions, names, settings
from ollama_standin.captions import BadImageError
from ollama_standin.names import BadNameError
from ollama_standin.store import Json, PullError, Store, details


class ApiError(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def _name(body: Json) -> str:
    try:
        return names.normalise(body.get("model") or body.get("name"))
    except BadNameError as exc:
        raise ApiError(400, str(exc)) from exc


def _known_name(store: Store, body: Json) -> str:
    name = _name(body)
    if not store.has(name):
        asked = body.get("model") or body.get("name")
        raise ApiError(404, f"model '{asked}' not found")
    return name


def _root(_store: Store, _body: Json) -> str:
    return "Ollama is running"


def _version(_store: Store, _body: Json) -> Json:
    return {"version": VERSION}


def _tags(store: Store, _body: Json) -> Json:
    return {"models": store.models()}


def _ps(_store: Store, _body: Json) -> Json:
    return {"models": []}


def _show(store: Store, body: Json) -> Json:
    name = _known_name(store, body)
    return {
        "modelfile": f"FROM {name}",
        "template": "{{ .Prompt }}",
        "details": details(name),
        "model_info": {"general.architecture": "llama"},
        "capabilities": ["completion", "vision"],
    }


def _delete(store: Store, body: Json) -> None:
    store.delete(_known_name(store, body))


def _pull(store: Store, body: Json) -> t.Iterator[Json]:
    return store.pull(_name(body))


def _generate(store: Store, body: Json) -> t.Iterator[Json]:
    name = _known_name(store, body)
    try:
        text = captions.caption(body.get("images") or [])
    except BadImageError as exc:
        raise ApiError(400, str(exc)) from exc
    return _words(name, text)


def _words(name: str, text: str) -> t.Iterator[Json]:
    started = time.monotonic_ns()
    words = text.split(" ")
    for index, word in enumerate(words):
        time.sleep(settings.generate_seconds() / len(words))
        yield _piece(name, word if index == 0 else f" {word}", done=False)
    took = time.monotonic_ns() - started
    yield _piece(name, "", done=True) | {
        "done_reason": "stop",
        "context": [],
        "total_duration": took,
        "load_duration": 0,
        "prompt_eval_count": 1,
        "prompt_eval_duration": 0,
        "eval_count": len(words),
        "eval_duration": took,
    }


def _piece(name: str, text: str, *, done: bool) -> Json:
    now = dt.datetime.now(dt.UTC).isoformat()
    return {"model": name, "created_at": now, "response": text, "done": done}


def _last(events: t.Iterable[Json]) -> Json:
    """Return the answer without streaming: the last event, with the text of all of them."""
    text, event = "", {}
    for event in events:
        text += event.get("response", "")
    return event | {"response": text} if "response" in event else event


Answer = str | Json | t.Iterator[Json] | None
_CALLS: dict[tuple[str, str], t.Callable[[Store, Json], Answer]] = {
    ("GET", "/"): _root,
    ("HEAD", "/"): _root,
    ("GET", "/api/version"): _version,
    ("GET", "/api/tags"): _tags,
    ("GET", "/api/ps"): _ps,
    ("POST", "/api/show"): _show,
    ("POST", "/api/pull"): _pull,
    ("POST", "/api/generate"): _generate,
    ("DELETE", "/api/delete"): _delete,
}


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: Server

    def _serve(self) -> None:
        path = self.path.partition("?")[0]
        call = _CALLS.get((self.command, path))
        if call is None:
            known = {known_path for _, known_path in _CALLS}
            text = "405 method not allowed" if path in known else "404 page not found"
            self._send(int(text[:3]), text)
            return
        try:
            body = self._body()
            answer = call(self.server.store, body)
            if not isinstance(answer, t.Iterator):
                self._send(200, answer)
            elif body.get("stream", True):
                self._stream(answer)
            else:
                self._send(200, _last(answer))
        except ApiError as exc:
            self._send(exc.status, {"error": str(exc)})
        except PullError as exc:
            self._send(500, {"error": str(exc)})

    do_GET = do_HEAD = do_POST = do_DELETE = _serve  # noqa: N815 - names set by http.server

    def _body(self) -> Json:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            body = json.loads(raw) if raw else {}
        except ValueError as exc:
            raise ApiError(400, f"invalid character in request: {exc}") from exc
        if not isinstance(body, dict):
            raise ApiError(400, "the request must be a JSON object")
        return body

    def _send(self, status: int, answer: str | Json | None) -> None:
        is_text = isinstance(answer, str)
        data = str(answer).encode() if is_text else json.dumps(answer).encode()
        if answer is None:
            data = b""
        self.send_response(status)
        kind = "text/plain" if is_text else "application/json"
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _stream(self, events: t.Iterator[Json]) -> None:
        """Send a line an event; a failure on the way is a last line, as with Ollama."""
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for event in events:
                self._chunk(event)
        except PullError as exc:
            self._chunk({"error": str(exc)})
        except (BrokenPipeError, ConnectionResetError):
            # The client went away: what was fetched stays for the next pull.
            self.close_connection = True
            return
        finally:
            t.cast("t.Generator[Json]", events).close()
        self.wfile.write(b"0\r\n\r\n")

    def _chunk(self, event: Json) -> None:
        data = json.dumps(event).encode() + b"\n"
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def log_message(self, format: str, *args: t.Any) -> None:  # noqa: A002 - inherited name
        """Print a line a request."""
        print(f"[GIN] {self.address_string()} {format % args}", flush=True)


class Server(http.server.ThreadingHTTPServer):
    """The server with its models."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], store: Store) -> None:
        super().__init__(address, Handler)
        self.store = store
