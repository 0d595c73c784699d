"""What Alloy does with a line between its source and Loki."""

from __future__ import annotations

import dataclasses
import json
import re
import threading
import time
import typing as t

from logs import logql
from logs.alloy_syntax import Block, Reference
from logs.durations import seconds


@dataclasses.dataclass
class Line:
    """A line on its way."""

    nanoseconds: int
    text: str
    labels: dict[str, str]
    metadata: dict[str, str] = dataclasses.field(default_factory=dict)
    extracted: dict[str, str] = dataclasses.field(default_factory=dict)


Sink = t.Callable[[Line], None]


class Counters:
    """The counters of the program and of ``stage.metrics``."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        self._lock = threading.Lock()

    def add(self, name: str, labels: t.Mapping[str, str], amount: float = 1.0) -> None:
        """Add to a series."""
        key = name, tuple(sorted(labels.items()))
        with self._lock:
            self._values[key] = self._values.get(key, 0.0) + amount

    def text(self) -> str:
        """Return the exposition."""
        with self._lock:
            items = sorted(self._values.items())
        lines = []
        for (name, labels), value in items:
            pairs = ",".join(f"{key}={json.dumps(text)}" for key, text in labels)
            lines.append(f"{name}{{{pairs}}} {value}\n")
        return "".join(lines)


def relabel(labels: t.Mapping[str, str], rules: t.Iterable[Block]) -> dict[str, str] | None:
    """Return the labels after Prometheus' relabelling, or nothing if the line is dropped."""
    result = dict(labels)
    for rule in rules:
        get: t.Callable[..., t.Any] = rule.arguments.get
        joined = str(get("separator", ";")).join(
            result.get(n, "") for n in get("source_labels", [])
        )
        match = re.fullmatch(get("regex", "(.*)"), joined, re.DOTALL)
        action = get("action", "replace")
        if action in ("drop", "keep"):
            if (match is None) == (action == "keep"):
                return None
        elif action == "labeldrop":
            result = {k: v for k, v in result.items() if not re.fullmatch(get("regex"), k)}
        elif match is not None:
            template = re.sub(r"\$\{?(\d+)\}?", r"\\g<\1>", get("replacement", "$1"))
            value = match.expand(template)
            result.pop(get("target_label"), None)
            if value:
                result[get("target_label")] = value
    return result


def _replace(line: Line, arguments: t.Mapping[str, t.Any]) -> None:
    """Put the text in place of every group that matched, as Alloy does (not of the match)."""
    source = arguments.get("source")
    text = line.extracted.get(source, "") if source else line.text
    result, end = "", 0
    for match in re.compile(arguments["expression"], re.ASCII).finditer(text):
        for group in range(1, match.re.groups + 1):
            start, stop = match.span(group)
            if start >= end and start != -1:
                result += text[end:start] + arguments.get("replace", "")
                end = stop
    text = result + text[end:]
    if source:
        line.extracted[source] = text
    else:
        line.text = text


def _source(line: Line, arguments: t.Mapping[str, t.Any]) -> str | None:
    source = arguments.get("source")
    return line.extracted.get(source) if source else line.text


def _regex(line: Line, arguments: t.Mapping[str, t.Any]) -> None:
    text = _source(line, arguments)
    match = re.search(arguments["expression"], text, re.ASCII) if text is not None else None
    if match is not None:
        line.extracted |= match.groupdict("")


def _json(line: Line, arguments: t.Mapping[str, t.Any]) -> None:
    try:
        found = json.loads(_source(line, arguments) or "")
    except ValueError:
        return
    if not isinstance(found, dict):
        return
    for name, key in arguments["expressions"].items():
        value = found.get(key or name)
        if value is not None:
            line.extracted[name] = value if isinstance(value, str) else json.dumps(value)


def _values(line: Line, arguments: t.Mapping[str, t.Any]) -> dict[str, str]:
    wanted = {name: source or name for name, source in arguments.get("values", {}).items()}
    return {name: line.extracted[key] for name, key in wanted.items() if line.extracted.get(key)}


def _labels(line: Line, arguments: t.Mapping[str, t.Any]) -> None:
    line.labels |= _values(line, arguments)


def _static_labels(line: Line, arguments: t.Mapping[str, t.Any]) -> None:
    line.labels |= arguments["values"]


def _structured_metadata(line: Line, arguments: t.Mapping[str, t.Any]) -> None:
    line.metadata |= _values(line, arguments)


def _label_drop(line: Line, arguments: t.Mapping[str, t.Any]) -> None:
    line.labels = {k: v for k, v in line.labels.items() if k not in arguments["values"]}


def _label_keep(line: Line, arguments: t.Mapping[str, t.Any]) -> None:
    line.labels = {k: v for k, v in line.labels.items() if k in arguments["values"]}


def _output(line: Line, arguments: t.Mapping[str, t.Any]) -> None:
    line.text = line.extracted.get(arguments["source"], line.text)


_CHANGES: t.Final[dict[str, t.Callable[[Line, t.Mapping[str, t.Any]], None]]] = {
    "replace": _replace,
    "regex": _regex,
    "json": _json,
    "labels": _labels,
    "static_labels": _static_labels,
    "structured_metadata": _structured_metadata,
    "label_drop": _label_drop,
    "label_keep": _label_keep,
    "output": _output,
}


class Multiline:
    """The lines of one entry, kept until the next one begins or none comes for a while."""

    def __init__(self, arguments: t.Mapping[str, t.Any]) -> None:
        get = arguments.get
        self.first = re.compile(arguments["firstline"], re.ASCII)
        self.wait, self.most = seconds(get("max_wait_time", "3s")), int(get("max_lines", 128))
        self.begun: list[Line] = []
        self.when = 0.0

    def take(self, line: Line) -> list[Line]:
        """Take a line; return the entry that is whole now, if one is."""
        first = self.first.search(line.text) is not None
        whole = self.end() if first or len(self.begun) >= self.most else []
        if not first and not self.begun and not whole:
            return [line]
        self.begun.append(line)
        self.when = time.monotonic()
        return whole

    def end(self) -> list[Line]:
        """Return the entry that was begun."""
        lines, self.begun = self.begun, []
        if not lines:
            return []
        text = "\n".join(line.text for line in lines)
        return [dataclasses.replace(lines[0], text=text)]

    def late(self) -> list[Line]:
        """Return the entry that was begun if nothing has come for too long."""
        return self.end() if time.monotonic() - self.when >= self.wait else []


class Stages:
    """The stages of a ``loki.process`` block or of a ``stage.match``, in order."""

    def __init__(self, blocks: t.Sequence[Block], counters: Counters) -> None:
        self.blocks = blocks
        self.counters = counters
        self.inner = {
            id(block): Stages(block.blocks, counters)
            for block in blocks
            if block.name == "stage.match"
        }

    def __call__(self, line: Line) -> bool:
        """Process a line in place; false if it is dropped."""
        return all(self._stage(block, line) for block in self.blocks)

    def _stage(self, block: Block, line: Line) -> bool:
        name = block.name.removeprefix("stage.")
        if name in _CHANGES:
            _CHANGES[name](line, block.arguments)
        elif name == "drop":
            return not self._dropped(line, block.arguments)
        elif name == "match":
            return self._match(block, line)
        elif name == "metrics":
            self._count(block, line)
        return True

    def _dropped(self, line: Line, arguments: t.Mapping[str, t.Any]) -> bool:
        text = _source(line, arguments)
        if text is None:
            return False
        if "value" in arguments:
            return bool(text == arguments["value"])
        return "expression" in arguments and bool(re.search(arguments["expression"], text))

    def _match(self, block: Block, line: Line) -> bool:
        query = logql.parse(block.arguments["selector"])
        entry = logql.Entry(line.nanoseconds, line.text, line.labels)
        if not query.selects(line.labels) or query.apply(entry) is None:
            return True
        if block.arguments.get("action") == "drop":
            return False
        return self.inner[id(block)](line)

    def _count(self, block: Block, line: Line) -> None:
        for metric in block.blocks:
            get: t.Callable[..., t.Any] = metric.arguments.get
            value = line.extracted.get(get("source") or get("name"))
            if value is None or ("value" in metric.arguments and value != get("value")):
                continue
            name = get("prefix", "loki_process_custom_") + get("name")
            self.counters.add(name, line.labels, 1.0 if get("action") == "inc" else float(value))


def _step(block: Block, counters: Counters) -> t.Callable[[Line], bool]:
    """Return what a component does to a line; false drops it."""
    if block.name == "loki.process":
        return Stages([one for one in block.blocks if one.name != MULTILINE], counters)

    def rename(line: Line) -> bool:
        labels = relabel(line.labels, block.blocks)
        line.labels = labels or {}
        return labels is not None

    return rename


MULTILINE: t.Final = "stage.multiline"
Late = t.Callable[[], None]


def _joining(block: Block, take: Sink) -> tuple[Sink, Late]:
    """Return what joins lines in front of a component, and what hands on those that have waited.

    Raises:
        ValueError: the stage is not the first: the stand-in knows no other way.
    """
    if block.blocks[0].name != MULTILINE:
        raise ValueError(f"{block.path}: the stand-in joins lines in the first stage only")
    joined = Multiline(block.blocks[0].arguments)

    def join(line: Line) -> None:
        for whole in joined.take(line):
            take(whole)

    def hand_on() -> None:
        for whole in joined.late():
            take(whole)

    return join, hand_on


def sinks(
    blocks: t.Sequence[Block], counters: Counters, write: Sink
) -> tuple[dict[str, Sink], list[Late]]:
    """Return where each receiver's lines go, by its name, and what hands on what has waited."""
    found: dict[str, Sink] = {}
    late: list[Late] = []

    def make(step: t.Callable[[Line], bool], targets: t.Sequence[Reference]) -> Sink:
        def take(line: Line) -> None:
            if step(line):
                for target in targets:
                    found[target.name](line)

        return take

    for block in blocks:
        receiver = f"{block.path}.receiver"
        if block.name == "loki.write":
            found[receiver] = write
        elif block.name in ("loki.process", "loki.relabel"):
            found[receiver] = make(_step(block, counters), block.arguments["forward_to"])
            if any(one.name == MULTILINE for one in block.blocks):
                found[receiver], waiting = _joining(block, found[receiver])
                late.append(waiting)
    return found, late
