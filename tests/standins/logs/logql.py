"""LogQL: a parser of the language, and the evaluation of what the tests ask."""

from __future__ import annotations

import dataclasses
import json
import re
import typing as t

from logs.durations import seconds

Labels = dict[str, str]


class Entry(t.NamedTuple):
    """One line with the labels of its stream and its structured metadata."""

    nanoseconds: int
    line: str
    labels: Labels


class LogQLError(ValueError):
    """A query that is none; the message says where."""


_TOKEN: t.Final = re.compile(
    r"\s*(?:(?P<string>\"(?:\\.|[^\"\\])*\"|`[^`]*`)|(?P<duration>[0-9]+(?:ms|[smhdwy])[0-9a-z]*)"
    r"|(?P<number>[0-9]+(?:\.[0-9]+)?)|(?P<name>[A-Za-z_][A-Za-z0-9_:]*)"
    r"|(?P<symbol>\|=|\|~|!=|!~|=~|==|>=|<=|\|>|!>|[|{}()\[\],=<>+*/%^-]))"
)
_RANGES: t.Final = frozenset(
    {
        "count_over_time", "rate", "bytes_over_time", "bytes_rate", "absent_over_time",
        "sum_over_time", "avg_over_time", "max_over_time", "min_over_time", "stddev_over_time",
        "stdvar_over_time", "quantile_over_time", "first_over_time", "last_over_time",
        "rate_counter",
    }
)  # fmt: skip
_VECTORS: t.Final = frozenset(
    {
        "sum", "avg", "max", "min", "count", "stddev", "stdvar", "topk", "bottomk", "sort",
        "sort_desc",
    }
)  # fmt: skip
_BINARY: t.Final = frozenset(
    ("+", "-", "*", "/", "%", "^", "==", "!=", ">", ">=", "<", "<=", "and", "or", "unless")
)
_STAGES: t.Final = frozenset(
    {
        "json", "logfmt", "regexp", "pattern", "unpack", "line_format", "label_format",
        "decolorize", "drop", "keep", "unwrap",
    }
)  # fmt: skip
_COMPARE: t.Final = frozenset(("=", "==", "!=", "=~", "!~", ">", ">=", "<", "<="))
_FILTERS: t.Final = frozenset(("|=", "!=", "|~", "!~", "|>", "!>"))

Test = t.Callable[[Entry], "Entry | None"]


@dataclasses.dataclass
class Query:
    """What a query is: a selector with its pipeline, and the metric functions around it."""

    matchers: list[tuple[str, str, str]] = dataclasses.field(default_factory=list)
    pipeline: list[Test] = dataclasses.field(default_factory=list)
    function: str = ""
    window: float = 0.0
    aggregations: list[tuple[str, list[str], float]] = dataclasses.field(default_factory=list)
    comparison: tuple[str, float] | None = None

    def selects(self, labels: t.Mapping[str, str]) -> bool:
        """Return whether a stream is meant."""
        return all(
            _compare(labels.get(name, ""), sign, value) for name, sign, value in self.matchers
        )

    def apply(self, entry: Entry) -> Entry | None:
        """Return the line as the pipeline leaves it, or nothing."""
        current: Entry | None = entry
        for test in self.pipeline:
            if current is None:
                return None
            current = test(current)
        return current


def _compare(have: str, sign: str, want: str) -> bool:
    if sign in ("=~", "!~"):
        return (re.fullmatch(want, have) is not None) == (sign == "=~")
    if sign in ("=", "==", "!="):
        return (have == want) == (sign != "!=")
    try:
        left, right = float(have), float(want)
    except ValueError:
        return False
    return {">": left > right, ">=": left >= right, "<": left < right, "<=": left <= right}[sign]


def _text(token: str) -> str:
    return token[1:-1] if token[0] == "`" else str(json.loads(token))


class _Parser:
    """Recursive descent over the tokens."""

    def __init__(self, text: str) -> None:
        self.tokens: list[tuple[str, str]] = []
        position = 0
        while text[position:].strip():
            match = _TOKEN.match(text, position)
            if match is None or match.lastgroup is None:
                raise LogQLError(f"unexpected character at {position}: {text[position:][:12]!r}")
            self.tokens.append((match.lastgroup, match[match.lastgroup]))
            position = match.end()
        self.tokens.append(("end", "end of query"))
        self.index = 0

    @property
    def token(self) -> str:
        return self.tokens[self.index][1]

    @property
    def kind(self) -> str:
        return self.tokens[self.index][0]

    def take(self, *wanted: str) -> str:
        """Take the token if it is one of these, by text or by kind."""
        if wanted and self.token not in wanted and self.kind not in wanted:
            raise LogQLError(f"expected {' or '.join(wanted)}, found {self.token}")
        self.index += 1
        return self.tokens[self.index - 1][1]

    def optional(self, text: str) -> bool:
        if self.token == text and self.kind != "string":
            self.index += 1
            return True
        return False

    def whole(self) -> Query:
        query = self.expression()
        self.take("end")
        return query

    def expression(self) -> Query:
        query = self.operand()
        while self.kind != "string" and self.token in _BINARY:
            sign = self.take()
            self.optional("bool")
            if self.kind == "number":
                query.comparison = (sign, float(self.take()))
            else:
                self.operand()
        return query

    def operand(self) -> Query:
        if self.kind == "number":
            self.take()
            return Query()
        if self.optional("("):
            query = self.expression()
            self.take(")")
            return query
        if self.token == "{":
            return self.log()
        name = self.take("name")
        if name in _VECTORS:
            return self.vector(name)
        if name in _RANGES:
            return self.range(name)
        raise LogQLError(f"unknown function {name}")

    def grouping(self) -> list[str]:
        if self.token not in ("by", "without"):
            return []
        self.take()
        self.take("(")
        names = []
        while not self.optional(")"):
            names.append(self.take("name"))
            if self.token != ")":
                self.take(",")
        return names

    def vector(self, name: str) -> Query:
        by = self.grouping()
        self.take("(")
        parameter = 0.0
        if name in ("topk", "bottomk"):
            parameter = float(self.take("number"))
            self.take(",")
        query = self.expression()
        self.take(")")
        query.aggregations.append((name, by or self.grouping(), parameter))
        return query

    def range(self, name: str) -> Query:
        self.take("(")
        if name == "quantile_over_time":
            self.take("number")
            self.take(",")
        query = self.log()
        self.take("[")
        query.function, query.window = name, seconds(self.take("duration"))
        self.take("]")
        if self.optional("offset"):
            self.take("duration")
        self.pipeline(query)
        self.take(")")
        self.grouping()
        return query

    def log(self) -> Query:
        query = Query()
        self.take("{")
        while not self.optional("}"):
            name, sign = self.take("name"), self.take("=", "!=", "=~", "!~")
            query.matchers.append((name, sign, _text(self.take("string"))))
            if sign.endswith("~"):
                re.compile(query.matchers[-1][2])
            if self.token != "}":
                self.take(",")
        if not any(_positive(*matcher) for matcher in query.matchers):
            raise LogQLError("queries require at least one matcher that does not match empty")
        self.pipeline(query)
        return query

    def pipeline(self, query: Query) -> None:
        while self.kind == "symbol" and (self.token in _FILTERS or self.token == "|"):
            if self.take() == "|":
                query.pipeline.append(self.stage())
                continue
            sign = self.tokens[self.index - 1][1]
            query.pipeline.append(_line_filter(sign, _text(self.take("string"))))
            while self.optional("or"):
                self.take("string")

    def stage(self) -> Test:
        name = self.take("name")
        if name in _STAGES and self.token not in _COMPARE:
            return self.parser(name)
        if name in ("duration", "bytes") and self.token == "(":
            raise LogQLError(f"{name}() belongs to unwrap")
        tests = [self.label_filter(name)]
        while self.token in ("and", "or", ","):
            self.take()
            tests.append(self.label_filter(self.take("name")))
        return lambda entry: entry if all(test(entry) for test in tests) else None

    def label_filter(self, name: str) -> t.Callable[[Entry], bool]:
        sign = self.take(*_COMPARE)
        text = self.kind == "string"
        want = _text(self.take()) if text else self.take("number", "duration")
        return lambda entry: _compare(entry.labels.get(name, ""), sign, want)

    def parser(self, name: str) -> Test:
        if name in ("regexp", "pattern", "line_format"):
            self.take("string")
        elif name == "unwrap":
            if self.take("name") in ("duration", "duration_seconds", "bytes") and self.optional(
                "("
            ):
                self.take("name")
                self.take(")")
        else:
            while self.kind == "name":
                self.take()
                if self.optional("="):
                    self.take("string", "name")
                if not self.optional(","):
                    break
        return {"json": _json, "logfmt": _logfmt}.get(name, _unchanged)


def _positive(_name: str, sign: str, value: str) -> bool:
    return not _compare("", sign, value)


def _line_filter(sign: str, text: str) -> Test:
    if sign in ("|~", "!~"):
        expression = re.compile(text)
        return lambda entry: (
            entry if bool(expression.search(entry.line)) == (sign == "|~") else None
        )
    return lambda entry: entry if (text in entry.line) == (sign == "|=") else None


def _json(entry: Entry) -> Entry:
    try:
        found = json.loads(entry.line)
    except ValueError:
        return entry._replace(labels=entry.labels | {"__error__": "JSONParserErr"})
    extracted = {k: str(v) for k, v in found.items()} if isinstance(found, dict) else {}
    # What a line says of itself does not replace a label of its stream.
    return entry._replace(labels=extracted | entry.labels)


def _logfmt(entry: Entry) -> Entry:
    pairs = re.findall(r"(\w+)=(?:\"((?:\\.|[^\"\\])*)\"|(\S*))", entry.line)
    return entry._replace(labels={k: a or b for k, a, b in pairs} | entry.labels)


def _unchanged(entry: Entry) -> Entry:
    return entry


def parse(text: str) -> Query:
    """Return the parsed query.

    Raises:
        LogQLError: it is not LogQL.
    """
    try:
        return _Parser(text).whole()
    except (re.error, ValueError) as exc:
        raise LogQLError(str(exc)) from exc


def vector(query: Query, entries: t.Iterable[Entry]) -> list[tuple[Labels, float]]:
    """Return the value of a metric query over the entries of its window."""
    counts: dict[tuple[tuple[str, str], ...], float] = {}
    for entry in entries:
        found = query.apply(entry)
        if found is not None:
            key = tuple(sorted(found.labels.items()))
            size = len(found.line) if query.function.startswith("bytes") else 1
            counts[key] = counts.get(key, 0.0) + size
    if query.function in ("rate", "bytes_rate"):
        counts = {key: value / query.window for key, value in counts.items()}
    for name, by, parameter in query.aggregations:
        if name in ("topk", "bottomk"):
            ordered = sorted(counts.items(), key=lambda item: item[1], reverse=name == "topk")
            counts = dict(ordered[: int(parameter)])
            continue
        groups: dict[tuple[tuple[str, str], ...], list[float]] = {}
        for key, value in counts.items():
            group = tuple((k, v) for k, v in key if k in by)
            groups.setdefault(group, []).append(value)
        how: dict[str, t.Callable[[list[float]], float]] = {
            "sum": sum, "max": max, "min": min, "count": len,
            "avg": lambda values: sum(values) / len(values),
        }  # fmt: skip
        counts = {key: how.get(name, sum)(values) for key, values in groups.items()}
    return [
        (dict(key), value)
        for key, value in counts.items()
        if query.comparison is None
        or _compare(str(value), query.comparison[0], str(query.comparison[1]))
    ]
