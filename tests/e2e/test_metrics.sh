#!/usr/bin/env bash
# promtool finds nothing wrong with the metrics.
. "$(dirname "$0")/lib.sh"

json="Content-Type: application/json"
start_server
curl -sS "$URL/metrics" >"$WORK/empty"
allocate '{"size_bytes":102400,"owner":"a","ttl_seconds":60}'
request PUT "/allocate/$ID/data" --data-binary hello
request GET "/allocate/$ID/data" -H 'Range: bytes=0-4'
request GET /nowhere
request PATCH /health
request POST /allocate -H "$json" -d '{'
request POST /allocate -H "$json" -d '{"size_bytes":99999999999}'
request DELETE "/allocate/$ID"
curl -sS "$URL/metrics" >"$WORK/full"
stop_server

for file in empty full; do
	text=$(promtool check metrics <"$WORK/$file" 2>&1) || fail "promtool check metrics ($file): $text"
	equal "promtool check metrics ($file)" '' "$text"
done
for name in maas_active_allocations maas_allocations_total maas_frees_total \
	maas_allocation_failures_total maas_allocation_size_bytes maas_pool_size_bytes maas_pool_slabs \
	maas_utilization_percent maas_http_requests_total maas_http_request_duration_seconds_bucket \
	maas_rdma_up maas_rdma_isolated maas_rdma_queue_pairs maas_rdma_grants maas_rdma_registered_bytes \
	maas_rdma_key_seconds_bucket maas_sessions maas_quarantined_bytes maas_build_info \
	maas_log_dropped_total \
	process_resident_memory_bytes process_open_fds process_cpu_seconds_total; do
	grep -q "^${name}[ {]" "$WORK/full" || fail "there is no $name"
done
grep -q '^maas_http_requests_total{method="POST",route="/allocate",code="413"} 1$' "$WORK/full" ||
	fail 'a request is not counted by route and code'
grep -q '^maas_allocation_failures_total{reason="too_large"} 1$' "$WORK/full" ||
	fail 'a failed allocation is not counted'

# A check that cannot fail checks nothing.
printf '# TYPE a counter\na 1\n' >"$WORK/bad"
! promtool check metrics <"$WORK/bad" >/dev/null 2>&1 || fail 'promtool accepts anything'
