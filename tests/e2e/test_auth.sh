#!/usr/bin/env bash
# maasd with --auth-file: what is refused at the start, reloads, kept memory.
# Run as: test_auth.sh MAASD
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

FILE=$WORK/principals
umask 077

# line NAME TOKEN WORDS: a line of the file.
line() {
	echo "$1 $(proof "$2") $3"
}

# as TOKEN METHOD PATH [CURL OPTION...]
as() {
	request "${@:2}" -H "Authorization: Bearer $1"
}

# lends TOKEN STATUS BYTES: an allocation, whose answer has this status.
lends() {
	answered "$2" as "$1" POST /allocate -H 'Content-Type: application/json' -d "{\"size_bytes\":$3}"
}

# check OPTION...: prints what --check says.
check() {
	"$MAASD" --check --listen 127.0.0.1:0 "$@" 2>&1
}

step 'a file that is wrong' # All that can be is in tests/unit/auth/test_auth.c.
line a mt_a owner=a >"$FILE"
echo 'b owner=b' >>"$FILE"
for how in --check --check=no; do
	refused 1 "--auth-file $WORK/none: $WORK/none: No such file" $how --listen 127.0.0.1:0 --auth-file "$WORK/none"
	refused 1 "line 2: nothing proves who 'b' is" $how --listen 127.0.0.1:0 --auth-file "$FILE"
done
line a mt_a 'owner=a,team/* max-allocations=1' >"$FILE"
line ops mt_ops admin >>"$FILE"

step 'tokens in clear'
refused 2 'tokens would travel in clear' --listen 0.0.0.0:0 --auth-file "$FILE"
refused 2 'tokens would travel in clear' --check --listen 0.0.0.0:0 --auth-file "$FILE"
start_server --listen 0.0.0.0:0 --auth-file "$FILE" --insecure-plaintext
grep -q 'warn tokens travel in clear' "$LOG" || fail 'no warning'
stop_server

step 'an address for metrics asks for no token'
start_server --auth-file "$FILE" --listen-metrics 0.0.0.0:0
grep -q 'warn no authentication on http://0.0.0.0:.* names of all principals' "$LOG" || fail 'no warning'
metrics=$(sed -n 's/^Serving metrics on .*:/127.0.0.1:/p' "$LOG")
contains 'metrics' "$(curl -sSf "$metrics/metrics")" 'maas_principal_max_allocations{principal="a"} 1'
equal '/ready' '{"status":"ready"}' "$(curl -sSf "$metrics/ready")"
URL=$metrics answered 404 request GET /whoami
stop_server

step 'who pays for what'
contains '--check' "$(check --auth-file "$FILE")" 'owner team/* = paid for by a'

step 'lines that are hardly meant so'
{
	line a mt_a owner=team/*
	line b mt_b 'owner=team/b max-bytes=1GiB' | sed 's/^b/team\/b/'
	line c mt_c 'read=a max-allocations=1'
	line d mt_d ''
} >"$WORK/doubtful"
text=$(check --auth-file "$WORK/doubtful")
contains '--check' "$text" 'line 2: max-bytes and max-allocations of team/b count nothing: lines above' \
	'line 3: max-bytes and max-allocations of c count nothing: they are of what its owner=' 'line 4: d may do nothing'
equal 'warnings' 3 "$(grep -c 'warn .*--auth-file: line' <<<"$text")"

step 'proofs that nobody can give here'
cp "$FILE" "$FILE.proofs"
printf '%s\n' 'c cert=c.example' 'd uid=1' >>"$FILE.proofs"
start_server --auth-file "$FILE.proofs"
for said in "$(cat "$LOG")" "$(check --auth-file "$FILE.proofs")"; do
	contains 'without a CA and a socket' "$said" 'warn --auth-file: cert= proves nothing here' \
		'warn --auth-file: uid= and gid= prove nothing here'
done
stop_server
[[ $("$MAASD" --check --listen "unix:$WORK/s" --auth-file "$FILE" 2>&1) != *'nothing here'* ]] || fail 'warns of tokens'
grep -v cert= "$FILE.proofs" >"$FILE.peers"
[[ $("$MAASD" --check --listen "unix:$WORK/s" --auth-file "$FILE.peers" 2>&1) != *'nothing here'* ]] || fail 'warns of a socket'

step 'requests'
start_server --auth-file "$FILE"
! grep -q 'no authentication' "$LOG" || fail 'warns that there is none'
answered 401 request GET /health
as mt_a GET /whoami
equal '/whoami' 'a 1' "$(jq -r '"\(.name) \(.quota.allocations)"' <<<"$BODY")"
lends mt_a 200 1
lends mt_a 507 1
equal 'a second one' 'quota_exhausted allocations a' "$(jq -r '.error | "\(.code) \(.quota) \(.principal)"' <<<"$BODY")"
as mt_ops GET /stats
equal 'the admin sees' 1 "$(jq .active_allocations <<<"$BODY")"
grep -q 'GET /stats .*mt_' "$LOG" && fail 'a token is in the log'

step 'SIGHUP: as a whole, or not at all'
failed() { grep -q 'error principals stay as they were' "$LOG"; }
read_again() { [ "$(grep -c 'info principals read' "$LOG")" -ge "$1" ]; }
echo nonsense >>"$FILE"
reload failed
answered 200 as mt_a GET /whoami
as mt_ops GET /metrics
contains '/metrics' "$BODY" 'maas_config_last_reload_successful 0'
line a mt_new owner=a >"$FILE"
line ops mt_ops admin >>"$FILE"
reload read_again 2
answered 401 as mt_a GET /whoami
answered 200 as mt_new GET /whoami
as mt_ops GET /metrics
contains '/metrics' "$BODY" 'maas_config_last_reload_successful 1'

step 'no file, and a file without a principal'
: >"$FILE"
reload grep -q 'no line has a principal' "$LOG"
rm "$FILE"
reload grep -q 'No such file' "$LOG"
answered 200 as mt_new GET /whoami

step 'a file that was changed is seen without a signal'
{ line a mt_third owner=a && line ops mt_ops admin; } >"$FILE.new"
mv "$FILE.new" "$FILE"
wait_for 20 read_again 3
answered 200 as mt_third GET /whoami
stop_server

step 'kept memory keeps its rights'
start_server --memory-file "$WORK/pool"
stop_server
refused 1 'unix:/proc/busy' --listen unix:/proc/busy --auth-file "$FILE" --memory-file "$WORK/pool"
start_server --memory-file "$WORK/pool" # a start that failed has not made the memory another's
stop_server
start_server --auth-file "$FILE" --memory-file "$WORK/pool"
lends mt_third 200 5
id=$(jq -r .id <<<"$BODY")
as mt_third PUT "/allocate/$id/data" --data-binary hello
stop_server
refused 1 'was last used with --auth-file' --listen 127.0.0.1:0 --memory-file "$WORK/pool"
refused 1 'was last used with --auth-file' --check --listen 127.0.0.1:0 --memory-file "$WORK/pool"
check --memory-file "$WORK/pool" --insecure-open >/dev/null
check --memory-file "$WORK/pool" --auth-file "$FILE" >/dev/null
line b mt_b owner=b >>"$FILE"
start_server --auth-file "$FILE" --memory-file "$WORK/pool"
answered 404 as mt_b GET "/allocate/$id/data"
as mt_third GET "/allocate/$id/data"
equal 'kept bytes' hello "$BODY"
as mt_third GET /whoami
equal 'kept usage' 1 "$(jq .usage.allocations <<<"$BODY")"
stop_server
refused 1 'cannot listen' --insecure-open --listen 192.0.2.77:0 --memory-file "$WORK/pool"
refused 1 'was last used with --auth-file' --listen 127.0.0.1:0 --memory-file "$WORK/pool"
start_server --insecure-open --memory-file "$WORK/pool"
request GET "/allocate/$id/data"
equal 'open memory' hello "$BODY"
allocate '{"size_bytes":1}'
stop_server

step 'kept memory without an owner is of the admins'
start_server --auth-file "$FILE" --memory-file "$WORK/pool"
as mt_third GET '/allocations?no_owner=true'
equal 'to others' 0 "$(jq '.allocations | length' <<<"$BODY")"
as mt_ops GET '/allocations?no_owner=true'
equal 'to an admin' "$ID" "$(jq -r '.allocations[].id' <<<"$BODY")"
answered 200 as mt_ops DELETE "/allocate/$ID"
stop_server

step 'kept memory that only admins reach, and that a new principal finds'
start_server --insecure-open --memory-file "$WORK/pool"
allocate '{"size_bytes":1}'
stop_server
line b mt_b owner=b >"$FILE"
start_server --auth-file "$FILE" --memory-file "$WORK/pool"
grep -q 'warn kept memory that only admins reach allocations=2 .* owners=1:' "$LOG" ||
	fail 'the log does not say what nobody reaches'
line a mt_other owner=a >>"$FILE"
reload grep -q 'warn a new principal has memory that was there before it name=a allocations=1 ' "$LOG"
stop_server
