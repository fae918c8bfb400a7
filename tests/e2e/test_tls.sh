#!/usr/bin/env bash
# maasd with --tls-cert: what is refused at the start, versions and ciphers, failed handshakes. (Bytes: test_tls_wire.py.)
# Run as: test_tls.sh MAASD
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
. "$(dirname "${BASH_SOURCE[0]}")/certs.sh"

umask 077
make_ca ca
trust ca
make_cert server ca serverAuth DNS:localhost,IP:127.0.0.1
TLS=(--tls-cert "$WORK/server.crt" --tls-key "$WORK/server.key")
HERE=(--rdma off --listen 127.0.0.1:0)

# s_client OPTION...: a handshake; prints what openssl says.
s_client() {
	timeout 20 openssl s_client -connect "${URL#https://}" -CAfile "$WORK/ca.crt" "$@" </dev/null 2>&1 || true
}

handshake_failed() { grep -q "TLS handshake failed .*reason=$1" "$LOG"; }

step 'files that are wrong'
echo nonsense >"$WORK/nonsense"
openssl ec -in "$WORK/server.key" -aes128 -passout pass:1234 -out "$WORK/locked.key" 2>/dev/null
cp "$WORK/server.crt" "$WORK/open.crt"
chmod 0666 "$WORK/open.crt"
for how in --check --check=no; do
	refused 1 'are no certificate and its key' $how "${HERE[@]}" --tls-cert "$WORK/nonsense" --tls-key "$WORK/server.key"
	refused 1 'is encrypted' $how "${HERE[@]}" --tls-cert "$WORK/server.crt" --tls-key "$WORK/locked.key"
	refused 1 'may be written by others' $how "${HERE[@]}" --tls-cert "$WORK/open.crt" --tls-key "$WORK/server.key"
done
contains '--check' "$("$MAASD" --check "${HERE[@]}" "${TLS[@]}")" 'certificate names = localhost,127.0.0.1'

step 'tokens need no --insecure-plaintext'
echo "a $(proof mt_a) owner=a" >"$WORK/principals"
"$MAASD" --check --rdma off --listen 0.0.0.0:0 "${TLS[@]}" --auth-file "$WORK/principals" >/dev/null

step 'requests'
start_server --rdma off "${TLS[@]}" --listen 127.0.0.1:0 --listen "unix:$WORK/socket" \
	--listen-metrics 127.0.0.1:0
contains 'the address' "$URL" https://127.0.0.1:
answered 200 request GET /health
URL=https://localhost:${URL##*:} answered 200 request GET /health
URL=http://localhost answered 200 request GET /health --unix-socket "$WORK/socket" # which stays plain
metrics=$(sed -n 's/^Serving metrics on //p' "$LOG")
contains 'so does the address for metrics' "$metrics" http://
contains '/metrics' "$(curl -sSf "$metrics/metrics")" maas_build_info

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
URL=${URL/https/http} answered 400 request PUT /health -T "$MAASD"
wait_for 5 handshake_failed 'plaintext: it sends HTTP'

step 'a client that does not believe the certificate'
make_ca stranger
! CURL_CA_BUNDLE=$WORK/stranger.crt curl -sS "$URL/health" 2>/dev/null || fail 'it does'
wait_for 5 handshake_failed 'alert: CA is unknown'

stop_server
