#!/usr/bin/env bash
# A real Prometheus at a maasd that asks who sends a request: what ends its start, a token that is replaced or taken
# away under it, and others, with tokens of their own, that take over.
# Run as: test_prometheus_tokens.sh MAASD PROMETHEUS [rdma]: over HTTP, or on a machine with a device.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/prometheus_lib.sh"
PROMETHEUS=$2
transport=http
[ "${3:-}" != rdma ] || transport=rdma
LEASE=10
MIRROR=--storage.tsdb.maas.fallback REMOTE=--no-storage.tsdb.maas.fallback

# make_token NAME: another token in NAME.token, whose words for the file of principals are in proofs[NAME].
declare -A proofs
make_token() {
	local token
	token=mt_$(head -c 32 /dev/urandom | base64 -w 0 | tr '+/' '-_' | tr -d =)
	(umask 077 && echo "$token" >"$WORK/$1.next")
	mv "$WORK/$1.next" "$WORK/$1.token"
	proofs[$1]=$(proof "$token")
}

reloaded() {
	[ "$(metric maas_config_last_reload_success_timestamp_seconds)" != "$1" ]
}

# principals LINE...: with those that are always there.
principals() {
	local before
	(umask 077 && printf '%s\n' '* - health' "ops ${proofs[ops]} admin" "reader ${proofs[reader]} read=$OWNER metrics" "$@" \
		>"$WORK/principals.next")
	[ -z "$SERVER" ] || before=$(metric maas_config_last_reload_success_timestamp_seconds)
	[ -z "$SERVER" ] || sleep 1.1 # the time of a reload is in whole seconds
	mv "$WORK/principals.next" "$WORK/principals"
	[ -z "$SERVER" ] || { kill -HUP "$SERVER" && wait_for 5 reloaded "$before"; }
}

# line NAME [PROOF...]: NAME may hold the owner's memory, lead and follow.
line() {
	echo "$1 ${*:2} owner=$OWNER,$OWNER@follow"
}

# both: a and b may, each with its newest token.
both() {
	principals "$(line a "${proofs[a]}")" "$(line b "${proofs[b]}")"
}

# with NAME: how a Prometheus has this principal's token.
with() {
	printf 'authorization: {credentials_file: %s.token}\n' "$1" >"$WORK/$1.yml"
	echo "--storage.tsdb.maas.http-config-file=$WORK/$1.yml"
}

# refuses WORDS CONFIGURATION: Prometheus ends at its start, and says so; empty: without a file.
refuses() {
	local mode options
	for mode in $MIRROR $REMOTE; do
		options=("$mode")
		[ -z "$2" ] || { echo "$2" >"$WORK/refused.yml" && options+=(--storage.tsdb.maas.http-config-file="$WORK/refused.yml"); }
		prom_refuses "$1" "${options[@]}"
		! said mt_ || fail "a token is shown: $(cat "$PROM_LOG")"
	done
}

# Other requests of this address had failed often, so that some answers are 429.
says_why() {
	grep -q 'was it replaced?\|a valid token works at any time' "$PROM_LOG"
}

# withdrawn NAME: its line is gone for a while, and Prometheus goes on without remote memory meanwhile.
withdrawn() {
	principals
	wait_for 30 is prometheus_tsdb_maas_degraded 1
	wait_for 30 says_why
	! said 'has no room' || fail "$(grep 'has no room' "$PROM_LOG")"
	sleep 5
	equal 'the scrape goes on' 1 "$(value 'up{job="prometheus"}')"
	make_token "$1"
	principals "$(line "$1" "${proofs[$1]}")"
	wait_for 60 works
}

for name in ops reader a b stranger; do make_token $name; done
both
mkdir "$WORK/curl" # What this script itself asks for, it asks for as ops.
(umask 077 && echo "header = \"Authorization: Bearer $(cat "$WORK/ops.token")\"" >"$WORK/curl/.curlrc")
export CURL_HOME=$WORK/curl
# shellcheck disable=SC2034  # for start_prometheus
authorization="authorization: {credentials_file: $WORK/reader.token}"
if [ "$transport" = rdma ]; then
	start_server --rdma required --listen "$SOFTROCE_ADDR:0" --insecure-plaintext --auth-file "$WORK/principals"
else
	start_server --rdma off --auth-file "$WORK/principals"
fi

step 'what does not work is refused with words'
refuses 'http-config-file' ''
refuses 'was it replaced?' 'authorization: {credentials_file: stranger.token}'
refuses 'forbidden' 'authorization: {credentials_file: reader.token}'
refuses 'no such file' 'authorization: {credentials_file: none.token}'
refuses 'there are no credentials in it' 'authorization: {}'
refuses 'without a proxy' "$(printf 'proxy_url: http://127.0.0.1:1\nauthorization: {credentials: mt_secret}')"
refuses 'field credential not found' 'authorization: {credential: mt_secret}'
[ "$transport" = http ] || refuses 'credentials_file' 'authorization: {credentials: mt_secret}'
cp "$WORK/a.token" "$WORK/open.token"
chmod 0644 "$WORK/open.token"
refuses '(mode 644): chmod' 'authorization: {credentials_file: open.token}'
for _ in {1..25}; do curl -sS -q -o "$WORK/body" -H 'Authorization: Bearer mt_none' "$URL/health"; done
# 429, or 401 where a minute has begun meanwhile.
refuses 'Prometheus: --storage.tsdb.maas.http-config-file' 'authorization: {credentials_file: stranger.token}'

step 'with its token, it keeps its head in remote memory and scrapes the server'
run_prometheus "$PORT" data $MIRROR "$(with a)"
from=$(date +%s)
wait_for 60 has_bytes_of_the_log
wait_for 30 has_value maas_principal_bytes
equal 'transport' 1 "$(value "prometheus_tsdb_maas_transport_info{transport=\"$transport\"}")"
contains 'who pays' "$(curl -sS "$URL/metrics")" 'maas_principal_allocations{principal="a"}'
! curl -sS "$P/api/v1/status/flags" | grep mt_ || fail 'a token is among the flags'

step 'its token is replaced, and nothing is noticed'
old=${proofs[a]}
make_token a.new
principals "$(line a "$old" "${proofs[a.new]}")" "$(line b "${proofs[b]}")"
mv "$WORK/a.new.token" "$WORK/a.token"
proofs[a]=${proofs[a.new]}
sleep $LEASE # in which its session is renewed, by the new one
both
sleep 5
equal 'failures' 0 "$(value 'sum(prometheus_tsdb_maas_operation_errors_total)')"
equal 'bytes copied again' 0 "$(value prometheus_tsdb_maas_resynced_bytes_total)"
works || fail 'remote memory is not in use'
! said level=WARN || fail "a warning: $(grep level=WARN "$PROM_LOG")"

step 'another start on the same directory'
stop_prometheus
run_prometheus "$PORT" data $MIRROR "$(with a)"
wait_for 30 works

step 'its line is gone for a while: it goes on alone, and catches up'
withdrawn a

step 'another principal of the same owner takes over'
both
takes_over elsewhere $MIRROR "$(with b)"

step 'a standby with a token of its own'
keep
leader=$PROM
start_prometheus "$OTHER_PORT" standby $MIRROR --storage.tsdb.maas.follow "$(with a)"
P=http://127.0.0.1:$OTHER_PORT
follows() {
	curl -sS -m 5 "$P/-/ready" | grep -q 'following, 0 s behind'
}
wait_for 60 follows
kill -KILL "$leader"
wait_for $((LEASE + 10)) ready
same_answers

step 'without fallback: the same'
stop_prometheus
P=http://127.0.0.1:$PORT
run_prometheus "$PORT" standby $REMOTE "$(with a)"
same_answers
wait_for 30 works
withdrawn a
both
takes_over third $REMOTE "$(with b)"
stop_prometheus
! grep -h 'level=ERROR' "$WORK"/prometheus.*.log | grep -v 'is not usable\|is not opened\|opening storage failed' || fail 'errors in a log'
