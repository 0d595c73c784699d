# shellcheck shell=sh
# Load RULES; unless vedfolnir-firewall-rollback.timer is stopped within SECONDS, what was loaded
# before comes back: CONFIRMED, the text of the last rules for which the timer was stopped.
# Runs on the host as: sh -s RULES SECONDS CONFIRMED < firewall_apply.sh
set -eu
rules=$1
seconds=$2
confirmed=$3
former=/run/vedfolnir-firewall.former
timer=vedfolnir-firewall-rollback

# While a rollback is pending the loaded rules are unconfirmed ones: keep the older, confirmed copy.
if ! systemctl --quiet is-active "$timer.timer"; then
    : >"$former"
    if nft list table inet vedfolnir >"$former.table" 2>/dev/null; then
        # The text and not the listing where it can be had: nft of Debian 12 does not understand
        # its own listing of `ct original proto-dst`.
        if [ -s "$confirmed" ]; then
            cp "$confirmed" "$former"
        else
            {
                echo 'table inet vedfolnir'
                echo 'delete table inet vedfolnir'
                cat "$former.table"
            } >"$former"
        fi
    fi
fi
# Without a way back nothing is loaded.
if [ -s "$former" ] && ! nft --check --file "$former"; then
    echo 'The rules that are loaded could not be brought back, so they stay. Remove them first:' \
        'nft delete table inet vedfolnir' >&2
    exit 1
fi
systemctl stop "$timer.timer" "$timer.service" 2>/dev/null || true
systemctl reset-failed "$timer.service" 2>/dev/null || true
# shellcheck disable=SC2016  # expanded by the shell that the timer starts
systemd-run --quiet --unit="$timer" --on-active="$seconds" --timer-property=AccuracySec=1s \
    /bin/sh -c '
    if [ -s "$1" ]; then
        nft -f "$1"
        cp "$1" "$2"
    else
        nft delete table inet vedfolnir
        rm -f "$2"
    fi' rollback "$former" "$rules"
nft -f "$rules"
