# Copyright: the vedfolnir.stack maintainers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Evaluate templates the same way on every supported release of ansible-core."""

from __future__ import annotations

import functools
import re
import typing as t
from collections.abc import Iterable, Mapping
from pathlib import Path

import ansible.template as core_template
import jinja2

_UNDEFINED = re.compile(r"'([A-Za-z_][A-Za-z0-9_]*)' is undefined")
# Only 2.19 and later refuse strings that nobody vouched for.
_trust: t.Callable[[str], str] = getattr(core_template, "trust_as_template", str)


class EvaluationError(Exception):
    """A template or expression that cannot be evaluated; the text says why."""


def load_trusted(loader: t.Any, path: Path) -> t.Any:
    """Read a YAML file of this collection so that its templates may be evaluated."""
    # Nothing is read twice, so what is read need be neither kept nor copied (unsafe).
    try:
        return loader.load_from_file(str(path), cache="none", unsafe=True, trusted_as_template=True)
    except TypeError:  # ansible-core before 2.19 knows no trust
        return loader.load_from_file(str(path), cache=False, unsafe=True)


def _copy(templar: t.Any, variables: Mapping[str, t.Any]) -> t.Any:
    """Return a templar with other variables, in which templates keep the types of values."""
    if hasattr(templar, "evaluate_expression"):
        return templar.copy_with_new_env(available_variables=variables)
    plain = templar.environment.finalize

    # Asking for the context keeps Jinja from making text of what is constant.
    @jinja2.pass_context
    def finalize(_context: t.Any, value: t.Any) -> t.Any:
        return None if value is None else plain(value)

    return templar.copy_with_new_env(
        _typed_environment(), available_variables=variables, finalize=finalize
    )


@functools.cache
def _typed_environment() -> type:
    """Return an environment for ansible-core before 2.19, which would make text of a number."""

    def concat(nodes: Iterable[t.Any]) -> t.Any:
        parts = list(nodes)
        return parts[0] if len(parts) == 1 else "".join(map(str, parts))

    return type(
        "TypedEnvironment", (core_template.AnsibleEnvironment,), {"concat": staticmethod(concat)}
    )


class Evaluator:
    """Templates with a fixed set of variables."""

    def __init__(self, templar: t.Any, variables: Mapping[str, t.Any]) -> None:
        """Keep the variables; the given templar itself is left as it was."""
        self._templar = templar
        self._variables = dict(variables)
        self._shared = _copy(templar, self._variables)

    def value(self, raw: t.Any) -> t.Any:
        """Return an option's value with all its templates resolved."""
        return self._guard(lambda: self._shared.template(raw))

    def text(self, template: str, local: Mapping[str, t.Any] | None = None) -> str:
        """Return a message with its templates filled in."""
        templar = self._with(local)
        return str(self._guard(lambda: templar.template(_trust(template))))

    def expression(self, text: str, local: Mapping[str, t.Any] | None = None) -> t.Any:
        """Return the value of a Jinja expression written without braces."""
        templar = self._with(local)
        # Backslashes are read as in Ansible's own conditions.
        if hasattr(templar, "evaluate_expression"):
            return self._guard(
                lambda: templar.evaluate_expression(_trust(text), escape_backslashes=False)
            )
        template = "{{ (" + text + ") }}"
        return self._guard(lambda: templar.template(template, escape_backslashes=False))

    def condition(self, text: str, local: Mapping[str, t.Any] | None = None) -> bool:
        """Return the value of an expression that must be true or false."""
        value = self.expression(text, local)
        if not isinstance(value, bool):
            raise EvaluationError(f"'{text}' is neither true nor false")
        return value

    def _with(self, local: Mapping[str, t.Any] | None) -> t.Any:
        if not local:
            return self._shared
        return _copy(self._templar, {**self._variables, **local})

    @staticmethod
    def _guard(call: t.Callable[[], t.Any]) -> t.Any:
        # Templates run filters and lookups of anyone; whatever they raise is a finding here.
        try:
            return call()
        except Exception as error:
            raise EvaluationError(_reason(error)) from error


def _reason(error: BaseException) -> str:
    """Return the innermost cause as one line; releases differ in what they wrap around it."""
    while True:
        inner = error.__cause__ or getattr(error, "orig_exc", None)
        if inner is None or inner is error:
            break
        error = inner
    text = str(error).strip()
    undefined = _UNDEFINED.search(text)
    if undefined:
        return f"'{undefined[1]}' is not defined"
    return text.splitlines()[0].rstrip(".") if text else type(error).__name__
