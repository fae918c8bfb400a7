#!/usr/bin/env bash
# The guide with the server on a second host: Prometheus and the user are in one network namespace,
# maasd in another, and a pair of virtual interfaces is the cable between them.
# Run as: test_prometheus_hosts.sh MAASD PROMETHEUS.
if [ -z "${IN_NAMESPACE:-}" ]; then
	unshare --net true 2>/dev/null || { echo 'no right to make network namespaces' >&2 && exit 77; }
	IN_NAMESPACE=1 exec unshare --net bash "$0" "$@"
fi
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/prometheus_lib.sh"
PROMETHEUS=$2

# The other host lives as long as this process.
unshare --net sleep infinity &
HOST_A=$!
children+=("$HOST_A")
on_a() {
	nsenter --net --target "$HOST_A" "$@"
}
apart() {
	[ "$(readlink "/proc/$HOST_A/ns/net")" != "$(readlink /proc/self/ns/net)" ]
}
wait_for 10 apart
ip link add cable type veth peer name cable-a netns "$HOST_A"
ip link set lo up
ip address add 10.77.0.2/24 dev cable
ip link set cable up
on_a ip address add 10.77.0.1/24 dev cable-a
on_a ip link set cable-a up
printf '#!/bin/sh\nexec nsenter --net --target %s %s "$@"\n' "$HOST_A" "$(realpath "$MAASD")" >"$WORK/maasd"
chmod +x "$WORK/maasd"
MAASD=$WORK/maasd

step 'curl finds the server on the other host'
start_server --rdma off --listen 10.77.0.1:3000
equal 'health' healthy "$(curl -sS -m 10 "$URL/health" | jq -r .status)"
equal 'allocations' 0 "$(stats active_allocations)"
contains '/metrics' "$(curl -sS -m 10 "$URL/metrics")" maas_pool_size_bytes
allocate '{"size_bytes": 4096}'
request DELETE "/allocate/$ID"
equal 'DELETE' 200 "$STATUS"

step 'Prometheus keeps its log there'
run_prometheus "$PORT" data --storage.tsdb.maas.fallback
looks_well
for method in POST DELETE; do
	grep "$method /allocate" "$LOG" | grep 10.77.0.2 >"$WORK/lines" || fail "no line of a $method from the other host: $(cat "$LOG")"
done

step 'the cable is pulled for ten seconds: no query fails, nothing is copied again'
ip link set cable down
wait_for 30 is prometheus_tsdb_maas_degraded 1
sleep 10
equal 'the scrape goes on' 1 "$(value 'up{job="prometheus"}')"
ip link set cable up
wait_for 60 is prometheus_tsdb_maas_degraded 0
wait_for 30 is 'prometheus_tsdb_maas_wal_lag_seconds < bool 1' 1
equal 'bytes copied again' 0 "$(value prometheus_tsdb_maas_resynced_bytes_total)"

step 'the host dies, Prometheus goes on, and ends well'
kill -KILL "$SERVER"
wait_for 30 is prometheus_tsdb_maas_degraded 1
equal 'the scrape goes on' 1 "$(value 'up{job="prometheus"}')"
stop_prometheus
! grep -h 'level=ERROR' "$WORK"/prometheus.*.log || fail 'errors in a log'
