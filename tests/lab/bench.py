"""The figures of ``./lab bench``: deployment times, sizes, memory and requests per second.

Everything that is compared is measured in one run on one host, in turns, and printed as a ratio
beside the figures. The load (wrk) runs on the lab host itself and goes to the addresses of the
containers, so that no port forward is measured. docs/bench.md tells what the figures mean.
"""

from __future__ import annotations

import argparse
import json
import operator
import os
import re
import statistics
import sys
import time
import typing as t
from pathlib import Path
from urllib.parse import quote

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "stack"))

from lab import Lab, Run

SECONDS = 4
"""Length of each load in seconds; with 2 threads and 16 connections it saturates two cores."""
ROUNDS = 3
"""How often each is measured, in turns; the median counts."""
LOGIN = "/user-management/login"
T = t.TypeVar("T")
BARE = "vedfolnir-bench-nginx"

AIMS: dict[str, tuple[str, float]] = {
    "fresh_deploy_seconds": ("<=", 240),
    "nothing_to_do_seconds": ("<=", 25),
    "static_ratio_to_bare_nginx": (">=", 0.9),
    # 1 GiB.
    "monitoring_memory_mb": ("<=", 1074),
    "monitoring_limits_mb": ("<=", 1074),
    "backup_ratio_to_raw_pipeline": (">=", 0.9),
}
"""What the project wants to keep, by figure."""

BARE_CONF = """
worker_processes auto; pid /tmp/nginx.pid; error_log /dev/stderr warn;
events { worker_connections 4096; }
http {
  include /etc/nginx/mime.types; access_log off; sendfile on;
  server {
    listen 9443 ssl; http2 on;
    ssl_certificate /tls/site.pem; ssl_certificate_key /tls/site.pem;
    location /static/ { alias /site/; }
  }
}
"""


def timed(action: t.Callable[[], Run]) -> tuple[float, Run]:
    """Return the seconds of a playbook run and its result, which must be a success."""
    start = time.monotonic()
    run = action().check()
    return round(time.monotonic() - start, 1), run


def tasks(run: Run) -> int:
    """Return how many tasks a run carried out (skipped ones not counted)."""
    return run.recap["ok"]


def deployments(lab: Lab) -> dict[str, t.Any]:
    """Measure a run with nothing to do, one after one option changed, and Compose alone."""
    lab.playbook().check()
    nothing, run = timed(lab.playbook)
    option = {"redis_maxmemory_percent": 57}
    changed, _run = timed(lambda: lab.playbook("site.yml", variables=option))
    lab.playbook().check()
    start = time.monotonic()
    lab.compose("up --detach --wait")
    compose = round(time.monotonic() - start, 1)
    return {
        "nothing_to_do_seconds": nothing,
        "nothing_to_do_tasks": tasks(run),
        "nothing_to_do_changed": run.recap["changed"],
        "one_option_changed_seconds": changed,
        "bare_compose_up_seconds": compose,
    }


def fresh(lab: Lab) -> dict[str, t.Any]:
    """Deploy on a host that was just made; the archive of the service images is beside it."""
    there = lab.ssh("test -e /srv/vedfolnir").returncode == 0
    assert not there, "the host is deployed already: ./lab bench makes it anew, or use --keep-host"
    seconds, run = timed(lab.playbook)
    return {"fresh_deploy_seconds": seconds, "fresh_deploy_tasks": tasks(run)}


def sizes(lab: Lab) -> dict[str, t.Any]:
    """Return the size of the application's image and the memory of each container, in MB."""
    image = lab.inspect()["app-1"]["Config"]["Image"]
    size = int(lab.run(f"docker image inspect --format '{{{{.Size}}}}' {image}"))
    memory: dict[str, float] = {}
    units = {"B": 1e-6, "kB": 1e-3, "KiB": 1.024e-3, "MiB": 1.048576, "GiB": 1073.741824}
    for line in lab.run("docker stats --no-stream --format '{{.Name}} {{.MemUsage}}'").splitlines():
        name, used, *_rest = line.split()
        match = re.fullmatch(r"([\d.]+)([A-Za-z]+)", used)
        assert match, line
        memory[name] = round(float(match[1]) * units[match[2]], 1)
    return {"app_image_mb": round(size / 1e6), "container_memory_mb": memory}


def monitoring(lab: Lab) -> dict[str, t.Any]:
    """Return what watching costs at rest: memory and processors of its containers, and scrapes."""
    lab.playbook(variables={"observability_enabled": False}).check()
    others = lab.services()
    seconds, _run = timed(lab.playbook)
    time.sleep(120)
    own = lab.services() - others
    memory = {
        name: size
        for name, size in sizes(lab)["container_memory_mb"].items()
        if name.removeprefix("vedfolnir-").removesuffix("-1") in own
    }
    used = lab.run("docker stats --no-stream --format '{{.Name}} {{.CPUPerc}}'").splitlines()
    shares = [float(line.split()[1].rstrip("%")) for line in used if line.split()[0] in memory]
    inspected = lab.inspect()
    limits = sum(inspected[name]["HostConfig"]["Memory"] for name in own)
    took = scrapes(lab)
    return {
        "monitoring_deploy_seconds": seconds,
        "monitoring_memory_mb": round(sum(memory.values())),
        "monitoring_limits_mb": round(limits / 1e6),
        "monitoring_cpus": round(sum(shares) / 100, 2),
        "monitoring_scrape_ms": took,
    }


def scrapes(lab: Lab) -> dict[str, int]:
    """Return how many milliseconds each job's slowest target takes to tell its metrics."""
    asked = "1000 * max by (job) (avg_over_time(scrape_duration_seconds[90s]))"
    url = f"http://127.0.0.1:9090/api/v1/query?query={quote(asked)}"
    said = lab.run(f"docker exec vedfolnir-prometheus-1 wget -q -O - '{url}'")
    series = json.loads(said)["data"]["result"]
    found = {one["metric"]["job"]: round(float(one["value"][1])) for one in series}
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))


class Target(t.NamedTuple):
    """What is loaded: an address, and the name under which the site is asked for it."""

    url: str
    host: str = ""
    may_break: float = 0
    """Share of requests that may lose their connection."""


def rate_of(output: str, may_break: float = 0) -> float:
    """Return the requests per second that wrk reports, if they were answered and well."""
    assert "Non-2xx" not in output, output
    match = re.search(r"(\d+) requests in .*Requests/sec:\s+([\d.]+)", output, re.DOTALL)
    assert match, output
    errors = re.search(r"Socket errors: (.*)", output)
    broken = sum(int(count) for count in re.findall(r"\d+", errors[1])) if errors else 0
    assert broken <= may_break * int(match[1]), output
    return float(match[2])


def load(lab: Lab, target: Target) -> float:
    """Load a target for a while and return its requests per second."""
    header = f"--header 'Host: {target.host}'" if target.host else ""
    options = f"--threads 2 --connections 16 --timeout 10s --duration {SECONDS}s"
    said = lab.run(f"wrk {options} {header} {target.url}", timeout=60)
    return rate_of(said, target.may_break)


def answers(lab: Lab, target: Target) -> None:
    """Make sure that it is the page that is measured, and not a redirect or an error."""
    header = f"--header 'Host: {target.host}'" if target.host else ""
    ask = f"curl --silent --insecure --output /dev/null --write-out '%{{http_code}}' {header}"
    status = lab.run(f"{ask} {target.url}")
    assert status == "200", f"{target.url} answers {status}"


def in_turns(
    targets: dict[str, T], measure: t.Callable[[T], float], rounds: int = ROUNDS
) -> dict[str, float]:
    """Measure all, one after the other, some rounds; return the median of each.

    Whatever else the machine does meanwhile then disturbs all in the same way.
    """
    every = [{name: measure(target) for name, target in targets.items()} for _ in range(rounds)]
    return {name: statistics.median(figures[name] for figures in every) for name in targets}


def start_bare_nginx(lab: Lab, services: dict[str, t.Any], static: str) -> str:
    """Start an nginx with the image, network and limits of the stack's; return its address."""
    limits = services["nginx"]["HostConfig"]
    lab.run("mkdir -p /root/bench && cat > /root/bench/nginx.conf", stdin=BARE_CONF)
    lab.run(
        f"docker run --detach --name {BARE} --network vedfolnir_edge "
        f"--memory {limits['Memory']} --cpus {limits['NanoCpus'] / 1e9} "
        "-v /root/bench/nginx.conf:/etc/nginx/nginx.conf:ro "
        "-v /run/vedfolnir/secrets/nginx/site.pem:/tls/site.pem:ro "
        f"-v {static}:/site:ro {services['nginx']['Config']['Image']}",
    )
    time.sleep(2)
    (found,) = json.loads(lab.run(f"docker inspect {BARE}"))
    return edge_address(found)


def edge_address(container: dict[str, t.Any]) -> str:
    """Return a container's address on the network of nginx and the application."""
    return str(container["NetworkSettings"]["Networks"]["vedfolnir_edge"]["IPAddress"])


def requests_per_second(lab: Lab) -> dict[str, t.Any]:
    """Load a page and a static file through nginx, the application directly, and a bare nginx."""
    install = "(apt-get update -q && apt-get install -qy curl wrk) >/dev/null"
    lab.run(f"{{ command -v wrk && command -v curl; }} >/dev/null || {install}", timeout=300)
    services = lab.inspect()
    app = f"http://{edge_address(services['app-1'])}:5000"
    (port,) = {
        inner.split("/")[0]
        for inner, outer in services["nginx"]["NetworkSettings"]["Ports"].items()
        if outer and outer[0]["HostPort"] == "443"
    }
    site, domain = (
        f"https://{edge_address(services['nginx'])}:{port}",
        lab.variables["stack_domain"],
    )
    # An update exports into a directory of its own: the newest is the one in use.
    static = lab.run("ls -td /srv/vedfolnir/static/*/static").split()[0]
    found = lab.run(f"cd {static} && find . -name '*.css' -type f | sort | head -n 1")
    file = "/static/" + found.strip().removeprefix("./")
    lab.run(f"docker rm --force {BARE} >/dev/null 2>&1; true")
    try:
        bare = f"https://{start_bare_nginx(lab, services, static)}:9443"
        # A replica asked directly breaks its 16 connections when gunicorn replaces its worker,
        # every thousand requests or so. nginx tries again: of the site nobody notices.
        targets = {
            "page_through_nginx": Target(site + LOGIN, domain),
            "page_of_one_replica": Target(app + LOGIN, may_break=0.05),
            "static_through_nginx": Target(site + file, domain),
            "static_of_bare_nginx": Target(bare + file),
            "static_of_one_replica": Target(app + file, may_break=0.05),
        }
        for target in targets.values():
            answers(lab, target)
        rates = in_turns(targets, lambda target: load(lab, target))
    finally:
        lab.run(f"docker rm --force {BARE} >/dev/null; rm -rf /root/bench")
    static_ratio = rates["static_through_nginx"] / rates["static_of_bare_nginx"]
    page_ratio = rates["page_through_nginx"] / rates["page_of_one_replica"]
    return {
        "requests_per_second": rates,
        "static_ratio_to_bare_nginx": round(static_ratio, 2),
        "page_ratio_to_one_replica": round(page_ratio, 2),
    }


BACKUP_GB = os.environ.get("VEDFOLNIR_BENCH_BACKUP_GB", "0.1,1")
"""Sizes of the database whose backup is measured, in GB; 4 takes a while."""
BACKUP_OPTIONS = {
    "backup_enabled": True,
    "backup_repository": "/srv/bench-ours",
    "backup_timer_enabled": False,
    "backup_drill_timer_enabled": False,
    # So that nothing else of it runs meanwhile.
    "backup_ship_seconds": 0,
    "backup_keep_last": 1,
}
CHANGED = {
    # As a site works: what is new stands together, at the end.
    "newest": "id >= 0.99 * {count}",
    # The worst that can be: every hundredth row, so that a third of restic's pieces are others.
    "scattered": "id % 100 = 0",
}
"""Which hundredth of the rows changes before a further backup."""
PROGRAM = "/usr/local/lib/vedfolnir/backup"
RAW = "/srv/bench-raw"
_SQL = (
    "cd /srv/vedfolnir && docker compose exec -T mysql mysql "
    "--defaults-extra-file=/run/secrets/root.cnf vedfolnir"
)
_OPTIONS = (
    "PYTHONPATH=/usr/local/lib/vedfolnir/python python3 -c 'from ansible_collections.vedfolnir."
    "stack.plugins.module_utils.backup_dump import OPTIONS; print(*OPTIONS)'"
)
_RESTIC = f"restic -q -r {RAW} -p /run/vedfolnir/secrets/backup/repository_key"
_RECORD = "/srv/vedfolnir/.state/backup.json"


class Taken(t.NamedTuple):
    """The database's part of a backup: megabytes of the dump and of what it added, and seconds."""

    size: float
    added: float
    seconds: float


def sql(lab: Lab, statements: str) -> None:
    """Let MySQL's administrator do something that is not written to the binary log."""
    # So that the disk holds the rows once, and their logs are not streamed meanwhile.
    lab.run(_SQL, timeout=1200, stdin=f"SET SESSION sql_log_bin = 0; {statements}")


def rows(lab: Lab, gigabytes: float) -> None:
    """Fill a table with what no compression makes smaller; 16 KiB a row."""
    count = int(gigabytes * 65536)
    sql(lab, "CREATE TABLE IF NOT EXISTS bench_rows (id INT PRIMARY KEY, raw MEDIUMBLOB);")
    piece = ", ".join(["RANDOM_BYTES(1024)"] * 16)
    for first in range(0, count, 4096):
        last = min(first + 4096, count)
        sql(
            lab,
            "SET SESSION cte_max_recursion_depth = 100000; REPLACE INTO bench_rows WITH "
            f"RECURSIVE n AS (SELECT {first} AS i UNION ALL SELECT i + 1 FROM n WHERE "
            f"i < {last - 1}) SELECT i, CONCAT({piece}) FROM n;",
        )


def one_backup(lab: Lab) -> Taken:
    """Take a backup; return the database's part of it."""
    said = lab.run(f"{PROGRAM} backup", timeout=3600)
    match = re.search(r"mysql: (\d+) bytes, (\d+) new, ([\d.]+) s", said)
    assert match, said
    return Taken(int(match[1]) / 1e6, int(match[2]) / 1e6, float(match[3]))


def first_backup(lab: Lab) -> Taken:
    """Take a backup into an empty repository."""
    lab.run(f"rm -rf {BACKUP_OPTIONS['backup_repository']} {_RECORD}")
    return one_backup(lab)


def raw_pipeline(lab: Lab) -> float:
    """Return the seconds of mysqldump into restic alone, into an empty repository of its own."""
    lab.run(f"rm -rf {RAW}; {_RESTIC} init")
    dump = (
        "cd /srv/vedfolnir && docker compose exec -T mysql mysqldump "
        f"--defaults-extra-file=/run/secrets/backup.cnf {lab.run(_OPTIONS).strip()} "
        "--databases vedfolnir"
    )
    start = time.monotonic()
    lab.run(
        f"set -o pipefail; {{ {dump}; }} | {_RESTIC} backup --stdin --stdin-filename mysql.sql",
        timeout=3600,
    )
    seconds = time.monotonic() - start
    lab.run(f"rm -rf {RAW}")
    return seconds


def backup_of(lab: Lab, gigabytes: float) -> dict[str, t.Any]:
    """Measure the backup of one size beside the raw pipeline, and further ones with 1 % changed."""
    rows(lab, gigabytes)
    taken: list[Taken] = []

    def ours() -> float:
        taken.append(first_backup(lab))
        return taken[-1].seconds

    ways: dict[str, t.Callable[[], float]] = {"raw": lambda: raw_pipeline(lab), "ours": ours}
    median = in_turns(ways, lambda way: way(), ROUNDS if gigabytes <= 1 else 1)
    first = taken[-1]
    found: dict[str, t.Any] = {
        "raw_seconds": round(median["raw"], 1),
        "first_seconds": median["ours"],
        "ratio": round(median["raw"] / median["ours"], 2),
        "dump_mb": round(first.size),
        "mb_per_second": round(first.size / median["ours"], 1),
        "first_added_mb": round(first.added, 1),
    }
    for name, which in CHANGED.items():
        count = "(SELECT n FROM (SELECT COUNT(*) AS n FROM bench_rows) AS counted)"
        sql(
            lab,
            "UPDATE bench_rows SET raw = CONCAT(RANDOM_BYTES(1024), SUBSTRING(raw, 1025)) WHERE "
            + which.format(count=count),
        )
        again = one_backup(lab)
        found |= {
            f"{name}_seconds": again.seconds,
            f"{name}_added_mb": round(again.added, 1),
            f"{name}_added_share": round(again.added / first.added, 3),
        }
    return found


def backups(lab: Lab) -> dict[str, t.Any]:
    """Measure backups beside the raw pipeline, by size of the database."""
    lab.playbook(variables=BACKUP_OPTIONS).check()
    found: dict[str, dict[str, t.Any]] = {}
    try:
        for size in BACKUP_GB.split(","):
            found[f"{size} GB"] = backup_of(lab, float(size))
            print(f"{size} GB: {found[f'{size} GB']}", flush=True)
    finally:
        sql(lab, "DROP TABLE IF EXISTS bench_rows;")
        lab.run(f"rm -rf {RAW} {BACKUP_OPTIONS['backup_repository']} {_RECORD}")
        lab.playbook().check()
    largest = list(found.values())[-1]
    return {"backup": found, "backup_ratio_to_raw_pipeline": largest["ratio"]}


def judged(figures: dict[str, t.Any]) -> dict[str, dict[str, t.Any]]:
    """Return each aim whose figure was measured, and whether it is met."""
    compare = {"<=": operator.le, ">=": operator.ge}
    return {
        name: {"aim": f"{sign} {bound:g}", "met": compare[sign](figures[name], bound)}
        for name, (sign, bound) in AIMS.items()
        if name in figures
    }


def as_text(figures: dict[str, t.Any]) -> str:
    """Return the figures for people, each with its aim."""
    rows = []
    for name, value in figures.items():
        aim = figures["aims"].get(name)
        note = f"  (aim {aim['aim']}: {'met' if aim['met'] else 'NOT met'})" if aim else ""
        if name != "aims":
            rows.append(f"{name:30} {value}{note}")
    return "\n".join(rows)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="./lab bench", description=__doc__)
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object and nothing else"
    )
    parser.add_argument(
        "--keep-host", action="store_true", help="do not measure a first deployment"
    )
    parser.add_argument(
        "--only",
        choices=[measure.__name__ for measure in MEASUREMENTS.values()],
        help="measure this alone",
    )
    parser.add_argument("--output", type=Path, help="file for the figures (default: print them)")
    arguments = parser.parse_args()
    lab = Lab()
    figures: dict[str, t.Any] = {}
    chosen = {
        what: measure
        for what, measure in MEASUREMENTS.items()
        if (not arguments.only or measure.__name__ == arguments.only)
        and not (measure is fresh and arguments.keep_host)
    }
    for number, (what, measure) in enumerate(chosen.items(), 1):
        print(f"bench {number}/{len(chosen)}: {what}", flush=True)
        figures |= measure(lab)
    figures["aims"] = judged(figures)
    text = json.dumps(figures, indent=2) if arguments.json else as_text(figures)
    if arguments.output:
        arguments.output.write_text(f"{text}\n", encoding="utf-8")
    else:
        print(text)
    return 0


MEASUREMENTS: dict[str, t.Callable[[Lab], dict[str, t.Any]]] = {
    "a first deployment, images present": fresh,
    "nothing to do, one option changed, Compose alone": deployments,
    "sizes": sizes,
    "what watching costs": monitoring,
    "requests per second": requests_per_second,
    "backups beside the raw pipeline": backups,
}
"""What is measured, in order."""


if __name__ == "__main__":
    sys.exit(main())
