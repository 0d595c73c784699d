#!/bin/sh
# Entry point with the behaviour of the official image: run /docker-entrypoint.d, then the command.
set -eu

say() {
  [ -n "${NGINX_ENTRYPOINT_QUIET_LOGS:-}" ] || echo "$0: $*"
}

case ${1:-} in
  nginx | nginx-debug)
    for script in /docker-entrypoint.d/*; do
      case $script in
        *.envsh)
          # shellcheck source=/dev/null
          [ ! -x "$script" ] || { say "sourcing $script" && . "$script"; }
          ;;
        *.sh)
          [ ! -x "$script" ] || { say "running $script" && "$script"; }
          ;;
        *) say "ignoring $script" ;;
      esac
    done
    ;;
esac
exec "$@"
