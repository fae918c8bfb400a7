#!/usr/bin/env bash
# maasd with --tls-cert: what is refused at the start, versions and ciphers, failed handshakes.
# Run as: test_tls.sh MAASD
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=tests/e2e/certs.sh
. "$(dirname "${BASH_SOURCE[0]}")/certs.sh"

umask 077
make_ca ca
trust ca
make_cert server ca serverAuth DNS:localhost,IP:127.0.0.1
TLS=(--tls-cert "$WORK/server.crt" --tls-key "$WORK/server.key")
CHECK=(--check --rdma off --listen 127.0.0.1:0)

# refused_pair WORDS CERT KEY: by --check and by the start.
refused_pair() {
	refused 1 "$1" "${CHECK[@]}" --tls-cert "$2" --tls-key "$3"
	refused 1 "$1" --rdma off --listen 127.0.0.1:0 --tls-cert "$2" --tls-key "$3"
}

# s_client OPTION...: a handshake; prints what openssl says.
s_client() {
	timeout 20 openssl s_client -connect "${URL#https://}" -CAfile "$WORK/ca.crt" "$@" </dev/null 2>&1 || true
}

handshake_failed() { grep -q "TLS handshake failed .*reason=$1" "$LOG"; }

step 'files that are wrong'
refused_pair 'No such file' "$WORK/none" "$WORK/server.key"
echo nonsense >"$WORK/nonsense"
refused_pair 'are no certificate and its key' "$WORK/nonsense" "$WORK/server.key"
make_cert other ca serverAuth DNS:localhost
refused_pair 'is not that of the certificate' "$WORK/server.crt" "$WORK/other.key"
openssl ec -in "$WORK/server.key" -aes128 -passout pass:1234 -out "$WORK/locked.key" 2>/dev/null
refused_pair 'is encrypted' "$WORK/server.crt" "$WORK/locked.key"
cp "$WORK/server.key" "$WORK/open.key"
chmod 0644 "$WORK/open.key"
refused_pair 'may be read by others' "$WORK/server.crt" "$WORK/open.key"
cp "$WORK/server.crt" "$WORK/open.crt"
chmod 0666 "$WORK/open.crt"
refused_pair 'may be written by others' "$WORK/open.crt" "$WORK/server.key"
make_cert wrong ca clientAuth DNS:localhost
refused_pair 'is not for servers' "$WORK/wrong.crt" "$WORK/wrong.key"
make_cert nameless ca serverAuth -
refused_pair 'names no host' "$WORK/nameless.crt" "$WORK/nameless.key"
make_cert expired ca serverAuth DNS:localhost -86400
refused_pair 'expired' "$WORK/expired.crt" "$WORK/expired.key"
contains '--check' "$("$MAASD" "${CHECK[@]}" "${TLS[@]}")" 'certificate names = localhost,127.0.0.1'

step 'tokens need no --insecure-plaintext'
echo "a token=sha256:$(printf mt_a | sha256sum | cut -d' ' -f1) owner=a" >"$WORK/principals"
"$MAASD" --check --rdma off --listen 0.0.0.0:0 "${TLS[@]}" --auth-file "$WORK/principals" >/dev/null

step 'requests'
start_server --rdma off "${TLS[@]}" --listen 127.0.0.1:0 --listen "unix:$WORK/socket" \
	--listen-metrics 127.0.0.1:0
contains 'the address' "$URL" https://127.0.0.1:
request GET /health
equal /health 200 "$STATUS"
URL=https://localhost:${URL##*:} request GET /health
equal 'by name' 200 "$STATUS"
allocate '{"size_bytes":1048576}'
head -c 1048576 /dev/urandom >"$WORK/bytes"
request PUT "/allocate/$ID/data" -T "$WORK/bytes"
equal PUT 200 "$STATUS"
request GET "/allocate/$ID/data"
cmp "$WORK/bytes" "$WORK/body" || fail 'other bytes came back'
URL=http://localhost request GET /health --unix-socket "$WORK/socket"
equal 'a Unix socket stays plain' 200 "$STATUS"
metrics=$(sed -n 's/^Serving metrics on //p' "$LOG")
contains 'so does the address for metrics' "$metrics" http://
contains '/metrics' "$(curl -sSf "$metrics/metrics")" maas_build_info

step 'a body that is not wanted'
request PUT /health -T "$WORK/bytes"
equal 'an early answer' '405 method_not_allowed' "$STATUS $(jq -r .error.code <<<"$BODY")"

step 'versions and ciphers'
contains 'TLS 1.3' "$(s_client)" 'Cipher is TLS_AES_128_GCM_SHA256'
contains 'TLS 1.2' "$(s_client -tls1_2)" 'Cipher is ECDHE-ECDSA-AES128-GCM-SHA256'
for old in '-tls1_1 -cipher DEFAULT@SECLEVEL=0' '-tls1_2 -cipher AES128-GCM-SHA256' '-tls1_2 -cipher ECDHE-ECDSA-AES128-SHA' \
	'-tls1_2 -cipher DHE-RSA-AES128-GCM-SHA256'; do
	# shellcheck disable=SC2086  # several words
	contains "$old" "$(s_client $old)" 'alert handshake failure'
done
wait_for 5 handshake_failed 'proposal: no version and cipher of both'

stop_server

# Of one kind, five lines in a second are logged.
step 'plain HTTP to the TLS port'
start_server --rdma off "${TLS[@]}"
URL=${URL/https/http} request GET /health
equal 'the answer' '400 tls_required' "$STATUS $(jq -r .error.code <<<"$BODY")"
URL=${URL/https/http} request PUT /health -T "$WORK/bytes"
equal 'the answer to a long request' 400 "$STATUS"
wait_for 5 handshake_failed 'plaintext: it sends HTTP'

step 'a client that does not believe the certificate'
make_ca stranger
! CURL_CA_BUNDLE=$WORK/stranger.crt curl -sS "$URL/health" 2>/dev/null || fail 'it does'
wait_for 5 handshake_failed 'alert: CA is unknown'

stop_server
