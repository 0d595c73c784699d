"""Write one page per role from its argument specs: ``python docs/generate.py``.

Run it after a change of an argument spec; a test compares the pages with what it would write.
"""

from __future__ import annotations

import re
import sys
import typing as t
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
_MARKUP = re.compile(r"\b([CVOM])\(([^()]*(?:\([^()]*\)[^()]*)*)\)")
_LONG = 60


class _Plain(yaml.SafeDumper):
    """Write data without anchors."""

    def ignore_aliases(self, _data: t.Any) -> bool:
        """Never write an anchor."""
        return True


def roles() -> list[str]:
    """Return the names of the roles that have argument specs."""
    return sorted(path.parts[-3] for path in ROOT.glob("roles/*/meta/argument_specs.yml"))


def page(role: str) -> str:
    """Return the page of a role."""
    path = ROOT / "roles" / role / "meta" / "argument_specs.yml"
    specs: dict[str, t.Any] = yaml.safe_load(path.read_text(encoding="utf-8"))["argument_specs"]
    main = specs["main"]
    lines = [
        f"# Role {role}",
        "",
        f"<!-- Written by docs/generate.py from {path.relative_to(ROOT)}; do not edit. -->",
        "",
        f"{_sentence(main['short_description'])}",
        *(line for text in _paragraphs(main.get("description")) for line in ("", text)),
        "",
        "## Entry points",
        "",
        "| name | what it does |",
        "| --- | --- |",
        *(
            f"| `{name}` | {_cell(_sentence(spec['short_description']))} |"
            for name, spec in specs.items()
        ),
    ]
    for name, spec in specs.items():
        if name != "main" and spec.get("description"):
            lines += ["", f"`{name}`: " + " ".join(_paragraphs(spec["description"])).strip()]
    lines += ["", "## Options", ""]
    lines += _options(main["options"])
    for name, spec in specs.items():
        own = {key: value for key, value in spec["options"].items() if key not in main["options"]}
        if own:
            lines += ["", f"## Further options of `{name}`", "", *_options(own)]
    return "\n".join(lines) + "\n"


def _options(options: dict[str, dict[str, t.Any]]) -> list[str]:
    lines = ["| option | type | default | meaning |", "| --- | --- | --- | --- |"]
    later: list[tuple[str, t.Any]] = []
    for name, spec in options.items():
        lines += _rows(name, spec, later)
    for name, value in later:
        text = yaml.dump(value, Dumper=_Plain, sort_keys=False, width=90, default_flow_style=False)
        lines += ["", f"Default of `{name}`:", "", "```yaml", text.rstrip(), "```"]
    return lines


def _rows(name: str, spec: dict[str, t.Any], later: list[tuple[str, t.Any]]) -> list[str]:
    """Return the row of an option and of each part of it."""
    kind = spec["type"] + (f" of {spec['elements']}" if "elements" in spec else "")
    text = " ".join(_paragraphs(spec.get("description"))).strip()
    if spec.get("choices"):
        text += " One of " + ", ".join(f"`{choice}`" for choice in spec["choices"]) + "."
    rows = [f"| `{name}` | {kind} | {_default(name, spec, later)} | {_cell(text)} |"]
    for key, sub in (spec.get("options") or {}).items():
        rows += _rows(f"{name}.{key}", sub, later)
    return rows


def _default(name: str, spec: dict[str, t.Any], later: list[tuple[str, t.Any]]) -> str:
    if spec.get("required"):
        return "**required**"
    if "default" not in spec:
        return ""
    value = spec["default"]
    text = yaml.dump(value, Dumper=_Plain, default_flow_style=True, width=9999, sort_keys=False)
    text = text.removesuffix("\n").removesuffix("\n...")
    if len(text) > _LONG and not isinstance(value, str):
        later.append((name, value))
        return "below"
    return f"`{_cell(text)}`"


def _paragraphs(description: str | list[str] | None) -> list[str]:
    texts = [description] if isinstance(description, str) else description or []
    return [_plain(text) for text in texts]


def _plain(text: str) -> str:
    """Turn Ansible's markup into Markdown's."""
    return _MARKUP.sub(
        lambda found: f"`{found[2].rpartition(':')[2] if found[1] == 'O' else found[2]}`",
        " ".join(text.split()),
    )


def _sentence(text: str) -> str:
    return _plain(text).rstrip(".") + "."


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def pages() -> dict[Path, str]:
    """Return the content of every page by its path."""
    return {ROOT / "docs" / "roles" / f"{role}.md": page(role) for role in roles()}


def main() -> int:
    """Write the pages and remove those of roles that are gone."""
    wanted = pages()
    directory = ROOT / "docs" / "roles"
    directory.mkdir(exist_ok=True)
    for path in set(directory.glob("*.md")) - set(wanted):
        path.unlink()
    for path, text in wanted.items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
