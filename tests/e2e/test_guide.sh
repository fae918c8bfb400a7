#!/usr/bin/env bash
# The commands of the guide of the original service, word for word.
. "$(dirname "$0")/lib.sh"

# Port 3000, the default, unless something else has it.
start_default() {
	launch "$MAASD"
	port=3000
	if ended "$SERVER"; then
		contains 'maasd' "$(cat "$LOG")" '0.0.0.0:3000: Address already in use'
		start_server
		port=${URL##*:}
		echo "port 3000 is taken: using $port"
	fi
}

# typed LINE: runs the line, and prints what it prints.
typed() {
	echo "\$ $1" >&2
	bash -o pipefail -c "${1//localhost:3000/localhost:$port}" 2>/dev/null
}

start_default

health=$(typed 'curl http://localhost:3000/health')
equal 'health' 'healthy memory-as-a-service' "$(jq -r '"\(.status) \(.service)"' <<<"$health")"

stats=$(typed 'curl http://localhost:3000/stats | python3 -m json.tool')
equal 'allocations at the start' '0 0 0 0' \
	"$(jq -r '[.total_allocations, .active_allocations, .total_allocated_bytes, .total_in_use_bytes] | join(" ")' <<<"$stats")"
equal 'pools' '1024 2048 4096 8192 524288 1048576 4194304' \
	"$(jq -r '[.pool_stats[].slab_size] | join(" ")' <<<"$stats")"
equal 'slabs of each at the start' '[0,0]' \
	"$(jq -c '[.pool_stats[] | [.total_slabs, .free_slabs]] | unique[]' <<<"$stats")"

metrics=$(typed 'curl http://localhost:3000/metrics | grep maas_')
contains 'metrics' "$metrics" 'maas_active_allocations 0' 'maas_pool_size_bytes{slab_size="524288"} 0'

allocated=$(typed "curl -X POST http://localhost:3000/allocate -H 'Content-Type: application/json' -d '{\"size_bytes\": 102400}'")
equal 'the sizes, and the age' '[102400,524288,0.09765625,0]' \
	"$(jq -c '[.size_bytes, .actual_size_bytes, .size_mb, .age_seconds]' <<<"$allocated")"
id=$(jq -r .id <<<"$allocated")

short="curl -s http://localhost:3000/stats | jq '.active_allocations, .total_allocated_bytes'"
equal 'stats with one allocation' '1 524288' "$(typed "$short" | tr '\n' ' ' | sed 's/ $//')"
contains 'metrics with one allocation' "$(typed 'curl http://localhost:3000/metrics | grep maas_')" \
	'maas_allocation_size_bytes{slab_size="524288"} 524288'

equal 'body of DELETE' '' "$(typed "curl -X DELETE http://localhost:3000/allocate/$id")"
equal 'stats after DELETE' '0 0' "$(typed "$short" | tr '\n' ' ' | sed 's/ $//')"
equal 'DELETE again' 404 \
	"$(typed "curl -s -o /dev/null -w '%{http_code}' -X DELETE http://localhost:3000/allocate/$id")"

wait_for 5 grep -q "POST /allocate status=200" "$LOG"
wait_for 5 grep -q "DELETE /allocate/${id%%-*}\.\.\. status=200" "$LOG"
stop_server
