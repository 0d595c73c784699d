"""The syntax of Alloy's configuration, and what its components accept."""

from __future__ import annotations

import dataclasses
import json
import re
import typing as t

from logs.durations import seconds


class ConfigError(ValueError):
    """A configuration that Alloy would refuse; the message says where."""


@dataclasses.dataclass(frozen=True)
class Reference:
    """A name such as ``loki.write.store.receiver``."""

    name: str


@dataclasses.dataclass
class Block:
    """A block with its label, its arguments and the blocks inside, in order."""

    name: str
    label: str | None
    line: int
    arguments: dict[str, t.Any] = dataclasses.field(default_factory=dict)
    blocks: list[Block] = dataclasses.field(default_factory=list)

    @property
    def path(self) -> str:
        return f"{self.name}.{self.label}" if self.label else self.name


_TOKEN: t.Final = re.compile(
    r"(?P<space>[ \t\r]+|//[^\n]*|/\*(?s:.*?)\*/)|(?P<newline>\n)"
    r"|(?P<string>\"(?:\\.|[^\"\\\n])*\")|(?P<number>-?[0-9]+(?:\.[0-9]+)?)"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*)|(?P<symbol>[{}\[\](),=])"
)


class _Parser:
    """Recursive descent; an argument ends with its line, as in Alloy."""

    def __init__(self, text: str) -> None:
        self.tokens: list[tuple[str, str, int]] = []
        position, line = 0, 1
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None or match.lastgroup is None:
                raise ConfigError(f"line {line}: illegal character {text[position]!r}")
            if match.lastgroup != "space":
                self.tokens.append((match.lastgroup, match[0], line))
            line += match[0].count("\n")
            position = match.end()
        self.tokens += [("newline", "\n", line), ("end", "end of file", line)]
        self.index = 0

    def peek(self) -> tuple[str, str, int]:
        return self.tokens[self.index]

    def skip(self) -> None:
        while self.peek()[0] == "newline":
            self.index += 1

    def take(self, *wanted: str) -> str:
        kind, text, line = self.peek()
        if wanted and kind not in wanted and text not in wanted:
            raise ConfigError(f"line {line}: expected {' or '.join(wanted)}, got {text!r}")
        self.index += 1
        return text

    def body(self, block: Block, end: str) -> Block:
        while True:
            self.skip()
            if self.peek()[1] == end and self.peek()[0] != "string":
                self.index += 1
                return block
            line = self.peek()[2]
            name = self.take("name")
            if self.peek()[1] == "=":
                self.take("=")
                if name in block.arguments or "." in name:
                    raise ConfigError(f"line {line}: attribute {name} is wrong or has been given")
                block.arguments[name] = self.value()
                self.take("newline")
                continue
            label = json.loads(self.take("string")) if self.peek()[0] == "string" else None
            self.take("{")
            block.blocks.append(self.body(Block(name, label, line), "}"))
            self.take("newline")

    def value(self) -> t.Any:
        kind, text, line = self.peek()
        if kind == "string":
            try:
                return json.loads(self.take())
            except ValueError:
                raise ConfigError(f"line {line}: invalid string {text}") from None
        if kind == "number":
            return float(self.take()) if "." in text else int(self.take())
        if kind == "name":
            self.index += 1
            constants = {"true": True, "false": False, "null": None}
            return constants[text] if text in constants else Reference(text)
        if text == "[":
            return self.list()
        if text == "{":
            return self.object()
        raise ConfigError(f"line {line}: expected a value, got {text!r}")

    def list(self) -> list[t.Any]:
        self.take("[")
        found: list[t.Any] = []
        while True:
            self.skip()
            if self.peek()[1] == "]":
                break
            found.append(self.value())
            if self.peek()[1] != "]":
                self.take(",")
        self.take("]")
        return found

    def object(self) -> dict[str, t.Any]:
        self.take("{")
        found: dict[str, t.Any] = {}
        while True:
            self.skip()
            if self.peek()[1] == "}":
                break
            kind = self.peek()[0]
            name = self.take("name", "string")
            self.take("=")
            found[json.loads(name) if kind == "string" else name] = self.value()
            if self.peek()[1] != "}":
                self.take(",")
        self.take("}")
        return found


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _map(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(item, str) for item in value.values())


def _duration(value: object) -> bool:
    return isinstance(value, str) and seconds(value) >= 0


def _regex(value: object) -> bool:
    if not isinstance(value, str):
        return False
    # What Python has and RE2 has not.
    foreign = re.search(r"\(\?(?:[=!]|<[=!]|P=|>|\()|(?<!\\)(?:\\\\)*\\[1-9]|[*+?}]\+", value)
    if foreign:
        raise ConfigError(f"error parsing regexp: invalid or unsupported syntax: {foreign[0]!r}")
    re.compile(value)
    return True


def _receivers(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(item, Reference) and item.name.endswith(".receiver") for item in value
    )


def _ends(value: object, end: str) -> bool:
    return isinstance(value, Reference) and value.name.endswith(end)


KINDS: t.Final[dict[str, t.Callable[[object], bool]]] = {
    "text": lambda value: isinstance(value, str),
    "int": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "bool": lambda value: isinstance(value, bool),
    "texts": _texts,
    "map": _map,
    "duration": _duration,
    "regex": _regex,
    "receivers": _receivers,
    "rules": lambda v: isinstance(v, Reference) and v.name.endswith(".rules"),
    "consumers": lambda v: isinstance(v, list) and all(_ends(item, ".input") for item in v),
    "handler": lambda v: _ends(v, ".handler"),
    "secret": lambda v: isinstance(v, str) or _ends(v, ".content"),
    "targets": lambda v: isinstance(v, list) and all(_map(item) for item in v),
}
_COUNTER: t.Final = {
    "name!": "text", "description": "text", "source": "text", "value": "text", "prefix": "text",
    "action!": "text", "max_idle_duration": "duration", "match_all": "bool",
    "count_entry_bytes": "bool",
}  # fmt: skip
_RULE: t.Final = {
    "source_labels": "texts", "separator": "text", "regex": "regex", "target_label": "text",
    "replacement": "text", "action": "text", "modulus": "int",
}  # fmt: skip
_STAGES: t.Final[dict[str, t.Any]] = {
    "stage.replace": {"expression!": "regex", "replace": "text", "source": "text"},
    "stage.regex": {"expression!": "regex", "source": "text", "labels_from_groups": "bool"},
    "stage.json": {"expressions!": "map", "source": "text", "drop_malformed": "bool"},
    "stage.labels": {"values!": "map"},
    "stage.structured_metadata": {"values": "map"},
    "stage.static_labels": {"values!": "map"},
    "stage.label_drop": {"values!": "texts"},
    "stage.label_keep": {"values!": "texts"},
    "stage.drop": {
        "expression": "regex", "source": "text", "value": "text", "older_than": "duration",
        "longer_than": "text", "separator": "text", "drop_counter_reason": "text",
    },
    "stage.output": {"source!": "text"},
    "stage.metrics": {"metric.counter {}": _COUNTER},
    "stage.multiline": {
        "firstline!": "regex", "max_lines": "int", "max_wait_time": "duration",
        "trim_newlines": "bool",
    },
}  # fmt: skip
_STAGES["stage.match"] = {
    "selector!": "text", "action": "text", "pipeline_name": "text", "drop_counter_reason": "text",
    **{f"{name} {{}}": inside for name, inside in _STAGES.items()},
}  # fmt: skip
_OUTPUT: t.Final = {"traces": "consumers", "logs": "consumers", "metrics": "consumers"}
#: Components and blocks by name. ``!`` marks what must be there, ``{}`` a block.
COMPONENTS: t.Final[dict[str, t.Any]] = {
    "logging": {"level": "text", "format": "text"},
    "loki.relabel": {"forward_to!": "receivers", "max_cache_size": "int", "rule {}": _RULE},
    "loki.source.journal": {
        "forward_to!": "receivers", "format_as_json": "bool", "labels": "map", "matches": "text",
        "max_age": "duration", "path": "text", "relabel_rules": "rules",
    },
    "loki.source.file": {
        "forward_to!": "receivers", "targets!": "targets", "tail_from_end": "bool",
        "encoding": "text",
    },
    "loki.process": {
        "forward_to!": "receivers",
        **{f"{name} {{}}": inside for name, inside in _STAGES.items()},
    },
    "local.file": {
        "filename!": "text", "detector": "text", "is_secret": "bool", "poll_frequency": "duration",
    },
    "otelcol.receiver.otlp": {
        "http {}": {
            "endpoint": "text", "max_request_body_size": "text", "include_metadata": "bool",
            "traces_url_path": "text", "compression_algorithms": "texts",
        },
        "output {}!": _OUTPUT,
    },
    "otelcol.processor.attributes": {
        "action {}": {
            "key!": "text", "action!": "text", "pattern": "regex", "value": "text",
            "from_attribute": "text", "from_context": "text", "converted_type": "text",
        },
        "output {}!": _OUTPUT,
    },
    "otelcol.processor.batch": {
        "timeout": "duration", "send_batch_size": "int", "send_batch_max_size": "int",
        "metadata_keys": "texts", "metadata_cardinality_limit": "int",
        "output {}!": _OUTPUT,
    },
    "otelcol.auth.headers": {
        "header {}!": {
            "key!": "text", "value": "secret", "from_context": "text", "from_attribute": "text",
            "action": "text",
        },
    },
    "otelcol.exporter.otlphttp": {
        "metrics_endpoint": "text", "logs_endpoint": "text", "traces_endpoint": "text",
        "encoding": "text",
        "client {}!": {
            "endpoint!": "text", "proxy_url": "text", "timeout": "duration", "headers": "map",
            "compression": "text", "auth": "handler", "disable_keep_alives": "bool",
            "tls {}": {"ca_file": "text", "insecure": "bool", "insecure_skip_verify": "bool"},
        },
        "sending_queue {}": {
            "enabled": "bool", "num_consumers": "int", "queue_size": "int", "blocking": "bool",
            "block_on_overflow": "bool", "sizer": "text",
        },
        "retry_on_failure {}": {
            "enabled": "bool", "initial_interval": "duration", "max_interval": "duration",
            "max_elapsed_time": "duration",
        },
    },
    "loki.write": {
        "external_labels": "map", "max_streams": "int",
        "endpoint {}": {
            "url!": "text", "name": "text", "batch_size": "text", "batch_wait": "duration",
            "max_backoff_period": "duration", "max_backoff_retries": "int",
            "min_backoff_period": "duration", "remote_timeout": "duration", "tenant_id": "text",
            "headers": "map", "bearer_token_file": "text",
            "basic_auth {}": {"username": "text", "password": "text", "password_file": "text"},
            "tls_config {}": {"ca_file": "text", "insecure_skip_verify": "bool"},
        },
    },
}  # fmt: skip
_EXPORTS: t.Final = {
    "loki.relabel": ("receiver", "rules"), "loki.process": ("receiver",),
    "loki.write": ("receiver",), "local.file": ("content",),
    "otelcol.processor.attributes": ("input",), "otelcol.processor.batch": ("input",),
    "otelcol.exporter.otlphttp": ("input",), "otelcol.auth.headers": ("handler",),
}  # fmt: skip


def _check(block: Block, known: t.Mapping[str, t.Any]) -> None:
    where = f"line {block.line}: {block.path}"
    kinds = {name.rstrip("!"): kind for name, kind in known.items() if "{}" not in name}
    blocks = {name.split()[0]: inner for name, inner in known.items() if "{}" in name}
    for name, value in block.arguments.items():
        if name not in kinds:
            raise ConfigError(f'{where}: unrecognized attribute name "{name}"')
        try:
            right = KINDS[kinds[name]](value)
        except (ValueError, re.error) as exc:
            raise ConfigError(f"{where}: {name}: {exc}") from exc
        if not right:
            raise ConfigError(f"{where}: {name} should be {kinds[name]}")
    there = {*block.arguments, *(f"{inner.name} {{}}" for inner in block.blocks)}
    for name in (name[:-1] for name in known if name.endswith("!") and name[:-1] not in there):
        what = "block" if "{}" in name else "attribute"
        raise ConfigError(f'{where}: missing required {what} "{name.split()[0]}"')
    for inner in block.blocks:
        if inner.name not in blocks:
            raise ConfigError(f'line {inner.line}: unrecognized block name "{inner.name}"')
        _check(inner, blocks[inner.name])


def references(value: t.Any) -> t.Iterator[str]:
    """Yield the names that a value refers to."""
    if isinstance(value, Reference):
        yield value.name
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def _referred(block: Block) -> t.Iterator[str]:
    """Yield the names that a block and those inside it refer to."""
    for value in block.arguments.values():
        yield from references(value)
    for inner in block.blocks:
        yield from _referred(inner)


def load(text: str) -> list[Block]:
    """Return the components.

    Raises:
        ConfigError: Alloy would refuse it.
    """
    root = _Parser(text).body(Block("config", None, 1), "end of file")
    if root.arguments:
        raise ConfigError(f"unrecognized attribute name {next(iter(root.arguments))!r}")
    exported, seen = set(), set()
    for block in root.blocks:
        if block.name not in COMPONENTS:
            raise ConfigError(f'line {block.line}: cannot find the definition of "{block.name}"')
        if (block.label is None) != (block.name == "logging") or block.path in seen:
            raise ConfigError(
                f"line {block.line}: {block.path}: its label is missing or not unique"
            )
        seen.add(block.path)
        _check(block, COMPONENTS[block.name])
        exported |= {f"{block.path}.{name}" for name in _EXPORTS.get(block.name, ())}
    for block in root.blocks:
        for name in _referred(block):
            if name not in exported:
                raise ConfigError(f'{block.path}: component "{name}" does not exist')
    return root.blocks
