# shellcheck shell=sh
# Load RULES; unless vedfolnir-firewall-rollback.timer is stopped within SECONDS, what was loaded
# before comes back.
# Runs on the host as: sh -s RULES SECONDS < firewall_apply.sh
set -eu
rules=$1
seconds=$2
former=/run/vedfolnir-firewall.former
timer=vedfolnir-firewall-rollback

# While a rollback is pending the loaded rules are unconfirmed ones: keep the older, confirmed copy.
if ! systemctl --quiet is-active "$timer.timer"; then
    : >"$former"
    if nft list table inet vedfolnir >"$former.table" 2>/dev/null; then
        {
            echo 'table inet vedfolnir'
            echo 'delete table inet vedfolnir'
            cat "$former.table"
        } >"$former"
    fi
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
