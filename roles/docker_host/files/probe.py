"""Look at a host once, change nothing, and print as JSON what the role docker_host must know.

Runs on the host as ``python3 - REQUEST < probe.py``: one program instead of ten tasks, because
each task costs a round trip.
"""

from __future__ import annotations

import fnmatch
import glob
import grp
import json
import os
import pwd
import re
import shutil
import subprocess
import sys
import time
import typing as t

Record = dict[str, t.Any]

# Kernel parameters that belong to a network or IPC namespace, thus to a container itself.
NAMESPACED = re.compile(r"net\.|kernel\.(shm|msg|sem)|fs\.mqueue\.")
REFUSED = re.compile(r"^dpkg: error processing package ([^\s:]+)", re.MULTILINE)
PORT = re.compile(r"^port (\d+)$", re.MULTILINE)


def output(*argv: str) -> str:
    """Return what a program prints, or nothing when it is missing or fails."""
    if shutil.which(argv[0]) is None:
        return ""
    result = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    return result.stdout if result.returncode == 0 else ""


def read(path: str) -> str:
    """Return a file's text, or nothing when it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as handle:
            return handle.read()
    except OSError:
        return ""


def container() -> str:
    """Return the kind of container this is, or nothing on a machine of its own."""
    kind = output("systemd-detect-virt", "--container").strip()
    return "" if kind == "none" else kind


def ancestor_ports() -> set[int]:
    """Return the port of the SSH connection this program came through, sudo or not."""
    pid = os.getpid()
    while pid > 1:
        match = re.search(r"(?:^|\0)SSH_CONNECTION=\S+ \S+ \S+ (\d+)", read(f"/proc/{pid}/environ"))
        if match:
            return {int(match[1])}
        parent = re.search(r"^PPid:\s+(\d+)$", read(f"/proc/{pid}/status"), re.MULTILINE)
        pid = int(parent[1]) if parent else 0
    return set()


def ssh_ports() -> list[int]:
    """Return every port on which SSH is or will be served."""
    ports = {int(port) for port in PORT.findall(output("sshd", "-T"))} | ancestor_ports()
    for listen in output("systemctl", "show", "ssh.socket", "-p", "Listen", "--value").splitlines():
        match = re.search(r":(\d+) \(Stream\)", listen)
        if match:
            ports.add(int(match[1]))
    return sorted(ports or {22})


def unneeded(candidates: set[str]) -> list[str]:
    """Return the packages that can go without another that is installed losing what it needs."""
    left = set(candidates)
    while left:
        argv = ["dpkg", "--simulate", "--remove", *sorted(left)]
        environment = {**os.environ, "LC_ALL": "C"}
        trial = subprocess.run(
            argv, capture_output=True, text=True, check=False, timeout=60, env=environment
        )
        refused = left & set(REFUSED.findall(trial.stderr))
        if trial.returncode == 0:
            break
        # What dpkg refuses without naming a package is not understood: nothing goes.
        left = left - refused if refused else set()
    return sorted(left)


def packages(request: Record, wanted: dict[str, str], recorded: list[str]) -> Record:
    """Return which packages are installed, held or missing, and which nobody wants any more."""
    listing = output("dpkg-query", "-W", "-f", "${Package}\t${Version}\t${db:Status-Abbrev}\n")
    rows = [line.split("\t") for line in listing.splitlines()]
    installed = {
        name: (version, status[0] == "h") for name, version, status in rows if status[1] == "i"
    }
    # Another version than the first one that is there already is the operator's choice.
    pinned = {
        name: version
        for name, version in request["first_versions"].items()
        if name not in installed or fnmatch.fnmatch(installed[name][0], version)
    } | {name: version for name, version in wanted.items() if version}
    missing = [
        f"{name}={pinned[name]}" if name in pinned else name
        for name in wanted
        if name not in installed or not fnmatch.fnmatch(installed[name][0], pinned.get(name, "*"))
    ]
    known = {*wanted, *request["known_packages"], *recorded}
    return {
        "missing": missing,
        "pinned": pinned,
        "dropped": unneeded(set(recorded) & set(installed) - set(request["packages"])),
        "installed": sorted(set(installed) & known),
        "held": sorted(name for name, (_version, held) in installed.items() if held),
        "versions": {name: installed[name][0] for name in wanted if name in installed},
        "interrupted": bool(glob.glob("/var/lib/dpkg/updates/*")),
        # Half unpacked (dpkg's flag reinst-required): apt takes them for installed.
        "broken": sorted(name for name, _version, status in rows if status[2:3] == "R"),
        "index_present": bool(glob.glob("/var/lib/apt/lists/*_Packages*")),
    }


def sysctl(wanted: dict[str, t.Any], inside: str) -> Record:
    """Tell which kernel parameters cannot be set here and which have another value."""
    skipped, differing = [], []
    for key, value in sorted(wanted.items()):
        path = "/proc/sys/" + key.replace(".", "/")
        foreign = inside and not NAMESPACED.match(key)
        if foreign or not os.access(path, os.W_OK):
            skipped.append(key)
        elif read(path).split() != str(value).split():
            differing.append(key)
    return {"skipped": skipped, "differing": differing}


def newest(paths: list[str]) -> float:
    """Return the time of the last change among the paths that exist."""
    times = [os.lstat(path).st_mtime for path in paths if os.path.lexists(path)]
    return max(times, default=0.0)


def unit(name: str, settings: list[str]) -> Record:
    """Return a unit's state, and whether its settings changed after it last started or reloaded."""
    fields = "LoadState,ActiveState,UnitFileState,NeedDaemonReload,StateChangeTimestampMonotonic"
    text = output("systemctl", "show", name, "-p", fields)
    state = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    since = int(state.get("StateChangeTimestampMonotonic") or 0) / 1e6
    started = time.time() - time.clock_gettime(time.CLOCK_MONOTONIC) + since
    active = state.get("ActiveState") in ("active", "reloading")
    return {
        "exists": state.get("LoadState") in ("loaded", "masked"),
        "active": active,
        "enabled": state.get("UnitFileState") == "enabled",
        "reread": state.get("NeedDaemonReload") == "no",
        "stale": active and newest(settings) > started,
    }


def images_missing(archives: list[Record]) -> list[str]:
    """Return the archives of which at least one image is not there."""
    names = sorted({image for archive in archives for image in archive["images"]})
    if not names or output("docker", "image", "inspect", "--format", "{{.Id}}", *names):
        return []
    return [
        archive["path"]
        for archive in archives
        if not output("docker", "image", "inspect", "--format", "{{.Id}}", *archive["images"])
    ]


def images() -> list[str]:
    """Return the names of the images that are there, as Docker prints them."""
    return output("docker", "image", "ls", "--format", "{{.Repository}}:{{.Tag}}").splitlines()


def account(name: str, group: str) -> Record:
    """Return the numbers of the stack's user and group."""
    user = {entry.pw_name: entry for entry in pwd.getpwall()}.get(name)
    gids = {entry.gr_name: entry.gr_gid for entry in grp.getgrall()}
    return {
        "uid": user.pw_uid if user else None,
        "primary": user.pw_gid if user else None,
        "shell": user.pw_shell if user else "",
        "gid": gids.get(group),
    }


def firewall_digest() -> str:
    """Return the digest that the loaded table carries in its comment."""
    table = output("nft", "list", "table", "inet", "vedfolnir")
    match = re.search(r'comment "rules ([0-9a-f]+)"', table)
    return match[1] if match else ""


def settings(path: str) -> Record | None:
    """Return a JSON file's object; a missing file is an empty one, an unreadable one is None."""
    try:
        value = json.loads(read(path) or "{}")
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def look(request: Record) -> Record:
    """Collect all that the role must know."""
    inside = container()
    wanted = {
        name: version
        for name, version in request["packages"].items()
        if not (inside and name in request["machine_packages"])
    }
    recorded = (settings(request["record_path"]) or {}).get("packages", [])
    certificates = glob.glob(request["ca_directory"] + "/*.crt")
    ca_paths = [request["ca_directory"], *certificates]
    return {
        "container": inside,
        "ssh_ports": ssh_ports(),
        "packages": packages(request, wanted, recorded),
        "recorded": recorded,
        "key": read(request["keyring"]),
        "sysctl": sysctl(request["sysctl"], inside),
        "units": {name: unit(name, paths) for name, paths in request["units"].items()},
        "docker_certificates_stale": unit("docker.service", ca_paths)["stale"],
        "daemon": settings("/etc/docker/daemon.json"),
        "existing": [path for path in request["paths"] if os.path.lexists(path)],
        "certificates": certificates,
        "certificate_texts": {path: read(path) for path in request["ca_paths"]},
        "bundle_stale": newest(ca_paths) > newest(["/etc/ssl/certs/ca-certificates.crt"]),
        "archives": images_missing(request["archives"]),
        "images": images(),
        "firewall": firewall_digest(),
        "account": account(request["user"], request["user"]),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(look(json.loads(sys.argv[1]))))
