#!/usr/bin/env bash
# The maas command against a real server: every command, its output, its exit codes.
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

# refuses STATUS WORDS ARGUMENT...: maas ends with this status, and stderr has these words.
refuses() {
	expect "$1" "$MAAS" "${@:3}"
	contains "maas ${*:3}" "$ERR" "$2"
}

# says WORDS ARGUMENT...: maas works, and its output has these words.
says() {
	maas "${@:2}"
	contains "maas ${*:2}" "$OUT" "$1"
}

# tells WANTED FILTER ARGUMENT...: maas works, and jq finds this in its JSON.
tells() {
	maas "${@:3}" --json
	equal "maas ${*:3}: $2" "$1" "$(jq -rc "$2" <<<"$OUT")"
}

# holds ID FILE OPTION...: maas get prints these bytes.
holds() {
	"$MAAS" get "$1" "${@:3}" | cmp - "$2" || fail "get $1 ${*:3}: other bytes"
}

step "usage"
refuses 2 'Usage: maas [OPTION...] COMMAND'
contains usage "$ERR" 'maas: a command is missing'
refuses 2 'there is no command allocate; did you mean alloc?' allocate
refuses 2 'did you mean stats?' sttas
refuses 2 'there is no command frobnicate; ' frobnicate
refuses 2 'maas: alloc: unknown option --ownr; did you mean --owner?' alloc --ownr me 4
refuses 2 'unknown option -u; did you mean --url?' -u http://127.0.0.1:1 health
refuses 2 '--t can stand for several options' alloc --t 4
refuses 2 'maas: alloc: --owner needs a value' alloc 4 --owner
refuses 2 'maas: --json takes no value' --json=yes health
refuses 2 'maas: unknown option -p' --url=http://127.0.0.1:1 -pq health
refuses 2 '4q is no size' alloc 4q
for words in 'alloc --count 0 4' 'prometheus status --owner ?' free 'top --interval 0' '--nope health' prometheus 'prometheus state' --json token \
	'token new' 'token old me'; do
	# shellcheck disable=SC2086  # words
	expect 2 "$MAAS" $words
done
refuses 2 'maas: usage: maas prometheus status [--owner NAME]' prometheus status me
refuses 2 'soon is no number' --timeout soon health
maas --help
says 'maas 0.' --version
for command in health stats alloc free put get ls top bench doctor prometheus token whoami; do
	says "Usage: maas $command" "$command" --help
	contains "$command --help" "$OUT" --url
done

step "token"
refuses 2 'maas: token: a NAME is' token new 'a b'
refuses 2 'maas: alloc: a NAME is' alloc --owner 'a b' 1
refuses 2 'maas: put: a NAME is' put --owner 'a b' /dev/null
maas token new team/a
[[ $OUT =~ ^mt_[A-Za-z0-9_-]{43}$'\n' ]] || fail "token new: $OUT"
equal 'token new' "team/a $(proof "${OUT%%$'\n'*}") owner=team/a" "${OUT#*$'\n'}"
first=$OUT
maas token new team/a
[ "$OUT" != "$first" ] || fail 'the same token twice'
umask 0
maas token new --output "$WORK/token" team/a
umask 022
equal 'token new --output' "team/a $(proof "$(cat "$WORK/token")") owner=team/a" "$OUT"
equal 'mode of the file' 600 "$(stat -c %a "$WORK/token")"
cp "$WORK/token" "$WORK/token.before"
refuses 1 'File exists' token new --output "$WORK/token" team/a
equal 'output for a file that exists' '' "$OUT"
cmp "$WORK/token" "$WORK/token.before"
maas token new --json team/a
equal 'token new --json' "team/a $(proof "$(jq -r .token <<<"$OUT")") owner=team/a" "$(jq -r .line <<<"$OUT")"
chmod 0644 "$WORK/token.before"
refuses 1 'chmod 0640' health --token-file "$WORK/token.before"
expect 1 "$MAAS" health --token-file "$WORK/none"
MAAS_TOKEN_FILE=$WORK/none expect 1 "$MAAS" health
contains 'a token of the environment' "$ERR" 'No such file'

step "no server"
refuses 3 'http://127.0.0.1:1' health --url http://127.0.0.1:1
contains 'no server' "$ERR" MAAS_URL
expect 3 "$MAAS" doctor --url http://127.0.0.1:1
expect 2 "$MAAS" health --url gopher://here

start_server --max-pool-size 64MiB
export MAAS_URL=$URL

step "whoami"
says 'nobody: the server has no --auth-file' whoami

step "health and stats"
says healthy health
tells healthy .status health
MAAS_URL=http://127.0.0.1:1 maas --json --url "$URL" --timeout 5 health
equal '--json before health' healthy "$(jq -r .status <<<"$OUT")"
says '0 active' stats
for bare in "${URL#http://}" "localhost:${URL##*:}" "${URL#http://}/"; do
	says healthy --url "$bare" health
done
MAAS_URL=${URL#http://} says healthy health
tells 7 '.pool_stats | length' stats

step "alloc, ls, free"
maas alloc 100KiB --owner me
id=$OUT
tells '1024 ttl' '"\(.size_bytes) \(.lifetime)"' alloc 1KiB --ttl 60
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
tells 3 length ls --owner you
maas ls --no-owner --json
equal 'ls --no-owner' "$(printf '%s\n' "$other" "$first" | sort)" "$(jq -r '.[].id' <<<"$OUT" | sort)"
refuses 2 '--owner or --no-owner' ls --no-owner --owner you
refuses 2 'maas: free: a NAME is' free --owner ''
refuses 2 'it takes either' free --no-owner "$first"
says '3 freed' free --owner you
says '2 freed' free --no-owner
refuses 1 'not there' free "$other"
refuses 1 --slab-sizes alloc 1GiB
refuses 1 --max-pool-size alloc --count 17 4MiB

step "put and get"
head -c 102400 /dev/urandom >"$WORK/random"
maas put "$id" "$WORK/random"
maas get "$id" "$WORK/back"
cmp "$WORK/random" "$WORK/back"
holds "$id" "$WORK/random"
maas get --offset 1000 --length 2KiB "$id" "$WORK/part"
cmp "$WORK/part" <(tail -c +1001 "$WORK/random" | head -c 2048)
{ sleep 0.2 && printf hello; } | "$MAAS" put --offset 10 "$id"
equal 'put from a pipe' hello "$("$MAAS" get --offset 10 --length 5 "$id")"
head -c 102401 /dev/zero >"$WORK/long"
refuses 1 'room for 102400' put "$id" "$WORK/long"
equal 'nothing of it was written' hello "$("$MAAS" get --offset 10 --length 5 "$id")"
expect 1 "$MAAS" get --offset 102401 "$id"
printf precious >"$WORK/precious"
expect 1 "$MAAS" get --length 1MiB "$id" "$WORK/precious"
equal 'get too much' "maas: --length asks for 1 MiB, but $id has 100 KiB" "$ERR"
refuses 1 'of that 99.0 KiB (101400 B) from offset 1000 on' get --offset 1000 --length 102399 "$id"
expect 1 "$MAAS" get "$other" "$WORK/back"
cmp "$WORK/random" "$WORK/back" # not emptied …
equal '… neither' precious "$(cat "$WORK/precious")"
maas get --length 0 "$id" "$WORK/precious"
equal 'get of nothing' '' "$(cat "$WORK/precious")"
expect 1 "$MAAS" put "$id" "$WORK/nothing-here"
tells 102400 .written_bytes put "$id" "$WORK/random"

# catches_term PID: a signal does not end it at once.
catches_term() {
	(($(awk '$1 == "SigCgt:" { print "0x" $2 }' "/proc/$1/status") >> 14 & 1))
}

step "put a file, get the same file"
nobody=$(tr 0-9a-f 1 <<<"$id")
sizes=(1 12 1024 102400 524288 4194304)
for size in "${sizes[@]}"; do
	head -c "$size" /dev/urandom >"$WORK/file"
	maas put --owner files "$WORK/file"
	equal "put of $size bytes: stderr" '' "$ERR"
	equal "put of $size bytes: an id" 36 "${#OUT}"
	holds "$OUT" "$WORK/file"
done
maas ls --owner files
equal 'put --owner' $((${#sizes[@]} + 1)) "$(wc -l <<<"$OUT")"
tells 4194304 .size_bytes put "$WORK/file" --ttl 60
maas free "$(jq -r .id <<<"$OUT")"
active=$(metric maas_active_allocations)
: >"$WORK/empty"
refuses 1 'at least one byte' put "$WORK/empty"
head -c 4194305 /dev/zero >"$WORK/long"
refuses 1 --slab-sizes put "$WORK/long"
refuses 1 'maas alloc SIZE' put <(echo hello)
refuses 1 '36 characters' put "$WORK/nothing-here"
for words in "put $WORK/file" 'alloc --count 2 1KiB' 'alloc --json 1KiB' top 'top --json' --version --help help \
	'ls --help'; do
	# shellcheck disable=SC2086  # words
	timeout 20 "$MAAS" $words >/dev/full 2>"$WORK/err" && fail "$words: wrote to a full disk"
	contains "$words" "$(cat "$WORK/err")" 'cannot write the output: No space left on device'
	# shellcheck disable=SC2086  # words
	timeout 20 "$MAAS" $words >&- 2>"$WORK/err" && fail "$words: wrote to nobody"
	contains "$words" "$(cat "$WORK/err")" 'cannot write the output: Bad file descriptor'
done
mkfifo "$WORK/pipe"
exec 4<>"$WORK/pipe"
exec 5>"$WORK/pipe" 4>&- # which nobody reads now
for words in "put $WORK/file" 'alloc --count 2 1KiB' 'alloc --json 1KiB' ls; do
	status=0
	# shellcheck disable=SC2086  # words
	timeout 20 "$MAAS" $words >&5 2>"$WORK/err" || status=$?
	wanted=1 text='maas: cannot write the output: Broken pipe'
	[ "$words" != ls ] || wanted=141 text=''
	equal "$words, which nobody reads" "$wanted $text" "$status $(cat "$WORK/err")"
done
exec 5>&-
for words in "put $WORK/file" 'alloc 1KiB'; do
	kill -STOP "$SERVER"
	# shellcheck disable=SC2086  # words
	"$MAAS" $words >"$WORK/out" &
	children+=($!)
	wait_for 10 catches_term $!
	kill -TERM $!
	kill -CONT "$SERVER"
	status=0
	wait $! || status=$?
	equal "$words, ended by a signal" '143 ' "$status $(cat "$WORK/out")"
done
late() { [ "$(metric maas_active_allocations)" = $((active + 1)) ]; }
newest() { "$MAAS" ls --json | jq -r 'min_by(.age_seconds).id'; }
for words in "put --owner late $WORK/file" 'alloc --owner late 1KiB' 'bench --count 1 --threads 1'; do
	kill -STOP "$SERVER"
	# shellcheck disable=SC2086  # words
	refuses 3 'memory may be lent all the same' --timeout 1 $words
	kill -CONT "$SERVER"
	wait_for 10 late
	maas free "$(newest)"
done
refuses 2 'is no ID' put "$WORK/file" "$id"
expect 2 "$MAAS" put --offset 1 "$WORK/file"
expect 2 "$MAAS" put --owner me "$id" "$WORK/file"
refuses 1 'no allocation with this id' put "$nobody" "$WORK/file"
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
holds "$id" "$WORK/notes.txt" --length 12
"$MAAS" put --offset 100 "$id" <"$WORK/notes.txt" 2>"$WORK/err"
contains 'put --offset' "$(cat "$WORK/err")" "\`maas get --offset 100 --length 12 $id\` gives them back"
holds "$id" "$WORK/notes.txt" --offset 100 --length 12
maas put "$id" "$WORK/empty"
contains 'put of nothing' "$ERR" "0 of the memory's 102400 bytes written"
tells '102400 12' '"\(.size_bytes) \(.written_bytes)"' put "$id" "$WORK/notes.txt"
equal 'put --json of less: stderr' '' "$ERR"

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
says ', 2 allocations' top --count 1
maas free --owner one
says $', 1 allocation\n' top --count 1
tells 1 .stats.active_allocations top --count 1

step "bench"
tells '0 wrong of 200' '"\(.wrong_bytes) wrong of \(.get.operations)"' bench --count 200 --size 10000 --threads 3
says 'p99.9' bench --time 1 --size 1MiB
refuses 1 alloc bench --size 5MiB --count 1
"$MAAS" bench --hold --time 60 >"$WORK/out" &
children+=($!)
all_hold() { [ "$(metric maas_active_allocations)" = 5 ]; }
wait_for 10 all_hold
kill -TERM $!
status=0
wait $! || status=$?
equal 'a bench that is ended' 143 "$status"
contains 'a bench that is ended' "$(cat "$WORK/out")" '0 wrong bytes'
equal 'bench leaves nothing' 1 "$(metric maas_active_allocations)"

step "doctor"
says server doctor
"$MAAS" doctor --json | jq -e 'map(select(.grade != "ok" and .remedy == null)) | length == 0' >/dev/null
pages=/sys/kernel/mm/transparent_hugepage/shmem_enabled
if [ -e "$pages" ] && unshare --mount --propagation unchanged true 2>/dev/null; then
	echo 'always within_size advise never deny [force]' >"$WORK/pages"
	# shellcheck disable=SC2016  # the inner shell's
	expect 0 own_mounts bash -c 'mount --bind "$1" "$2" && "$3" doctor' - "$WORK/pages" "$pages" "$MAAS"
	contains 'huge pages' "$OUT" 'the pool can have them'
fi

step "prometheus status"
# extent OWNER BYTES FIELD=N... puts bytes of a file into memory, as a Prometheus does.
extent() {
	python3 "$EXTENT" "${@:3}" >"$WORK/extent" <<<"$2"
	maas put --owner "$1" "$WORK/extent"
}
EXTENT=$(dirname "${BASH_SOURCE[0]}")/extent.py
maas prometheus status
equal 'nobody' 1 "$(wc -l <<<"$OUT")"
refuses 1 'no Prometheus keeps memory under the owner prom,' prometheus status --owner prom
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
extent prom "$(python3 "$EXTENT" manifest 1764300000000 1764307200000 6 | jq -c '.tombstones = "AAAA" * 70000')" \
	kind=5 number=1 part=$((1 << 31)) flags=1
extent prom index kind=5 number=2 part=1 flags=1
extent prom later version=2
maas alloc --owner prom 512KiB
maas alloc --owner prom 16

# An owner who only borrows is left out.
tells '["prom",null,[],4,1]' '.[] | [.owner, .leader, .standbys, .epoch, .unknown_allocations]' prometheus status
tells "[\"whole\",$begin,1,1,1764300000000,1764307200000]" \
	'.[].takeover | [.log, .head_begin_ms, .blocks, .partial_blocks, .blocks_begin_ms, .blocks_end_ms]' prometheus status
tells '[2,2,8] [1,2,12] [0,3]' '.[].kinds | [.wal, .chunks_head | [.files, .allocations, .stored_bytes]] + [.other |
	[.files, .allocations]] | map(tojson) | join(" ")' prometheus status
tells "$("$MAAS" ls --owner prom --json | jq 'map(.actual_size_bytes) | add')" '.[].all.allocated_bytes' prometheus status

made /sessions '{"name":"prom","exclusive":true}'
leader=$ID
for _ in 1 2; do made /sessions '{"name":"prom@follow"}'; done
says 2025-11-28T10:00:00Z prometheus status
contains 'the table' "$OUT" 2025-11-28T03:20:00Z
equal 'the last column' $'OWNER\nprom' \
	"$(awk 'NR == 1 { at = index($0, "OWNER") } { print substr($0, at) }' <<<"$OUT")"
[[ $OUT =~ 127\.0\.0\.1:[0-9]+\ +[0-9]+s\ +2\  ]] || fail "leader and standbys: $OUT"
says 'owner      prom, epoch 4' prometheus status --owner prom
contains 'of one owner' "$OUT" 'leader     127.0.0.1:' \
	'take-over  the log is whole; the head begins at 2025-11-28T10:00:00Z' \
	'blocks     1, from 2025-11-28T03:20:00Z to 2025-11-28T05:20:00Z; 1 not whole' \
	'unknown    1 allocation of another version of Prometheus'
equal 'the standbys' 2 "$(grep -c '^standby    127.0.0.1:.* ago$' <<<"$OUT")"
tells '[60,2,false]' '.[] | [.leader.ttl_seconds, (.standbys | length), .more_standbys]' prometheus status --owner prom
mapfile -t standbys < <(yes "$URL/sessions" | head -n 99) # and of 101 the server tells 100
curl -sSf -H 'Content-Type: application/json' -d '{"name":"prom@follow"}' "${standbys[@]}" >"$WORK/standbys"
says ' 100+ ' prometheus status
says 'standby    and more' prometheus status --owner prom
tells '[100,true]' '.[] | [(.standbys | length), .more_standbys]' prometheus status --owner prom
request DELETE "/sessions/$leader"

maas free "$log"
says 'leader     none: nobody holds the name' prometheus status --owner prom
contains 'no beginning' "$OUT" 'take-over  the beginning of the log is missing'
maas free --owner prom
says 'there is no log to begin with' prometheus status --owner prom
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
	contains "no permission: $call" "$ERR" "unix:$WORK/socket: permission denied" \
		'--socket-mode and --socket-group say who may'
	[[ $ERR != *'no server'* ]] || fail "permission denied is no missing server: $ERR"
done
python3 -c 'import socket, sys, time
s = socket.socket(socket.AF_UNIX)
s.bind(sys.argv[1])
s.listen()
time.sleep(600)' "$WORK/silent" &
children+=($!)
wait_for 10 test -S "$WORK/silent"
for command in health bench; do refuses 3 unix: "$command" --timeout 1 --url "unix:$WORK/silent"; done
refuses 3 'no server at unix:' --url "unix:$WORK/nothing" health
stop_server

step "many ids, and a server that takes short requests"
start_server --max-body-size 16KiB
export MAAS_URL=$URL
maas alloc --count 1500 --owner many 1
says '1500 freed' free --owner many
maas alloc --count 1000 1
# shellcheck disable=SC2086  # ids
maas free $OUT
equal 'left' 0 "$(metric maas_active_allocations)"
stop_server
