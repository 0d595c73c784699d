#!/bin/bash
# Entry point with the behaviour of the official image: MYSQL_* settings and MYSQL_*_FILE, first
# initialisation with /docker-entrypoint-initdb.d, user mysql also when started as root.
set -euo pipefail

say() { printf '%s [%s] [Entrypoint]: %s\n' "$(date --rfc-3339=seconds)" "$1" "$2"; }
note() { say Note "$1"; }
die() {
  say ERROR "$1" >&2
  exit 1
}

# setting NAME: take $NAME from the file $NAME_FILE when that is given.
setting() {
  local name=$1 file_name=$1_FILE
  if [ -n "${!name:-}" ] && [ -n "${!file_name:-}" ]; then
    die "Both $name and $file_name are set (but are exclusive)"
  fi
  if [ -n "${!file_name:-}" ]; then
    printf -v "$name" '%s' "$(<"${!file_name}")"
  fi
  unset "$file_name"
  printf -v "$name" '%s' "${!name:-}"
}

# option NAME ARGS…: the value mysqld would use for an option.
option() {
  local name=$1
  shift
  "$@" --log-bin-index=/dev/null --verbose --help 2>/dev/null |
    awk -v name="$name" '$1 == name && /^[^ \t]/ { sub(/^[^ \t]+[ \t]+/, ""); print; exit }'
}

quote() { printf "'%s'" "$(sed -e 's/\\/\\\\/g' -e "s/'/''/g" <<<"$1")"; }

# client ARGS…: mysql as root over the socket; the password stays out of the argument list.
client() {
  mysql --defaults-extra-file=<(
    printf '[client]\nuser=root\n'
    # An option file reads backslash and double quote specially.
    [ -z "$root_set" ] || printf 'password="%s"\n' "$(sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' <<<"$MYSQL_ROOT_PASSWORD")"
  ) --protocol=socket --host=localhost --socket="$socket" --comments "$@"
}

run_init_files() {
  local file
  for file in /docker-entrypoint-initdb.d/*; do
    case $file in
      *.sh)
        note "running $file"
        if [ -x "$file" ]; then
          "$file"
        else
          # shellcheck source=/dev/null
          . "$file"
        fi
        ;;
      *.sql) note "running $file" && client ${MYSQL_DATABASE:+--database="$MYSQL_DATABASE"} <"$file" ;;
      *.sql.gz) note "running $file" && gunzip -c "$file" | client ${MYSQL_DATABASE:+--database="$MYSQL_DATABASE"} ;;
      */\*) ;;
      *) note "ignoring $file" ;;
    esac
  done
}

initialise() {
  local generated=
  for name in MYSQL_ROOT_HOST MYSQL_DATABASE MYSQL_USER MYSQL_PASSWORD MYSQL_ROOT_PASSWORD; do
    setting "$name"
  done
  if [ -z "$MYSQL_ROOT_PASSWORD${MYSQL_ALLOW_EMPTY_PASSWORD:-}${MYSQL_RANDOM_ROOT_PASSWORD:-}" ]; then
    die "Database is uninitialized and password option is not specified: set one of \
MYSQL_ROOT_PASSWORD, MYSQL_ALLOW_EMPTY_PASSWORD, MYSQL_RANDOM_ROOT_PASSWORD"
  fi
  [ "$MYSQL_USER" != root ] || die "MYSQL_USER=root is not for the root user: use MYSQL_ROOT_PASSWORD"
  if [ -n "$MYSQL_USER" ] && [ -z "$MYSQL_PASSWORD" ]; then
    die "MYSQL_USER specified, but missing MYSQL_PASSWORD; MYSQL_USER will not be created"
  fi

  note "Initializing database files"
  "$@" --initialize-insecure --default-time-zone=SYSTEM --autocommit=1
  note "Database files initialized"

  root_set=
  note "Starting temporary server"
  "$@" --daemonize --skip-networking --default-time-zone=SYSTEM --socket="$socket" --mysqlx=OFF \
    --pid-file="$datadir/entrypoint.pid" || die "Unable to start server."
  note "Temporary server started."

  # Debian's build adds this component on initialisation; the official image does not.
  if [ "$(client -NBe "SELECT COUNT(*) FROM mysql.component WHERE component_urn LIKE '%validate_password'")" != 0 ]; then
    client -e "UNINSTALL COMPONENT 'file://component_validate_password'"
  fi
  if [ -z "${MYSQL_INITDB_SKIP_TZINFO:-}" ]; then
    mysql_tzinfo_to_sql /usr/share/zoneinfo 2>/dev/null | client --database=mysql
  fi
  if [ -n "${MYSQL_RANDOM_ROOT_PASSWORD:-}" ]; then
    MYSQL_ROOT_PASSWORD=$(openssl rand -base64 24)
    generated=1
  fi

  {
    # Accounts are set up again on every replica by its own initialisation.
    echo 'SET @@SESSION.SQL_LOG_BIN=0;'
    if [ "${MYSQL_ROOT_HOST:-%}" != localhost ]; then
      echo "CREATE USER 'root'@$(quote "${MYSQL_ROOT_HOST:-%}") IDENTIFIED BY $(quote "$MYSQL_ROOT_PASSWORD");"
      echo "GRANT ALL ON *.* TO 'root'@$(quote "${MYSQL_ROOT_HOST:-%}") WITH GRANT OPTION;"
    fi
    echo "ALTER USER 'root'@'localhost' IDENTIFIED BY $(quote "$MYSQL_ROOT_PASSWORD");"
    echo "GRANT ALL ON *.* TO 'root'@'localhost' WITH GRANT OPTION;"
    echo 'FLUSH PRIVILEGES;'
  } | client --database=mysql
  [ -z "$MYSQL_ROOT_PASSWORD" ] || root_set=1
  [ -z "$generated" ] || note "GENERATED ROOT PASSWORD: $MYSQL_ROOT_PASSWORD"

  if [ -n "$MYSQL_DATABASE" ]; then
    note "Creating database $MYSQL_DATABASE"
    client <<<"CREATE DATABASE IF NOT EXISTS \`$MYSQL_DATABASE\`;"
  fi
  if [ -n "$MYSQL_USER" ]; then
    note "Creating user $MYSQL_USER"
    client <<<"CREATE USER $(quote "$MYSQL_USER")@'%' IDENTIFIED BY $(quote "$MYSQL_PASSWORD");"
    [ -z "$MYSQL_DATABASE" ] ||
      client <<<"GRANT ALL ON \`${MYSQL_DATABASE//_/\\_}\`.* TO $(quote "$MYSQL_USER")@'%';"
  fi

  run_init_files
  [ -z "${MYSQL_ONETIME_PASSWORD:-}" ] ||
    client <<<"ALTER USER 'root'@$(quote "${MYSQL_ROOT_HOST:-%}") PASSWORD EXPIRE;"

  note "Stopping temporary server"
  local pid
  pid=$(<"$datadir/entrypoint.pid")
  client <<<'SHUTDOWN'
  while kill -0 "$pid" 2>/dev/null; do sleep 0.2; done
  note "Temporary server stopped"
  note "MySQL init process done. Ready for start up."
}

case ${1:-} in
  -*) set -- mysqld "$@" ;;
esac

if [ "${1:-}" = mysqld ] && [[ " $* " != *" --help "* ]] && [[ " $* " != *" --version "* ]]; then
  errors=$("$@" --log-bin-index=/dev/null --verbose --help 2>&1 >/dev/null) ||
    die "mysqld failed while attempting to check config: $errors"
  datadir=$(option datadir "$@")
  socket=$(option socket "$@")
  if [ "$(id -u)" = 0 ]; then
    mkdir -p "$datadir" "$(dirname "$socket")"
    find "$datadir" "$(dirname "$socket")" \! -user mysql -exec chown mysql '{}' +
    note "Switching to dedicated user 'mysql'"
    exec setpriv --reuid=mysql --regid=mysql --init-groups "$0" "$@"
  fi
  if [ ! -d "$datadir/mysql" ]; then
    initialise "$@"
  fi
  unset MYSQL_ROOT_PASSWORD MYSQL_PASSWORD
fi
exec "$@"
