# shellcheck shell=bash
# Of boot.sh: control groups of version 2 that limit memory, as systemd makes them, and what the server says.

# within PROPERTIES COMMAND...: in a service of its own; what it prints is in $WORK/out, its status in $status.
within() {
	local properties=() property
	for property in $1; do properties+=(-p "$property"); done
	shift
	echo "machine# systemd-run --pipe ${properties[*]} $*"
	status=0
	systemd-run --quiet --pipe --wait --collect "${properties[@]}" "$@" </dev/null >"$WORK/out" 2>&1 || status=$?
	cat "$WORK/out"
	echo "(exit code $status)"
}

limits() {
	local swap check=(maasd --check --listen 127.0.0.1:0 --rdma off --max-pool-size)
	step 'limits of memory, version 2'
	within '' "${check[@]}" 256MiB
	said 'cgroup memory limit = none'
	within MemoryMax=128M "${check[@]}" 256MiB
	said 'cgroup memory limit = 128 MiB'
	said "does not fit into the cgroup's limit of memory, 128 MiB"
	within MemoryMax=128M "${check[@]}" 32MiB
	! grep -q warn "$WORK/out" || fail 'a pool that fits is warned of'
	within MemoryMax=128M "${check[@]}" 256MiB --prealloc
	[ "$status" = 1 ] || fail 'a pool that does not fit is taken at once'
	within MemoryMax=128M maas doctor
	said 'memory is limited to 128 MiB'

	step 'the limit of the group above'
	operate 'systemctl set-property --runtime small.slice MemoryMax=96M'
	within 'Slice=small.slice MemoryMax=128M' "${check[@]}" 256MiB
	said 'cgroup memory limit = 96 MiB'
	within 'Slice=small.slice' maas doctor
	said 'memory is limited to 96 MiB'

	step 'a container, which sees its own group alone'
	# shellcheck disable=SC2016  # for the inner shell
	within MemoryMax=96M unshare --cgroup --mount bash -c 'umount --lazy /sys/fs/cgroup &&
		mount -t cgroup2 none /sys/fs/cgroup && exec "$@"' bash "${check[@]}" 256MiB
	said 'cgroup memory limit = 96 MiB'

	step 'with swap'
	operate "fallocate -l 512M /swap; chmod 600 /swap; mkswap /swap; swapon /swap"
	for swap in infinity 0; do
		within "MemoryMax=128M MemorySwapMax=$swap" "${check[@]}" 256MiB
		said "does not fit into the cgroup's limit of memory, 128 MiB: a full pool would swap, or be killed"
	done
	operate 'swapoff /swap; rm /swap'

	step 'the service itself'
	operate 'systemctl set-property --runtime maasd MemoryMax=128M && systemctl restart maasd
		journalctl --no-pager -o cat -u maasd -n 12'
	said "does not fit into the cgroup's limit of memory, 128 MiB"
	operate 'maas doctor || true'
	said "the server's pool may grow to 256 MiB, its cgroup is limited to 128 MiB"
	operate 'systemctl set-property --runtime maasd MemoryMax=infinity && systemctl restart maasd && maas doctor || true'
	! grep -q 'its cgroup is limited' "$WORK/out" || fail 'the limit is gone, and still told of'
}
