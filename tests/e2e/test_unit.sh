#!/usr/bin/env bash
# The systemd unit and its user, as they are installed. Run as: test_unit.sh MAASD BUILD_DIR
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
BUILD=$2 SOURCE=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
ROOT=$WORK/root

step 'install'
DESTDIR=$ROOT cmake --install "$BUILD/daemon" --prefix /usr >"$WORK/install.log"
UNIT=$ROOT/usr/lib/systemd/system/maasd.service
for file in "$UNIT" "$ROOT/usr/lib/sysusers.d/maasd.conf"; do [ -s "$file" ] || fail "$file is not installed"; done
installed=$(sed -n 's/^ExecStart=\([^ ]*\).*/\1/p' "$UNIT")
equal 'the name of what the unit starts' maasd "${installed##*/}"

# A minimal Debian has no /bin/kill, which is of procps.
for unit in "$UNIT" "$SOURCE/prometheus/dist/prometheus.service"; do
	others=$(grep -E '^Exec(Start|Stop|Reload)[A-Za-z]*=' "$unit" | grep -vE '^Exec[A-Za-z]*=(/[^ ]*/(maasd|prometheus)|/bin/sh)( |$)' || true)
	equal "what $unit runs beside the server and the shell" '' "$others"
done

# setting NAME: its values, in the order of the unit.
setting() {
	sed -n "s/^$1=//p" "$UNIT" | paste -sd ' '
}

# set_to NAME=VALUE...: these are their values; empty: it is not set.
set_to() {
	local line
	for line in "$@"; do equal "${line%%=*}=" "${line#*=}" "$(setting "${line%%=*}")"; done
}

step 'what --memory-file and sockets rely on'
set_to User=maasd DynamicUser=no RemoveIPC=no RuntimeDirectory=maasd RuntimeDirectoryPreserve=restart PrivateIPC=
# strict leaves /dev writable, /dev/shm with it, unless one of these takes it away again.
set_to PrivateDevices=
for name in ReadOnlyPaths InaccessiblePaths TemporaryFileSystem; do
	[[ $(setting $name) != */dev* ]] || fail "$name= takes /dev/shm away"
done

step 'a start that the machine refuses for now: an address, a module or hugetlbfs may come later'
set_to Restart=on-failure RestartSec=1 StartLimitIntervalSec=0 RestartPreventExitStatus=2
[[ " $(setting After) " == *' rdma-hw.target '* ]] || fail 'it does not wait for RDMA devices'

step 'what keeps it harmless'
set_to LimitCORE=0 ProtectSystem=strict NoNewPrivileges=yes
equal 'CapabilityBoundingSet=' 1 "$(grep -c '^CapabilityBoundingSet=$' "$UNIT")"
[[ " $(setting RestrictAddressFamilies) " == *' AF_UNIX '* ]] || fail 'no Unix sockets'

if command -v systemd-analyze >/dev/null; then
	step 'systemd-analyze verify'
	# It looks for the program and the user, which are not installed here.
	mkdir "$WORK/unit"
	sed -e "s|^ExecStart=[^ ]*|ExecStart=$MAASD|" -e 's/^User=.*/User=root/' \
		-e '/^Documentation=man:/d' "$UNIT" >"$WORK/unit/maasd.service"
	text=$(systemd-analyze verify "$WORK/unit/maasd.service" 2>&1) ||
		fail "systemd-analyze verify: $text"
	[[ $text != *maasd.service:* ]] || fail "systemd-analyze verify: $text"
	echo 'NoSuchSetting=1' >>"$WORK/unit/maasd.service"
	text=$(systemd-analyze verify "$WORK/unit/maasd.service" 2>&1 || true)
	contains 'systemd-analyze verify of a bad unit' "$text" maasd.service
fi

if command -v systemd-sysusers >/dev/null; then
	step 'systemd-sysusers'
	text=$(systemd-sysusers --root="$ROOT" --dry-run 2>&1) || fail "systemd-sysusers: $text"
	contains 'systemd-sysusers --dry-run' "$text" "user 'maasd'"
	mkdir -p "$ROOT/etc"
	if [ "$(id -u)" = 0 ] && systemd-sysusers --root="$ROOT" >"$WORK/sysusers.log" 2>&1; then
		grep -q '^maasd:' "$ROOT/etc/passwd" || fail 'it made no user'
		grep -q '^maasd:' "$ROOT/etc/group" || fail 'it made no group'
	fi
fi
