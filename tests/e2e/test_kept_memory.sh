#!/usr/bin/env bash
# Memory that outlives maasd: --memory-file.
. "$(dirname "$0")/lib.sh"
shm=$(mktemp -d /dev/shm/maas-e2e.XXXXXX)
remove+=("$shm")
file=$shm/memory

step 'every acknowledged byte is there after kill -9'
start_server --memory-file "$file" --max-pool-size 64MiB
head -c 3000000 /dev/urandom >"$WORK/bytes"
allocate '{"size_bytes":3000000,"owner":"me"}'
kept=$ID
request PUT "/allocate/$kept/data" --data-binary "@$WORK/bytes"
equal 'PUT' 200 "$STATUS"
allocate '{"size_bytes":1000}'
freed=$ID
request DELETE "/allocate/$freed"
request POST /sessions -H 'Content-Type: application/json' -d '{"ttl_seconds":60}'
session=$(jq -r .id <<<"$BODY")
allocate '{"size_bytes":1000,"lifetime":"session","session":"'"$session"'"}'
owned=$ID
request GET /health
arena=$(jq -r .arena_id <<<"$BODY") boot=$(jq -r .boot_id <<<"$BODY")
kill -KILL "$SERVER"
wait_server 137
start_server --memory-file "$file" --max-pool-size 64MiB
wait_for 5 grep -q 'memory kept allocations=2' "$LOG"
request GET /health
equal 'arena_id' "$arena" "$(jq -r .arena_id <<<"$BODY")"
[ "$boot" != "$(jq -r .boot_id <<<"$BODY")" ] || fail 'the same boot_id'
request GET "/allocate/$kept/data"
cmp "$WORK/bytes" "$WORK/body" || fail 'other bytes'
request GET '/allocations?owner=me'
equal 'allocations of the owner' "$kept" "$(jq -r '.allocations[].id' <<<"$BODY")"
for id in "$freed" "$owned"; do
	request GET "/allocate/$id"
	equal 'what was freed, or was of a session' 404 "$STATUS"
done

step 'one process at a time'
refused 1 'in use by another process' --memory-file "$file" --max-pool-size 64MiB --listen 127.0.0.1:0
stop_server

step 'the same options, or none of it'
refused 1 'made with --max-pool-size 64MiB, not 128MiB' --memory-file "$file" \
	--max-pool-size 128MiB --listen 127.0.0.1:0
echo letters >"$WORK/letters"
refused 1 'holds something else' --memory-file "$WORK/letters" --listen 127.0.0.1:0
equal 'letters' letters "$(cat "$WORK/letters")"
refused 1 'cannot look at its file system' --memory-file "$WORK/no/such/dir" --listen 127.0.0.1:0

step 'after an orderly end too'
start_server --memory-file "$file" --max-pool-size 64MiB
request GET "/allocate/$kept/data"
cmp "$WORK/bytes" "$WORK/body" || fail 'other bytes after a stop'
stop_server
