#!/usr/bin/env bash
# A principal's token is replaced again and again while its programs work: no request fails, of
# libmaas, which notices by itself, or of curl, which is told. Run as: test_rotation.sh MAASD MAAS
long=${MAAS_LONG:-}
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
MAAS=$(realpath "$2")
cd "$WORK"
umask 077
seconds=8 rotations=3 requests=1000
[ "$long" != 1 ] || seconds=60 rotations=20 requests=10000

# line TOKEN...: the principal's line of the file.
line() {
	local proofs='' token
	for token in "$@"; do proofs+=" $(proof "$token")"; done
	echo "team$proofs owner=team"
}

# use TOKEN...: the server reads the file anew, with these tokens in it.
use() {
	line "$@" >principals.new
	mv principals.new principals
	kill -HUP "$SERVER"
}

# hand_out TOKEN: to libmaas in a file, to curl as a header.
hand_out() {
	echo "$1" >token.new
	mv token.new token
	echo "Authorization: Bearer $1" >header.new
	mv header.new header
}

knows() {
	echo "$1" >asked
	"$MAAS" whoami --token-file asked >/dev/null 2>&1
}

knows_not() {
	! knows "$1"
}

# Fifty requests of one connection and one token a turn.
curls() {
	local i
	for ((i = 0; i < 50; i++)); do
		printf 'url = "%s/%s"\noutput = /dev/null\n' "$URL" "$([ $((i % 2)) = 0 ] && echo allocations || echo whoami)"
	done >urls
	until [ -e stop ]; do
		curl -sS -w '%{http_code}\n' -H @header -K urls >>codes 2>&1 || echo "curl: exit $?" >>codes
		echo >>turns
	done
}

# Whoever began a turn with the old token has ended it.
turned() {
	[ "$(wc -l <turns)" -ge $(($1 + 2)) ]
}

token=mt_0
hand_out $token
line $token >principals
start_server --rdma off --log-level warn --auth-file principals
export MAAS_URL=$URL
: >turns
"$MAAS" bench --transport http --size 4KiB --time $seconds --token-file token --json >bench.json 2>bench.log &
bench=$!
curls &
curls=$!
children+=("$bench" "$curls")

done=0
until ended "$bench"; do
	next=mt_$((done + 1))
	use $token $next
	wait_for 20 knows $next
	hand_out $next
	wait_for 20 turned "$(wc -l <turns)"
	use $next
	wait_for 20 knows_not $token
	knows $next || fail "the server does not know $next"
	token=$next
	done=$((done + 1))
done
touch stop
wait "$curls"
status=0
wait "$bench" || status=$?
equal "maas bench: $(head -5 bench.log)" 0 "$status"
libmaas=$(jq '[.alloc, .put, .get, .free] | map(.operations) | add' bench.json)
equal 'failed requests of libmaas' 0 "$(jq '[.alloc, .put, .get, .free] | map(.failed) | add' bench.json)"
equal 'answers to curl' 200 "$(sort -u codes | head -5)"
echo "- $done rotations, $libmaas requests of libmaas, $(wc -l <codes) of curl"
between rotations $rotations 1000000 $done
between 'requests of libmaas' $requests 100000000 "$libmaas"
between 'requests of curl' $requests 100000000 "$(wc -l <codes)"
stop_server
