#!/bin/sh
# Entry point with the behaviour of the official image: options or a file are for redis-server, which
# runs as the user redis also when the container was started as root.
set -eu

case ${1:-} in
  -* | *.conf) set -- redis-server "$@" ;;
esac

if [ "${1:-}" = redis-server ]; then
  if [ "$(id -u)" = 0 ]; then
    find . \! -user redis -exec chown redis '{}' +
    exec setpriv --reuid=redis --regid=redis --init-groups "$0" "$@"
  fi
  [ "$(umask)" != 0022 ] || umask 0077
  # The official image is compiled with protected-mode off; Debian's is not.
  case "$*" in
    *protected-mode*) ;;
    *)
      if [ ! -f "${2:-}" ] || ! grep -q '^[[:space:]]*protected-mode' "$2"; then
        set -- "$@" --protected-mode no
      fi
      ;;
  esac
fi
exec "$@"
