#!/usr/bin/env bash
# The Debian packages as an operator has them: installed, used, upgraded, removed, purged. As root in a fresh
# Debian, which it changes (scripts/debian --fresh); a tar archive with the packages comes by standard input:
#	tar -cC build/package/trixie . | scripts/debian --fresh trixie -- tests/package/try.sh
. "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib.sh"
PACKAGES=(maasd maas libmaas0 libmaas-dev)
TOOLS=(gcc libc6-dev pkgconf iproute2)
DEBS=/run/packages WORK=/run/try LOG=/run/try/maasd.log
server=''
unset "${!MAAS_@}" # nothing of the caller's shell gets into the server and the clients

step() {
	echo "- $*"
}

fail() {
	echo "FAILED: $*" >&2
	[ ! -s "$LOG" ] || tail -n 20 "$LOG" >&2
	exit 1
}

# files DIRECTORY: of our packages, in a form that apt takes for files.
files() {
	printf "$1/%s.deb\n" "${PACKAGES[@]}"
}

# operate COMMAND...: a command of the operator, which may ask nothing.
operate() {
	echo "  \$ $*"
	DEBIAN_FRONTEND=noninteractive "$@" </dev/null >"$WORK/out" 2>&1 || fail "$(tail -n 30 "$WORK/out")"
}

# bring: what needs the network. The packages that ours need are there before the list of files is made.
bring() {
	local deb needed
	mkdir -p "$DEBS/old" "$DEBS/new" "$WORK"
	tar -xC "$DEBS/old" --wildcards '*.deb'
	for deb in "$DEBS"/old/*.deb; do
		mv "$deb" "$DEBS/old/$(dpkg-deb -f "$deb" Package).deb"
	done
	install_packages --for 'this test' "${TOOLS[@]}"
	apt update
	# shellcheck disable=SC2046  # names of files without spaces
	needed=$(apt-get install -s --no-install-recommends $(files "$DEBS/old") | sed -n 's/^Inst \([^ ]*\).*/\1/p')
	mapfile -t needed < <(grep -vxF "$(printf '%s\n' "${PACKAGES[@]}")" <<<"$needed")
	install_packages --for 'the packages' "${needed[@]}"
}

# make_later makes packages of a later version out of the old ones.
make_later() {
	local name tree=$WORK/tree
	for name in "${PACKAGES[@]}"; do
		dpkg-deb -R "$DEBS/old/$name.deb" "$tree"
		sed -i "s/^Version: .*/Version: $NEW/; s/(= $OLD)/(= $NEW)/" "$tree/DEBIAN/control"
		dpkg-deb --root-owner-group -b "$tree" "$DEBS/new/$name.deb" >/dev/null
		rm -r "$tree"
	done
}

# listing: every file with its owner, but what apt, dpkg and ldconfig keep for themselves.
listing() {
	find / \( -path /proc -o -path /sys -o -path /dev -o -path /maas -o -path /run -o -path /var/cache \
		-o -path /var/lib/apt -o -path /var/log/apt -o -path /tmp \) -prune -o \
		! -path '/var/lib/dpkg/*-old' ! -path '/var/log/dpkg.log' ! -path /etc/ld.so.cache -printf '%y %m %u:%g %p\n' |
		LC_ALL=C sort
	find /dev/shm -mindepth 1
}

# start: as the unit does.
start() {
	env -i bash -c 'set -a; . /etc/default/maasd; set +a
		exec setpriv --reuid maasd --regid maasd --init-groups /usr/sbin/maasd' >>"$LOG" 2>&1 &
	server=$!
	for ((i = 0; i < 300; i++)); do
		! maas health >/dev/null 2>&1 || return 0
		kill -0 "$server" 2>/dev/null || fail 'maasd ended'
		sleep 0.1
	done
	fail 'maasd is not healthy after 30 s'
}

stop() {
	local status=0
	kill "$server"
	wait "$server" || status=$?
	[ "$status" = 0 ] || fail "maasd ended with $status"
	server=''
}

# same ID: the bytes are there, in what was lent before.
same() {
	maas get "$1" | cmp - README.md || fail 'the bytes are not those that were put'
}

has_version() {
	local name
	for name in "${PACKAGES[@]}"; do
		[ "$(dpkg-query -W -f '${Version}' "$name")" = "$1" ] || fail "$name is not $1"
	done
}

use_packages() {
	same "$1"
	operate debian/tests/smoke
}

# try_packages: without network, on ports of its own, and in memory of its own.
try_packages() {
	local id operators
	OLD=$(dpkg-deb -f "$DEBS/old/maasd.deb" Version) NEW=$OLD+later
	make_later
	listing >"$WORK/before"

	step "install $OLD"
	# shellcheck disable=SC2046
	operate apt-get -y install --no-install-recommends $(files "$DEBS/old")
	has_version "$OLD"
	[ -s /usr/share/doc/maasd/examples/grafana/pool.json ] || fail 'the dashboards are not in the package'
	[ "$(stat -c '%U:%G %a' /etc/maasd)" = 'root:maasd 750' ] || fail "/etc/maasd is $(stat -c '%U:%G %a' /etc/maasd)"
	! ldd /usr/sbin/maasd /usr/bin/maas | grep 'not found' || fail 'a library is missing'
	start
	id=$(maas put --owner operator README.md)
	use_packages "$id"

	step "upgrade to $NEW, with options that the operator changed"
	echo 'MAAS_LOG_LEVEL=debug' >>/etc/default/maasd
	operators=$(sha256sum /etc/default/maasd)
	# shellcheck disable=SC2046
	operate apt-get -y install --no-install-recommends $(files "$DEBS/new")
	has_version "$NEW"
	sha256sum --quiet -c <<<"$operators" || fail 'the options of the operator are gone'
	same "$id" # of the server that still runs
	stop
	start
	use_packages "$id"

	step "back to $OLD"
	# shellcheck disable=SC2046
	operate apt-get -y --allow-downgrades install --no-install-recommends $(files "$DEBS/old")
	has_version "$OLD"
	stop
	grep -q " debug " "$LOG" || fail 'the option of the operator has no effect'
	start
	use_packages "$id"

	step 'remove and install again'
	stop
	operate apt-get -y remove "${PACKAGES[@]}"
	sha256sum --quiet -c <<<"$operators" || fail 'the options of the operator are gone'
	# shellcheck disable=SC2046
	operate apt-get -y install --no-install-recommends $(files "$DEBS/new")
	sha256sum --quiet -c <<<"$operators" || fail 'the options of the operator are gone'
	start
	use_packages "$id"
	stop

	step 'purge, which keeps what the operator made'
	mkdir -p /var/log/maasd
	touch /var/log/maasd/maasd.log
	echo '# mine' >/etc/maasd/principals
	operate apt-get -y purge "${PACKAGES[@]}"
	listing >"$WORK/after"
	left '> d 750 root:maasd /etc/maasd' '> f 644 root:root /etc/maasd/principals'
	getent passwd maasd >/dev/null || fail 'the user maasd is gone'

	step 'install again, and purge all'
	# shellcheck disable=SC2046
	operate apt-get -y install --no-install-recommends $(files "$DEBS/old")
	rm /etc/maasd/principals
	operate dpkg --purge "${PACKAGES[@]}"
	operate dpkg --purge "${PACKAGES[@]}"
	listing >"$WORK/after"
	left
}

# left LINE...: how the list of files may differ from that of before the installation; a user stays.
left() {
	local wanted found
	wanted=$(printf '%s\n' "$@")
	found=$(diff "$WORK/before" "$WORK/after" | grep '^[<>]' |
		grep -vE ' /etc/((passwd|group|shadow|gshadow)-?|\.pwd\.lock)$') || true
	[ "$found" = "$wanted" ] || fail "other files than before: $found"
}

if [ "${1:-}" != --without-network ]; then
	bring
	exec unshare --net bash "$0" --without-network
fi
trap '[ -z "$server" ] || kill "$server"' EXIT
ip link set lo up
mount -t tmpfs -o mode=1777 none /dev/shm
try_packages
step 'all is as it was'
