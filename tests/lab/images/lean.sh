#!/bin/sh
# Make a fresh debootstrap root filesystem ($1) small and fit for image builds.
set -eu
root=$1

# Documentation, manuals and translations are of no use in a container.
cat >"$root/etc/dpkg/dpkg.cfg.d/lab-lean" <<'CONF'
path-exclude=/usr/share/doc/*
path-exclude=/usr/share/man/*
path-exclude=/usr/share/info/*
path-exclude=/usr/share/locale/*
path-exclude=/usr/share/lintian/*
CONF
# The lab must work from an archive snapshot too, whose index is past its date.
cat >"$root/etc/apt/apt.conf.d/90lab" <<'CONF'
Acquire::Check-Valid-Until "false";
Acquire::Check-Date "false";
Acquire::Languages "none";
CONF
# No service starts while packages are installed into an image.
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod 0755 "$root/usr/sbin/policy-rc.d"

for dir in doc man info locale lintian; do
  rm -rf "${root:?}/usr/share/$dir"
  mkdir -p "$root/usr/share/$dir"
done
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin "$root"/var/cache/apt/archives/*.deb \
  "$root"/var/log/*.log "$root"/var/log/apt/* "$root"/var/cache/debconf/*-old
: >"$root/etc/machine-id"
rm -f "$root/etc/resolv.conf" "$root/etc/hostname"
