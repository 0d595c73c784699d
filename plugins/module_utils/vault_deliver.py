# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Bring the consumers' files from Vault to the tmpfs, by an agent each that runs once.

The module ``secrets`` calls it in a run; at boot the unit of Vault runs this file as a program.
Consumers read their files at their start only, so agents that stay would cost memory for nothing,
and a secret id that is made for one delivery need not be kept.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import fcntl
import json
import os
import shutil
import subprocess
import sys
import typing as t

from ansible_collections.vedfolnir.stack.plugins.module_utils import secrets as provider
from ansible_collections.vedfolnir.stack.plugins.module_utils.vault_access import role_name
from ansible_collections.vedfolnir.stack.plugins.module_utils.vault_agent import (
    agent_config,
    service_name,
)
from ansible_collections.vedfolnir.stack.plugins.module_utils.vault_diagnosis import explained
from ansible_collections.vedfolnir.stack.plugins.module_utils.vault_kv import (
    Api,
    Caller,
    merged,
    read_documents,
)
from ansible_collections.vedfolnir.stack.plugins.module_utils.vault_server import (
    VaultError,
    connect,
    login,
)

WRAP_TTL = "300s"
"""Life of a wrapped secret id: the start of a container on a busy host."""
AGENT_SECONDS = 240
DOCKER = "/usr/bin/docker"
PARALLEL = 3
"""Agents at a time; each is a container of its own that uses a processor for a moment."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """Where Vault and everything else is, as the module's option ``vault`` and a file have it."""

    address: str
    agent_address: str
    ca_file: str
    credentials_file: str
    mount: str
    project_src: str
    project_name: str
    compose_files: tuple[str, ...]
    runtime_directory: str
    agents_directory: str

    def text(self) -> str:
        """Return the settings as the content of a file."""
        return json.dumps(dataclasses.asdict(self), indent=2, sort_keys=True) + "\n"


def read_settings(path: str) -> Settings:
    """Return the settings in a file that :meth:`Settings.text` made."""
    with open(path, encoding="utf-8") as handle:
        content = json.load(handle)
    content["compose_files"] = tuple(content["compose_files"])
    return Settings(**content)


@contextlib.contextmanager
def session(settings: Settings) -> t.Iterator[Api]:
    """Log in for the length of a block; the token is revoked at its end.

    Raises:
        VaultError: when Vault is down, sealed or refuses.
    """
    with explained(settings.project_src):
        client = connect(settings.address, settings.ca_file)
        login(client, settings.credentials_file)
        api = Api(client)
        try:
            yield api
        finally:
            # Whatever went wrong before is the news; the token ends by itself soon.
            with contextlib.suppress(VaultError):
                api.call("POST", "auth/token/revoke-self")


@contextlib.contextmanager
def _alone(directory: str) -> t.Iterator[None]:
    """Let one delivery at a time go on: the boot's and a run's may meet."""
    os.makedirs(directory, mode=0o711, exist_ok=True)
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def deliver(
    api: Caller,
    settings: Settings,
    files: t.Mapping[str, t.Any],
    contents: t.Mapping[str, t.Mapping[str, str]],
    check: bool = False,
    prove: bool = False,
) -> list[str]:
    """Let the agents of all consumers whose files are not ``contents`` render them.

    With ``prove`` all agents run: one that finds its files right leaves them alone, but it has
    logged in and read everything.

    Returns:
        The files that were (``check``: would be) written or removed.

    Raises:
        VaultError: when an agent failed, or did not write what it should have.
    """
    root = settings.runtime_directory
    if check:
        return provider.differences(root, files, contents)
    with _alone(settings.agents_directory):
        changed = provider.differences(root, files, contents)
        provider.clean_runtime(root, contents)
        touched = {path.split("/")[0] for path in changed if "/" in path}
        late = [consumer for consumer in files if prove or consumer in touched]
        try:
            _run_agents(api, settings, {consumer: files[consumer] for consumer in late})
        finally:
            for consumer in os.listdir(settings.agents_directory):
                shutil.rmtree(os.path.join(settings.agents_directory, consumer))
        wrong = provider.differences(root, files, contents)
    if wrong:
        raise VaultError(
            "refused", f"the agents ran, but these files are not as they should be: {wrong}"
        )
    return changed


def _run_agents(api: Caller, settings: Settings, files: t.Mapping[str, t.Any]) -> None:
    problems: list[str] = []
    with concurrent.futures.ThreadPoolExecutor(PARALLEL) as pool:
        running = {
            pool.submit(_run_agent, api, settings, consumer, spec): consumer
            for consumer, spec in files.items()
        }
        for future, consumer in running.items():
            try:
                future.result()
            except VaultError as exc:
                problems.append(f"{consumer}: {exc}")
    if problems:
        raise VaultError("refused", "; ".join(problems))


def _run_agent(api: Caller, settings: Settings, consumer: str, spec: t.Mapping[str, t.Any]) -> None:
    target = os.path.join(settings.runtime_directory, consumer)
    owner = provider.owner_of(spec)
    prepare(api, settings, consumer, spec)
    # The agent runs as the consumer's user and must write; the consumer's own mount is read-only.
    provider.make_directory(target, owner, 0o700)
    for name in os.listdir(target):
        # An agent leaves a file alone whose content is right, whoever owns it.
        os.chown(os.path.join(target, name), *owner)
        os.chmod(os.path.join(target, name), 0o400)
    try:
        _compose_run(settings, consumer)
    finally:
        os.chmod(target, 0o500)


def prepare(api: Caller, settings: Settings, consumer: str, spec: t.Mapping[str, t.Any]) -> None:
    """Lay down what a consumer's agent starts with, with a new secret id, wrapped.

    Raises:
        VaultError: when the consumer has no AppRole.
    """
    role = role_name(consumer)
    answer = api.call("GET", f"auth/approle/role/{role}/role-id")
    wrapped = api.call("POST", f"auth/approle/role/{role}/secret-id", {}, wrap_ttl=WRAP_TTL)
    if not answer or not wrapped:
        raise VaultError("missing", f"Vault has no AppRole {role}; run site.yml")
    with open(settings.ca_file, encoding="utf-8") as handle:
        ca = handle.read()
    owner = provider.owner_of(spec)
    directory = os.path.join(settings.agents_directory, consumer)
    provider.make_directory(directory, owner, 0o700)
    for name, text in {
        "agent.json": agent_config(consumer, spec, settings.agent_address, settings.mount),
        "ca.pem": ca,
        "role_id": answer["data"]["role_id"],
        "secret_id": wrapped["wrap_info"]["token"],
    }.items():
        provider.write_private(os.path.join(directory, name), text, *owner)


def _compose_run(settings: Settings, consumer: str) -> None:
    service = service_name(consumer)
    container = f"{settings.project_name}-{service}"
    # A delivery that was killed may have left its container.
    _docker("container", "rm", "--force", container)
    selected = [part for name in settings.compose_files for part in ("--file", name)]
    argv = [DOCKER, "compose", *selected, "run", "--rm", "--no-deps", "--no-TTY"]
    argv += ["--quiet-pull", "--name", container, service]
    try:
        result = subprocess.run(
            argv,
            cwd=settings.project_src,
            env={**os.environ, "COMPOSE_IGNORE_ORPHANS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=AGENT_SECONDS,
            check=False,
            text=True,
        )
    except subprocess.TimeoutExpired as exc:
        _docker("container", "rm", "--force", container)
        raise VaultError("refused", f"its agent did not end within {AGENT_SECONDS} s") from exc
    if result.returncode != 0:
        raise VaultError(
            "refused", f"its agent ended with {result.returncode}: {problem_lines(result.stdout)}"
        )


def problem_lines(output: str) -> str:
    """Return the last lines of an agent's output that tell of a problem."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    marked = [line for line in lines if "[ERROR]" in line or "[WARN]" in line]
    return " / ".join((marked or lines)[-3:])


def _docker(*arguments: str) -> None:
    subprocess.run(
        [DOCKER, *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )


def main(argv: t.Sequence[str]) -> int:
    """Render the runtime files at boot: ``vault_deliver.py SETTINGS MANIFEST``."""
    settings_path, manifest_path = argv
    if not os.path.exists(settings_path):
        # No run has delivered anything yet, or the move of an older host is not complete.
        sys.stdout.write("vedfolnir secrets: Vault has nothing to deliver yet\n")
        return 0
    try:
        settings = read_settings(settings_path)
        with open(manifest_path, encoding="utf-8") as handle:
            files = json.load(handle)["files"]
        with session(settings) as api:
            store, _adopted = merged({}, read_documents(api, settings.mount))
            changed = deliver(api, settings, files, provider.rendered_files(files, store))
    except (VaultError, provider.SecretError, OSError) as exc:
        sys.stderr.write(f"vedfolnir secrets: {exc}\n")
        return 1
    sys.stdout.write(
        f"vedfolnir secrets: {len(changed)} files delivered from Vault to {len(files)} services\n"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
