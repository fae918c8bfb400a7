# shellcheck shell=bash disable=SC2154,SC2034  # the caller sets and uses variables
# The virtual machines: boot_machines, follow_machines, machines_status. They use hosts, limit,
# memory, counted, image, mode and command of the caller. Each machine has a folder host-a, host-b in $share:
#
#   env command   its task                   output rc booted   the outcome
#   console qemu  logs of kernel and QEMU    monitor.in         QEMU's monitor

KVM=/dev/kvm
BOOT_SECONDS_KVM=20
BOOT_SECONDS_TCG=180
BOOT_SECONDS_SLOW=900 # with a clock that counts, or with systemd
KERNEL_WARNING='WARNING:|BUG:|Oops|rxe_pool\.c|Call Trace'

boot_machines() {
	local name accel accels=(kvm "tcg,thread=multi") without_kvm=$cache/kvm-does-not-run
	share=$(mktemp -d "${TMPDIR:-/tmp}/softroce.XXXXXX")
	names=(a b)
	names=("${names[@]:0:hosts}")
	pids=() followers=()
	trap end_machines EXIT
	trap 'exit 130' INT TERM
	mkdir "$share/shared"
	cp scripts/softroce.d/guest "$share/guest"
	[ -w "$KVM" ] && [ -z "$(find "$without_kvm" -mtime -7 2>/dev/null)" ] || accels=("tcg,thread=multi")
	[ -z "$counted" ] || accels=("tcg,thread=single")
	for accel in "${accels[@]}"; do
		if start_machines "$accel"; then
			# It is KVM that does not run, as elsewhere the machine boots.
			[ "$accel" = "${accels[0]}" ] || touch "$without_kvm"
			return
		fi
		kill_machines
		[ "$accel" != kvm ] || say "softroce: no machine booted with KVM; emulating, and if that works, for a week"
	done
	say "softroce: the machine did not boot; the last words of its console and of QEMU:"
	tail -n 20 "$share"/host-*/console "$share"/host-*/qemu >&2 || true
	exit 75
}

start_machines() { # ACCELERATOR
	local name seconds=$BOOT_SECONDS_TCG
	[ "$1" != kvm ] || seconds=$BOOT_SECONDS_KVM
	[ -z "$image$counted" ] || seconds=$BOOT_SECONDS_SLOW
	rm -f "$share/cable.socket"
	for name in "${names[@]}"; do
		describe_machine "$name"
		start_machine "$name" "$1"
	done
	for name in "${names[@]}"; do
		wait_for_boot "$name" "$seconds" || return 1
	done
}

number_of() {
	[ "$1" = a ] && echo 1 || echo 2
}

describe_machine() { # NAME
	local dir=$share/host-$1 number
	number=$(number_of "$1")
	rm -rf "$dir"
	mkdir "$dir"
	{
		echo "export SOFTROCE_HOST=$1 SOFTROCE_HOSTS=$hosts"
		echo "export SOFTROCE_ADDR=10.77.0.$number SOFTROCE_PEER=10.77.0.$((3 - number))"
		declare -px | grep -E '^declare -x (MAAS_[A-Z_]+|CI)=' || true
		if [ -n "$image" ]; then
			echo 'export HOME=/root'
		else
			declare -px PATH HOME || true
			printf 'cd %q || exit 1\n' "$caller_dir"
		fi
	} >"$dir/env"
	if [ "$mode" = command ]; then
		printf '%q ' exec "${command[@]}" >"$dir/command"
	fi
	mkfifo "$dir/monitor.in" "$dir/monitor.out"
}

start_machine() { # NAME ACCELERATOR
	local dir=$share/host-$1 number cpu=max cpus clock=() cable=() serial=(-serial "file:$share/host-$1/output")
	local root=(-fsdev "local,id=root,path=/,security_model=none,readonly=on,multidevs=remap"
		-device "virtio-9p-pci,fsdev=root,mount_tag=hostroot")
	[ -z "$image" ] || root=(-drive "file=$image,format=raw,if=none,id=root,snapshot=on,cache=unsafe"
		-device "virtio-blk-pci,drive=root")
	number=$(number_of "$1")
	cpus=$(nproc)
	[ "$2" != kvm ] || cpu=host
	# Each step of `rep stosb` counts as an instruction: a memset() would cost more than all else.
	[ -z "$counted" ] || cpu=max,-erms,-fsrm cpus=1 clock=(-icount "shift=1,sleep=off,align=off")
	[ "$mode" = command ] || serial=(-serial stdio)
	if [ "$hosts" = 2 ]; then
		# A stream loses nothing by itself. A datagram socket drops most of a burst, and every lost
		# packet costs RDMA a timeout. Host a listens: it starts first.
		local server=on
		if [ "$1" = b ]; then
			server=off
			wait_for_cable
		fi
		cable=(-netdev "stream,id=n0,server=$server,addr.type=unix,addr.path=$share/cable.socket"
			-device "virtio-net-pci,netdev=n0,host_mtu=9000,mac=52:54:00:77:00:0$number")
	fi
	# On a busy machine the kernel would find that the timer does not work.
	setpriv --pdeathsig KILL -- qemu-system-x86_64 -nodefaults -no-user-config -no-reboot -display none \
		-accel "$2" "${clock[@]}" -cpu "$cpu" -m "$memory" -smp "$cpus" \
		-kernel "$kernel_image" -initrd "$initrd" \
		-append "console=ttyS1 quiet panic=-1 oops=panic no_timer_check softroce.host=$1" \
		"${root[@]}" \
		-fsdev "local,id=share,path=$share,security_model=none" \
		-device virtio-9p-pci,fsdev=share,mount_tag=share \
		-object rng-random,id=rng,filename=/dev/urandom -device virtio-rng-pci,rng=rng \
		-chardev "pipe,id=monitor,path=$dir/monitor" -mon monitor \
		"${serial[@]}" -serial "file:$dir/console" "${cable[@]}" \
		<"$([ "$mode" = shell ] && echo /dev/stdin || echo /dev/null)" 2>"$dir/qemu" &
	pids+=($!)
	echo $! >"$dir/pid"
}

wait_for_cable() {
	local tenth
	for ((tenth = 0; tenth < 100; tenth++)); do
		[ ! -S "$share/cable.socket" ] || return 0
		sleep 0.1
	done
}

alive() { # NAME
	kill -0 "$(cat "$share/host-$1/pid")" 2>/dev/null
}

wait_for_boot() { # NAME SECONDS
	local tenth
	for ((tenth = 0; tenth < $2 * 10; tenth++)); do
		[ ! -e "$share/host-$1/booted" ] || return 0
		alive "$1" || return 1
		sleep 0.1
	done
	return 1
}

kill_machines() {
	local pid
	for pid in "${pids[@]}"; do
		kill -9 "$pid" 2>/dev/null || true
		wait "$pid" 2>/dev/null || true
	done
	pids=()
}

end_machines() {
	local pid
	kill_machines
	for pid in "${followers[@]}"; do
		kill "$pid" 2>/dev/null || true
	done
	if [ -n "${SOFTROCE_SHARE:-}" ]; then
		mkdir -p "$SOFTROCE_SHARE"
		cp -a "$share/shared/." "$SOFTROCE_SHARE/"
	fi
	rm -rf "$share"
	[ ! -t 0 ] || stty sane
}

# Relays the hosts' output until all have ended, and obeys what they write to the file cable.
follow_machines() {
	local name running=1 deadline=$((SECONDS + limit))
	timed_out=''
	if [ "$mode" = command ]; then
		for name in "${names[@]}"; do
			follow_output "$name" &
			followers+=($!)
		done
	fi
	while [ -n "$running" ]; do
		running=''
		for name in "${names[@]}"; do
			! alive "$name" || running=1
		done
		obey_cable
		if [ $SECONDS -ge $deadline ]; then
			say "softroce: time ran out after $limit s"
			timed_out=1
			kill_machines
			break
		fi
		sleep 0.1
	done
	for name in "${followers[@]}"; do
		wait "$name" || true
	done
	followers=()
}

follow_output() { # NAME
	local prefix=''
	[ "$hosts" = 1 ] || prefix="$1| "
	tail -s 0.2 -n +1 -f --pid="$(cat "$share/host-$1/pid")" "$share/host-$1/output" |
		sed -u "s/^/$prefix/"
}

obey_cable() {
	local verb name state
	[ -s "$share/shared/cable" ] || return 0
	mv "$share/shared/cable" "$share/cable"
	while read -r verb name state; do
		case $verb in
		link) echo "set_link n0 $state" >"$share/host-$name/monitor.in" ;;
		kill) kill -9 "$(cat "$share/host-$name/pid")" ;;
		*) say "softroce: the cable cannot '$verb'" ;;
		esac
	done <"$share/cable"
}

# Prints the exit code of the whole run.
machines_status() {
	local name status=0 own
	for name in "${names[@]}"; do
		own=$(cat "$share/host-$name/rc" 2>/dev/null || echo 75)
		if grep -qE "$KERNEL_WARNING" "$share/host-$name/console"; then
			say "softroce: the kernel of host $name warned:"
			grep -E -A 30 "$KERNEL_WARNING" "$share/host-$name/console" | head -n 60 >&2
			own=70
		fi
		[ "$status" != 0 ] || status=$own
	done
	[ -z "$timed_out" ] || status=124
	echo "$status"
}
