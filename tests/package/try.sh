#!/usr/bin/env bash
# The Debian packages as an operator has them: installed, used, upgraded, removed, purged. As root in a fresh
# Debian, which it changes (scripts/debian --fresh); a tar archive with the packages comes by standard input:
#	tar -cC build/package/trixie . | scripts/debian --fresh trixie -- tests/package/try.sh
. "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib.sh"
. "$ROOT/tests/package/lib.sh"
TOOLS=(gcc libc6-dev pkgconf iproute2)
LOG=/run/try/maasd.log
server=''

show_log() {
	[ ! -s "$LOG" ] || tail -n 20 "$LOG"
}

# operate COMMAND...: a command of the operator, which may ask nothing.
operate() {
	echo "  \$ $*"
	DEBIAN_FRONTEND=noninteractive "$@" </dev/null >"$WORK/out" 2>&1 || fail "$(tail -n 30 "$WORK/out")"
}

# bring: what needs the network. The packages that ours need are there before the list of files is made.
bring() {
	mkdir -p "$DEBS/old" "$DEBS/new" "$WORK"
	tar -xC "$DEBS/old" --wildcards '*.deb'
	name_packages "$DEBS/old"
	bring_needed "$DEBS/old" "${TOOLS[@]}"
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

use_packages() {
	same "$1"
	operate debian/tests/smoke
}

# try_packages: without network, on ports of its own, and in memory of its own.
try_packages() {
	local id operators
	OLD=$(version_in "$DEBS/old") NEW=$OLD+later
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

	step 'install again, where something else comes first, and purge all'
	touch /usr/local/sbin/maasd
	# shellcheck disable=SC2046
	operate apt-get -y install --no-install-recommends $(files "$DEBS/old")
	grep -q '^maasd: /usr/local/sbin/maasd comes before' "$WORK/out" || fail 'nothing is said of /usr/local/sbin/maasd'
	rm /usr/local/sbin/maasd
	rm /etc/maasd/principals
	operate dpkg --purge "${PACKAGES[@]}"
	operate dpkg --purge "${PACKAGES[@]}"
	listing >"$WORK/after"
	left
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
