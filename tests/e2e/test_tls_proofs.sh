#!/usr/bin/env bash
# maasd with --tls-client-ca: whose certificate is taken, in which order proofs count, and what the log says. All that
# can be wrong with a certificate is in tests/unit/tls/test_tls.c.
# Run as: test_tls_proofs.sh MAASD
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=tests/e2e/certs.sh
. "$(dirname "${BASH_SOURCE[0]}")/certs.sh"

umask 077
make_ca ca
trust ca
make_cert server ca serverAuth DNS:localhost,IP:127.0.0.1
make_cert a ca clientAuth DNS:A.example
make_cert ops ca clientAuth URI:spiffe://test/ops
make_cert both ca clientAuth DNS:a.example,URI:spiffe://test/ops
make_cert nobody ca clientAuth DNS:nobody.example
make_cert any ca - DNS:a.example
make_cert wild ca clientAuth DNS:*.example
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$WORK/self.key" -out "$WORK/self.crt" \
	-days 9 -subj /CN=self -addext subjectAltName=DNS:a.example 2>/dev/null
{
	echo "a cert=a.example $(proof mt_a) owner=a"
	echo 'ops cert=spiffe://test/ops admin'
	echo '* - health'
} >"$WORK/principals"
TLS=(--rdma off --tls-cert "$WORK/server.crt" --tls-key "$WORK/server.key" --tls-client-ca "$WORK/ca.crt")

# with NAME METHOD PATH [CURL OPTION...]: shows the certificate NAME.
with() {
	local name=$1
	shift
	request "$@" --cert "$WORK/$name.crt" --key "$WORK/$name.key"
}

# is NAME WHO: the certificate NAME is the principal WHO's.
is() {
	with "$1" GET /whoami
	equal "/whoami with $1" "200 $2" "$STATUS $(jq -r .name <<<"$BODY")"
}

# refused_with NAME WORDS [CURL OPTION...]: 401, and a line in the log that says why.
refused_with() {
	local name=$1 words=$2
	shift 2
	with "$name" GET /allocations "$@"
	equal "with $name" '401 unauthenticated' "$STATUS $(jq -r .error.code <<<"$BODY")"
	contains "the answer to $name" "$BODY" "$words"
	# Five lines of a kind in a second are logged.
	sleep 0.25
	wait_for 5 grep -q "warn no right .*reason=certificate .*$words" "$LOG"
}

step 'names'
start_server "${TLS[@]}" --auth-file "$WORK/principals"
is a a
is ops ops
is any a
with nobody GET /allocations
equal 'a name of no line' '401' "$STATUS"
contains 'a name of no line' "$BODY" 'cert= in --auth-file'
with nobody GET /health
equal 'it is whoever proves nothing' 200 "$STATUS"
with wild GET /allocations
equal 'a wildcard' 401 "$STATUS"
refused_with both 'names of two lines'
with a POST /allocate -H 'Content-Type: application/json' -d '{"size_bytes":1}'
equal 'an allocation' 200 "$STATUS"
wait_for 5 grep -q 'POST /allocate status=200 .*principal=a$' "$LOG"

step 'a certificate that proves nothing'
refused_with self 'no CA of --tls-client-ca has signed it'
with self GET /health
equal 'also where everybody may' 401 "$STATUS"

step 'a certificate that is about to expire'
# closes NAME: whether the server ends the connection with its answer.
closes() {
	with "$1" GET /stats -D "$WORK/head"
	equal "with $1" 200 "$STATUS"
	grep -qi '^Connection: close' "$WORK/head"
}
! closes ops || fail 'a long time before its end'
make_cert soon ca clientAuth URI:spiffe://test/ops 50
closes soon || fail 'a client that has a new certificate would not show it'

step 'the order of proofs'
with self GET /whoami -H 'Authorization: Bearer mt_a'
equal 'a token comes first' '200 a' "$STATUS $(jq -r .name <<<"$BODY")"
with ops GET /whoami -H 'Authorization: Bearer mt_a'
equal 'a token comes first' '200 a' "$STATUS $(jq -r .name <<<"$BODY")"
with a GET /whoami -H 'Authorization: Bearer mt_b'
equal 'a bad token, a good certificate' 401 "$STATUS"
request GET /health
equal 'no proof' 200 "$STATUS"
request GET /allocations
equal 'no proof' 401 "$STATUS"
stop_server

step 'required'
start_server "${TLS[@]}" --auth-file "$WORK/principals" --tls-client-cert required
request GET /health -H 'Authorization: Bearer mt_a'
equal 'none' 401 "$STATUS"
contains 'none' "$BODY" 'show a certificate'
with nobody GET /whoami -H 'Authorization: Bearer mt_a'
equal 'a certificate and a token' '200 a' "$STATUS $(jq -r .name <<<"$BODY")"
refused_with self 'has signed it' -H 'Authorization: Bearer mt_a'
is a a
stop_server

step 'required, without principals'
start_server "${TLS[@]}" --tls-client-cert required
request GET /health
equal 'none' 401 "$STATUS"
with nobody GET /stats
equal 'one of the CA' 200 "$STATUS"
refused_with self 'has signed it'
stop_server

step 'none'
start_server "${TLS[@]}" --tls-client-cert none
with self GET /stats
equal 'it is not asked for' 200 "$STATUS"
stop_server
