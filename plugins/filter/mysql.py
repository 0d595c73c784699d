# Copyright: Vedfolnir stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filters of the mysql role: accounts as SQL, memory shares, host parts."""

from __future__ import annotations

import ipaddress
import re
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

TABLE_PRIVILEGES = (
    "ALTER",
    "CREATE",
    "CREATE VIEW",
    "DELETE",
    "DROP",
    "INDEX",
    "INSERT",
    "REFERENCES",
    "SELECT",
    "SHOW VIEW",
    "TRIGGER",
    "UPDATE",
)
"""Privileges that can be granted on a table (same table of the manual)."""

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

_FIXED_MIB = 520
"""Resident memory of mysqld 9.7 with the performance schema, less the buffer pool, when statements
of 16 and 64 MB have filled that: 461 to 497 as measured with pools of 128 to 512 MiB, and 507 on a
host that was in use and watched."""
_PER_CONNECTION_MIB = 1.5
"""Memory of an idle-to-lightly-used connection with the role's buffer sizes, rounded up."""


def mysql_host(subnet: str) -> str:
    """Return the host part of an account that may come from a subnet: ``172.30.0.0/255.255.255.0``.

    Raises:
        AnsibleFilterError: when it is not a subnet.
    """
    try:
        network = ipaddress.IPv4Network(str(subnet))
    except ValueError:
        raise AnsibleFilterError(
            f"mysql_host: {subnet} is not an IPv4 subnet in CIDR notation"
        ) from None
    return f"{network.network_address}/{network.netmask}"


def mysql_memory(limit_mib: float) -> dict[str, int]:
    """Return the shares of a memory limit.

    Args:
        limit_mib: Memory limit of the container in MiB.

    Returns:
        ``buffer_pool_mib`` (half of the limit, in whole chunks of 128 MiB), ``temporary_mib`` (all
        temporary tables together, a 64th of the limit, at most 1024: MySQL's own default looks at
        the host's memory and is never less than 1024) and ``max_connections`` (what fits into the
        rest, between 20 and 1000).

    Raises:
        AnsibleFilterError: below 768 MiB, where MySQL 9.7 has no room for connections.
    """
    try:
        limit = float(limit_mib)
    except (TypeError, ValueError):
        raise AnsibleFilterError(f"mysql_memory: {limit_mib!r} is not a number of MiB") from None
    if limit < 768:
        raise AnsibleFilterError(
            f"mysql_memory: {limit:g} MiB is too little for MySQL; give it 768 MiB or more"
        )
    temporary = min(1024, int(limit / 64))
    room = limit - _FIXED_MIB - temporary
    pool = max(128, int(limit * 0.5) // 128 * 128)
    while pool > 128 and room - pool < 60:
        pool -= 128
    connections = int((room - pool) / _PER_CONNECTION_MIB)
    return {
        "buffer_pool_mib": pool,
        "temporary_mib": temporary,
        "max_connections": max(20, min(1000, connections)),
    }


def _unquoted(value: object) -> str:
    """Return a name that can stand between quotes of any kind."""
    text = str(value)
    if not text or any(character in text for character in "'\"\\`$") or not text.isprintable():
        raise AnsibleFilterError(
            f"mysql_users_sql: the name {text!r} is empty or has a quote, backslash, dollar sign "
            "or control character in it"
        )
    return text


def _account(user: t.Mapping[str, t.Any], default_host: str) -> str:
    return f"'{_unquoted(user['name'])}'@'{_unquoted(user.get('host') or default_host)}'"


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
            is localhost), ``max_connections``. With ``existing`` the server has made the account,
            and only its passwords are set.
        absent: Accounts to drop, each with ``name`` and if wanted ``host``.
        default_host: Host part where none is given.
        databases: Names of the databases to create.

    Raises:
        AnsibleFilterError: for an unknown privilege or a name with a quote.
    """
    lines = [
        f"CREATE DATABASE IF NOT EXISTS `{_unquoted(name)}` "
        "CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;"
        for name in databases
    ]
    for user in users:
        lines += _user(user, default_host)
    dropped = [_account(user, default_host) for user in absent]
    both = sorted({_account(user, default_host) for user in users} & set(dropped))
    if both:
        raise AnsibleFilterError(f"mysql_users_sql: {', '.join(both)} is wanted and absent at once")
    lines += [f"DROP USER IF EXISTS {account};" for account in dropped]
    return "\n".join(lines) + "\n"


def _user(user: t.Mapping[str, t.Any], default_host: str) -> list[str]:
    account, secret = _account(user, default_host), str(user["secret"])
    if not re.fullmatch("[a-z0-9_]+", secret):
        # The provider would not know it as a placeholder, and the text became the password.
        raise AnsibleFilterError(
            f"mysql_users_sql: {secret!r} of {account} cannot be the name of a secret"
        )
    if user.get("existing"):
        return _passwords(account, secret)
    local = (user.get("host") or default_host) == "localhost"
    require = "REQUIRE SSL" if user.get("tls", not local) else "REQUIRE NONE"
    limit = f"WITH MAX_USER_CONNECTIONS {int(user.get('max_connections') or 0)}"
    lines = [
        f"CREATE USER IF NOT EXISTS {account} IDENTIFIED BY '${{{secret}.older|sql}}';",
        *_passwords(account, secret),
        f"ALTER USER {account} {require} {limit} PASSWORD EXPIRE NEVER ACCOUNT UNLOCK;",
    ]
    for target, privileges in _by_target(user.get("grants") or []).items():
        lines += _grant(account, target, privileges)
    return lines


def _passwords(account: str, secret: str) -> list[str]:
    """Return what makes both values of a secret, and no others, the passwords of an account.

    Whichever of the two the account has before, it has it at every moment. The older comes first:
    then the text, which is a reason to run again, is the same until the older one goes. When there
    is one value only, it takes both places. (MySQL manual, 15.7.1.1 ALTER USER, dual passwords.)
    """
    return [
        f"ALTER USER {account} IDENTIFIED BY '${{{secret}.{part}|sql}}' RETAIN CURRENT PASSWORD;"
        for part in ("older", "newer")
    ]


def _by_target(grants: t.Iterable[t.Mapping[str, t.Any]]) -> dict[str, set[str]]:
    """Return the privileges by object; one object may be listed more than once."""
    found: dict[str, set[str]] = {}
    for grant in grants:
        names = {str(privilege).upper() for privilege in grant["privileges"]}
        found.setdefault(_target(str(grant["object"])), set()).update(names)
    return found


def _target(text: str) -> str:
    if text == "*.*":
        return text
    name, _dot, table = text.partition(".")
    if not name or "*" in name or "." in table or ("*" in table and table != "*"):
        raise AnsibleFilterError(
            f"mysql_users_sql: {text} is neither *.* nor a database such as vedfolnir.* nor a "
            "table such as vedfolnir.users"
        )
    if table not in ("", "*"):
        return f"`{_unquoted(name)}`.`{_unquoted(table)}`"
    name = _unquoted(name)
    # In the name of a database an underscore or percent sign of a GRANT matches other characters.
    escaped = re.sub("([_%])", r"\\\1", name)
    return f"`{escaped}`.*"


def _grant(account: str, target: str, privileges: set[str]) -> list[str]:
    on_table = not target.endswith(".*")
    known: tuple[str, ...] = TABLE_PRIVILEGES if on_table else STATIC_PRIVILEGES
    if target == "*.*":
        known = GLOBAL_PRIVILEGES
    unknown = sorted(privileges - set(known))
    if unknown:
        raise AnsibleFilterError(
            f"mysql_users_sql: {', '.join(unknown)} cannot be granted on {target}; "
            f"known are {', '.join(known)}",
        )
    others = [privilege for privilege in known if privilege not in privileges]
    # Rights on a table that does not exist yet are accepted together with the one to create it
    # (MySQL manual, 15.7.1.6), which is taken back below.
    wanted = ", ".join(sorted(privileges | ({"CREATE"} if on_table else set())))
    lines = [f"GRANT {wanted} ON {target} TO {account};"] if privileges else []
    # IF EXISTS makes a right that was never granted a warning instead of an error.
    lines += [f"REVOKE IF EXISTS {privilege} ON {target} FROM {account};" for privilege in others]
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
