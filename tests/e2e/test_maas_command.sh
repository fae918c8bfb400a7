#!/usr/bin/env bash
# The maas command against a real server: every command, its output, its exit codes.
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
MAAS=$(realpath "$2")

# expect STATUS COMMAND...: sets OUT and ERR.
expect() {
	local wanted=$1 status=0
	shift
	"$@" >"$WORK/out" 2>"$WORK/err" </dev/null || status=$?
	OUT=$(tr -d '\0' <"$WORK/out")
	ERR=$(cat "$WORK/err")
	[ "$status" = "$wanted" ] || fail "$*: wanted exit $wanted, got $status: $OUT $ERR"
	[[ $ERR == *'a command is missing'* ]] || ! grep -v '^maas: ' "$WORK/err" || fail "$*: not every line begins with \"maas: \""
}

maas() {
	expect 0 "$MAAS" "$@"
}

step "usage"
expect 2 "$MAAS"
contains usage "$ERR" 'Usage: maas [OPTION...] COMMAND'
contains usage "$ERR" 'maas: a command is missing'
expect 2 "$MAAS" allocate
contains 'a wrong command' "$ERR" 'there is no command allocate; did you mean alloc?'
expect 2 "$MAAS" sttas
contains 'swapped letters' "$ERR" 'did you mean stats?'
expect 2 "$MAAS" frobnicate
contains 'nothing like it' "$ERR" 'there is no command frobnicate; '
expect 2 "$MAAS" alloc --ownr me 4
contains 'a wrong option' "$ERR" 'maas: alloc: unknown option --ownr; did you mean --owner?'
expect 2 "$MAAS" -u http://127.0.0.1:1 health
contains 'a short option' "$ERR" 'unknown option -u; did you mean --url?'
expect 2 "$MAAS" alloc --t 4
contains 'half an option' "$ERR" '--t can stand for several options'
expect 2 "$MAAS" alloc 4 --owner
contains 'no value' "$ERR" 'maas: alloc: --owner needs a value'
expect 2 "$MAAS" --json=yes health
contains 'a value too many' "$ERR" 'maas: --json takes no value'
expect 2 "$MAAS" --url=http://127.0.0.1:1 -pq health
contains 'letters behind a value' "$ERR" 'maas: unknown option -p'
expect 2 "$MAAS" alloc 4q
contains 'a wrong size' "$ERR" '4q is no size'
expect 2 "$MAAS" alloc --count 0 4
expect 2 "$MAAS" free
expect 2 "$MAAS" top --interval 0
expect 2 "$MAAS" --nope health
expect 2 "$MAAS" prometheus
expect 2 "$MAAS" prometheus state
expect 2 "$MAAS" prometheus status me
contains 'prometheus' "$ERR" 'maas: usage: maas prometheus status [--owner NAME]'
expect 2 "$MAAS" --timeout soon health
contains 'a wrong timeout' "$ERR" 'soon is no number'
expect 2 "$MAAS" --json
maas --help
maas --version
contains --version "$OUT" 'maas 0.'
for command in health stats alloc free put get ls top bench doctor prometheus token whoami; do
	maas "$command" --help
	contains "$command --help" "$OUT" "Usage: maas $command"
	contains "$command --help" "$OUT" --url
done

step "token"
expect 2 "$MAAS" token
expect 2 "$MAAS" token new
expect 2 "$MAAS" token old me
expect 2 "$MAAS" token new 'a b'
# file_line TOKEN NAME: the line for the server's file.
file_line() {
	echo "$2 token=sha256:$(printf %s "$1" | sha256sum | cut -d' ' -f1) owner=$2"
}
maas token new team/a
[[ $OUT =~ ^mt_[A-Za-z0-9_-]{43}$'\n' ]] || fail "token new: $OUT"
equal 'token new' "$(file_line "${OUT%%$'\n'*}" team/a)" "${OUT#*$'\n'}"
first=$OUT
maas token new team/a
[ "$OUT" != "$first" ] || fail 'the same token twice'
umask 0
maas token new --output "$WORK/token" team/a
umask 022
equal 'token new --output' "$(file_line "$(cat "$WORK/token")" team/a)" "$OUT"
equal 'mode of the file' 600 "$(stat -c %a "$WORK/token")"
cp "$WORK/token" "$WORK/token.before"
expect 1 "$MAAS" token new --output "$WORK/token" team/a
contains 'a file that exists' "$ERR" 'File exists'
equal 'output for a file that exists' '' "$OUT"
cmp "$WORK/token" "$WORK/token.before"
maas token new --json team/a
equal 'token new --json' "$(file_line "$(jq -r .token <<<"$OUT")" team/a)" "$(jq -r .line <<<"$OUT")"
chmod 0644 "$WORK/token.before"
expect 1 "$MAAS" health --token-file "$WORK/token.before"
contains 'a token for all to read' "$ERR" 'chmod 0600'
expect 1 "$MAAS" health --token-file "$WORK/none"
MAAS_TOKEN_FILE=$WORK/none expect 1 "$MAAS" health
contains 'a token of the environment' "$ERR" 'No such file'

step "no server"
expect 3 "$MAAS" health --url http://127.0.0.1:1
contains 'no server' "$ERR" 'http://127.0.0.1:1'
contains 'no server' "$ERR" MAAS_URL
expect 3 "$MAAS" doctor --url http://127.0.0.1:1
expect 2 "$MAAS" health --url gopher://here

start_server --max-pool-size 64MiB
export MAAS_URL=$URL

step "whoami"
maas whoami
contains whoami "$OUT" 'no --auth-file'

step "health and stats"
maas health
contains health "$OUT" healthy
maas health --json
equal 'health --json' healthy "$(jq -r .status <<<"$OUT")"
MAAS_URL=http://127.0.0.1:1 maas --json --url "$URL" --timeout 5 health
equal '--json before health' healthy "$(jq -r .status <<<"$OUT")"
maas stats
contains stats "$OUT" '0 active'
for bare in "${URL#http://}" "localhost:${URL##*:}" "${URL#http://}/"; do
	maas --url "$bare" health
	contains "--url $bare" "$OUT" healthy
done
MAAS_URL=${URL#http://} maas health
contains 'MAAS_URL without a scheme' "$OUT" healthy
maas stats --json
equal 'stats --json' 7 "$(jq '.pool_stats | length' <<<"$OUT")"

step "alloc, ls, free"
maas alloc 100KiB --owner me
id=$OUT
maas alloc 1KiB --json --ttl 60
equal 'alloc --json' 1024 "$(jq .size_bytes <<<"$OUT")"
equal 'alloc --ttl' ttl "$(jq -r .lifetime <<<"$OUT")"
other=$(jq -r .id <<<"$OUT")
maas alloc --count 3 8KiB --owner you
equal 'alloc --count' 3 "$(wc -l <<<"$OUT")"
maas alloc 1KiB --request-id once
first=$OUT
maas alloc 1KiB --request-id once
equal 'the same request id' "$first" "$OUT"
maas ls
equal 'ls: lines' 7 "$(wc -l <<<"$OUT")"
contains ls "$OUT" "$id"
maas ls --owner you --json
equal 'ls --owner' 3 "$(jq length <<<"$OUT")"
maas free --owner you
contains 'free --owner' "$OUT" '3 freed'
maas free "$other" "$first"
expect 1 "$MAAS" free "$other"
contains 'free what is gone' "$ERR" 'not there'
expect 1 "$MAAS" alloc 1GiB
contains 'too large' "$ERR" --slab-sizes
expect 1 "$MAAS" alloc --count 17 4MiB
contains 'too much' "$ERR" --max-pool-size

step "put and get"
head -c 102400 /dev/urandom >"$WORK/random"
maas put "$id" "$WORK/random"
maas get "$id" "$WORK/back"
cmp "$WORK/random" "$WORK/back"
"$MAAS" get "$id" | cmp - "$WORK/random"
maas get --offset 1000 --length 2KiB "$id" "$WORK/part"
cmp "$WORK/part" <(tail -c +1001 "$WORK/random" | head -c 2048)
{ sleep 0.2 && printf hello; } | "$MAAS" put --offset 10 "$id"
equal 'put from a pipe' hello "$("$MAAS" get --offset 10 --length 5 "$id")"
head -c 102401 /dev/zero >"$WORK/long"
expect 1 "$MAAS" put "$id" "$WORK/long"
contains 'put too much' "$ERR" 'room for 102400'
equal 'nothing of it was written' hello "$("$MAAS" get --offset 10 --length 5 "$id")"
expect 1 "$MAAS" get --offset 102401 "$id"
expect 1 "$MAAS" get --length 1MiB "$id"
equal 'get too much' "maas: --length asks for 1 MiB, but $id has 100 KiB" "$ERR"
expect 1 "$MAAS" get --offset 1000 --length 102399 "$id"
contains 'get too much from there' "$ERR" 'of that 99.0 KiB (101400 B) from offset 1000 on'
expect 1 "$MAAS" get "$other" "$WORK/back"
cmp "$WORK/random" "$WORK/back" # not emptied
expect 1 "$MAAS" put "$id" "$WORK/nothing-here"
maas put "$id" "$WORK/random" --json
equal 'put --json' 102400 "$(jq .written_bytes <<<"$OUT")"

step "put a file, get the same file"
nobody=$(tr 0-9a-f 1 <<<"$id")
sizes=(1 12 1024 102400 524288 4194304)
for size in "${sizes[@]}"; do
	head -c "$size" /dev/urandom >"$WORK/file"
	maas put --owner files "$WORK/file"
	equal "put of $size bytes: stderr" '' "$ERR"
	equal "put of $size bytes: an id" 36 "${#OUT}"
	"$MAAS" get "$OUT" >"$WORK/back"
	cmp "$WORK/file" "$WORK/back"
done
maas ls --owner files
equal 'put --owner' $((${#sizes[@]} + 1)) "$(wc -l <<<"$OUT")"
maas put "$WORK/file" --ttl 60 --json
equal 'put FILE --json: size' 4194304 "$(jq .size_bytes <<<"$OUT")"
maas free "$(jq -r .id <<<"$OUT")"
active=$(metric maas_active_allocations)
: >"$WORK/empty"
expect 1 "$MAAS" put "$WORK/empty"
contains 'an empty file' "$ERR" 'at least one byte'
head -c 4194305 /dev/zero >"$WORK/long"
expect 1 "$MAAS" put "$WORK/long"
contains 'a file beyond the largest slab' "$ERR" --slab-sizes
expect 1 "$MAAS" put <(echo hello)
contains 'a pipe as a FILE' "$ERR" 'maas alloc SIZE'
expect 1 "$MAAS" put "$WORK/nothing-here"
contains 'neither file nor ID' "$ERR" '36 characters'
expect 2 "$MAAS" put "$WORK/file" "$id"
contains 'swapped' "$ERR" 'is no ID'
expect 2 "$MAAS" put --offset 1 "$WORK/file"
expect 2 "$MAAS" put --owner me "$id" "$WORK/file"
expect 1 "$MAAS" put "$nobody" "$WORK/file"
contains 'an unknown ID' "$ERR" 'no allocation with this id'
equal 'failed puts leave nothing' "$active" "$(metric maas_active_allocations)"
cd "$WORK"
printf 'not the input' >"$nobody"
expect 1 "$MAAS" put "$nobody"     # the form of an ID is an ID …
maas put --owner files "./$nobody" # … and a path is none
equal 'a file of an ID as its name' 'not the input' "$("$MAAS" get "$OUT")"
cd - >/dev/null
maas free --owner files

step "put a file into larger memory"
printf 'hello, world' >"$WORK/notes.txt"
maas put "$id" "$WORK/notes.txt"
contains 'put of less' "$ERR" "12 of the memory's 102400 bytes written; \`maas get --length 12 $id\`"
"$MAAS" get --length 12 "$id" | cmp - "$WORK/notes.txt"
"$MAAS" put --offset 100 "$id" <"$WORK/notes.txt" 2>"$WORK/err"
contains 'put --offset' "$(cat "$WORK/err")" "\`maas get --offset 100 --length 12 $id\` gives them back"
"$MAAS" get --offset 100 --length 12 "$id" | cmp - "$WORK/notes.txt"
maas put "$id" "$WORK/empty"
contains 'put of nothing' "$ERR" "0 of the memory's 102400 bytes written"
maas put "$id" "$WORK/notes.txt" --json
equal 'put --json of less: stderr' '' "$ERR"
equal 'put --json of less' '102400 12' "$(jq -r '"\(.size_bytes) \(.written_bytes)"' <<<"$OUT")"

step "a large one in pieces"
maas alloc 4MiB
large=$OUT
head -c 4194304 /dev/urandom >"$WORK/large"
maas put "$large" "$WORK/large"
"$MAAS" get "$large" | cmp - "$WORK/large"
maas free "$large"

step "bars on a terminal only"
maas put "$id" "$WORK/random"
equal 'no bar in a pipe' '' "$ERR"
script -qec "$MAAS put $id $WORK/random" "$WORK/typescript" >/dev/null </dev/null
contains 'a bar on a terminal' "$(cat "$WORK/typescript")" '100% [=============================='

step "top"
maas top --count 2 --interval 0.2
equal 'top: looks' 2 "$(grep -c 'per second:' <<<"$OUT")"
maas top --count 1 --json
maas alloc 1 --owner one
maas top --count 1
contains 'top: several' "$OUT" ', 2 allocations'
maas free --owner one
maas top --count 1
contains 'top: one' "$OUT" ', 1 allocation
'
maas top --count 1 --json
equal 'top --json' 1 "$(jq .stats.active_allocations <<<"$OUT")"

step "bench"
maas bench --count 200 --size 10000 --threads 3 --json
equal 'bench: wrong bytes' 0 "$(jq .wrong_bytes <<<"$OUT")"
equal 'bench: gets' 200 "$(jq .get.operations <<<"$OUT")"
maas bench --time 1 --size 1MiB
contains bench "$OUT" 'p99.9'
expect 1 "$MAAS" bench --size 5MiB --count 1
contains 'bench that fails' "$ERR" alloc
equal 'bench leaves nothing' 1 "$(metric maas_active_allocations)"

step "doctor"
maas doctor
contains doctor "$OUT" server
"$MAAS" doctor --json | jq -e 'map(select(.grade != "ok" and .remedy == null)) | length == 0' >/dev/null

step "prometheus status"
# extent OWNER BYTES FIELD=N... puts bytes of a file into memory, as a Prometheus does.
extent() {
	python3 "$EXTENT" "${@:3}" >"$WORK/extent" <<<"$2"
	maas put --owner "$1" "$WORK/extent"
}
# field PATH: of the only owner that was told of.
field() {
	jq -r "if length == 1 then .[0]$1 else \"\(length) owners\" end" "$WORK/out"
}
EXTENT=$(dirname "${BASH_SOURCE[0]}")/extent.py
maas prometheus status
equal 'nobody' 1 "$(wc -l <<<"$OUT")"
expect 1 "$MAAS" prometheus status --owner prom
contains 'an owner who is not there' "$ERR" 'no Prometheus keeps memory under the owner prom,'
maas alloc --owner other 1KiB
borrowed=$OUT
begin=1764324000000
extra=$(printf %u $((begin | 1 << 63)))
extent prom aaaa kind=2 number=0 flags=1 epoch=3 extra="$extra"
log=$OUT
extent prom bb kind=2 number=1 epoch=4
extent prom chunks kind=1 number=9 epoch=4
extent prom more kind=1 number=9 index=1 base=7 epoch=4
extent prom index kind=5 number=1 part=1 flags=1
extent prom "$(python3 "$EXTENT" manifest 1764300000000 1764307200000 6)" \
	kind=5 number=1 part=$((1 << 31)) flags=1
extent prom index kind=5 number=2 part=1 flags=1
extent prom later version=2
maas alloc --owner prom 512KiB

maas prometheus status --json
equal 'an owner who only borrows is left out' prom "$(field .owner)"
equal 'no leader' null "$(field .leader)"
equal 'no standby' 0 "$(field '.standbys | length')"
equal 'the epoch' 4 "$(field .epoch)"
equal 'the log' whole "$(field .takeover.log)"
equal 'where the head begins' "$begin" "$(field .takeover.head_begin_ms)"
equal 'blocks' '1 1 1764300000000 1764307200000' \
	"$(field '.takeover | "\(.blocks) \(.partial_blocks) \(.blocks_begin_ms) \(.blocks_end_ms)"')"
equal 'wal' '2 2 8' "$(field '.kinds.wal | "\(.files) \(.allocations) \(.stored_bytes)"')"
equal 'chunks' '1 2 12' "$(field '.kinds.chunks_head | "\(.files) \(.allocations) \(.stored_bytes)"')"
equal 'other' '0 2' "$(field '.kinds.other | "\(.files) \(.allocations)"')"
equal 'of another version' 1 "$(field .unknown_allocations)"
equal 'all that is allocated' "$("$MAAS" ls --owner prom --json | jq 'map(.actual_size_bytes) | add')" \
	"$(field .all.allocated_bytes)"

request POST /sessions -H 'Content-Type: application/json' -d '{"name":"prom","exclusive":true}'
leader=$(jq -r .id <<<"$BODY")
for _ in 1 2; do request POST /sessions -H 'Content-Type: application/json' -d '{"name":"prom@follow"}'; done
maas prometheus status
contains 'the table' "$OUT" 2025-11-28T10:00:00Z
contains 'the table' "$OUT" 2025-11-28T03:20:00Z
[[ $OUT =~ 127\.0\.0\.1:[0-9]+\ +[0-9]+s\ +2\  ]] || fail "leader and standbys: $OUT"
maas prometheus status --owner prom
contains 'the epoch' "$OUT" 'owner      prom, epoch 4'
contains 'the leader' "$OUT" 'leader     127.0.0.1:'
equal 'the standbys' 2 "$(grep -c '^standby    127.0.0.1:.* ago$' <<<"$OUT")"
contains 'the log' "$OUT" 'take-over  the log is whole; the head begins at 2025-11-28T10:00:00Z'
contains 'the blocks' "$OUT" 'blocks     1, from 2025-11-28T03:20:00Z to 2025-11-28T05:20:00Z; 1 not whole'
contains 'another version' "$OUT" 'unknown    1 allocation of another version of Prometheus'
maas prometheus status --json --owner prom
equal 'the lease' 60 "$(field .leader.ttl_seconds)"
equal 'standbys' 2 "$(field '.standbys | length')"
request DELETE "/sessions/$leader"

maas free "$log"
maas prometheus status --owner prom
contains 'no leader any more' "$OUT" 'leader     none: nobody holds the name'
contains 'no beginning' "$OUT" 'take-over  the beginning of the log is missing'
maas free --owner prom
maas prometheus status --owner prom
contains 'standbys of nothing' "$OUT" 'there is no log to begin with'
maas free "$borrowed"

step "a server over a Unix socket"
stop_server
start_server --listen "unix:$WORK/socket"
maas health --url "unix:$WORK/socket"
chmod 0 "$WORK/socket"
# root may write to any socket, unless it may not
drop=() capabilities=-dac_override,-dac_read_search
[ "$(id -u)" != 0 ] || drop=(setpriv "--bounding-set=$capabilities" "--inh-caps=$capabilities")
for call in health 'alloc 1' 'get 00000000-0000-8000-8741-8d35090dc78e'; do
	# shellcheck disable=SC2086  # words
	expect 1 "${drop[@]}" "$MAAS" --url "unix:$WORK/socket" $call
	contains "no permission: $call" "$ERR" "unix:$WORK/socket: permission denied"
	contains "no permission: $call" "$ERR" '--socket-mode and --socket-group say who may'
	[[ $ERR != *'no server'* ]] || fail "permission denied is no missing server: $ERR"
done
expect 3 "$MAAS" --url "unix:$WORK/nothing" health
contains 'no socket' "$ERR" 'no server at unix:'
stop_server
