#!/usr/bin/env bash
# maasd with --tls-client-ca: whose certificate is taken, in which order proofs count, and what the log says. All that
# can be wrong with a certificate is in tests/unit/tls/test_tls.c.
# Run as: test_tls_proofs.sh MAASD
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
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
	request "${@:2}" --cert "$WORK/$1.crt" --key "$WORK/$1.key"
}

# is WHO NAME [CURL OPTION...]: the certificate NAME, with these options, is the principal WHO's.
is() {
	with "$2" GET /whoami "${@:3}"
	equal "/whoami with ${*:2}" "200 $1" "$STATUS $(jq -r .name <<<"$BODY")"
}

# refused_with NAME WORDS [CURL OPTION...]: 401, and a line in the log that says why.
refused_with() {
	with "$1" GET /allocations "${@:3}"
	equal "with $1" '401 unauthenticated' "$STATUS $(jq -r .error.code <<<"$BODY")"
	contains "the answer to $1" "$BODY" "$2"
	# Five lines of a kind in a second are logged.
	sleep 0.25
	wait_for 5 grep -q "warn no right .*reason=certificate .*$2" "$LOG"
}

step 'names'
start_server "${TLS[@]}" --auth-file "$WORK/principals"
is a a
is ops ops
is a any
answered 401 with nobody GET /allocations
contains 'a name of no line' "$BODY" 'cert= in --auth-file'
answered 200 with nobody GET /health # it is whoever proves nothing
answered 401 with wild GET /allocations
refused_with both 'names of two lines'
answered 200 with a POST /allocate -H 'Content-Type: application/json' -d '{"size_bytes":1}'
wait_for 5 grep -q 'POST /allocate status=200 .*principal=a$' "$LOG"

step 'a certificate that proves nothing'
refused_with self 'no CA of --tls-client-ca has signed it'
answered 401 with self GET /health # also where everybody may

step 'a certificate that is about to expire'
# closes NAME: whether the server ends the connection with its answer.
closes() {
	answered 200 with "$1" GET /stats -D "$WORK/head"
	grep -qi '^Connection: close' "$WORK/head"
}
! closes ops || fail 'a long time before its end'
make_cert soon ca clientAuth URI:spiffe://test/ops 50
closes soon || fail 'a client that has a new certificate would not show it'

step 'the order of proofs'
is a self -H 'Authorization: Bearer mt_a'
is a ops -H 'Authorization: Bearer mt_a'
answered 401 with a GET /whoami -H 'Authorization: Bearer mt_b'
answered 200 request GET /health
answered 401 request GET /allocations
stop_server

step 'required'
start_server "${TLS[@]}" --auth-file "$WORK/principals" --tls-client-cert required
answered 401 request GET /health -H 'Authorization: Bearer mt_a'
contains 'none' "$BODY" 'show a certificate'
is a nobody -H 'Authorization: Bearer mt_a'
refused_with self 'has signed it' -H 'Authorization: Bearer mt_a'
is a a
stop_server

step 'required, without principals'
start_server "${TLS[@]}" --tls-client-cert required
answered 401 request GET /health
answered 200 with nobody GET /stats
refused_with self 'has signed it'
stop_server

step 'none'
start_server "${TLS[@]}" --tls-client-cert none
answered 200 with self GET /stats
stop_server
