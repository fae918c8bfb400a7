#!/usr/bin/env bash
# A real Prometheus that keeps its head in a real maasd: start, what an operator looks at, faults,
# take-over by another node. Run as: test_prometheus.sh MAASD PROMETHEUS PROMTOOL.
. "$(dirname "$0")/lib.sh"
PROMETHEUS=$2 PROMTOOL=$3

# Two ports that nobody has; Prometheus has to know its own to scrape itself.
read -r PORT OTHER_PORT < <(python3 -c '
import socket
s = [socket.socket() for _ in range(2)]
for x in s:
    x.bind(("127.0.0.1", 0))
print(*(x.getsockname()[1] for x in s))')
P=http://127.0.0.1:$PORT
OWNER=e2e-prometheus

# start_prometheus PORT DIR OPTION...: sets PROM (its process id) and PROM_LOG.
start_prometheus() {
	local port=$1 dir=$2
	shift 2
	cat >"$WORK/prometheus.yml" <<-END
		global: {scrape_interval: 1s, scrape_timeout: 1s}
		scrape_configs:
		- job_name: prometheus
		  static_configs: [{targets: ['127.0.0.1:$PORT']}]
		- job_name: maas
		  static_configs: [{targets: ['${URL#http://}']}]
	END
	PROM_LOG=$(mktemp "$WORK/prometheus.XXXXXX.log")
	"$PROMETHEUS" --config.file="$WORK/prometheus.yml" --storage.tsdb.path="$WORK/$dir" \
		--web.listen-address="127.0.0.1:$port" --storage.tsdb.maas.url="${server:-$URL}" \
		--storage.tsdb.maas.owner=$OWNER "$@" >"$PROM_LOG" 2>&1 </dev/null &
	PROM=$!
	children+=("$PROM")
}

ready() {
	ended "$PROM" && fail "Prometheus ended: $(tail -n 20 "$PROM_LOG")"
	curl -sf -m 5 "$P/-/ready" >/dev/null
}

said() {
	grep -qF "$1" "$PROM_LOG"
}

# prom_ends STATUS
prom_ends() {
	local status=0
	wait_for 60 ended "$PROM"
	wait "$PROM" || status=$?
	equal 'exit status of Prometheus' "$1" "$status"
}

# stats FIELD of the memory server.
stats() {
	curl -sS -m 10 "$URL/stats" | jq ".$1"
}

# value QUERY: of its first series.
value() {
	curl -sS -m 30 --data-urlencode "query=$1" "$P/api/v1/query" | jq -r '.data.result[0].value[1] // "none"'
}

has_value() {
	[ "$(value "$1")" != none ]
}

# answers FROM TO: every sample of the time between, as one canonical text.
answers() {
	curl -sS -m 60 --data-urlencode 'query={__name__=~".+"}' --data "start=$1&end=$2&step=1" \
		"$P/api/v1/query_range" | jq -cS '.data.result | sort_by(.metric | tostring)'
}

is() {
	[ "$(value "$1")" = "$2" ]
}

has_bytes_of_the_log() {
	[ "$(value 'prometheus_tsdb_maas_stored_bytes{content="wal"}')" != none ] &&
		[ "$(stats active_allocations)" -gt 0 ] && [ "$(stats total_allocated_bytes)" -gt 0 ]
}

step 'what does not work is refused with words'
start_server --rdma off
start_prometheus "$PORT" never --storage.tsdb.maas.http-config-file=x
prom_ends 1
said 'reserved' || fail "$(cat "$PROM_LOG")"
start_prometheus "$PORT" never --no-storage.tsdb.maas.fallback --enable-feature=memory-snapshot-on-shutdown
prom_ends 1
said 'memory-snapshot-on-shutdown' || fail "$(cat "$PROM_LOG")"
server=http://127.0.0.1:1 start_prometheus "$PORT" never --storage.tsdb.maas.fallback=false
prom_ends 1
said 'memory server http://127.0.0.1:1' || fail "$(cat "$PROM_LOG")"
contains '--version' "$("$PROMETHEUS" --version 2>&1)" '+maas'

step 'two minutes after the start, sample bytes lie in remote memory'
start_prometheus "$PORT" data --storage.tsdb.maas.fallback=true
wait_for 60 ready
wait_for 120 has_bytes_of_the_log
said 'MaaS memory pool manager initialized' || fail 'no line says that it began'
wait_for 60 said 'Allocated from MaaS'
wait_for 60 said 'MaaS health check succeeded'
id=$(curl -sS "$URL/allocations?owner=$OWNER" | jq -r '.allocations[0].id')
curl -sS "$URL/allocate/$id/data" -r 128-20127 >"$WORK/remote"
cmp "$WORK/remote" <(head -c 20000 "$WORK/data/wal/00000000") || fail 'other bytes than the log has'
for query in maas_active_allocations maas_pool_size_bytes 'rate(maas_active_allocations[1m])' maas_utilization_percent; do
	wait_for 30 has_value "$query"
done
"$PROMTOOL" check metrics <<<"$(curl -sS "$P/metrics" | grep -E 'prometheus_tsdb_maas_')" ||
	fail 'promtool finds fault with the metrics'

step 'the server dies, and comes back without its memory'
listen=${URL#http://}
kill -KILL "$SERVER"
from=$(($(date +%s) - 5))
wait_for 30 is prometheus_tsdb_maas_degraded 1
equal 'the scrape goes on' 1 "$(value 'up{job="prometheus"}')"
start_server --rdma off --listen "$listen"
wait_for 60 is prometheus_tsdb_maas_degraded 0
wait_for 60 has_bytes_of_the_log

step 'another node takes over, and answers as the first did'
sleep 3
at=$(($(date +%s) - 2))
want=$(answers "$from" "$at")
kill -KILL "$PROM"
rm -rf "$WORK/data"
start_prometheus "$PORT" elsewhere
wait_for 60 ready
said 'restored the head from remote memory' || fail "nothing was restored: $(cat "$PROM_LOG")"
[ "$(jq length <<<"$want")" -gt 500 ] || fail "only $(jq length <<<"$want") series"
equal 'the answers' "$(md5sum <<<"$want")" "$(md5sum <<<"$(answers "$from" "$at")")"

step 'a second one of the same name is kept away'
first=$PROM first_log=$PROM_LOG
start_prometheus "$OTHER_PORT" second
prom_ends 1
said 'another Prometheus holds the memory' || fail "$(cat "$PROM_LOG")"
PROM=$first PROM_LOG=$first_log

step 'without fallback: no local chunk files, and an end that loses nothing'
kill -TERM "$PROM"
prom_ends 0
start_prometheus "$PORT" elsewhere --storage.tsdb.maas.fallback=false
wait_for 60 ready
[ ! -e "$WORK/elsewhere/chunks_head" ] || fail 'there are local chunk files'
equal 'the answers' "$(md5sum <<<"$want")" "$(md5sum <<<"$(answers "$from" "$at")")"
kill -TERM "$PROM"
prom_ends 0
! grep -h 'level=ERROR' "$WORK"/prometheus.*.log | grep -v 'is not usable' || fail 'errors in a log'
