"""What Redis grants, keeps and gives up: the deployed server, and a throw-away one that is filled.

The throw-away server has the role's own configuration and ACL, and a user for the tests beside
them: in the deployed one nobody may change or even read the configuration.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import subprocess
import typing as t

import pytest
import yaml
from lab import ANSIBLE, ROOT, Lab, ansible_environment, wait_until

MIB = 2**20
END = "end-of-answer"
READ_PASSWORD = "read -r REDISCLI_AUTH && export REDISCLI_AUTH && exec redis-cli --no-auth-warning"
ROLE_FILES = [
    f"roles/{role}/{kind}/main.yml"
    for role, kind in (("stack", "defaults"), ("redis", "defaults"), ("redis", "vars"))
]

ALLOWED = {
    "SET test:a 1 EX 60": "OK",
    "KEYS test:[a]": "test:a",
    "SCAN 0 MATCH nothing:* COUNT 100000": "0",
    "LPUSH test:list 2 1": "2",
    "SORT test:list": "1\n2",
    "BLPOP test:list 1": "test:list\n1",
    "RPOP test:list": "2",
    "EVAL \"return redis.call('get', KEYS[1])\" 1 test:a": "1",
    'SCRIPT LOAD "return 1"': "e0e1f9fabfc9d4800c877a703b823ac0578ff8db",
    # The ACL leaves it, for it stops no more than a script that hangs.
    "SCRIPT KILL": "NOTBUSY No scripts in execution right now.",
    "PUBLISH test:channel hello": "0",
    "XADD test:stream 1-1 field value": "1-1",
    "EXPIRE test:stream 60": "1",
    "ACL WHOAMI": "vedfolnir",
}
"""What the application and RQ call, with the answer."""

DENIED = [
    *("FLUSHALL", "FLUSHDB", "SWAPDB 0 1", "MIGRATE 127.0.0.1 6379 test:a 0 10"),
    *("SHUTDOWN ABORT", "FAILOVER ABORT", "REPLICAOF NO ONE"),
    *("CONFIG GET maxmemory", "CONFIG SET appendonly yes", "CONFIG REWRITE", "CONFIG RESETSTAT"),
    *("ACL LIST", "ACL SETUSER vedfolnir on", "ACL DELUSER health", "ACL LOAD"),
    *("MODULE LIST", "MONITOR"),
    *("SAVE", "BGSAVE", "BGREWRITEAOF", "LASTSAVE"),
    *("CLIENT KILL ID 0", "CLIENT PAUSE 0", "SLOWLOG GET", "LATENCY LATEST", "RESTORE test:b 0 x"),
]
"""What loses data, stops or reconfigures the server, or looks into other people's commands."""
DENIED_UNASKED = ["DEBUG SLEEP 0", "MODULE LOAD /tmp/x.so", "SYNC", "PSYNC ? -1"]
"""What Redis refuses everybody by default, or redis-cli does not send as it is."""


SETTINGS = {
    "appendonly": "yes",
    "aof-timestamp-enabled": "yes",
    "appendfsync": "everysec",
    "save": "3600 1 300 100 60 10000",
    "maxmemory": str(38 * MIB),
    "maxmemory-policy": "noeviction",
    "protected-mode": "no",
}
"""What the role makes of its defaults and 64 MiB, as the server itself understands it."""

TOUCH = (
    "for page = 0, 24 do redis.call('setrange', KEYS[1], page * 4096, 'y') end "
    "return redis.call('strlen', KEYS[1])"
)
"""A script that changes every page of a key of 100 kB."""


@dataclasses.dataclass(frozen=True)
class Server:
    """A Redis in a container of the lab host."""

    lab: Lab
    container: str
    passwords: t.Mapping[str, str] = dataclasses.field(repr=False)

    def answers(self, user: str, commands: t.Iterable[str]) -> list[str]:
        """Return what Redis answers to each command of a user; the password is piped, too."""
        lines = [self.passwords[user]]
        for command in commands:
            lines += [command, f"PING {END}"]
        script = f"{READ_PASSWORD} --user {user}"
        output = self.lab.run(
            f"docker exec -i {self.container} sh -c '{script}'", stdin="\n".join([*lines, ""])
        )
        return [answer.strip() for answer in output.split(f"{END}\n")[:-1]]

    def ask(self, user: str, command: str) -> str:
        """Return what Redis answers to one command."""
        return self.answers(user, [command])[0]

    def info(self, section: str, user: str = "vedfolnir") -> dict[str, str]:
        """Return a section of INFO."""
        lines = self.ask(user, f"INFO {section}").splitlines()
        return dict(line.strip().split(":", 1) for line in lines if ":" in line)

    def settings(self, names: t.Iterable[str]) -> dict[str, str]:
        """Return settings of a throw-away server."""
        answers = self.answers("tester", (f"CONFIG GET {name}" for name in names))
        return dict(answer.split("\n", 1) for answer in answers)


def passwords(lab: Lab) -> dict[str, str]:
    """Return the passwords of the role's two users."""
    secrets = lab.secrets()
    return {"vedfolnir": secrets["redis_app"], "health": secrets["redis_health"]}


@pytest.fixture(scope="module")
def deployed(lab: Lab) -> Server:
    """The stack's own Redis."""
    return Server(lab, "vedfolnir-redis-1", passwords(lab))


def configuration(lab: Lab, directory: str, options: t.Mapping[str, t.Any]) -> str:
    """Return the role's redis.conf for options, as Ansible renders it."""
    target = f"{directory}/redis.conf"
    task = {
        "ansible.builtin.template": {
            "src": str(ROOT / "roles/redis/templates/redis.conf.j2"),
            "dest": target,
            "mode": "0644",
        }
    }
    play = {
        "hosts": lab.name,
        "gather_facts": False,
        "vars_files": [str(ROOT / path) for path in ROLE_FILES],
        "tasks": [task],
    }
    path = ROOT / ".lab" / f"{lab.name}-redis.yml"
    path.write_text(yaml.safe_dump([play]), encoding="utf-8")
    argv = [str(ANSIBLE / "ansible-playbook"), "--connection", "local", "-i", f"{lab.name},"]
    argv += [str(path), "--extra-vars", json.dumps(options)]
    subprocess.run(argv, cwd=ROOT, env=ansible_environment(), check=True, capture_output=True)
    return target


@contextlib.contextmanager
def throw_away(lab: Lab, name: str, local: str, **options: t.Any) -> t.Iterator[Server]:
    """Run a Redis with the role's configuration for options, and with the deployed ACL."""
    with open(configuration(lab, local, options), encoding="utf-8") as handle:
        config = handle.read()
    directory = f"/run/{name}"
    image = lab.inspect()["redis"]["Config"]["Image"]
    acl = "cat /run/vedfolnir/secrets/redis/users.acl; echo 'user tester on nopass ~* &* +@all'"
    lab.run(f"rm -rf {directory} && mkdir -p {directory}")
    lab.run(f"cat > {directory}/redis.conf", stdin=config)
    try:
        lab.run(
            f"({acl}) > {directory}/users.acl && chown 999 {directory}/users.acl && "
            f"chmod 400 {directory}/users.acl && "
            f"docker run --detach --name {name} --network none --user 999:999 "
            f"--memory {options['redis_memory_mb']}m "
            f"--volume {directory}/redis.conf:/usr/local/etc/redis/redis.conf:ro "
            f"--volume {directory}/users.acl:/run/secrets/users.acl:ro "
            f"{image} redis-server /usr/local/etc/redis/redis.conf"
        )
        server = Server(lab, name, {**passwords(lab), "tester": "-"})
        wait_until(lambda: server.ask("tester", "PING") == "PONG", 60, "Redis does not answer")
        yield server
    finally:
        lab.run(f"docker rm --force --volumes {name}; rm -rf {directory}")


def test_the_application_may_do_what_it_needs(deployed: Server) -> None:
    """In the order of the table: later commands read what earlier ones wrote."""
    assert dict(zip(ALLOWED, deployed.answers("vedfolnir", ALLOWED), strict=True)) == ALLOWED


def test_the_application_sees_the_server_and_its_clients(deployed: Server) -> None:
    """Its health page shows both."""
    assert deployed.info("server")["redis_mode"] == "standalone"
    assert "user=vedfolnir" in deployed.ask("vedfolnir", "CLIENT LIST")


def test_the_application_may_do_nothing_dangerous(deployed: Server) -> None:
    """Redis names the command, so that it was refused for itself and not for a key."""
    answers = dict(zip(DENIED, deployed.answers("vedfolnir", DENIED), strict=True))
    refused = re.compile(r"NOPERM User vedfolnir has no permissions to run the '([a-z|]+)' command")
    named = {command: refused.fullmatch(said) for command, said in answers.items()}
    wrong = {
        command: answers[command]
        for command, match in named.items()
        if not match or not "|".join(command.lower().split()).startswith(match[1])
    }
    assert wrong == {}


def test_a_script_may_no_more_than_its_user(deployed: Server) -> None:
    """Lua is no way around the ACL."""
    said = deployed.ask("vedfolnir", "EVAL \"return redis.call('flushall')\" 0")
    assert "no permissions" in said or "can't run this command" in said


def test_nobody_else_gets_in(deployed: Server) -> None:
    """Without a password, with an empty or wrong one, or as the user that every Redis has."""
    inside = f"docker exec {deployed.container} redis-cli --no-auth-warning"
    assert deployed.lab.run(f"{inside} PING").startswith("NOAUTH")
    for arguments in ("default ''", "default wrong", "vedfolnir ''", "vedfolnir wrong", "no one"):
        said = deployed.lab.run(f"{inside} AUTH {arguments}")
        assert said.startswith("WRONGPASS"), (arguments, said)


def test_the_health_check_may_ping_and_nothing_else(deployed: Server) -> None:
    """Its password lies beside the server's files."""
    assert deployed.ask("health", "PING") == "PONG"
    others = ["GET test:a", "SET test:a 1", "KEYS *", "INFO", "PUBLISH test:a 1", "DBSIZE"]
    for command, said in zip(others, deployed.answers("health", others), strict=True):
        assert said.startswith("NOPERM User health has no permissions to run"), (command, said)


def test_the_deployed_server_keeps_what_it_is_given(deployed: Server) -> None:
    """Append-only file with times, snapshots, and a limit that leaves room for a fork."""
    persistence, memory = deployed.info("persistence"), deployed.info("memory")
    assert persistence["aof_enabled"] == "1"
    assert persistence["aof_last_write_status"] == "ok"
    assert persistence["rdb_last_bgsave_status"] == "ok"
    limit = deployed.lab.inspect()["redis"]["HostConfig"]["Memory"]
    assert int(memory["maxmemory"]) == limit * 60 // 100 // MIB * MIB
    assert memory["maxmemory_policy"] == "noeviction"
    deployed.ask("vedfolnir", "SET test:time 1 EX 60")
    command = "grep -ac '^#TS:[0-9]' /data/appendonlydir/*.incr.aof"
    wait_until(
        lambda: int(deployed.lab.exec("redis", command).stdout) > 0,
        10,
        "the append-only file has no times",
    )


@pytest.fixture(scope="module")
def evicting(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Server]:
    """Return a throw-away server that evicts, with room for 6 MiB."""
    options = {
        "redis_memory_mb": 64,
        "redis_maxmemory_percent": 10,
        "redis_maxmemory_policy": "volatile-lru",
    }
    local = str(tmp_path_factory.mktemp("redis"))
    with throw_away(lab, "test-redis-evicting", local, **options) as server:
        yield server


def test_the_acl_forbids_what_the_server_forbids_anyway(evicting: Server) -> None:
    """A setting that allows it would not give it to the application."""
    answers = evicting.answers("tester", (f"ACL DRYRUN vedfolnir {c}" for c in DENIED_UNASKED))
    for command, said in zip(DENIED_UNASKED, answers, strict=True):
        assert said.startswith("User vedfolnir has no permissions to run the"), (command, said)
    assert evicting.ask("tester", "ACL DRYRUN vedfolnir GET x") == "OK"


def test_queue_keys_survive_while_sessions_go(evicting: Server) -> None:
    """With volatile-lru, filled far above the limit with keys that expire."""
    wanted = {"maxmemory": str(6 * MIB), "maxmemory-policy": "volatile-lru"}
    assert evicting.settings(wanted) == wanted
    queues = [f"rq:queue:{number}" for number in range(20)]
    evicting.answers("vedfolnir", (f"RPUSH {queue} {'q' * 20_000}" for queue in queues))
    sessions = [f"SET session:{number} {'s' * 8_000} EX 7200" for number in range(1500)]
    assert set(evicting.answers("vedfolnir", sessions)) == {"OK"}
    assert int(evicting.info("stats")["evicted_keys"]) > 500
    assert evicting.ask("vedfolnir", f"EXISTS {' '.join(queues)}") == "20"
    assert evicting.ask("vedfolnir", "STRLEN session:1499") == "8000"
    left = evicting.ask("vedfolnir", "KEYS session:*").splitlines()
    assert 0 < len(left) < 1000


def test_a_full_server_refuses_writes_and_loses_nothing(
    lab: Lab, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """With noeviction, the default; then it copies itself while half of the data change."""
    local = str(tmp_path_factory.mktemp("redis"))
    with throw_away(lab, "test-redis-full", local, redis_memory_mb=64) as server:
        assert server.settings(SETTINGS) == SETTINGS
        filling = [f"SETRANGE key:{number} 99999 x" for number in range(500)]
        said = server.answers("vedfolnir", filling)
        kept = said.count("100000")
        assert 250 < kept < 500
        assert all(line.startswith("OOM command not allowed") for line in said[kept:])
        assert server.ask("vedfolnir", "DBSIZE") == str(kept)
        assert server.info("stats")["evicted_keys"] == "0"
        server.answers("vedfolnir", (f"DEL key:{number}" for number in range(20)))
        # Every page that changes while a child copies is there twice; this makes the copy last.
        server.answers("tester", ["CONFIG SET rdb-key-save-delay 20000", "BGREWRITEAOF"])
        changes = [f'EVAL "{TOUCH}" 1 key:{number}' for number in range(20, kept // 2)]
        assert set(server.answers("vedfolnir", changes)) == {"100000"}
        assert server.info("persistence")["aof_rewrite_in_progress"] == "1"
        server.ask("tester", "CONFIG SET rdb-key-save-delay 0")
        wait_until(lambda: not copying(server), 60, "the rewrite does not end")
        server.ask("tester", "BGSAVE")
        wait_until(lambda: not copying(server), 60, "the snapshot does not end")
        persistence = server.info("persistence")
        assert persistence["aof_last_bgrewrite_status"] == "ok"
        assert persistence["rdb_last_bgsave_status"] == "ok"
        assert server.ask("vedfolnir", "DBSIZE") == str(kept - 20)
        state = json.loads(lab.run(f"docker inspect {server.container}"))[0]["State"]
        assert state["Running"]
        assert not state["OOMKilled"]


def copying(server: Server) -> bool:
    """Tell whether a child of the server writes a copy of its data."""
    found = server.info("persistence")
    return "1" in (found["aof_rewrite_in_progress"], found["rdb_bgsave_in_progress"])
