from __future__ import annotations

import io
import json
import logging
import os
import typing as t
from pathlib import Path

import pytest
from logs import alloy_pipeline, alloy_syntax
from vedfolnir_adapter import access_log, redaction
from vedfolnir_adapter import logs as adapter_logs
from vedfolnir_adapter.redaction import Redactor

SECRET = "s3cr/t+va\"lue'x"
FERNET_TOKEN = "gAAAA" + "Ab1_-" * 20 + "=="

CASES = {
    "plain value": f"the key is {SECRET}!",
    "value in a URL": "x=s3cr%2Ft%2Bva%22lue%27x&y=1",
    "value in JSON": json.dumps({"k": SECRET}),
    "value in a repr": repr({"k": SECRET}),
    "token in a dict": "{'id': 1, 'access_token': 'tok-LEAK-1', 'name': 'x'}",
    "token with quotes": "{'access_token': \"tok'LEAK\"}",
    "token in JSON": '{"client_secret": "LEAK-abc", "a": 1}',
    "token in JSON in JSON": json.dumps({"m": json.dumps({"client_key": "LEAK-abc"})}),
    "token in a form": "grant=x&access_token=LEAK-abc&b=1",
    "short values": "password=LEAK&x=1, client_key: LEA",
    "token as a keyword": "Connection(access_token='LEAK', id=3)",
    "bytes": "{'password': b'LEAK'}",
    "bearer": "Authorization: Bearer LEAK-0123456789.abc",
    "fernet": f"row 7: {FERNET_TOKEN}",
    "mysql": "mysql+pymysql://app:LEAK%2F@db:3306/x refused",
    "redis without user": "redis://:LEAK@cache:6379/0",
    "reset link": "GET /user-management/reset-password/LEAK-1 HTTP/1.1",
}


@pytest.mark.parametrize("text", CASES.values(), ids=CASES)
def test_secrets_are_replaced(text: str) -> None:
    cleaned = Redactor([SECRET])(text)
    assert "[redacted]" in cleaned
    for part in ("LEAK", "s3cr", "Ab1_-Ab1_-"):
        assert part not in cleaned


@pytest.mark.parametrize(
    "text",
    [
        "GET /caption/start 200",
        "https://example.org:8443/path?x=1",
        "user admin changed the password",
        "access_token: None",
        "mysql://db:3306/x",
        "{'access_token': None, 'name': 'x'}",
    ],
)
def test_harmless_text_stays(text: str) -> None:
    assert Redactor([SECRET])(text) == text


def test_cleaning_twice_changes_nothing() -> None:
    redact = Redactor([SECRET])
    for text in CASES.values():
        assert redact(redact(text)) == redact(text)


@pytest.fixture
def pipe() -> tuple[adapter_logs.LogWriter, t.Callable[[], list[dict[str, t.Any]]]]:
    read, write = os.pipe()

    def lines() -> list[dict[str, t.Any]]:
        os.close(write)
        with os.fdopen(read) as stream:
            return [json.loads(line) for line in stream]

    return adapter_logs.LogWriter("app", "r1", write), lines


def test_lines_of_prints_are_joined_and_split(pipe: t.Any) -> None:
    writer, lines = pipe
    stream = adapter_logs.LineStream(writer, "INFO", "stdout")
    print("one", 2, file=stream)
    stream.write("three\nfo")
    stream.write("ur\n\n")
    stream.write("unfinished")
    stream.finish()
    assert [entry["message"] for entry in lines()] == ["one 2", "three", "four", "unfinished"]


def test_a_record_is_written_once_redacted_with_its_traceback(
    pipe: t.Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, lines = pipe
    monkeypatch.setattr(logging.StreamHandler, "emit", logging.StreamHandler.emit)
    factory = logging.getLogRecordFactory()
    adapter_logs._install_factory()
    adapter_logs._install_emit(writer, ())
    stream = adapter_logs.LineStream(writer, "INFO", "stdout")
    log = logging.Logger("deep")
    file = logging.FileHandler(tmp_path / "app.log")
    other = io.StringIO()
    for handler in (
        logging.StreamHandler(stream),
        logging.StreamHandler(stream),
        logging.StreamHandler(other),
        file,
    ):
        log.addHandler(handler)
    try:
        try:
            raise ValueError("access_token=LEAK-abc")
        except ValueError:
            log.exception("with %s and %d", {"client_secret": "LEAK"}, 7)
        log.error("broken %d", "text")
    finally:
        logging.setLogRecordFactory(factory)
    first, second = lines()
    assert first["message"].startswith("with {'client_secret': '[redacted]'} and 7\nTraceback")
    assert second["message"] == "broken %d (arguments do not fit: TypeError)"
    written = (tmp_path / "app.log").read_text() + other.getvalue()
    assert "LEAK" not in written + json.dumps(first)
    assert written.count("Traceback") == 2


def test_access_fields_leave_the_query_out() -> None:
    import datetime as dt

    environ = {
        "REQUEST_METHOD": "GET",
        "RAW_URI": "/a?access_token=LEAK",
        "REMOTE_ADDR": "10.0.0.1",
        "HTTP_USER_AGENT": "x",
        "HTTP_X_REQUEST_ID": "bad id\n",
    }
    fields = access_log.access_fields("200 OK", 12, environ, dt.timedelta(milliseconds=5))
    assert (fields["path"], fields["status"], fields["duration_ms"]) == ("/a", 200, 5.0)
    assert "request_id" not in fields


# In parts, so that nobody takes these for real ones.
KEY, VAULT = "PRIVATE KEY", "hvs"
FURTHER = [
    'Connection(access_token=\'LEAK\', id=3) and {"client_secret": "LEAK"}',
    json.dumps({"m": json.dumps({"client_key": "LEAK-abc"})}),
    "grant=x&access_token=LEAK-abc&b=1 Authorization: Bearer LEAK-0123456789.abc",
    "mysql+pymysql://app:LEAK%2F@db:3306/x refused, redis://:LEAK@cache:6379/0",
    "GET /user-management/reset-password/LEAK-1 HTTP/1.1",
    f"-----BEGIN EC {KEY}-----\\nLEAK\\n-----END EC PRIVATE KEY-----",
    f"token {VAULT}.LEAK01234567890123456789012345",
    "nothing of the kind: password: YES, access_token: None",
]


@pytest.mark.parametrize("text", [*CASES.values(), *FURTHER])
def test_the_pipeline_redacts_as_the_application_does(text: str) -> None:
    path = Path(__file__).parents[2] / "files/app/vedfolnir_adapter/redaction.txt"
    expressions = [one.pattern for one in redaction.patterns(path.read_text(encoding="utf-8"))]
    stages = [
        alloy_syntax.Block(
            "stage.replace", None, 1, {"expression": expression, "replace": redaction.MARK}
        )
        for expression in expressions
    ]
    for stage in stages:
        assert alloy_syntax.KINDS["regex"](stage.arguments["expression"])
    line = alloy_pipeline.Line(1, text, {})
    alloy_pipeline.Stages(stages, alloy_pipeline.Counters())(line)
    assert line.text == redaction.Redactor()(text)
    # But for the values that only the application knows.
    assert "LEAK" not in line.text
    if "LEAK" in text:
        assert "[redacted]" in line.text
