#!/usr/bin/env bash
# A million live allocations of 1 KiB cost the server at most 64 MiB beside the bytes it lends.
. "$(dirname "$0")/lib.sh"

LIMIT_KIB=$((64 << 10))

# The private memory of a process: the arena is shared memory, and counts elsewhere.
own_kib() {
	awk '/^RssAnon:/ { print $2 }' "/proc/$SERVER/status"
}

start_server --max-pool-size 1GiB --log-level warn
at=$SECONDS
for _ in $(seq 100); do
	answered 200 post /allocate '{"size_bytes":1024,"count":10000}'
	jq -r '.allocations[].id' "$WORK/body" >>"$WORK/ids"
done
equal 'allocations and bytes' '[1000000,1024000000]' \
	"$(curl -sS "$URL/stats" | jq -c '[.active_allocations, .total_allocated_bytes]')"
equal 'different ids' 1000000 "$(sort -u "$WORK/ids" | wc -l)"
[ "$(awk '/^RssShmem:/ { print $2 }' "/proc/$SERVER/status")" -gt 0 ] || fail 'the arena is not shared memory'
kib=$(own_kib)
echo "- 1,000,000 allocations in $((SECONDS - at)) s; $((kib / 1024)) MiB beside the lent bytes"
between 'KiB beside the lent bytes' 1024 "$LIMIT_KIB" "$kib"

# Found among a million.
answered 200 request GET "/allocate/$(tail -n 1 "$WORK/ids")"

split -l 10000 "$WORK/ids" "$WORK/batch."
for batch in "$WORK"/batch.*; do
	jq -R . "$batch" | jq -s '{ids: .}' >"$WORK/free"
	freed=$(curl -sS -m 60 "$URL/free" -H 'Content-Type: application/json' --data-binary "@$WORK/free")
	equal 'POST /free' '{"freed":10000,"unknown":[]}' "$freed"
done
equal 'active_allocations at the end' 0 "$(curl -sS "$URL/stats" | jq .active_allocations)"
between 'KiB after all were freed' 1024 "$LIMIT_KIB" "$(own_kib)"
stop_server
