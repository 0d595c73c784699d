#!/bin/sh
# Entry point with the behaviour of the official image: a subcommand or options are for bao; the
# server reads /openbao/config and runs as the user openbao also when started as root.
set -eu

if [ "${1:-}" = server ]; then
  shift
  set -- bao server -config=/openbao/config "$@"
elif [ "${1#-}" != "${1:-}" ] || bao "${1:-}" --help 2>&1 | grep -q "bao ${1:-}"; then
  set -- bao "$@"
fi
if [ "$1" = bao ] && [ "$(id -u)" = 0 ]; then
  exec setpriv --reuid=openbao --regid=openbao --init-groups "$@"
fi
exec "$@"
