#!/usr/bin/env bash
# A real Prometheus that keeps its head in a real maasd: start, what an operator looks at, faults,
# take-over by another node. Run as: test_prometheus.sh MAASD PROMETHEUS PROMTOOL.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/prometheus_lib.sh"
PROMETHEUS=$2 PROMTOOL=$3

# probe NAME: the status with which the second one answers.
probe() {
	curl -sS -m 5 -o /dev/null -w '%{http_code}' "http://127.0.0.1:$OTHER_PORT/-/$1"
}

step 'what does not work is refused with words'
start_server --rdma off
prom_refuses 'http-config-file=x: open x: no such file' --storage.tsdb.maas.http-config-file=x
prom_refuses 'memory-snapshot-on-shutdown' --no-storage.tsdb.maas.fallback --enable-feature=memory-snapshot-on-shutdown
server=https://me:secret@127.0.0.1:1 prom_refuses 'the server asks for none'
! said secret || fail "the password is shown: $(cat "$PROM_LOG")"
server=http://127.0.0.1:1 prom_refuses 'memory server http://127.0.0.1:1' --storage.tsdb.maas.fallback=false
contains '--version' "$("$PROMETHEUS" --version 2>&1)" '+maas'

step 'two minutes after the start, sample bytes lie in remote memory'
run_prometheus "$PORT" data --storage.tsdb.maas.fallback=true
looks_well
id=$(curl -sS "$URL/allocations?owner=$OWNER" | jq -r '.allocations[0].id')
curl -sS "$URL/allocate/$id/data" -r 128-20127 >"$WORK/remote"
cmp "$WORK/remote" <(head -c 20000 "$WORK/data/wal/00000000") || fail 'other bytes than the log has'
contains 'the page of a build without the web UI' "$(curl -sSf "$P/query")" 'without its web UI'
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
takes_over elsewhere

step 'each panel of its dashboard shows something'
python3 "$(dirname "$0")/dashboards.py" ask "$P" 60 "$(dirname "$0")/../../ops/grafana/prometheus.json" ||
	fail 'a panel is empty'

step 'a second one of the same name is kept away'
first=$PROM first_log=$PROM_LOG
start_prometheus "$OTHER_PORT" second
wait_for 30 said 'owner name is taken'
equal 'probe of the one that waits' 200 "$(probe healthy)"
equal 'it is not ready' 503 "$(probe ready)"
kill -TERM "$PROM"
wait_for 5 ended "$PROM"
prom_ends 0
start_prometheus "$OTHER_PORT" second
prom_ends 1
said 'another Prometheus holds the memory' || fail "$(cat "$PROM_LOG")"
PROM=$first PROM_LOG=$first_log

step 'the next start on the same directory waits for nobody'
kill -KILL "$PROM"
run_prometheus "$PORT" elsewhere
said 'MaaS server is in use' || fail "$(cat "$PROM_LOG")"
equal 'mode of the file that names the session' 600 "$(stat -c %a "$WORK/elsewhere/maas.json")"

step 'without fallback: no local chunk files, and an end that loses nothing'
stop_prometheus
run_prometheus "$PORT" elsewhere --storage.tsdb.maas.fallback=false
[ ! -e "$WORK/elsewhere/chunks_head" ] || fail 'there are local chunk files'
same_answers
stop_prometheus
! grep -h 'level=ERROR' "$WORK"/prometheus.*.log | grep -v 'is not usable' || fail 'errors in a log'
