from __future__ import annotations

import os
import pathlib
import socket

import pytest
from ansible_collections.vedfolnir.stack.plugins.module_utils import host

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid inode"


def row(address: str, state: str, inode: int) -> str:
    """Return a line of /proc/net/tcp."""
    return f"   0: {address} 00000000:0000 {state} 00000000:00000000 00:00000000 0 0 0 {inode} 1 0"


TCP = "\n".join(
    [
        HEAD,
        row("00000000:0016", "0A", 100),
        row("0100007F:1F90", "0A", 200),
        row("0100007F:0016", "01", 300),  # a connection, nobody listens
        row("0100007F:0801", "0A", 400),
        "cut off",
    ]
)
TCP6 = "\n".join([HEAD, row("00000000000000000000000000000000:0016", "0A", 101)])


@pytest.fixture
def proc(tmp_path: pathlib.Path) -> pathlib.Path:
    """Make a /proc with two processes, one of them with several sockets."""
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "tcp").write_text(TCP)
    (tmp_path / "net" / "tcp6").write_text(TCP6)
    for pid, name, targets in (
        ("1", "sshd", ["socket:[100]", "socket:[101]", "/dev/null", "pipe:[200]"]),
        ("22", "web server", ["socket:[200]"]),
    ):
        (tmp_path / pid / "fd").mkdir(parents=True)
        (tmp_path / pid / "comm").write_text(f"{name}\n")
        for number, target in enumerate(targets):
            (tmp_path / pid / "fd" / str(number)).symlink_to(target)
    (tmp_path / "33").mkdir()  # gone while it was looked at
    return tmp_path


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("MemFree: 5 kB\nMemTotal:       16303104 kB\nMemTotalX: 1 kB\n", 15921),
        ("MemTotal: 1023 kB", 0),
        ("MemFree: 5 kB\n", 0),
        ("", 0),
    ],
)
def test_memory_is_read_in_mebibytes(text: str, size: int) -> None:
    assert host.memory_mb(text) == size


def test_the_table_gives_who_listens() -> None:
    assert host.listening(TCP) == {"100": 22, "200": 8080, "400": 2049}
    assert host.listening(HEAD) == host.listening("") == {}


def test_sockets_have_owners(proc: pathlib.Path) -> None:
    assert host.socket_owners(str(proc)) == {
        "100": "sshd",
        "101": "sshd",
        "200": "web server",
    }


def test_a_descriptor_that_is_closed_meanwhile_hides_no_other(
    proc: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (proc / "22" / "fd" / "-").touch()  # no link: reading it fails as reading a closed one does
    listdir = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: sorted(listdir(path)))
    assert host.socket_owners(str(proc))["200"] == "web server"


def test_each_port_is_named_once_with_its_process(proc: pathlib.Path) -> None:
    assert host.listeners(str(proc)) == [
        {"port": 22, "process": "sshd"},
        {"port": 2049, "process": "the kernel"},
        {"port": 8080, "process": "web server"},
    ]


def test_a_socket_that_comes_or_goes_meanwhile_is_left_out(
    proc: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = iter([{"1": 80, "100": 22}, {"100": 22, "2": 81}])
    monkeypatch.setattr(host, "_tables", lambda _proc: next(tables))
    assert host.listeners(str(proc)) == [{"port": 22, "process": "sshd"}]


def test_a_host_without_ipv6_is_read_too(proc: pathlib.Path) -> None:
    (proc / "net" / "tcp6").unlink()
    assert {item["port"] for item in host.listeners(str(proc))} == {22, 2049, 8080}


def test_this_machine_tells_what_this_test_listens_on() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        own = pathlib.Path("/proc/self/comm").read_text().strip()
        assert {"port": port, "process": own} in host.listeners()
    assert port not in [item["port"] for item in host.listeners()]


@pytest.mark.parametrize(
    ("ports", "numbers"),
    [
        ("", []),
        ("5000/tcp, 6379/tcp", []),
        ("0.0.0.0:8080->80/tcp, [::]:8080->80/tcp, :::8080->80/tcp", [8080]),
        ("127.0.0.1:443->8443/tcp, 0.0.0.0:80->8080/tcp", [80, 443]),
        ("0.0.0.0:53->53/udp, 0.0.0.0:54->53/tcp", [54]),
        ("0.0.0.0:8000-8002->8000-8002/tcp, 9000-9001/tcp", [8000, 8001, 8002]),
    ],
)
def test_a_published_port_has_a_container_and_perhaps_a_project(
    ports: str, numbers: list[int]
) -> None:
    for project in ("", "vedfolnir"):
        assert host.published(f"web\t{project}\t{ports}\n") == [
            {"port": number, "container": "web", "project": project} for number in numbers
        ]


def test_every_container_is_listed() -> None:
    assert [item["container"] for item in host.published("b\t\t:1->1/tcp\na\tx\t:2->2/tcp\n")] == [
        "b",
        "a",
    ]
    assert host.published("") == []


def test_free_disk_is_the_one_of_the_nearest_directory(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def statvfs(path: str) -> os.statvfs_result:
        asked.append(path)
        return os.statvfs_result((4096, 4096, 1000, 512, 300, 0, 0, 0, 0, 255))

    monkeypatch.setattr(os, "statvfs", statvfs)
    assert host.disk_free_mb(str(tmp_path / "not" / "there" / "yet")) == 2
    assert asked == [str(tmp_path)]


DEBIAN = """PRETTY_NAME="Debian GNU/Linux 13 (trixie)"
VERSION_ID="13"
# a comment
VERSION_CODENAME=trixie
ID=debian
"""


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        (DEBIAN, ["Debian", "13", "trixie", "13"]),
        ("ID=ubuntu\nVERSION_ID='24.04'\n", ["Ubuntu", "24", "", "24.04"]),
        ("ID=debian\nVERSION_CODENAME=sid\n", ["Debian", "", "sid", "sid"]),
        ("", ["", "", "", ""]),
    ],
)
def test_the_release_has_the_names_of_setup(text: str, facts: list[str]) -> None:
    names = ["", "_major_version", "_release", "_version"]
    expected = {
        f"ansible_distribution{name}": fact for name, fact in zip(names, facts, strict=True)
    }
    assert host.release(text) == expected


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []),
        ("[{}]", []),
        (
            '[{"ifname": "eth0", "addr_info": [{"family": "inet", "local": "10.0.0.1"},'
            '{"family": "inet", "local": "10.0.0.2"}, {"family": "inet6", "local": "fe80::1"}]}]',
            [
                {"interface": "eth0", "address": "10.0.0.1"},
                {"interface": "eth0", "address": "10.0.0.2"},
            ],
        ),
    ],
)
def test_addresses_of_interfaces(text: str, found: list[dict[str, str]]) -> None:
    assert host.addresses(text) == found


@pytest.mark.parametrize(
    ("files", "programs", "found"),
    [
        ([], [], (False, False)),
        (["dev/nvidiactl"], [], (True, False)),
        (["proc/driver/nvidia/version"], ["nvidia-container-runtime-hook"], (True, True)),
        ([], ["nvidia-container-runtime"], (False, True)),
        (["dev/nvidia-caps"], ["nvidia-smi"], (False, False)),
    ],
)
def test_what_is_there_for_graphics_cards(
    tmp_path: pathlib.Path, files: list[str], programs: list[str], found: tuple[bool, bool]
) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    paths = {name: f"/usr/bin/{name}" for name in programs}
    driver, toolkit = found
    assert host.nvidia(paths.get, str(tmp_path)) == {"driver": driver, "toolkit": toolkit}
