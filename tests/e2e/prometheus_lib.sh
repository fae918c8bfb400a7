# shellcheck shell=bash
# What the tests with a real Prometheus share, beside lib.sh. They set PROMETHEUS, the program.

# Two ports that nobody has; Prometheus has to know its own to scrape itself. A virtual machine has all of them.
# shellcheck disable=SC2034  # OTHER_PORT is for a second one
if [ -n "${SOFTROCE_ADDR:-}" ]; then
	PORT=9090 OTHER_PORT=9091
else
	read -r PORT OTHER_PORT < <(python3 -c '
import socket
s = [socket.socket() for _ in range(2)]
for x in s:
    x.bind(("127.0.0.1", 0))
print(*(x.getsockname()[1] for x in s))')
fi
P=http://127.0.0.1:$PORT
OWNER=e2e-prometheus

# start_prometheus PORT DIR OPTION...: sets PROM (its process id) and PROM_LOG. authorization= is for its scrapes
# of maasd, transport= for its memory.
start_prometheus() {
	cat >"$WORK/prometheus.yml" <<-END
		global: {scrape_interval: 1s, scrape_timeout: 1s}
		scrape_configs:
		- job_name: prometheus
		  static_configs: [{targets: ['127.0.0.1:$PORT']}]
		- job_name: maas
		  ${authorization:-}
		  static_configs: [{targets: ['${URL#*://}']}]
	END
	PROM_LOG=$(mktemp "$WORK/prometheus.XXXXXX.log")
	"$PROMETHEUS" --config.file="$WORK/prometheus.yml" --storage.tsdb.path="$WORK/$2" \
		--web.listen-address="127.0.0.1:$1" --storage.tsdb.maas.url="${server:-$URL}" --storage.tsdb.maas.owner=$OWNER \
		${transport:+--storage.tsdb.maas.transport=$transport} "${@:3}" >"$PROM_LOG" 2>&1 </dev/null &
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

# run_prometheus PORT DIR OPTION...: as start_prometheus, until it is ready.
run_prometheus() {
	start_prometheus "$@"
	wait_for 60 ready
}

stop_prometheus() {
	kill -TERM "$PROM"
	prom_ends 0
}

# prom_refuses WORDS OPTION...: it ends at its start, and says so.
prom_refuses() {
	start_prometheus "$PORT" never "${@:2}"
	prom_ends 1
	said "$1" || fail "'$1' is not in: $(cat "$PROM_LOG")"
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

is() {
	[ "$(value "$1")" = "$2" ]
}

# answers FROM TO: every sample of the time between, as one canonical text.
answers() {
	curl -sS -m 60 --data-urlencode 'query={__name__=~".+"}' --data "start=$1&end=$2&step=1" \
		"$P/api/v1/query_range" | jq -cS '.data.result | sort_by(.metric | tostring)'
}

# looks_well: what an operator looks at in the first two minutes.
looks_well() {
	local line query
	wait_for 120 has_bytes_of_the_log
	for line in 'MaaS memory pool manager initialized' 'Allocated from MaaS' 'MaaS health check succeeded'; do
		wait_for 60 said "$line"
	done
	for query in maas_active_allocations maas_pool_size_bytes 'rate(maas_active_allocations[1m])' maas_utilization_percent; do
		wait_for 30 has_value "$query"
	done
}

has_bytes_of_the_log() {
	[ "$(value 'prometheus_tsdb_maas_stored_bytes{content="wal"}')" != none ] &&
		[ "$(stats active_allocations)" -gt 0 ] && [ "$(stats total_allocated_bytes)" -gt 0 ]
}

# works: everything that was written is in remote memory.
works() {
	is prometheus_tsdb_maas_degraded 0 && is 'prometheus_tsdb_maas_wal_lag_seconds < bool 1' 1
}

# keep: what the Prometheus that runs answers of all that it saw since $from.
keep() {
	sleep 3
	at=$(($(date +%s) - 2))
	# shellcheck disable=SC2154  # from is the test's
	want=$(answers "$from" "$at")
	[ "$(jq length <<<"$want")" -gt 300 ] || fail "only $(jq length <<<"$want") series"
}

same_answers() {
	equal 'the answers' "$(md5sum <<<"$want")" "$(md5sum <<<"$(answers "$from" "$at")")"
}

# takes_over DIR OPTION...: another one, from the one that runs, which is killed.
takes_over() {
	keep
	kill -KILL "$PROM"
	run_prometheus "$PORT" "$@"
	said 'restored the head from remote memory' || fail "nothing was restored: $(cat "$PROM_LOG")"
	same_answers
	wait_for 30 works
}
