#!/usr/bin/env bash
# Programs of one version with a server of another, in both directions, and a memory file that goes from the one to the
# other and back. The other version is the last release before this commit, built from the history of this clone.
# Run as: test_other_version.sh MAASD MAAS BUILD_DIR SOURCE_DIR CC; through scripts/softroce, also over RDMA.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
MAAS=$2 BUILD=$3 SOURCE=$4 CC=$5
FIRST=cc9b7cb78c2de7bb8a22f952cfefd6b9018ffe84 # the last commit that said 0.1.0, which has no tag

# other_commit prints it.
other_commit() {
	git -C "$SOURCE" describe --tags --abbrev=0 --match 'v[0-9]*' HEAD^ 2>/dev/null || echo $FIRST
}

# build_other builds the other version once.
build_other() {
	local commit=$1
	OTHER=$BUILD/other-version/$commit
	[ ! -x "$OTHER/done" ] || return 0
	rm -rf "$OTHER"
	mkdir -p "$OTHER"
	git -C "$SOURCE" archive "$commit" | tar -x -C "$OTHER"
	(
		cd "$OTHER"
		CC=$CC cmake --preset release && ninja -C build/release maasd maas maas_shared
	) >"$WORK/build.log" 2>&1 || fail "the other version cannot be built: $(tail -n 30 "$WORK/build.log")"
	printf '#!/bin/sh\n' >"$OTHER/done"
	chmod +x "$OTHER/done"
}

# program NAME TREE LIBRARIES: makes $WORK/NAME as a user of that version makes it.
program() {
	"$CC" -std=c11 -D_GNU_SOURCE -I"$2/client" "$SOURCE/tests/e2e/programs/visit.c" -L"$3" -lmaas -o "$WORK/$1"
}

# works_with WHOSE MAAS PROGRAM LIBRARIES: what a user does, at the server that runs.
works_with() {
	local maas=$2 program=$3 libraries=$4 id ways=(http)
	step "  $1 client: the command"
	export MAAS_URL=$URL
	"$maas" health >/dev/null || fail 'health'
	head -c 1000003 /dev/urandom >"$WORK/out"
	id=$("$maas" put --owner somebody "$WORK/out")
	"$maas" get "$id" "$WORK/in"
	cmp "$WORK/out" "$WORK/in" || fail 'other bytes'
	equal 'ls' "$id" "$("$maas" ls --owner somebody --json | jq -r '.[].id')"
	equal 'stats' 1 "$("$maas" stats --json | jq .active_allocations)"
	"$maas" free --owner somebody >/dev/null
	"$maas" alloc --ttl 60 --count 3 --request-id once 5000 >"$WORK/once"
	"$maas" alloc --ttl 60 --count 3 --request-id once 5000 | cmp - "$WORK/once" || fail 'a retry has other memory'
	xargs "$maas" free <"$WORK/once" >/dev/null
	[ -z "${SOFTROCE_ADDR:-}" ] || ways+=(rdma)
	for way in "${ways[@]}"; do
		step "  $1 client, by $way: bench, and a program"
		equal 'bench' "$way 0 0 0" "$("$maas" bench --transport "$way" --json --count 40 --threads 2 --size 8KiB |
			jq -r '"\(.transport) \(.wrong_bytes) \(.put.failed) \(.get.failed)"')"
		LD_LIBRARY_PATH=$libraries "$program" "$way" || fail 'the program'
	done
	equal 'allocations left' 0 "$(metric maas_active_allocations)"
	equal 'sessions left' 0 "$(metric maas_sessions)"
	unset MAAS_URL
}

if [ -z "${SOFTROCE_ADDR:-}" ] && ! git -C "$SOURCE" cat-file -e "$(other_commit)^{commit}" 2>/dev/null; then
	echo 'this tree has no history, or only a part of it: clone it whole (git fetch --unshallow --tags)' >&2
	exit 77
fi
commit=$(other_commit)
build_other "$commit"
theirs=$OTHER/build/release
step "the other version is $("$theirs/daemon/maasd" --version), of ${commit:0:12}"
program old "$OTHER" "$theirs/client"
program new "$SOURCE" "$BUILD/client"
listen=(--listen "${SOFTROCE_ADDR:-127.0.0.1}:0")
[ -n "${SOFTROCE_ADDR:-}" ] && listen+=(--rdma required) || listen+=(--rdma off)
ours=$MAASD

step 'a server of this version'
start_server "${listen[@]}"
works_with old "$theirs/cmd/maas" "$WORK/old" "$theirs/client"
step '  a program that was built with the old library, with the new one'
MAAS_URL=$URL LD_LIBRARY_PATH=$BUILD/client "$WORK/old" http || fail 'the program'
stop_server

step 'a server of the other version'
MAASD=$theirs/daemon/maasd
start_server "${listen[@]}"
works_with new "$MAAS" "$WORK/new" "$BUILD/client"
stop_server

step 'a memory file: there, to this version, and back'
shm=$(mktemp -d /dev/shm/maas-e2e.XXXXXX)
remove+=("$shm")
kept=(--memory-file "$shm/memory" --max-pool-size 64MiB "${listen[@]}")
start_server "${kept[@]}"
id=$(MAAS_URL=$URL "$MAAS" put --owner keeper "$WORK/out")
stop_server
for MAASD in "$ours" "$theirs/daemon/maasd"; do
	start_server "${kept[@]}"
	MAAS_URL=$URL "$MAAS" get "$id" | cmp - "$WORK/out" || fail 'other bytes'
	equal 'its owner' keeper "$(MAAS_URL=$URL "$MAAS" ls --json | jq -r '.[].owner')"
	stop_server
done
