"""The figures of ``./lab bench``: deployment times, sizes, memory and requests per second.

Everything that is compared is measured in one run on one host, and printed as a ratio beside the
figures. The load (wrk) runs on the lab host itself, so that no port forward is measured.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
import typing as t
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "stack"))

from lab import Lab, Run
from vedfolnir_lab import hosts

SECONDS = 6
"""Length of each load in seconds; with 2 threads and 16 connections it saturates two cores."""

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
    hosts.destroy(limit=lab.name)
    hosts.create(limit=lab.name)
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


def rate(lab: Lab, url: str) -> float:
    """Return the requests per second of a URL, all of which must be answered with 2xx or 3xx."""
    output = lab.run(f"wrk --threads 2 --connections 16 --duration {SECONDS}s {url}", timeout=60)
    assert "Non-2xx" not in output, f"{url}:\n{output}"
    match = re.search(r"Requests/sec:\s+([\d.]+)", output)
    assert match, output
    return float(match[1])


def requests_per_second(lab: Lab) -> dict[str, t.Any]:
    """Load a page and a static file through nginx, the application directly, and a bare nginx."""
    install = "(apt-get update -q && apt-get install -qy wrk) >/dev/null"
    lab.run(f"command -v wrk || {install}", timeout=300)
    services = lab.inspect()
    app = services["app-1"]["NetworkSettings"]["Networks"]["vedfolnir_edge"]["IPAddress"]
    image = services["nginx"]["Config"]["Image"]
    static = lab.run("ls -d /srv/vedfolnir/static/*/static").split()[-1]
    found = lab.run(f"cd {static} && find . -name '*.css' -type f | head -n 1")
    file = found.strip().removeprefix("./")
    lab.run("mkdir -p /root/bench && cat > /root/bench/nginx.conf", stdin=BARE_CONF)
    lab.run("docker rm --force vedfolnir-bench-nginx >/dev/null 2>&1; true")
    lab.run(
        "docker run --detach --name vedfolnir-bench-nginx --network vedfolnir_edge "
        "--memory 256m --cpus 2 "
        "-v /root/bench/nginx.conf:/etc/nginx/nginx.conf:ro "
        "-v /run/vedfolnir/secrets/nginx/site.pem:/tls/site.pem:ro "
        f"-v {static}:/site:ro {image}",
    )
    try:
        time.sleep(2)
        address = lab.run(
            "docker inspect vedfolnir-bench-nginx "
            "--format '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}'",
        ).strip()
        domain = lab.variables["stack_domain"]
        lab.run(f"grep -q ' {domain}$' /etc/hosts || echo 127.0.0.1 {domain} >> /etc/hosts")
        site = f"https://{domain}"
        rates = {
            "page_through_nginx": rate(lab, f"{site}/user-management/login"),
            "page_of_one_replica": rate(lab, f"http://{app}:5000/user-management/login"),
            "static_through_nginx": rate(lab, f"{site}/static/{file}"),
            "static_of_bare_nginx": rate(lab, f"https://{address}:9443/static/{file}"),
            "static_of_one_replica": rate(lab, f"http://{app}:5000/static/{file}"),
        }
    finally:
        lab.run("docker rm --force vedfolnir-bench-nginx >/dev/null; rm -rf /root/bench")
    static_ratio = rates["static_through_nginx"] / rates["static_of_bare_nginx"]
    page_ratio = rates["page_through_nginx"] / rates["page_of_one_replica"]
    return {
        "requests_per_second": rates,
        "static_ratio_to_bare_nginx": round(static_ratio, 2),
        "page_ratio_to_one_replica": round(page_ratio, 2),
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="./lab bench", description=__doc__)
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object and nothing else"
    )
    parser.add_argument(
        "--fresh", action="store_true", help="remove the lab host first and measure its deployment"
    )
    parser.add_argument("--output", type=Path, help="file for the figures (default: print them)")
    arguments = parser.parse_args()
    lab = Lab()
    figures: dict[str, t.Any] = {}
    for number, (what, measure) in enumerate(MEASUREMENTS.items(), 1):
        if measure is fresh and not arguments.fresh:
            continue
        print(f"bench {number}/{len(MEASUREMENTS)}: {what}", flush=True)
        figures |= measure(lab)
    if arguments.json:
        text = json.dumps(figures, indent=2)
    else:
        text = "\n".join(f"{name:30} {value}" for name, value in figures.items())
    if arguments.output:
        arguments.output.write_text(f"{text}\n", encoding="utf-8")
    else:
        print(text)
    return 0


MEASUREMENTS: dict[str, t.Callable[[Lab], dict[str, t.Any]]] = {
    "a first deployment, images present": fresh,
    "nothing to do, one option changed, Compose alone": deployments,
    "sizes": sizes,
    "requests per second": requests_per_second,
}
"""What is measured, in order."""


if __name__ == "__main__":
    sys.exit(main())
