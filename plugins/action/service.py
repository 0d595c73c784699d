# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Controller side of vedfolnir.stack.service: render, harden, digest.

The host side is the module vedfolnir.stack.files.
"""

from __future__ import annotations

import json
import typing as t

import yaml
from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.plugins.action import ActionBase
from ansible.plugins.loader import lookup_loader
from ansible.release import __version__ as ansible_version
from ansible_collections.vedfolnir.stack.plugins.plugin_utils import services as svc

_HEADER = (
    "# Ansible managed: change the inventory and run site.yml; "
    "an edit here is lost on the next run.\n"
)
_ATTRIBUTES = ("owner", "group", "mode", "validate")
_SOURCES = frozenset({"content", "data", "template"})
_FILE_KEYS = frozenset(_ATTRIBUTES) | _SOURCES | {"path", "reload", "services"}

# Before 2.19 the template lookup turns a text that looks like JSON into data, unless told not to.
_CORE = tuple(int(part) for part in ansible_version.split(".")[:2])
_VERBATIM = {"convert_data": False} if _CORE < (2, 19) else {}


class ActionModule(ActionBase):
    """Render a role's files and fragment and hand them to the files module."""

    TRANSFERS_FILES = False
    _requires_connection = True

    def run(
        self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None
    ) -> dict[str, t.Any]:
        """Run the action; see the documentation of the module of this name."""
        task_vars = task_vars or {}
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        args = _plain(self._task.args)
        settings = args["settings"]
        present = args.get("state", "present") == "present"
        services: dict[str, t.Any] = args.get("services") or {}
        rendered = self._render(args.get("files") or [], task_vars)
        path = f"{settings['root']}/compose.d/{args['name']}.yml"
        try:
            compose = svc.fragment(
                args["name"],
                services if present else {},
                digests=_digests(services, rendered),
                settings=settings,
            )
        except svc.ServiceError as exc:
            raise AnsibleActionFail(str(exc)) from exc
        module_args: dict[str, t.Any]
        if present:
            files = [
                {
                    key: value
                    for key, value in item.items()
                    if key in (*_ATTRIBUTES, "path", "content")
                }
                for item in rendered
            ]
            if services:
                files.append({"path": path, "content": _HEADER + _yaml(compose), "mode": "0644"})
            module_args = {
                "directories": [*(args.get("directories") or []), *svc.directories(services)],
                "files": files,
                "absent": args.get("absent") or [],
            }
        else:
            module_args = {
                "absent": [path, *[item["path"] for item in rendered], *(args.get("absent") or [])]
            }
        if services or not present:
            module_args["look"] = {
                "project": settings["project"],
                "record": settings["jobs_record"],
            }
        module_result = self._execute_module(
            module_name="vedfolnir.stack.files",
            module_args=module_args,
            task_vars=task_vars,
        )
        result.update(module_result)
        if not result.get("failed"):
            changed = set(result["changed_files"])
            revisions = settings.get("secret_revisions") or {}
            result["plan"] = svc.plan(
                args["name"],
                compose,
                containers=result.pop("containers", {}),
                ran=result.pop("ran", {}),
                reloads={
                    name
                    for item in rendered
                    if item["path"] in changed
                    for name in item.get("reload") or []
                },
                revisions=revisions,
            )
            result["jobs"] = svc.jobs(services, compose, revisions) if present else []
        return result

    def _render(
        self, files: list[dict[str, t.Any]], task_vars: dict[str, t.Any]
    ) -> list[dict[str, t.Any]]:
        rendered: list[dict[str, t.Any]] = []
        for item in files:
            unknown = sorted(set(item) - _FILE_KEYS)
            if unknown or "path" not in item:
                problem = ", ".join(unknown) or "(no path)"
                raise AnsibleActionFail(f"file {item.get('path', item)}: unknown key {problem}")
            entry = {key: value for key, value in item.items() if value is not None}
            if len(_SOURCES & set(entry)) != 1:
                raise AnsibleActionFail(
                    f"file {item['path']}: needs one of content, data, template"
                )
            if "template" in entry:
                entry["content"] = self._template(entry["template"], task_vars)
            elif "data" in entry:
                is_json = str(entry["path"]).endswith(".json")
                entry["content"] = (
                    json.dumps(entry["data"], indent=2, sort_keys=True) + "\n"
                    if is_json
                    else _HEADER + _yaml(entry["data"])
                )
            rendered.append(entry)
        return rendered

    def _template(self, name: str, task_vars: dict[str, t.Any]) -> str:
        try:
            path = self._find_needle("templates", name)
        except AnsibleError as exc:
            raise AnsibleActionFail(str(exc)) from exc
        lookup = lookup_loader.get(
            "ansible.builtin.template", loader=self._loader, templar=self._templar
        )
        return str(lookup.run([path], variables=task_vars, **_VERBATIM)[0])


def _plain(value: t.Any) -> t.Any:
    """Return the value without Ansible's wrappers, which PyYAML's dumper does not know."""
    if isinstance(value, dict):
        return {_plain_text(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, bool) or value is None:
        return value
    for kind in (int, float):
        if isinstance(value, kind):
            return kind(value)
    return _plain_text(value)


def _plain_text(value: t.Any) -> str:
    """Return a text of Python's own; a lookup of ansible-core 2.16 gives one that stays its own."""
    return str.__str__(value) if isinstance(value, str) else str(value)


class _Dumper(yaml.SafeDumper):
    """Writes every value where it is used: a person reads the file, and anchors hide a change."""

    def ignore_aliases(self, _data: t.Any) -> bool:
        """Tell that nothing is an alias."""
        return True


def _yaml(data: t.Any) -> str:
    return yaml.dump(data, Dumper=_Dumper, default_flow_style=False, width=120, allow_unicode=True)


def _digests(services: dict[str, t.Any], rendered: list[dict[str, t.Any]]) -> dict[str, str]:
    """Return per service the digest of the files it reads."""
    return {
        name: svc.digest(
            {
                item["path"]: item["content"]
                for item in rendered
                if name in (item.get("services") or [])
            }
        )
        for name in services
    }
