from __future__ import annotations

import typing as t

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.vedfolnir.stack.plugins.filter import compose_networks, mysql
from ansible_collections.vedfolnir.stack.plugins.module_utils import secrets

HOST = "172.30.0.0/255.255.255.0"
APP = f"'app'@'{HOST}'"


def sql(*users: t.Mapping[str, t.Any], **options: t.Any) -> list[str]:
    absent, databases = options.get("absent", []), options.get("databases", [])
    return mysql.mysql_users_sql(users, absent, HOST, databases).splitlines()


def user(**options: t.Any) -> dict[str, t.Any]:
    return {"name": "app", "secret": "mysql_app", **options}


@pytest.mark.parametrize(
    ("subnet", "host"),
    [
        ("172.30.0.0/24", "172.30.0.0/255.255.255.0"),
        ("10.0.0.0/8", "10.0.0.0/255.0.0.0"),
        ("10.1.2.3", "10.1.2.3/255.255.255.255"),
    ],
)
def test_a_subnet_becomes_the_host_part_of_an_account(subnet: str, host: str) -> None:
    assert mysql.mysql_host(subnet) == host


@pytest.mark.parametrize("subnet", ["", "ten", "172.30.0.1/24", "172.30.0.0/33", "fd00::/64"])
def test_other_texts_are_no_subnet(subnet: str) -> None:
    with pytest.raises(AnsibleFilterError) as error:
        mysql.mysql_host(subnet)
    assert str(error.value) == f"mysql_host: {subnet} is not an IPv4 subnet in CIDR notation"


@pytest.mark.parametrize(
    ("limit", "pool", "temporary", "connections"),
    [
        (768, 128, 12, 72),
        (1024, 384, 16, 69),
        (1536, 768, 24, 149),
        (2048, 1024, 32, 314),
        (131072, 65536, 1024, 1000),
    ],
)
def test_memory_is_shared(limit: int, pool: int, temporary: int, connections: int) -> None:
    shares = mysql.mysql_memory(limit)
    assert shares == {
        "buffer_pool_mib": pool,
        "temporary_mib": temporary,
        "max_connections": connections,
    }


def test_the_shares_always_fit_into_the_limit() -> None:
    for limit in range(768, 20_000, 64):
        shares = mysql.mysql_memory(limit)
        pool, connections = shares["buffer_pool_mib"], shares["max_connections"]
        assert pool % 128 == 0
        assert 20 <= connections <= 1000
        assert pool + 520 + shares["temporary_mib"] + 1.5 * connections <= limit


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        (767, "mysql_memory: 767 MiB is too little for MySQL; give it 768 MiB or more"),
        (0, "mysql_memory: 0 MiB is too little for MySQL; give it 768 MiB or more"),
        ("1g", "mysql_memory: '1g' is not a number of MiB"),
        (None, "mysql_memory: None is not a number of MiB"),
    ],
)
def test_no_memory_for_mysql(limit: t.Any, message: str) -> None:
    with pytest.raises(AnsibleFilterError) as error:
        mysql.mysql_memory(limit)
    assert str(error.value) == message


def test_databases_come_first_and_dropped_accounts_last() -> None:
    lines = sql(user(), databases=["one"], absent=[{"name": "old"}, {"name": "o", "host": "%"}])
    assert lines == [
        "CREATE DATABASE IF NOT EXISTS `one` CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;",
        f"CREATE USER IF NOT EXISTS {APP} IDENTIFIED BY '${{mysql_app.older|sql}}';",
        f"ALTER USER {APP} IDENTIFIED BY '${{mysql_app.older|sql}}' RETAIN CURRENT PASSWORD;",
        f"ALTER USER {APP} IDENTIFIED BY '${{mysql_app.newer|sql}}' RETAIN CURRENT PASSWORD;",
        f"ALTER USER {APP} REQUIRE SSL "
        "WITH MAX_USER_CONNECTIONS 0 PASSWORD EXPIRE NEVER ACCOUNT UNLOCK;",
        f"DROP USER IF EXISTS 'old'@'{HOST}';",
        "DROP USER IF EXISTS 'o'@'%';",
    ]


@pytest.mark.parametrize(
    ("options", "require"),
    [
        ({}, "REQUIRE SSL"),
        ({"host": "localhost"}, "REQUIRE NONE"),
        ({"host": "localhost", "tls": True}, "REQUIRE SSL"),
        ({"tls": False}, "REQUIRE NONE"),
    ],
)
def test_accounts_from_elsewhere_need_tls(options: dict[str, t.Any], require: str) -> None:
    assert f" {require} WITH " in sql(user(**options))[-1]


def test_a_limit_of_connections() -> None:
    assert " WITH MAX_USER_CONNECTIONS 7 " in sql(user(max_connections=7))[-1]


def granted(*grants: dict[str, t.Any]) -> list[str]:
    return sql(user(grants=grants))[4:]


def test_wanted_rights_are_granted_before_all_others_are_revoked() -> None:
    lines = granted({"object": "one.*", "privileges": ["select", "INSERT"]})
    assert lines[0] == f"GRANT INSERT, SELECT ON `one`.* TO {APP};"
    others = [name for name in mysql.STATIC_PRIVILEGES if name not in ("INSERT", "SELECT")]
    assert lines[1:] == [f"REVOKE IF EXISTS {name} ON `one`.* FROM {APP};" for name in others]


def test_no_privilege_revokes_all() -> None:
    lines = granted({"object": "one.*", "privileges": []})
    assert len(lines) == len(mysql.STATIC_PRIVILEGES)
    assert all(line.startswith("REVOKE IF EXISTS ") for line in lines)


def test_two_grants_on_one_object_do_not_revoke_each_other() -> None:
    lines = granted(
        {"object": "one.*", "privileges": ["SELECT"]},
        {"object": "one", "privileges": ["INSERT", "SELECT"]},
    )
    assert [line for line in lines if line.startswith("GRANT")] == [
        f"GRANT INSERT, SELECT ON `one`.* TO {APP};"
    ]
    assert not [line for line in lines if "REVOKE" in line and "SELECT" in line]


def test_a_wildcard_of_a_name_matches_nothing_else() -> None:
    grant = granted({"object": "my_app.*", "privileges": ["SELECT"]})[0]
    assert grant == rf"GRANT SELECT ON `my\_app`.* TO {APP};"


def test_global_privileges() -> None:
    lines = granted({"object": "*.*", "privileges": ["PROCESS"]})
    assert lines[0] == f"GRANT PROCESS ON *.* TO {APP};"
    assert f"REVOKE IF EXISTS SUPER ON *.* FROM {APP};" in lines


def name_problem(name: str) -> str:
    return (
        f"the name {name!r} is empty or has a quote, backslash, dollar sign "
        "or control character in it"
    )


def target_problem(text: str) -> str:
    return (
        f"{text} is neither *.* nor a database such as vedfolnir.* nor a table such as "
        "vedfolnir.users"
    )


def test_a_table_need_not_exist_yet_to_be_granted() -> None:
    lines = sql(user(grants=[{"object": "my_db.my_table", "privileges": ["SELECT"]}]))
    table = "`my_db`.`my_table`"
    assert f"GRANT CREATE, SELECT ON {table} TO {APP};" in lines
    assert f"REVOKE IF EXISTS CREATE ON {table} FROM {APP};" in lines
    assert not [line for line in lines if "REVOKE IF EXISTS SELECT" in line]


STATIC = ", ".join(mysql.STATIC_PRIVILEGES)
BAD: list[tuple[dict[str, t.Any], dict[str, t.Any], str]] = [
    ({"name": "a'b"}, {}, name_problem("a'b")),
    ({"name": "a\\"}, {}, name_problem("a\\")),
    ({"name": "${x}"}, {}, name_problem("${x}")),
    ({"name": ""}, {}, name_problem("")),
    ({"host": "%'"}, {}, name_problem("%'")),
    ({}, {"databases": ["a`b"]}, name_problem("a`b")),
    ({}, {"databases": ["a\nb"]}, name_problem("a\nb")),
    ({}, {"absent": [{"name": "a`"}]}, name_problem("a`")),
    ({}, {"absent": [{"name": "app"}]}, f"{APP} is wanted and absent at once"),
    ({"secret": "mysql-app"}, {}, f"'mysql-app' of {APP} cannot be the name of a secret"),
    (
        {"grants": [{"object": "one.*", "privileges": ["PROCESS", "FLY"]}]},
        {},
        f"FLY, PROCESS cannot be granted on `one`.*; known are {STATIC}",
    ),
    (
        {"grants": [{"object": "one.*", "privileges": ["ALL"]}]},
        {},
        f"ALL cannot be granted on `one`.*; known are {STATIC}",
    ),
    *(
        ({"grants": [{"object": text, "privileges": ["SELECT"]}]}, {}, target_problem(text))
        for text in ("*", "one.two.three", "one.t*", "*.one", ".one")
    ),
    (
        {"grants": [{"object": "one.two", "privileges": ["EXECUTE"]}]},
        {},
        f"EXECUTE cannot be granted on `one`.`two`; known are {', '.join(mysql.TABLE_PRIVILEGES)}",
    ),
]


@pytest.mark.parametrize(("options", "others", "message"), BAD)
def test_bad_accounts(options: dict[str, t.Any], others: dict[str, t.Any], message: str) -> None:
    with pytest.raises(AnsibleFilterError) as error:
        sql(user(**options), **others)
    assert str(error.value) == f"mysql_users_sql: {message}"


def test_the_secrets_provider_understands_the_placeholders() -> None:
    text = secrets.render("\n".join(sql(user())), {"mysql_app": "it's"})
    assert "IDENTIFIED BY 'it''s' " in text
    assert "$" not in text


def test_of_an_account_of_the_server_only_the_passwords_are_set() -> None:
    lines = sql(user(name="root", existing=True))
    assert len(lines) == 2
    assert all(line.startswith("ALTER USER 'root'@") for line in lines)


def test_networks_of_compose() -> None:
    given: dict[str, dict[str, t.Any]] = {
        "edge": {"subnet": "172.30.2.0/24"},
        "internal": {"subnet": "172.30.0.0/24", "internal": True},
    }
    networks = compose_networks.compose_networks(given, "1450")  # type: ignore[arg-type]
    common = {
        "driver": "bridge",
        "driver_opts": {"com.docker.network.driver.mtu": "1450"},
    }
    assert networks == {
        "edge": {
            **common,
            "internal": False,
            "ipam": {"config": [{"subnet": "172.30.2.0/24"}]},
        },
        "internal": {
            **common,
            "internal": True,
            "ipam": {"config": [{"subnet": "172.30.0.0/24"}]},
        },
    }


@pytest.mark.parametrize("network", [{}, {"subnet": ""}, {"subnet": None, "internal": True}])
def test_a_network_without_a_subnet(network: dict[str, t.Any]) -> None:
    with pytest.raises(AnsibleFilterError) as error:
        compose_networks.compose_networks({"edge": network}, 1500)
    assert str(error.value) == "compose_networks: network edge has no subnet"


def test_the_filters_have_their_names() -> None:
    found = mysql.FilterModule().filters() | compose_networks.FilterModule().filters()
    assert sorted(found) == ["compose_networks", "mysql_host", "mysql_memory", "mysql_users_sql"]
