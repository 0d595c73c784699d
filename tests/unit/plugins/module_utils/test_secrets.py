from __future__ import annotations

import base64
import datetime
import hashlib
import os
import pathlib
import re
import string
import subprocess
import typing as t

import pytest
from ansible_collections.vedfolnir.stack.plugins.module_utils import secrets
from ansible_collections.vedfolnir.stack.plugins.module_utils.secrets import SecretError
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

Store = dict[str, t.Any]

MANIFEST: list[dict[str, t.Any]] = [
    {"name": "ca", "kind": "ca", "names": ["Test CA"]},
    {"name": "tls", "kind": "tls", "issuer": "ca", "names": ["a.example", "10.0.0.1", "::1"]},
    {"name": "password", "kind": "password"},
    {"name": "other", "kind": "password"},
    {"name": "hex", "kind": "hex", "length": 64},
    {"name": "fernet", "kind": "fernet"},
    {"name": "mail", "kind": "given", "optional": True},
]


def converged(given: t.Mapping[str, str] | None = None) -> Store:
    return secrets.converge_store({}, MANIFEST, given or {})[0]


def certificate(entry: t.Mapping[str, str]) -> x509.Certificate:
    return x509.load_pem_x509_certificate(entry["certificate"].encode())


@pytest.mark.parametrize("length", [16, 24, 40, 48])
def test_passwords_have_every_class_and_start_with_a_letter(length: int) -> None:
    for _attempt in range(50):
        value = secrets.generate("password", length)
        assert re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]+", value)
        assert len(value) == length
        for characters in (string.ascii_lowercase, string.ascii_uppercase, string.digits, "_-"):
            assert set(value) & set(characters)
        secrets.check_shape("x", "password", value)


@pytest.mark.parametrize("length", [16, 17, 64])
def test_hexadecimal_strings_have_their_length(length: int) -> None:
    assert re.fullmatch("[0-9a-f]{%d}" % length, secrets.generate("hex", length))  # noqa: UP031


def test_fernet_keys_are_what_fernet_takes() -> None:
    from cryptography.fernet import Fernet

    value = secrets.generate("fernet", 0)
    secrets.check_shape("x", "fernet", value)
    assert Fernet(value).decrypt(Fernet(value).encrypt(b"text")) == b"text"


@pytest.mark.parametrize(
    ("kind", "length", "message"),
    [
        ("password", 15, "15 characters are too few, 16 are the least"),
        ("password", 3, "3 characters are too few, 16 are the least"),
        ("hex", 8, "8 characters are too few, 16 are the least"),
        ("tls", 40, "a secret of kind 'tls' cannot be generated"),
        ("rot13", 40, "a secret of kind 'rot13' cannot be generated"),
    ],
)
def test_what_cannot_be_generated(kind: str, length: int, message: str) -> None:
    with pytest.raises(SecretError) as error:
        secrets.generate(kind, length)
    assert str(error.value) == message


BLANK = "x: is empty, or has control characters or blanks at an end"
NO_FERNET = "x: is not a Fernet key (44 characters of URL-safe base64 that end with '=')"


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        ("password", "", BLANK),
        ("password", " hunter2", BLANK),
        ("password", "hunter2\n", BLANK),
        ("given", "hunter\x002", BLANK),
        ("hex", "hun\nter2", BLANK),
        ("fernet", "hunter2", NO_FERNET),
        ("fernet", base64.urlsafe_b64encode(b"x" * 31).decode(), NO_FERNET),
        ("fernet", base64.urlsafe_b64encode(b"x" * 33).decode(), NO_FERNET),
        ("fernet", "é" * 44, NO_FERNET),
    ],
)
def test_given_values_of_a_wrong_shape(kind: str, value: str, message: str) -> None:
    with pytest.raises(SecretError) as error:
        secrets.check_shape("x", kind, value)
    assert str(error.value) == message


def test_every_kind_is_made_once_and_stays() -> None:
    store, made = secrets.converge_store({}, MANIFEST, {})
    names = ["ca", "tls", "password", "other", "hex", "fernet"]
    assert made == ["__salt", *names]
    assert [len(store[name]) for name in ("password", "hex", "fernet")] == [40, 64, 44]
    assert secrets.converge_store(store, MANIFEST, {}) == (store, [])


def test_what_others_trust_is_the_certificate_alone_and_follows_the_authority() -> None:
    """A host from before has the authority; its value is taken over, nothing else changes."""
    store = converged()
    manifest = [*MANIFEST, {"name": "trust", "kind": "trust", "issuer": "ca"}]
    with_trust, made = secrets.converge_store(store, manifest, {})
    assert made == ["trust"]
    assert with_trust == store | {"trust": store["ca"]["certificate"]}
    assert "PRIVATE KEY" not in with_trust["trust"]
    assert secrets.converge_store(with_trust, manifest, {}) == (with_trust, [])
    other = with_trust | {"ca": secrets.make_ca("Another")}
    assert secrets.converge_store(other, manifest, {})[0]["trust"] == other["ca"]["certificate"]


def test_no_two_names_yield_one_value() -> None:
    manifest = [
        {"name": f"s{index}", "kind": kind}
        for index, kind in enumerate(["password", "hex", "fernet"] * 50)
    ]
    store, _made = secrets.converge_store({}, manifest, {})
    assert len(set(store.values())) == len(manifest) + 1


def test_given_values_win_and_stay_when_they_are_no_longer_given() -> None:
    store, _made = secrets.converge_store({}, MANIFEST, {"password": "brought-along", "mail": "m"})
    assert (store["password"], store["mail"]) == ("brought-along", "m")
    assert secrets.converge_store(store, MANIFEST, {}) == (store, [])
    changed, made = secrets.converge_store(store, MANIFEST, {"password": "another"})
    assert (changed["password"], made) == ("another", ["password", secrets.GIVEN])


def test_a_value_left_in_the_inventory_does_not_take_back_a_rotation() -> None:
    given = {"password": "brought-along"}
    store, _made = secrets.converge_store({}, MANIFEST, given)
    rotated = store | {"password": "rotated"}
    assert secrets.converge_store(rotated, MANIFEST, given) == (rotated, [])
    pair = {"value": "brought-along", "others": ["next"], "state": "prepared"}
    rotating = store | {"password": pair}
    assert secrets.converge_store(rotating, MANIFEST, given) == (rotating, [])
    assert "brought-along" not in store[secrets.GIVEN]


@pytest.mark.parametrize(
    ("entry", "wanted"),
    [
        ("a", {"value": "a", "others": "", "older": "a", "newer": "a"}),
        (
            {"value": "a", "others": ["b"], "state": "prepared"},
            {"value": "a", "others": "b", "older": "a", "newer": "b"},
        ),
        (
            {"value": "c", "others": ["b", "a"], "state": "switched"},
            {"value": "c", "others": "b\na", "older": "b", "newer": "c"},
        ),
        ({"certificate": "c", "private_key": "k"}, {"certificate": "c", "private_key": "k"}),
    ],
)
def test_parts_of_a_secret(entry: t.Any, wanted: dict[str, str]) -> None:
    assert secrets.parts(entry) == wanted


def test_values_of_names_that_are_no_longer_listed_are_kept() -> None:
    store = converged()
    kept, made = secrets.converge_store(store, MANIFEST[:1], {})
    assert (kept, made) == (store, [])


def test_the_store_that_was_handed_in_is_not_changed() -> None:
    store: Store = {}
    secrets.converge_store(store, MANIFEST, {})
    assert store == {}


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"name": "x", "kind": "rot13"}, "x: has the unknown kind 'rot13'"),
        ({"name": "x", "kind": "given"}, "x: must be given in stack_secrets_given"),
        (
            {"name": "x", "kind": "password", "length": 8},
            "x: 8 characters are too few, 16 are the least",
        ),
        ({"name": "x", "kind": "ca"}, "x: a certificate needs names"),
        (
            {"name": "x", "kind": "trust", "issuer": "password"},
            "x: has no issuer of kind ca before it in the manifest",
        ),
        (
            {"name": "x", "kind": "tls", "names": ["a"]},
            "x: has no issuer of kind ca before it in the manifest",
        ),
        (
            {"name": "x", "kind": "tls", "names": ["a"], "issuer": "password"},
            "x: has no issuer of kind ca before it in the manifest",
        ),
        (
            {"name": "x", "kind": "tls", "names": ["bücher.example"], "issuer": "ca"},
            "x: its names cannot be used, or what is stored of it or its issuer is damaged",
        ),
    ],
)
def test_bad_entries_of_the_manifest(item: dict[str, t.Any], message: str) -> None:
    with pytest.raises(SecretError) as error:
        secrets.converge_store({}, [*MANIFEST, item], {})
    assert str(error.value) == message


def test_all_problems_are_named_at_once_and_no_value() -> None:
    manifest = [*MANIFEST, {"name": "x", "kind": "given"}, {"name": "y", "kind": "?"}]
    given = {"fernet": "hunter2", "unknown": "hunter2", "tls": "hunter2"}
    with pytest.raises(SecretError) as error:
        secrets.converge_store({}, manifest, given)
    assert str(error.value) == "; ".join(
        [
            "unknown: is given but the manifest does not list it",
            "tls: is made by the stack and cannot be given",
            NO_FERNET.replace("x:", "fernet:"),
            "x: must be given in stack_secrets_given",
            "y: has the unknown kind '?'",
        ]
    )


@pytest.mark.parametrize("name", ["ca", "tls"])
def test_a_damaged_certificate_in_the_store_is_named(name: str) -> None:
    store = converged()
    store[name] = {"certificate": "hunter2", "private_key": "hunter2"}
    with pytest.raises(SecretError) as error:
        secrets.converge_store(store, MANIFEST, {})
    assert str(error.value) == (
        "tls: its names cannot be used, or what is stored of it or its issuer is damaged"
    )


def test_certificates_are_what_a_client_wants() -> None:
    store = converged()
    ca, leaf = certificate(store["ca"]), certificate(store["tls"])
    leaf.verify_directly_issued_by(ca)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["a.example"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.1", "::1"]
    assert ca.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    life = leaf.not_valid_after_utc - leaf.not_valid_before_utc
    assert life <= datetime.timedelta(days=398)
    key = leaf.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp256r1"


def test_openssl_accepts_the_chain(tmp_path: pathlib.Path) -> None:
    store = converged()
    (tmp_path / "ca.pem").write_text(store["ca"]["certificate"])
    (tmp_path / "leaf.pem").write_text(store["tls"]["certificate"])
    done = subprocess.run(
        [
            "openssl",
            "verify",
            "-x509_strict",
            "-purpose",
            "sslserver",
            "-verify_hostname",
            "a.example",
            "-CAfile",
            "ca.pem",
            "leaf.pem",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "leaf.pem: OK\n"), done.stderr


def test_a_long_host_name_does_not_fit_a_common_name_and_serves_all_the_same() -> None:
    name = "a" * 60 + ".example.org"
    leaf = secrets.make_leaf(secrets.make_ca("CA"), [name])
    names = certificate(leaf).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [name]


@pytest.mark.parametrize(
    ("days_later", "renewed"),
    [(0, False), (300, False), (336, False), (338, True), (397, True), (500, True)],
)
def test_certificates_are_renewed_in_time(
    monkeypatch: pytest.MonkeyPatch, days_later: int, renewed: bool
) -> None:
    store = converged()
    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days_later)
    monkeypatch.setattr(secrets, "_now", lambda: later)
    after, made = secrets.converge_store(store, MANIFEST, {})
    assert made == (["tls"] if renewed else [])
    assert after["ca"] == store["ca"]
    assert secrets.converge_store(after, MANIFEST, {}) == (after, [])


@pytest.mark.parametrize(
    ("names", "renewed"),
    [
        (["a.example", "10.0.0.1", "::1"], False),
        (["::1", "a.example", "10.0.0.1"], False),
        (["a.example", "10.0.0.1", "0:0:0:0:0:0:0:1"], False),
        (["a.example", "10.0.0.1"], True),
        (["a.example", "10.0.0.1", "::1", "b.example"], True),
    ],
)
def test_certificates_follow_their_names(names: list[str], renewed: bool) -> None:
    store = converged()
    manifest = [MANIFEST[0], {**MANIFEST[1], "names": names}]
    after, made = secrets.converge_store(store, manifest, {})
    assert made == (["tls"] if renewed else [])
    assert secrets.converge_store(after, manifest, {}) == (after, [])


def test_a_new_authority_of_the_same_name_issues_anew() -> None:
    store = converged()
    store["ca"] = secrets.make_ca("Test CA")
    after, made = secrets.converge_store(store, MANIFEST, {})
    assert made == ["tls"]
    certificate(after["tls"]).verify_directly_issued_by(certificate(after["ca"]))


VALUES: Store = {
    "plain": "p'a\"s\\s",
    "tls": {"certificate": "CERT\n", "private_key": "KEY\n"},
    "absent": None,
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("", ""),
        ("no placeholder $ $x {plain}", "no placeholder $ $x {plain}"),
        ("${plain}", "p'a\"s\\s"),
        ("a${plain}b${plain}", "ap'a\"s\\sbp'a\"s\\s"),
        ("$${plain}", "${plain}"),
        ("$$${plain}", "$p'a\"s\\s"),
        ("cost: 5$$", "cost: 5$"),
        ("${tls.certificate}${tls.private_key}", "CERT\nKEY\n"),
        ("${plain|sha256}", hashlib.sha256(b"p'a\"s\\s").hexdigest()),
        ("'${plain|sql}'", "'p''a\"s\\\\s'"),
        ('"${plain|cnf}"', '"p\'a\\"s\\\\s"'),
        ("${tls.certificate|sha256}", hashlib.sha256(b"CERT\n").hexdigest()),
    ],
)
def test_placeholders_and_filters(template: str, text: str) -> None:
    assert secrets.render(template, VALUES) == text


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("${none}", "${none}: there is no such secret"),
        ("${absent}", "${absent}: there is no such secret"),
        ("${tls}", "${tls}: there is no such secret"),
        ("${tls.key}", "${tls.key}: there is no such secret"),
        ("${plain.part}", "${plain.part}: there is no such secret"),
        ("${plain|md5}", "there is no filter 'md5'; there are sha256, sql and cnf"),
    ],
)
def test_bad_placeholders(template: str, message: str) -> None:
    with pytest.raises(SecretError) as error:
        secrets.render(template, VALUES)
    assert str(error.value) == message


def test_a_value_with_a_placeholder_in_it_is_not_rendered_again() -> None:
    assert secrets.render("${a}", {"a": "${b}", "b": "x"}) == "${b}"


def test_consumers_are_the_services_whose_files_mention_a_secret() -> None:
    files = {
        "mysql": {"files": {"a": "${root} ${tls.certificate}", "b": "${root|sql} $${escaped}"}},
        "app": {"files": {"a": "${tls.private_key}"}},
        "none": {"files": {}},
    }
    assert secrets.consumers(files) == {"root": ["mysql"], "tls": ["app", "mysql"]}
    assert list(secrets.consumers(files)) == ["root", "tls"]


BASE = {"a": "1", "b": "2"}


@pytest.mark.parametrize(
    ("contents", "salt", "same"),
    [
        ({"b": "2", "a": "1"}, "s", True),
        ({"a": "1", "b": "3"}, "s", False),
        ({"a": "1", "c": "2"}, "s", False),
        ({"a": "1"}, "s", False),
        ({"a": "1", "b": "2", "c": ""}, "s", False),
        ({"a": "2", "b": "1"}, "s", False),
        ({"a": '1","b', "2": ""}, "s", False),
        (BASE, "other", False),
    ],
)
def test_a_revision_changes_exactly_with_the_contents(
    contents: dict[str, str], salt: str, same: bool
) -> None:
    revision = secrets.revision(BASE, "s")
    assert re.fullmatch("[0-9a-f]{16}", revision)
    assert (secrets.revision(contents, salt) == revision) is same


def test_a_store_that_is_not_there_is_empty(tmp_path: pathlib.Path) -> None:
    assert secrets.read_store(str(tmp_path / "store.json")) == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read (JSONDecodeError); restore it from a backup"),
        (b'{"password": "hunter2', "cannot be read (JSONDecodeError); restore it from a backup"),
        (b"\xff\xfe", "cannot be read (UnicodeDecodeError); restore it from a backup"),
        (b'["hunter2"]', "is not a secrets store; restore it from a backup"),
    ],
)
def test_a_damaged_store_is_not_read(tmp_path: pathlib.Path, content: bytes, message: str) -> None:
    (tmp_path / "store.json").write_bytes(content)
    with pytest.raises(SecretError) as error:
        secrets.read_store(str(tmp_path / "store.json"))
    assert str(error.value) == f"{tmp_path}/store.json: {message}"


OWNER = f"{os.getuid()}:{os.getgid()}"


def spec(*services: str) -> dict[str, t.Any]:
    return {service: {"owner": OWNER, "files": {}} for service in services}


def tree(root: pathlib.Path) -> dict[str, str]:
    """Return mode and content of everything below a directory."""
    return {
        str(path.relative_to(root)): f"{path.stat().st_mode & 0o7777:04o}"
        + (f" {path.read_text()}" if path.is_file() else "")
        for path in sorted(root.rglob("*"))
    }


def write(root: pathlib.Path, contents: dict[str, dict[str, str]]) -> None:
    """Write the files as an agent does."""
    for service, files in contents.items():
        directory = str(root / service)
        secrets.make_directory(directory, (os.getuid(), os.getgid()), 0o500)
        for name, text in files.items():
            secrets.write_private(f"{directory}/{name}", text, os.getuid(), os.getgid())


def test_runtime_files_are_the_consumers_alone(tmp_path: pathlib.Path) -> None:
    root = tmp_path / "run" / "secrets"
    contents: dict[str, dict[str, str]] = {
        "redis": {"users.acl": "one", "health": "two"},
        "app": {},
    }
    wrong = secrets.differences(str(root), spec(*contents), contents)
    assert wrong == ["redis/users.acl", "redis/health"]
    write(root, contents)
    assert secrets.differences(str(root), spec(*contents), contents) == []
    assert f"{root.stat().st_mode & 0o7777:04o}" == "0711"
    assert tree(root) == {
        "app": "0500",
        "redis": "0500",
        "redis/health": "0400 two",
        "redis/users.acl": "0400 one",
    }


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize(("owner", "ids"), [("999:998", (999, 998)), ("1990", (1990, 1990))])
def test_runtime_files_belong_to_the_service(
    tmp_path: pathlib.Path, owner: str, ids: tuple[int, int]
) -> None:
    files = {"a": {"owner": owner, "files": {}}}
    assert secrets.owner_of(files["a"]) == ids
    secrets.make_directory(str(tmp_path / "a"), ids, 0o500)
    secrets.write_private(str(tmp_path / "a" / "x"), "1", *ids)
    for path in (tmp_path / "a", tmp_path / "a" / "x"):
        assert (path.stat().st_uid, path.stat().st_gid) == ids
    assert secrets.differences(str(tmp_path), files, {"a": {"x": "1"}}) == []
    files["a"]["owner"] = "5:5"
    assert secrets.differences(str(tmp_path), files, {"a": {"x": "1"}}) == ["a/x"]


def test_what_is_no_longer_listed_goes(tmp_path: pathlib.Path) -> None:
    write(tmp_path, {"redis": {"a": "1", "b": "2"}, "gone": {"c": "3"}})
    (tmp_path / "redis" / "a.new").write_text("half a sec")
    (tmp_path / "stray").write_text("4")
    (tmp_path / "link").symlink_to(tmp_path / "redis")
    contents = {"redis": {"a": "1"}}
    wrong = secrets.differences(str(tmp_path), spec("redis"), contents)
    assert wrong == ["redis/a.new", "redis/b", "gone", "link", "stray"]
    assert secrets.clean_runtime(str(tmp_path), contents) == wrong
    assert tree(tmp_path) == {"redis": "0500", "redis/a": "0400 1"}


def test_a_changed_content_or_mode_is_noticed(tmp_path: pathlib.Path) -> None:
    write(tmp_path, {"a": {"x": "1", "y": "2", "z": "3"}})
    (tmp_path / "a" / "y").chmod(0o444)
    wanted = {"a": {"x": "1", "y": "2", "z": "4"}}
    assert secrets.differences(str(tmp_path), spec("a"), wanted) == ["a/y", "a/z"]


def test_a_half_written_file_of_a_killed_run_is_replaced(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.new").write_text("half")
    write(tmp_path, {"a": {"x": "whole"}})
    assert tree(tmp_path) == {"a": "0500", "a/x": "0400 whole"}
