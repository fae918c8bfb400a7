#!/usr/bin/env bash
# Makes the disk of the machine that boot.sh runs on: a Debian with systemd, with what the packages need but
# without them. As root in a fresh Debian (scripts/debian --fresh), which it changes. What scripts/package
# --boot builds comes as a tar archive by standard input, and the disk goes to standard output.
. "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib.sh"
. "$ROOT/tests/package/lib.sh"
exec 3>&1 >&2
disk=build/disk root=/mnt

mkdir -p build/packages
tar -xC build/packages
name_packages build/packages/now
name_packages build/packages/later
bring_needed "$ROOT/build/packages/now" "${PACKAGES_MACHINE[@]}" "${PACKAGES_RDMA[@]}" "${PACKAGES_RUN[@]}"
apt clean
rm -f /etc/resolv.conf
echo 127.0.0.1 localhost machine >/etc/hosts
echo machine >/etc/hostname

mount --bind / "$root" # without what is mounted below it
cp -a --parents tests/package README.md "$root/maas"
cp -a build/packages "$root/maas"
truncate -s 3G "$disk"
# This kernel's modules are those of the initrd.
mke2fs -q -t ext4 -E root_owner=0:0 -d "$root" "$disk"
cat "$disk" >&3
