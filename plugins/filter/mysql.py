# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filters of the mysql role: accounts as SQL, memory shares, host parts."""

from __future__ import annotations

import ipaddress
import typing as t

from ansible.errors import AnsibleFilterError

STATIC_PRIVILEGES = (
    "ALTER",
    "ALTER ROUTINE",
    "CREATE",
    "CREATE ROUTINE",
    "CREATE TEMPORARY TABLES",
    "CREATE VIEW",
    "DELETE",
    "DROP",
    "EVENT",
    "EXECUTE",
    "INDEX",
    "INSERT",
    "LOCK TABLES",
    "REFERENCES",
    "SELECT",
    "SHOW VIEW",
    "TRIGGER",
    "UPDATE",
)
"""Privileges that can be granted on a database (MySQL 9.7 reference manual, table 8.3)."""

GLOBAL_PRIVILEGES = (
    *STATIC_PRIVILEGES,
    "FILE",
    "PROCESS",
    "RELOAD",
    "REPLICATION CLIENT",
    "REPLICATION SLAVE",
    "SHOW DATABASES",
    "SHUTDOWN",
    "SUPER",
    "CREATE USER",
    "CREATE TABLESPACE",
)
"""Static privileges that can be granted on ``*.*`` (same table)."""

_FIXED_MIB = 420
"""Resident memory of mysqld 9.7 with the performance schema, less the buffer pool, as measured."""
_PER_CONNECTION_MIB = 1.5
"""Memory of an idle-to-lightly-used connection with the role's buffer sizes, rounded up."""


def mysql_host(subnet: str) -> str:
    """Return the host part of an account that may come from a subnet: ``172.30.0.0/255.255.255.0``.

    Raises:
        AnsibleFilterError: when it is not a subnet.
    """
    try:
        network = ipaddress.ip_network(str(subnet))
    except ValueError as exc:
        raise AnsibleFilterError(f"mysql_host: {subnet} is not a subnet in CIDR notation") from exc
    return f"{network.network_address}/{network.netmask}"


def mysql_memory(limit_mib: float) -> dict[str, int]:
    """Return the shares of a memory limit.

    Args:
        limit_mib: Memory limit of the container in MiB.

    Returns:
        ``buffer_pool_mib`` (half of the limit, in whole chunks of 128 MiB) and ``max_connections``
        (what fits into the rest, between 20 and 1000).

    Raises:
        AnsibleFilterError: below 768 MiB, where MySQL 9.7 has no room for connections.
    """
    limit = float(limit_mib)
    if limit < 768:
        raise AnsibleFilterError(
            f"mysql_memory: {limit:g} MiB is too little for MySQL; give it 768 MiB or more"
        )
    pool = max(128, int(limit * 0.5) // 128 * 128)
    while pool > 128 and limit - pool - _FIXED_MIB < 60:
        pool -= 128
    connections = int((limit - pool - _FIXED_MIB) / _PER_CONNECTION_MIB)
    return {"buffer_pool_mib": pool, "max_connections": max(20, min(1000, connections))}


def _account(user: t.Mapping[str, t.Any], host: str) -> str:
    for value in (user["name"], host):
        if any(character in str(value) for character in "'\\`"):
            raise AnsibleFilterError(f"mysql_users_sql: {value} has a quote in it")
    return f"'{user['name']}'@'{host}'"


def mysql_users_sql(
    users: t.Sequence[t.Mapping[str, t.Any]],
    absent: t.Sequence[t.Mapping[str, t.Any]],
    default_host: str,
    databases: t.Sequence[str],
) -> str:
    """Return the SQL that brings databases and accounts into their state.

    Passwords are placeholders, ``${secret|sql}``, for the secrets provider.

    It can be run at any time: new rights are granted before others are revoked, so that no moment
    exists in which a wanted right is missing.

    Args:
        users: Each with ``name``, ``secret`` (name in the manifest), ``grants`` (list of
            ``object`` and ``privileges``), and if wanted ``host``, ``tls`` (true unless the host
            is localhost), ``max_connections``.
        absent: Accounts to drop, each with ``name`` and if wanted ``host``.
        default_host: Host part where none is given.
        databases: Names of the databases to create.

    Raises:
        AnsibleFilterError: for an unknown privilege or a name with a quote.
    """
    lines = [
        f"CREATE DATABASE IF NOT EXISTS `{name}` CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;"
        for name in databases
    ]
    for user in users:
        host = str(user.get("host") or default_host)
        account = _account(user, host)
        require = "REQUIRE SSL" if user.get("tls", host != "localhost") else "REQUIRE NONE"
        options = f"IDENTIFIED BY '${{{user['secret']}|sql}}' {require}"
        limit = f"WITH MAX_USER_CONNECTIONS {int(user.get('max_connections') or 0)}"
        lines += [
            f"CREATE USER IF NOT EXISTS {account} {options};",
            f"ALTER USER {account} {options} {limit} PASSWORD EXPIRE NEVER ACCOUNT UNLOCK;",
        ]
        for grant in user.get("grants") or []:
            lines += _grant(account, grant)
    lines += [
        f"DROP USER IF EXISTS {_account(user, str(user.get('host') or default_host))};"
        for user in absent
    ]
    return "\n".join(lines) + "\n"


def _grant(account: str, grant: t.Mapping[str, t.Any]) -> list[str]:
    target = str(grant["object"])
    known = GLOBAL_PRIVILEGES if target == "*.*" else STATIC_PRIVILEGES
    wanted = sorted(str(privilege).upper() for privilege in grant["privileges"])
    unknown = [privilege for privilege in wanted if privilege not in known]
    if unknown:
        raise AnsibleFilterError(
            f"mysql_users_sql: {', '.join(unknown)} cannot be granted on {target}; "
            f"known are {', '.join(known)}",
        )
    quoted = target if target == "*.*" else f"`{target.removesuffix('.*').strip('`')}`.*"
    others = [privilege for privilege in known if privilege not in wanted]
    lines = [f"GRANT {', '.join(wanted)} ON {quoted} TO {account};"] if wanted else []
    # IF EXISTS makes a right that was never granted a warning instead of an error.
    lines += [f"REVOKE IF EXISTS {privilege} ON {quoted} FROM {account};" for privilege in others]
    return lines


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Return the filters by name."""
        return {
            "mysql_host": mysql_host,
            "mysql_memory": mysql_memory,
            "mysql_users_sql": mysql_users_sql,
        }
