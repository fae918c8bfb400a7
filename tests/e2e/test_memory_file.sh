#!/usr/bin/env bash
# Memory that outlives maasd: --memory-file. What is kept, what a failed start leaves behind, and where memory does not
# fit. Each file that is refused is in tests/unit/slab/test_slab_refuse.c.
. "$(dirname "$0")/lib.sh"
MAAS=$2
shm=$(mktemp -d /dev/shm/maas-e2e.XXXXXX)
remove+=("$shm")
file=$shm/memory
small=$shm/small
pool=(--memory-file "$file" --max-pool-size 64MiB)
here=(--listen 127.0.0.1:0 --rdma off)

# A mount namespace of our own: no tmpfs of these tests is seen by others, or outlives them.
if [ "$(id -u)" = 0 ] && [ -z "${OWN_MOUNTS-}" ] && own_mounts true 2>/dev/null; then
	rm -rf "$shm" "$WORK"
	OWN_MOUNTS=1 own_mounts bash "$0" "$@"
	exit
fi

# none FILE...: none of them is there.
none() {
	local name
	for name; do
		[ ! -e "$name" ] || fail "$name is there"
	done
}

# refused_untouched WORDS OPTION...: the start fails, and nothing is left of it.
refused_untouched() {
	refused 1 "$1" --memory-file "$new" "${@:2}"
	none "$new" "$new.slots"
}

# What was lent at first.
same_bytes() {
	request GET "/allocate/$kept/data"
	cmp "$WORK/bytes" "$WORK/body" || fail 'other bytes than were lent'
}

step 'what was lent is there after kill -9'
start_server "${pool[@]}" --rdma off
head -c 3000000 /dev/urandom >"$WORK/bytes"
allocate '{"size_bytes":3000000,"owner":"me"}'
kept=$ID
answered 200 request PUT "/allocate/$kept/data" --data-binary "@$WORK/bytes"
allocate '{"size_bytes":1000}'
freed=$ID
request DELETE "/allocate/$freed"
made /sessions '{"ttl_seconds":60}'
allocate '{"size_bytes":1000,"lifetime":"session","session":"'"$ID"'"}'
owned=$ID
request GET /health
arena=$(jq -r .arena_id <<<"$BODY") boot=$(jq -r .boot_id <<<"$BODY")
born=$(metric maas_arena_created_seconds)
kill_server
start_server "${pool[@]}" --rdma off
wait_for 5 grep -q 'memory kept allocations=2' "$LOG"
request GET /health
equal 'allocations since the start' 0 "$(metric maas_allocations_total)"
equal 'frees: the session ended with its server' 1 "$(metric maas_frees_total)"
equal 'arena_id' "$arena" "$(jq -r .arena_id <<<"$BODY")"
equal 'when the memory was made' "$born" "$(metric maas_arena_created_seconds)"
[ "$boot" != "$(jq -r .boot_id <<<"$BODY")" ] || fail 'the same boot_id'
same_bytes
request GET '/allocations?owner=me'
equal 'allocations of the owner' "$kept" "$(jq -r '.allocations[].id' <<<"$BODY")"
for id in "$freed" "$owned"; do
	answered 404 request GET "/allocate/$id"
done

step 'who closes the standard descriptors'
address=${URL#http://}
stop_server
"$MAASD" "${pool[@]}" --rdma off --listen "$address" <&- >&- 2>&- &
SERVER=$!
children+=("$SERVER")
wait_for 10 curl -sS -o /dev/null "$URL/health"
same_bytes
stop_server
start_server "${pool[@]}" --rdma off --listen "$address"
same_bytes

step 'a start that fails'
new=$shm/new
refused_untouched 'Address already in use' --listen "${URL#http://}" --rdma off
refused_untouched 'no RDMA device' --listen 127.0.0.1:0 --rdma-device mlx5_7
: >"$new"
chmod 600 "$new"
refused 1 'Address already in use' --memory-file "$new" --listen "${URL#http://}" --rdma off
none "$new.slots"
equal 'an empty file that was there' 0 "$(stat -c %s "$new")"
rm "$new"
for check in --check ''; do
	# The table alone, from a start of long ago.
	cp --sparse=always "$file.slots" "$new.slots"
	refused 1 'put a good copy of both back' ${check:+"$check"} --memory-file "$new" --max-pool-size 64MiB "${here[@]}"
	rm -f "$new" "$new.slots"
	refused 1 "No such file or directory" ${check:+"$check"} --memory-file "$WORK/none/m" "${here[@]}"
done
mkdir -m 0755 "$WORK/closed"
if [ "$(id -u)" = 0 ]; then
	chmod 0711 "$WORK"
	cp "$MAASD" "$WORK/maasd" # who is nobody may not reach this tree
	for check in --check ''; do
		contains "$check in a directory of root" "$(setpriv --reuid nobody --clear-groups "$WORK/maasd" ${check:+"$check"} \
			--memory-file "$WORK/closed/m" "${here[@]}" 2>&1 || true)" "cannot open $WORK/closed/m: Permission denied"
	done
fi
address=${URL#http://}
stop_server
start_server --listen "$address" --rdma off
refused 1 'Address already in use' "${pool[@]}" --listen "$address" --rdma off
refused 1 'made with --max-pool-size 64MiB, not 128MiB' --memory-file "$file" --max-pool-size 128MiB "${here[@]}"
stop_server
start_server "${pool[@]}" --rdma off
same_bytes
stop_server

step 'other options, where nothing is lent'
start_server --memory-file "$new" --max-pool-size 64MiB --rdma off
stop_server
start_server --memory-file "$new" --max-pool-size 128MiB --rdma off
allocate '{"size_bytes":1000}'
stop_server
refused 1 'made with --max-pool-size 128MiB, not 64MiB' --memory-file "$new" --max-pool-size 64MiB "${here[@]}"
start_server --memory-file "$new" --max-pool-size 128MiB --rdma off
answered 200 request DELETE "/allocate/$ID"
stop_server
refused 0 'memory file and table' --check --memory-file "$new" --max-pool-size 64MiB --slab-sizes 4KiB "${here[@]}"
start_server --memory-file "$new" --max-pool-size 64MiB --slab-sizes 4KiB --rdma off
contains 'log' "$(cat "$LOG")" 'nothing is lent from it, it begins anew'
stop_server
rm "$new" "$new.slots"

step '--prealloc: more than there is, and a signal'
refused_untouched "is more than this machine's memory" --prealloc --max-pool-size 3TiB "${here[@]}"
refused 1 "is more than this machine's memory" --check --prealloc --max-pool-size 3TiB "${here[@]}"
# The signal waits already when the program begins: whatever the machine, it comes in time.
pending='import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
os.kill(os.getpid(), signal.SIGTERM)
os.execv(sys.argv[1], sys.argv[1:])'
text=$(timeout 20 /usr/bin/python3 -c "$pending" "$MAASD" --prealloc --max-pool-size 64MiB \
	--memory-file "$new" "${here[@]}" 2>&1) || fail "SIGTERM while memory is taken: exit $?: $text"
contains 'SIGTERM while memory is taken' "$text" 'ending before the start was done'
[[ $text != *Listening* ]] || fail 'it serves although it was told to end'
none "$new" "$new.slots"

if [ -n "${OWN_MOUNTS-}" ]; then
	step 'a tmpfs that is smaller than the pool'
	mkdir "$small"
	mount -t tmpfs -o size=20m none "$small"
	new=$small/m
	contains '--check' "$("$MAASD" --check "${here[@]}" --memory-file "$new" --max-pool-size 64MiB 2>&1)" \
		"memory file's room = 20 MiB" 'its file system has 20 MiB, less than the '
	refused_untouched "--prealloc: --memory-file $new: its file system has 20 MiB, less than" --prealloc \
		--max-pool-size 64MiB "${here[@]}"
	start_server --memory-file "$new" --max-pool-size 64MiB --rdma off
	contains 'log' "$(cat "$LOG")" 'its file system has 20 MiB, less than the '
	status=0
	"$MAAS" doctor --url "$URL" >"$WORK/doctor" || status=$?
	equal 'exit status of doctor' 1 "$status"
	contains 'doctor' "$(cat "$WORK/doctor")" 'its file system has only'
	STATUS=200
	while [ "$STATUS" = 200 ]; do post /allocate '{"size_bytes":4194304}'; done
	equal 'a full file system' 507 "$STATUS"
	contains '507' "$BODY" 'the file system of --memory-file has no more memory'
	[[ $BODY != *--max-pool-size* ]] || fail "advises what does not help: $BODY"
	mount -o remount,size=100m "$small"
	allocate '{"size_bytes":4194304}'
	stop_server
	mount -o remount,size=15m "$small" 2>/dev/null || true
	rm -f "$small"/*
	mount -o remount,size=4m "$small"
	for check in '' --check; do
		refused_untouched 'has no room for a table of slabs' --max-pool-size 64MiB ${check:+"$check"} "${here[@]}"
	done
	umount "$small"
	if mount -t hugetlbfs none "$small" 2>/dev/null; then
		contains '--check' "$("$MAASD" --check "${here[@]}" --memory-file "$small/m" --slab-sizes 1KiB,64KiB 2>&1)" \
			"extent-size = $(($(stat -f -c %S "$small") >> 20))MiB"
		umount "$small"
	fi
fi

# Every server in a container is process 1 of a namespace that nobody else sees.
if [ "$(id -u)" = 0 ] && unshare -p -f --propagation unchanged --mount-proc true 2>/dev/null; then
	step 'in containers: no wait without RDMA, a bounded one with it'
	maasd=$MAASD
	MAASD=$WORK/contained
	printf '#!/bin/sh\nexec unshare -p -f --kill-child --propagation unchanged --mount-proc "%s" "$@"\n' "$maasd" >"$MAASD"
	chmod +x "$MAASD"
	start_server "${pool[@]}" --rdma off
	kill_server
	start_server "${pool[@]}" --rdma off
	[[ $(cat "$LOG") != *waiting* ]] || fail 'waits for a server that had no device'
	kill_server
	printf '\2' | dd of="$file.slots" bs=1 seek=388 conv=notrunc status=none # "a device writes"
	began=$SECONDS
	start_server "${pool[@]}" --rdma off
	between 'seconds of waiting' 9 20 $((SECONDS - began))
	contains 'log' "$(cat "$LOG")" 'waiting 10 s for what a NIC may still write'
	same_bytes
	kill_server
	MAASD=$maasd
	start_server "${pool[@]}" --rdma off
	stop_server
fi
