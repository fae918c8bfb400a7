#!/usr/bin/env bash
# prometheus_guest.sh MAASD PROMETHEUS: on a machine with an RDMA device, what a Prometheus keeps in
# remote memory is what its log holds, and another one goes on from it; the same with tokens.
. "$(dirname "$0")/../e2e/lib.sh"
. "$(dirname "$0")/../e2e/prometheus_lib.sh"
PROMETHEUS=$2
# shellcheck disable=SC2034  # for start_prometheus
transport=rdma

acknowledged() {
	ended "$PROM" && fail "Prometheus ended"
	is 'prometheus_tsdb_maas_wal_acknowledged_bytes_total > bool 0' 1
}

start_server --listen "$SOFTROCE_ADDR:0" --rdma required
start_prometheus "$PORT" first
from=$(date +%s)
wait_for 180 acknowledged
equal 'transport' 1 "$(value 'prometheus_tsdb_maas_transport_info{transport="rdma"}')"
grep -q 'MaaS server is in use.*transport=rdma' "$PROM_LOG" || fail 'the log does not name the transport'
[ "$(metric 'maas_rdma_grants')" != 0 ] || fail 'no grant'
sleep 10
at=$(($(date +%s) - 3))
want=$(answers "$from" "$at")
[ "$(jq length <<<"$want")" -gt 300 ] || fail "only $(jq length <<<"$want") series"
kill -KILL "$PROM"
start_prometheus "$PORT" second
wait_for 180 acknowledged
equal 'the answers' "$(md5sum <<<"$want")" "$(md5sum <<<"$(answers "$from" "$at")")"
kill -TERM "$PROM"
wait_for 60 ended "$PROM"
stop_server
echo "ok prometheus_over_rdma $(jq length <<<"$want") series"
bash "$(dirname "$0")/../e2e/test_prometheus_tokens.sh" "$1" "$2" rdma
echo "ok prometheus_with_tokens"
