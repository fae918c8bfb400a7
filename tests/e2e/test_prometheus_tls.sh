#!/usr/bin/env bash
# A real Prometheus at a maasd that speaks TLS and knows principals by their certificates: what does not work,
# certificates that are renewed under it, and others, with certificates of their own, that take over.
# Run as: test_prometheus_tls.sh MAASD PROMETHEUS
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/prometheus_lib.sh"
. "$(dirname "$0")/certs.sh"
PROMETHEUS=$2
MIRROR=--storage.tsdb.maas.fallback REMOTE=--no-storage.tsdb.maas.fallback

# configuration TEXT...: the lines of tls_config in a file of their own, as an option.
configuration() {
	local file
	file=$(mktemp "$WORK/http.XXXXXX.yml")
	{ echo 'tls_config:' && printf '  %s\n' "$@"; } >"$file"
	echo "--storage.tsdb.maas.http-config-file=$file"
}

# with NAME: how a Prometheus has the certificate NAME.
with() {
	configuration 'ca_file: ca.crt' "cert_file: $1.crt" "key_file: $1.key"
}

# install_as NAME FROM: in one step each, as cert-manager and others do.
install_as() {
	local part
	for part in key crt; do
		install -m 0600 "$WORK/$2.$part" "$WORK/$1.$part.next"
		mv "$WORK/$1.$part.next" "$WORK/$1.$part"
	done
}

umask 077
make_ca ca
make_ca foreign
make_cert server ca serverAuth DNS:localhost,IP:127.0.0.1
make_cert renewed ca serverAuth DNS:localhost,IP:127.0.0.1
for name in a b ops scraper; do make_cert $name ca clientAuth DNS:$name.example; done
make_cert successor ca clientAuth DNS:a.example
install_as predecessor a
make_crl ca 9
make_cert stranger foreign clientAuth DNS:a.example
cp "$WORK/b.crt" "$WORK/misfit.crt"
cp "$WORK/a.key" "$WORK/misfit.key"
{
	echo '* - health'
	echo 'ops cert=ops.example admin'
	echo 'scraper cert=scraper.example metrics'
	for name in a b; do echo "$name cert=$name.example owner=$OWNER,$OWNER@follow"; done
} >"$WORK/principals"
mkdir "$WORK/curl" # what this script itself asks for, it asks for as ops
printf '%s = "%s"\n' cacert "$WORK/ca.crt" cert "$WORK/ops.crt" key "$WORK/ops.key" >"$WORK/curl/.curlrc"
export CURL_HOME=$WORK/curl
start_server --rdma off --tls-cert "$WORK/server.crt" --tls-key "$WORK/server.key" --tls-client-ca "$WORK/ca.crt" \
	--tls-client-crl "$WORK/ca.crl" --auth-file "$WORK/principals"
# shellcheck disable=SC2034  # for start_prometheus
authorization="scheme: https
  tls_config: {ca_file: $WORK/ca.crt, cert_file: $WORK/scraper.crt, key_file: $WORK/scraper.key}"

step 'what does not work is refused with words'
for mode in $MIRROR $REMOTE; do
	prom_refuses 'is not that of the certificate in' "$mode" "$(with misfit)"
	prom_refuses 'no CA of --tls-client-ca has signed it' "$mode" "$(with stranger)"
	prom_refuses 'no such file' "$mode" "$(with none)"
	prom_refuses 'always checked' "$mode" "$(configuration 'insecure_skip_verify: true')"
	server=http://${URL#https://} prom_refuses 'are for https://' "$mode" "$(with a)"
done
prom_refuses 'is not from a CA in the CA file' $REMOTE "$(configuration 'ca_file: foreign.crt')"
prom_refuses 'is not for elsewhere' $REMOTE "$(configuration 'ca_file: ca.crt' 'server_name: elsewhere')"

step 'a mirror goes on without a server that proves nothing, and says why'
run_prometheus "$PORT" alone $MIRROR "$(configuration 'ca_file: foreign.crt')"
wait_for 30 is prometheus_tsdb_maas_degraded 1
said 'is not from a CA in the CA file' || fail "it does not say why: $(cat "$PROM_LOG")"
stop_prometheus

step 'with its certificate, it keeps its head in remote memory and scrapes the server'
run_prometheus "$PORT" data $MIRROR "$(with a)"
from=$(date +%s)
wait_for 60 has_bytes_of_the_log
wait_for 30 has_value maas_principal_bytes
contains 'who pays' "$(curl -sS "$URL/metrics")" 'maas_principal_allocations{principal="a"}'

step 'both certificates are renewed, the old one is revoked, and nothing is noticed'
install_as server renewed
install_as a successor
make_crl ca 9 predecessor
kill -HUP "$SERVER"
sleep 8
equal 'the old certificate' 401 "$(curl -sS -q -o "$WORK/body" -w '%{http_code}' --cacert "$WORK/ca.crt" \
	--cert "$WORK/predecessor.crt" --key "$WORK/predecessor.key" "$URL/health")"
contains 'the certificate of the server' "$(curl -sS -v "$URL/health" 2>&1)" 'CN=renewed'
equal 'failures' 0 "$(value 'sum(prometheus_tsdb_maas_operation_errors_total)')"
equal 'bytes copied again' 0 "$(value prometheus_tsdb_maas_resynced_bytes_total)"
works || fail 'remote memory is not in use'
! said level=WARN || fail "a warning: $(grep level=WARN "$PROM_LOG")"

step 'another principal of the same owner takes over'
takes_over elsewhere $MIRROR "$(with b)"

step 'without fallback: the same'
stop_prometheus
run_prometheus "$PORT" elsewhere $REMOTE "$(with b)"
same_answers
wait_for 30 works
takes_over third $REMOTE "$(with a)"

stop_prometheus
stop_server
