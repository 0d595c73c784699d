"""What the live MySQL says of itself: settings, TLS, accounts and their rights, its data's version.

Upgrades: every archive that the lab reaches has MySQL 9.7 and nothing older, so that no older
server can make data for a real upgrade. What is tested is the decision, against data whose recorded
version is another; unit tests have the table of all paths.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import shlex
import typing as t

import pytest
from lab import ROOT, Lab, load_yaml

MIB = 2**20
CLIENT = "vedfolnir-test-mysql"
OPTIONS = load_yaml(ROOT / "roles/mysql/defaults/main.yml")
OBSERVERS = load_yaml(ROOT / "roles/observability/vars/main/accounts.yml")[
    "__observability_mysql_own"
]
HISTORY = "/srv/vedfolnir/data/mysql/mysql_upgrade_history"
READ_PASSWORD = "read -r MYSQL_PWD && export MYSQL_PWD && exec mysql --batch --skip-column-names"
TLS = "--host mysql --ssl-mode VERIFY_IDENTITY --ssl-ca /ca.pem"
"""How every consumer connects."""

SETTINGS = {
    "authentication_policy": "caching_sha2_password",
    "binlog_expire_logs_seconds": "604800",
    "binlog_format": "ROW",
    "character_set_server": "utf8mb4",
    "collation_server": "utf8mb4_unicode_ci",
    "enforce_gtid_consistency": "ON",
    "event_scheduler": "OFF",
    "gtid_mode": "ON",
    "innodb_flush_log_at_trx_commit": "1",
    "innodb_redo_log_capacity": str(256 * MIB),
    "local_infile": "OFF",
    "log_bin": "ON",
    "long_query_time": "2.000000",
    "require_secure_transport": "ON",
    "secure_file_priv": "NULL",
    "skip_name_resolve": "ON",
    "sql_mode": "STRICT_TRANS_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,"
    "NO_ENGINE_SUBSTITUTION",
    "ssl_ca": "/run/secrets/ca.pem",
    "sync_binlog": "1",
    "time_zone": "+00:00",
    "tls_version": "TLSv1.2,TLSv1.3",
    "tmpdir": "/var/lib/mysql",
}
"""Server variables that no option of the lab changes."""

DENIED = {
    "DROP DATABASE {database}": 1044,
    "DROP TABLE {database}.users": 1142,
    "TRUNCATE TABLE {database}.users": 1142,
    "CREATE DATABASE test_other": 1044,
    "CREATE TABLE mysql.test_other (id INT)": 1142,
    "CREATE TABLE sys.test_other (id INT)": 1142,
    "CREATE VIEW {database}.test_view AS SELECT 1": 1142,
    "CREATE PROCEDURE {database}.test_p() SELECT 1": 1044,
    "CREATE TRIGGER {database}.t BEFORE INSERT ON {database}.users FOR EACH ROW SET @a = 1": 1419,
    "LOCK TABLES {database}.users READ": 1044,
    "SELECT user FROM mysql.user": 1142,
    "SELECT * FROM performance_schema.threads": 1142,
    "SELECT 1 INTO OUTFILE '/var/lib/mysql/test_file'": 1227,
    "LOAD DATA INFILE '/etc/hostname' INTO TABLE {database}.users": 1045,
    "CREATE USER test_other IDENTIFIED BY 'x'": 1227,
    "DROP USER {user}": 1227,
    "GRANT SELECT ON {database}.* TO {user}": 1044,
    "SET GLOBAL max_connections = 1": 1227,
    "SET PERSIST max_connections = 1": 1227,
    "SET SESSION sql_log_bin = 0": 1227,
    "RESET BINARY LOGS AND GTIDS": 1227,
    "PURGE BINARY LOGS BEFORE NOW()": 1227,
    "INSTALL COMPONENT 'file://component_log_sink_json'": 1142,
    "SHUTDOWN": 1227,
}
"""What ``create_all`` and the application do not need, with the error that MySQL answers."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """What the client printed: rows, and the number of the error if there was one."""

    rows: list[list[str]]
    error: int
    said: str


@dataclasses.dataclass(frozen=True)
class Client:
    """A client on the internal network, as the application is, and one beside the server."""

    lab: Lab

    @property
    def database(self) -> str:
        """Name of the application's database."""
        return str(self.option("database"))

    @property
    def subnet(self) -> str:
        """Host part of accounts from the internal network."""
        return "172.30.0.0/255.255.255.0"

    def option(self, name: str) -> t.Any:
        """Return an option of the role as it is on the lab host."""
        return self.lab.variables.get(f"mysql_{name}", OPTIONS[f"mysql_{name}"])

    def users(self) -> list[dict[str, t.Any]]:
        """Return the accounts that the role is to make."""
        text = "{{ mysql_database }}"
        found = [
            {
                **user,
                "grants": [
                    {**grant, "object": grant["object"].replace(text, self.database)}
                    for grant in user["grants"]
                ],
            }
            for user in [*self.option("users"), *OBSERVERS]
        ]
        health = {"name": "vedfolnir_health", "host": "localhost", "secret": "mysql_health"}
        return [*found, {**health, "grants": []}]

    def ask(
        self,
        statement: str,
        account: str = "mysql_root",
        connection: str = TLS,
        container: str = CLIENT,
    ) -> Answer:
        """Run a statement with the user and password of a secret, which goes through a pipe."""
        user = next((u["name"] for u in self.users() if u["secret"] == account), "root")
        command = f"{READ_PASSWORD} --user {user} {connection}"
        result = self.lab.ssh(
            f"docker exec -i {container} sh -c {shlex.quote(command)}",
            stdin=f"{self.lab.secrets()[account]}\n{statement};\n",
        )
        error = re.search(r"^ERROR (\d+)", result.stderr, re.MULTILINE)
        assert error or result.returncode == 0, result.stderr
        rows = [line.split("\t") for line in result.stdout.splitlines()]
        return Answer(rows, int(error[1]) if error else 0, result.stderr.strip())

    def rows(self, statement: str, account: str = "mysql_root", **where: str) -> list[list[str]]:
        """Return the rows of a statement that must succeed."""
        answer = self.ask(statement, account, **where)
        assert answer.error == 0, answer.said
        return answer.rows


@pytest.fixture(scope="module")
def client(lab: Lab) -> t.Iterator[Client]:
    """A container on the internal network that has the CA and nothing else of the stack."""
    image = lab.inspect()["mysql"]["Config"]["Image"]
    secrets = "/run/vedfolnir/secrets"
    try:
        lab.run(
            f"docker run --detach --name {CLIENT} --network vedfolnir_internal --user 999:999 "
            f"--volume {secrets}/mysql-users/ca.pem:/ca.pem:ro --entrypoint sleep {image} infinity"
            f" && docker cp {secrets}/nginx/ca.pem {CLIENT}:/other.pem"
        )
        yield Client(lab)
    finally:
        lab.run(f"docker rm --force --volumes {CLIENT}")


def test_the_server_has_the_settings_of_the_role(client: Client) -> None:
    """One table, and what is computed from the memory limit of the container."""
    found = dict(row for row in client.rows("SHOW GLOBAL VARIABLES") if len(row) == 2)
    assert {name: found.get(name) for name in SETTINGS} == SETTINGS
    limit = client.lab.inspect()["mysql"]["HostConfig"]["Memory"]
    assert limit == client.option("memory_mb") * MIB
    pool, connections = int(found["innodb_buffer_pool_size"]), int(found["max_connections"])
    temporary = int(found["temptable_max_ram"])
    assert temporary == limit // 64
    assert pool % (128 * MIB) == 0
    assert 128 * MIB <= pool <= limit // 2
    assert connections >= 20
    # Neither more than there is, nor room for another connection.
    room = limit - pool - temporary - 520 * MIB
    assert connections * 1.5 * MIB <= room < (connections + 1) * 1.5 * MIB
    errors = "SELECT data FROM performance_schema.error_log WHERE prio = 'Error'"
    assert client.rows(errors) == []
    plugin = "SELECT plugin_status FROM information_schema.plugins WHERE plugin_name = 'mysqlx'"
    assert client.rows(plugin) == [["DISABLED"]]


def test_a_start_has_the_time_of_the_option(client: Client) -> None:
    """Recovery and upgrades take long; Docker counts no failure until then."""
    health = client.lab.inspect()["mysql"]["Config"]["Healthcheck"]
    assert health["StartPeriod"] == client.option("start_period_seconds") * 10**9


@pytest.mark.parametrize(
    ("connection", "error"),
    [
        (TLS, 0),
        (f"{TLS} --tls-version TLSv1.2", 0),
        # another name than the certificate's, another authority
        ("--host {address} --ssl-mode VERIFY_IDENTITY --ssl-ca /ca.pem", 2026),
        ("--host mysql --ssl-mode VERIFY_CA --ssl-ca /other.pem", 2026),
        # no TLS: the account demands it, and where it does not, the server does
        ("--host mysql --ssl-mode DISABLED", {"mysql_app": 1045, "mysql_root": 3159}),
    ],
)
@pytest.mark.parametrize("account", ["mysql_app", "mysql_root"])
def test_only_tls_gets_in_and_the_certificate_is_that_of_the_name(
    client: Client, account: str, connection: str, error: int | dict[str, int]
) -> None:
    """As the application connects, and as nobody should."""
    networks = client.lab.inspect()["mysql"]["NetworkSettings"]["Networks"]
    address = networks["vedfolnir_internal"]["IPAddress"]
    answer = client.ask(
        "SHOW SESSION STATUS LIKE 'Ssl_version'", account, connection.format(address=address)
    )
    assert answer.error == (error[account] if isinstance(error, dict) else error), answer.said
    if not error:
        version = "TLSv1.2" if "TLSv1.2" in connection else "TLSv1.3"
        assert answer.rows == [["Ssl_version", version]]


def test_the_accounts_are_the_ones_of_the_table(client: Client) -> None:
    """None without a name or password, root from the internal network and the server itself."""
    found = client.rows(
        "SELECT user, host, plugin, account_locked, ssl_type, authentication_string <> '' "
        "FROM mysql.user ORDER BY user, host"
    )
    own = {"mysql.infoschema", "mysql.session", "mysql.sys"}
    locked = {row[0] for row in found if (row[1], row[3]) == ("localhost", "Y")}
    assert locked == own
    wanted = [("root", client.subnet, ""), ("root", "localhost", "")]
    for user in client.users():
        host = user.get("host") or client.subnet
        wanted.append((user["name"], host, "" if host == "localhost" else "ANY"))
    assert [tuple(row) for row in found if row[0] not in own] == [
        (user, host, "caching_sha2_password", "N", tls, "1") for user, host, tls in sorted(wanted)
    ]


def grants(client: Client, account: str) -> dict[str, set[str]]:
    """Return the rights of an account by object; one without any has the right ``USAGE``."""
    found: dict[str, set[str]] = {}
    for (line,) in client.rows(f"SHOW GRANTS FOR {account}"):
        match = re.fullmatch(r"GRANT (.+) ON (\S+) TO \S+", line)
        assert match, f"{account} has {line}"
        # Quoted, with wildcards escaped, and the backslash escaped again by the client.
        found.setdefault(re.sub(r"[`\\]", "", match[2]), set()).update(match[1].split(", "))
    return found


def test_every_account_has_the_rights_of_the_table_and_no_other(client: Client) -> None:
    """SHOW GRANTS against the table and what observes; the health check has none."""
    for user in client.users():
        wanted: dict[str, set[str]] = {"*.*": {"USAGE"}}
        for grant in user["grants"]:
            wanted.setdefault(grant["object"], set()).update(grant["privileges"])
        if len(wanted["*.*"]) > 1:
            wanted["*.*"].remove("USAGE")  # which is none
        host = user.get("host") or client.subnet
        assert grants(client, f"'{user['name']}'@'{host}'") == wanted


def test_the_application_may_do_what_create_all_and_its_queries_do(client: Client) -> None:
    """Tables with an index and a foreign key, a change of one, and rows."""
    steps = (
        "CREATE TABLE test_a (id INT PRIMARY KEY, name VARCHAR(9), UNIQUE INDEX (name))",
        "CREATE TABLE test_b (a INT, FOREIGN KEY (a) REFERENCES test_a (id) ON DELETE CASCADE)",
        "CREATE INDEX test_i ON test_b (a)",
        "ALTER TABLE test_a ADD COLUMN more JSON",
        "INSERT INTO test_a VALUES (1, 'one', NULL)",
        "INSERT INTO test_b VALUES (1)",
        "UPDATE test_a SET name = 'two'",
        "SELECT name, a FROM test_a JOIN test_b ON a = id",
        "DELETE FROM test_a",
        "SELECT COUNT(*) FROM test_b",
    )
    inside = f"{TLS} --database {client.database}"
    try:
        assert client.rows("; ".join(steps), "mysql_app", connection=inside) == [
            ["two", "1"],
            ["0"],
        ]
        wrong = "INSERT INTO test_a VALUES (2, '10 letters', NULL)"
        assert client.ask(wrong, "mysql_app", inside).error == 1406, "the server is not strict"
    finally:
        client.rows("DROP TABLE IF EXISTS test_b, test_a", connection=inside)


def test_the_application_is_denied_everything_else(client: Client) -> None:
    """Line by line, each with the error of a right that is missing, not of a slip in it."""
    values = {"database": client.database, "user": "vedfolnir"}
    lines = ";\n".join(statement.format(**values) for statement in DENIED)
    said = client.ask(lines, "mysql_app", f"{TLS} --force --line-numbers").said
    errors = re.findall(r"^ERROR (\d+) .* at line (\d+):", said, re.MULTILINE)
    found = {int(line): int(error) for error, line in errors}
    assert found == dict(enumerate(DENIED.values(), start=1)), said


def test_the_application_sees_its_own_database_only(client: Client) -> None:
    """The names of others are none of its business."""
    found = {row[0] for row in client.rows("SHOW DATABASES", "mysql_app")}
    assert found == {client.database, "information_schema", "performance_schema"}


@pytest.mark.parametrize("account", ["mysql_app", "mysql_root"])
def test_no_client_can_be_made_to_hand_over_its_files(client: Client, account: str) -> None:
    """Although this client would."""
    inside = f"{TLS} --database {client.database}"
    client.rows("CREATE TABLE test_load (line TEXT)", connection=inside)
    try:
        load = "LOAD DATA LOCAL INFILE '/etc/hostname' INTO TABLE test_load"
        answer = client.ask(load, account, f"{inside} --local-infile=1")
        assert answer.error == 3948, answer.said
        assert client.rows("TABLE test_load", connection=inside) == []
    finally:
        client.rows("DROP TABLE test_load", connection=inside)


def test_the_health_account_can_log_in_beside_the_server_and_do_nothing(client: Client) -> None:
    """Over the socket inside the container; from the network there is no such account."""
    inside = {"connection": "", "container": "vedfolnir-mysql-1"}
    assert client.rows("SELECT 1", "mysql_health", **inside) == [["1"]]
    found = {row[0] for row in client.rows("SHOW DATABASES", "mysql_health", **inside)}
    assert found == {"information_schema", "performance_schema"}
    for statement, error in (
        (f"TABLE {client.database}.users", 1142),
        (f"USE {client.database}", 1044),
        ("CREATE DATABASE test_other", 1044),
        ("SHUTDOWN", 1227),
        ("SET GLOBAL max_connections = 1", 1227),
    ):
        assert client.ask(statement, "mysql_health", **inside).error == error, statement
    assert client.ask("SELECT 1", "mysql_health").error == 1045


@contextlib.contextmanager
def recorded(lab: Lab, version: str) -> t.Iterator[None]:
    """Let the data say that another version was the last to use them; the server does not ask."""
    change = f's/"version":"[^"]*"/"version":"{version}"/'
    lab.run(f"cp -a {HISTORY} {HISTORY}.kept && sed -i '{change}' {HISTORY}")
    try:
        yield
    finally:
        lab.run(f"mv {HISTORY}.kept {HISTORY}")


def test_data_of_a_newer_server_are_refused(lab: Lab) -> None:
    """Before anything changes; the image's version is that of its tag."""
    before, image = lab.started(), lab.inspect()["mysql"]["Config"]["Image"]
    tagged = re.search(r":(\d+\.\d+)[^/]*$", image)
    assert tagged
    with recorded(lab, "26.7.0"):
        run = lab.playbook(variables={"mysql_slow_query_seconds": 3})
    assert run.status != 0
    assert run.recap["changed"] == 0
    assert (
        f"mysql_image is {image}, but the data are of MySQL 26.7.0, which MySQL {tagged[1]} cannot "
        "take back; choose MySQL 26.7 or later" in run.output
    )
    assert lab.started() == before
    config = lab.run("cat /srv/vedfolnir/config/mysql/50-vedfolnir.cnf")
    assert re.search(r"^long_query_time = 2$", config, re.MULTILINE)


def test_an_image_without_a_version_in_its_tag_is_asked(lab: Lab) -> None:
    """And one that the host does not have is not taken on trust."""
    image, name = lab.inspect()["mysql"]["Config"]["Image"], "localhost/vedfolnir-test/mysql:lts"
    said = lab.run(f"docker run --rm --entrypoint mysqld {image} --version")
    version = re.search(r"Ver (\d+\.\d+\.\d+)", said)
    assert version
    preflight, variables = "playbooks/preflight.yml", {"mysql_image": name}
    lab.run(f"docker tag {image} {name}")
    try:
        with recorded(lab, "8.0.36"):
            refused = lab.playbook(preflight, variables=variables)
        with recorded(lab, "8.4.3"):
            lab.playbook(preflight, variables=variables).check()
    finally:
        lab.run(f"docker rmi {name}")
    assert f"of MySQL 8.0.36, and MySQL {version[1]} cannot skip" in refused.output
    unknown = lab.playbook(preflight, variables=variables)
    assert unknown.status != 0
    assert "the version of the image is not known; write it into the tag" in unknown.output
