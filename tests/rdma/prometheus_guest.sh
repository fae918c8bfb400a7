#!/usr/bin/env bash
# prometheus_guest.sh MAASD PROMETHEUS: on a machine with an RDMA device, what a Prometheus keeps in
# remote memory is what its log holds, and another one goes on from it.
. "$(dirname "$0")/../e2e/lib.sh"
PROMETHEUS=$2
PORT=9090 P=http://127.0.0.1:9090

# start_prometheus DIR OPTION...: sets PROM and PROM_LOG.
start_prometheus() {
	local dir=$1
	shift
	PROM_LOG=$WORK/$dir.log
	cat >"$WORK/prometheus.yml" <<-END
		global: {scrape_interval: 1s, scrape_timeout: 1s}
		scrape_configs:
		- job_name: prometheus
		  static_configs: [{targets: ['127.0.0.1:$PORT']}]
	END
	"$PROMETHEUS" --config.file="$WORK/prometheus.yml" --storage.tsdb.path="$WORK/$dir" \
		--web.listen-address="127.0.0.1:$PORT" --storage.tsdb.maas.url="$URL" --storage.tsdb.maas.owner=rdma \
		--storage.tsdb.maas.transport=rdma "$@" >"$PROM_LOG" 2>&1 </dev/null &
	PROM=$!
	children+=("$PROM")
}

prometheus_metric() {
	curl -sf -m 10 "$P/metrics" | awk -v name="$1" '$1 == name { print $2 }'
}

acknowledged() {
	ended "$PROM" && fail "Prometheus ended"
	local bytes
	bytes=$(prometheus_metric prometheus_tsdb_maas_wal_acknowledged_bytes_total) || return 1
	[ "${bytes%%.*}" != 0 ]
}

answers() {
	curl -sS -m 60 --data-urlencode 'query={__name__=~".+"}' --data "start=$1&end=$2&step=1" \
		"$P/api/v1/query_range" | jq -cS '.data.result | sort_by(.metric | tostring)'
}

address=$(ip -4 -o addr show scope global | awk '{ sub("/.*", "", $4); print $4; exit }')
start_server --listen "$address:0" --rdma required
start_prometheus first
from=$(date +%s)
wait_for 180 acknowledged
equal 'transport' 1 "$(prometheus_metric 'prometheus_tsdb_maas_transport_info{transport="rdma"}')"
grep -q 'MaaS server is in use.*transport=rdma' "$PROM_LOG" || fail 'the log does not name the transport'
[ "$(metric 'maas_rdma_grants')" != 0 ] || fail 'no grant'
sleep 10
at=$(($(date +%s) - 3))
want=$(answers "$from" "$at")
[ "$(jq length <<<"$want")" -gt 300 ] || fail "only $(jq length <<<"$want") series"
kill -KILL "$PROM"
start_prometheus second
wait_for 180 acknowledged
equal 'the answers' "$(md5sum <<<"$want")" "$(md5sum <<<"$(answers "$from" "$at")")"
kill -TERM "$PROM"
wait_for 60 ended "$PROM"
echo "ok prometheus_over_rdma $(jq length <<<"$want") series"
