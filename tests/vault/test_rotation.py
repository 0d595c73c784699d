"""All secrets are rotated under load; what is killed is finished; what does not work goes back.

The program on the host is the one that the timer runs; the playbook takes the same steps.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import time
import typing as t

from cryptography.fernet import Fernet, InvalidToken
from lab import Lab, Run, wait_until
from load import Load
from vaulted import MANIFEST, ask, deploy, values

PROGRAM = (
    "PYTHONPATH=/usr/local/lib/vedfolnir/python python3 -m"
    " ansible_collections.vedfolnir.stack.plugins.module_utils.vault_rotate"
    " /etc/vedfolnir/secrets/rotation.json"
)
SETTINGS = "/etc/vedfolnir/secrets/rotation.json"
LOG = "/srv/vedfolnir/logs/rotation.log"
DUAL = ("mysql_root", "mysql_health", "mysql_app", "redis_app", "redis_health", "redis_operator")
ALL = (*DUAL, "mysql_tls", "nginx_tls", "app_flask_key", "app_fernet_key")
RATE = 60
ROWS = "SELECT access_token, client_key, client_secret FROM platform_connections"
KILLS = int(os.environ.get("VEDFOLNIR_ROTATION_KILLS", "99"))
"""At how many moments a rotation is killed, at most; see :func:`phases`."""

_AGE = """
name = {name!r}
with vault_deliver.session(settings) as api:
    body = {{"custom_metadata": {{"method": "dual", "rotated_at": "2020-01-01T00:00:00Z"}}}}
    api.call("POST", f"{{settings.mount}}/metadata/{{name}}", body)
print("{{}}")
"""


def rotate(lab: Lab, *names: str, **more: t.Any) -> Run:
    """Run the playbook for these secrets."""
    variables = {"rotate_only": ",".join(names), **more}
    return lab.playbook("rotate_secrets.yml", variables=variables)


def current(entry: t.Any) -> str:
    """Return what consumers use of a secret."""
    return (
        str(entry["private_key"] if "private_key" in entry else entry["value"])
        if isinstance(entry, dict)
        else str(entry)
    )


def in_use(lab: Lab) -> dict[str, str]:
    return {name: current(entry) for name, entry in values(lab).items() if name in ALL}


def unfinished(lab: Lab) -> list[str]:
    return [
        name
        for name, entry in values(lab).items()
        if isinstance(entry, dict) and "state" in entry and name != "app_flask_key"
    ]


def mysql_accepts(lab: Lab, user: str, password: str) -> bool:
    """Try a login as the application's containers would, from the internal network."""
    option = f'[client]\nuser={user}\npassword="{password}"\n'
    inside = "cat > /tmp/try.cnf; mysql --defaults-extra-file=/tmp/try.cnf -e 'SELECT 1'; rc=$?; "
    inside += "rm /tmp/try.cnf; exit $rc"
    where = "" if user == "vedfolnir_health" or user == "root" else " -h mysql"
    inside = inside.replace(" -e", f"{where} -e")
    command = f"docker compose exec -T mysql sh -c {shlex.quote(inside)}"
    done = lab.ssh(f"cd /srv/vedfolnir && {command}", stdin=option)
    assert done.returncode == 0 or "Access denied" in done.stderr, done.stderr
    return done.returncode == 0


def redis_accepts(lab: Lab, user: str, password: str) -> bool:
    command = "cd /srv/vedfolnir && docker compose exec -T redis redis-cli"
    said = lab.run(command, stdin=f"AUTH {user} {password}\n").strip()
    assert said == "OK" or said.startswith("WRONGPASS"), said
    return said == "OK"


ACCOUNTS: dict[str, tuple[t.Callable[[Lab, str, str], bool], str]] = {
    "mysql_root": (mysql_accepts, "root"),
    "mysql_health": (mysql_accepts, "vedfolnir_health"),
    "mysql_app": (mysql_accepts, "vedfolnir"),
    "redis_app": (redis_accepts, "vedfolnir"),
    "redis_health": (redis_accepts, "health"),
    "redis_operator": (redis_accepts, "operator"),
}


def accepted(lab: Lab, secrets: dict[str, str]) -> dict[str, bool]:
    """Try the password of each account."""
    return {name: check(lab, user, secrets[name]) for name, (check, user) in ACCOUNTS.items()}


def tokens(lab: Lab) -> list[str]:
    """Return every encrypted value of the platforms."""
    query = f"mysql --defaults-extra-file=/run/secrets/root.cnf -N vedfolnir -e '{ROWS}'"
    done = lab.exec("mysql", query)
    assert done.returncode == 0, done.stderr
    return [word for word in done.stdout.split() if word not in ("NULL", "")]


def opened(key: str, texts: list[str]) -> int:
    """Return how many of the values a key opens."""
    count = 0
    for text in texts:
        try:
            Fernet(key).decrypt(text.encode())
        except InvalidToken:
            continue
        count += 1
    return count


def test_a_check_shows_the_plan_and_changes_nothing(healthy: Lab) -> None:
    before = values(healthy)
    run = healthy.playbook(
        "rotate_secrets.yml", "--check", variables={"rotate_only": "redis_app"}
    ).check()
    assert "redis_app: rotate, was named" in run.output
    assert "mysql_app: keep, was not named" in run.output
    assert values(healthy) == before


def test_names_that_cannot_be_rotated_are_refused_at_once(healthy: Lab) -> None:
    run = rotate(healthy, "redis_ap", "internal_ca")
    assert run.status != 0
    assert "redis_ap is no secret of the manifest; did you mean redis_app?" in run.output
    assert "internal_ca cannot be rotated by itself" in run.output


def test_all_are_rotated_twice_under_load(healthy: Lab) -> None:
    """Nobody notices: no failed request, no lost session, no lost job; old values are refused."""
    first = in_use(healthy)
    began = healthy.started()
    with Load(healthy, rate=RATE) as load:
        rotate(healthy, *ALL).check()
        second = in_use(healthy)
        rotate(healthy, *ALL).check()
        third = in_use(healthy)
        texts = tokens(healthy)  # the load removes its platforms when it ends
    report = load.report()
    print(report)
    assert report.problems() == {}, report
    assert report.rate >= 50, report
    assert min(report.sessions, report.sockets, report.captions_posted) > 0, report
    for name in ALL:
        assert len({first[name], second[name], third[name]}) == 3, name
    assert unfinished(healthy) == []
    assert accepted(healthy, third) == dict.fromkeys(ACCOUNTS, True)
    for old in (first, second):
        assert accepted(healthy, old) == dict.fromkeys(ACCOUNTS, False)
    assert texts
    counts = [opened(secrets["app_fernet_key"], texts) for secrets in (third, second, first)]
    assert counts == [len(texts), 0, 0]
    # Servers go on; only what reads its secrets at its start was made anew.
    after = healthy.started()
    kept = {name for name in began if after[name] == began[name]}
    assert {"mysql", "redis", "nginx", "vault"} <= kept
    assert deploy(healthy).check().recap["changed"] == 0
    assert healthy.started() == after


def test_what_is_due_is_rotated_by_the_timer(healthy: Lab) -> None:
    """A secret that is old, and no other; its age is a metric; the host gets a new secret id."""
    assert healthy.run("systemctl is-active vedfolnir-rotate.timer").strip() == "active"
    ask(healthy, _AGE.format(name="redis_health"))
    before = in_use(healthy)
    approle = healthy.run("cat /etc/vedfolnir/vault/approle.json")
    healthy.run("systemctl start vedfolnir-rotate.service", timeout=900)
    after = in_use(healthy)
    assert {name for name in ALL if before[name] != after[name]} == {"redis_health"}
    metrics = healthy.run("cat /srv/vedfolnir/metrics/secrets.prom")
    (since,) = re.findall(r'since_seconds\{name="redis_health",method="dual"\} (\d+)', metrics)
    assert time.time() - int(since) < 900
    last = json.loads(healthy.run(f"tail -n 1 {LOG}"))
    assert last["who"] == "timer"
    assert healthy.run("cat /etc/vedfolnir/vault/approle.json") != approle
    assert deploy(healthy).check().recap["changed"] == 0


def kill_at(lab: Lab, number: int) -> bool:
    """Start a rotation of all on the host; kill it when it has written that many steps down."""
    script = f"""
: > /tmp/rotation.steps
before=$(wc -l < {LOG})
{PROGRAM} {" ".join(ALL)} >/tmp/rotation.out 2>&1 &
pid=$!
while kill -0 $pid 2>/dev/null; do
  [ $(($(wc -l < {LOG}) - before)) -ge {number} ] && {{ kill -9 $pid; echo killed; break; }}
  sleep 0.05
done
"""
    return "killed" in lab.run(script, timeout=1200)


def phases(lab: Lab) -> dict[str, int]:
    """Rotate all; return when each step was first taken with each method, as a count of lines.

    A step is written down when it has been taken, so a rotation that is killed then has come
    exactly that far.
    """
    lab.run(f"touch {LOG}")  # nobody has rotated anything yet
    before = int(lab.run(f"wc -l < {LOG}"))
    lab.run(f"{PROGRAM} {' '.join(ALL)}", timeout=1200)
    lines = lab.run(f"tail -n +{before + 1} {LOG}").splitlines()
    items = json.loads(lab.run(f"cat {MANIFEST}"))["secrets"]
    methods = {item["name"]: item["rotate"] for item in items}
    found: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        entry = json.loads(line)
        found.setdefault(f"{entry['step']} ({methods[entry['secret']]})", number)
    return found


def test_a_rotation_that_was_killed_is_finished_by_the_next(healthy: Lab) -> None:
    """In each phase of each method; in between, what is started anew works with what it finds."""
    all_phases = phases(healthy)
    assert {name.partition(" ")[0] for name in all_phases} == {
        "prepare",
        "switch",
        "reencrypt",
        "retire",
    }
    assert len(all_phases) >= 9, all_phases
    chosen = list(all_phases.items())[:: -(-len(all_phases) // KILLS)]
    for phase, moment in chosen:
        before = in_use(healthy)
        assert kill_at(healthy, moment), f"ended before {phase}"
        healthy.compose("restart app-1 worker redis", timeout=300)
        healthy.wait_healthy()
        healthy.run(PROGRAM, timeout=1200)
        assert unfinished(healthy) == [], f"killed at {phase}"
        after = in_use(healthy)
        assert accepted(healthy, after) == dict.fromkeys(ACCOUNTS, True)
        changed = {name for name in DUAL if after[name] != before[name]}
        assert accepted(healthy, before) == {name: name not in changed for name in ACCOUNTS}
        texts = tokens(healthy)
        assert opened(after["app_fernet_key"], texts) == len(texts)
        print(f"killed at {phase}, step {moment}: finished")
    assert deploy(healthy).check().recap["changed"] == 0


def test_values_that_do_not_work_are_taken_back(healthy: Lab) -> None:
    """Somebody takes the new password away at MySQL between the steps: the old one stays in use."""
    before = in_use(healthy)
    settings = healthy.run(f"cat {SETTINGS}")
    quick = json.loads(settings)
    quick["project"]["wait_seconds"] = 60
    healthy.run(f"cat > {SETTINGS}", stdin=json.dumps(quick))
    try:
        healthy.run(
            "PYTHONPATH=/usr/local/lib/vedfolnir/python python3 -",
            stdin=_SPOIL.format(settings=SETTINGS),
            timeout=900,
        )
        assert in_use(healthy)["mysql_app"] == before["mysql_app"]
        healthy.wait_healthy(180)
        assert mysql_accepts(healthy, "vedfolnir", before["mysql_app"])
    finally:
        healthy.run(f"cat > {SETTINGS}", stdin=settings)
    healthy.run(PROGRAM, timeout=1200)
    assert unfinished(healthy) == []
    assert in_use(healthy)["mysql_app"] != before["mysql_app"]
    assert deploy(healthy).check().recap["changed"] == 0


_SPOIL = """
import subprocess
from ansible_collections.vedfolnir.stack.plugins.module_utils import vault_rotate
work = vault_rotate.Rotation(vault_rotate.Settings.read({settings!r}), "tester", print)
work.prepare(["mysql_app"])
old = work._documents()["mysql_app"].value["value"]
sql = "".join(f"ALTER USER 'vedfolnir'@'172.30.0.0/255.255.255.0' {{what}};" for what in (
    f"IDENTIFIED BY '{{old}}'", "DISCARD OLD PASSWORD"))
client = ["docker", "compose", "exec", "-T", "mysql", "mysql",
          "--defaults-extra-file=/run/secrets/root.cnf"]
subprocess.run(client, input=sql, text=True, check=True, cwd="/srv/vedfolnir")
try:
    work.switch()
except vault_rotate.RotationError as error:
    assert "The old values are in use again" in str(error), error
else:
    raise SystemExit("the switch was not taken back")
"""


def test_in_an_emergency_old_values_die_at_once(healthy: Lab) -> None:
    before = in_use(healthy)
    rotate(healthy, "mysql_app", "redis_app", rotate_emergency=True).check()
    after = in_use(healthy)
    assert mysql_accepts(healthy, "vedfolnir", after["mysql_app"])
    assert not mysql_accepts(healthy, "vedfolnir", before["mysql_app"])
    assert redis_accepts(healthy, "vedfolnir", after["redis_app"])
    assert not redis_accepts(healthy, "vedfolnir", before["redis_app"])
    wait_until(
        lambda: healthy.session().get(f"{healthy.https}/health/ready", timeout=20).ok,
        60,
        "the page is not ready",
    )


def test_vault_sealed_or_down_says_so_and_changes_nothing(healthy: Lab) -> None:
    before = values(healthy)
    healthy.compose("stop vault")
    try:
        run = rotate(healthy, "redis_app")
        assert run.status != 0
        assert "Vault does not answer" in run.output
    finally:
        healthy.run("systemctl restart vedfolnir-vault.service", timeout=300)
    assert values(healthy) == before
