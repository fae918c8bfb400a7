#!/usr/bin/env bash
# A pool that does not fit into the limit of memory of a control group of version 1: what --check, --prealloc, the log,
# /stats and maas doctor say. For version 2 there is tests/package/limits.sh, on a machine with systemd.
. "$(dirname "$0")/lib.sh"
MAAS=$2
MEMORY=/sys/fs/cgroup/memory
here=(--listen 127.0.0.1:0 --rdma off)

# The groups can be removed when nobody is left in them: by this shell, after one that makes the test.
if [ -z "${GROUP-}" ]; then
	GROUP=$MEMORY/maas-e2e.$$
	if ! [ -w "$MEMORY/cgroup.procs" ] || ! own_mounts true 2>/dev/null || ! mkdir "$GROUP" "$GROUP/inner"; then
		echo 'skipped: no control group of version 1 can be made here'
		exit 77
	fi
	trap 'status=$?; rm -rf "$WORK"; wait_for 10 rmdir "$GROUP/inner" "$GROUP"; exit $status' EXIT
	GROUP=$GROUP own_mounts bash "$0" "$@"
	exit
fi

# in_64MiB COMMAND...: runs other commands in a cgroup with a limit of 64 MiB. All that tells of it tells the same.
in_64MiB() {
	local text fits size maasd=$MAASD
	text=$("$@" "$MAASD" --check "${here[@]}" --max-pool-size 128MiB 2>&1)
	contains '--check' "$text" 'cgroup memory limit = 64 MiB' "does not fit into the cgroup's limit of memory, 64 MiB"
	fits=$(sed -n 's/.*, or lower --max-pool-size to \([0-9]*\)MiB$/\1/p' <<<"$text")
	for size in "$fits" $((fits + 1)); do
		text=$("$@" "$MAASD" --check "${here[@]}" --max-pool-size "${size}MiB" --extent-size 4MiB 2>&1)
		[[ $size = "$fits" ]] || contains 'a MiB more than fits' "$text" 'does not fit into'
		[[ $size != "$fits" || $text != *'does not fit'* ]] || fail "the pool that fits: $text"
	done
	text=$("$@" "$MAASD" --prealloc --max-pool-size 128MiB "${here[@]}" 2>&1) && fail "--prealloc runs: $text"
	contains '--prealloc' "$text" '--prealloc: --max-pool-size 128MiB does not fit into the'
	contains 'doctor there' "$("$@" "$MAAS" doctor 2>/dev/null || true)" 'memory is limited to 64 MiB here'
	printf '#!/bin/bash\nexec %s "%s" "$@"\n' "$(printf '%q ' "$@")" "$maasd" >"$WORK/limited"
	chmod +x "$WORK/limited"
	MAASD=$WORK/limited start_server "${here[@]}" --max-pool-size 128MiB
	contains 'log' "$(cat "$LOG")" "does not fit into the cgroup's limit of memory, 64 MiB"
	equal 'GET /stats' 67108864 "$(curl -sS "$URL/stats" | jq .memory_limit_bytes)"
	contains 'doctor elsewhere' "$("$MAAS" doctor --url "$URL" || true)" \
		"the server's pool may grow to 128 MiB, its cgroup is limited to 64 MiB"
	stop_server
}

echo 67108864 >"$GROUP/memory.limit_in_bytes"
# shellcheck disable=SC2016  # for the inner shells
{
	join='echo $$ >"$1/inner/cgroup.procs"'
	step 'in a group below that with the limit'
	in_64MiB bash -c "$join"' && shift && exec "$@"' bash "$GROUP"
	step 'in a container that sees its own group alone'
	in_64MiB bash -c "$join"' && exec unshare --mount --propagation unchanged \
		bash -c '\''mount --bind "$1/inner" /sys/fs/cgroup/memory && shift && exec "$@"'\'' bash "$@"' bash "$GROUP"
	step 'in one that has a namespace of groups'
	in_64MiB bash -c "$join"' && shift && exec unshare --mount --cgroup --propagation unchanged \
		bash -c '\''umount --lazy /sys/fs/cgroup/memory && mount -t cgroup -o memory none /sys/fs/cgroup/memory && exec "$@"'\'' bash "$@"' bash "$GROUP"
}

step 'a limit that is raised while the server runs'
limit_is() {
	[ "$(curl -sS "$URL/stats" | jq .memory_limit_bytes)" = "$1" ]
}
start_server "${here[@]}" --max-pool-size 32MiB # nothing binds it yet
echo "$SERVER" >"$GROUP/inner/cgroup.procs"
wait_for 60 limit_is 67108864
echo 100663296 >"$GROUP/memory.limit_in_bytes"
wait_for 60 limit_is 100663296
stop_server

step 'where no hierarchy can be seen'
contains '--check' "$(own_mounts bash -c 'umount --recursive --lazy /sys/fs/cgroup && exec "$@"' bash \
	"$MAASD" --check "${here[@]}")" 'cgroup memory limit = cannot tell'
