#!/usr/bin/env bash
# How maasd ends, and what it logs.
. "$(dirname "$0")/lib.sh"

# Reads a 32 MiB allocation at a limited rate, so that the kernel's buffers do not hold it all.
slow_read() {
	allocate '{"size_bytes":33554432}'
	rm -f "$WORK/slow"
	curl -sS --limit-rate "$1" -o "$WORK/slow" "$URL/allocate/$ID/data" 2>"$WORK/slow.log" &
	reader=$!
	children+=("$reader")
	wait_for 10 test -s "$WORK/slow"
}

# Nobody waits for the reader: it may have ended, or still read what was in the kernel's buffers.
cut_off() {
	kill "$reader" 2>/dev/null || true
	[ "$(stat -c %s "$WORK/slow")" -lt 33554432 ] || fail 'the transfer was not cut'
}

start_with_room() {
	start_server --slab-sizes 32MiB --max-pool-size 64MiB "$@"
}

step 'a transfer under way is waited for, and /ready says so'
start_with_room --drain-timeout 30
slow_read 8M
answered 200 request GET /ready
kill -TERM "$SERVER"
not_ready() {
	request GET /ready
	[ "$STATUS" = 503 ]
}
wait_for 5 not_ready
equal 'code' draining "$(jq -r .error.code <<<"$BODY")"
answered 200 request GET /health
! ended "$reader" || fail 'the transfer was too fast for this test'
wait_server 0
wait "$reader" || fail "the transfer was cut: $(cat "$WORK/slow.log")"
equal 'bytes read' 33554432 "$(stat -c %s "$WORK/slow")"

step 'not for ever'
start_with_room --drain-timeout 1
slow_read 1M
kill -TERM "$SERVER"
at=$SECONDS
wait_server 0
between 'seconds of draining' 0 5 $((SECONDS - at))
contains 'log' "$(cat "$LOG")" 'requests cut off at the end count=1'
cut_off

step 'a second signal ends it at once'
start_with_room --drain-timeout 60
slow_read 1M
kill -INT "$SERVER"
wait_for 5 not_ready
kill -TERM "$SERVER"
wait_server 143
cut_off

step 'what is still carried out is answered'
shm=$(mktemp -d /dev/shm/maas-e2e.XXXXXX)
remove+=("$shm")
kept=(--memory-file "$shm/memory" --rdma off)
start_server "${kept[@]}" --log-level error
python3 - "${URL#http://}" "$SERVER" >"$WORK/known" <<'EOF'
import http.client, json, os, signal, sys, threading, time

def allocate_and_free(known):
    connection = http.client.HTTPConnection(sys.argv[1], timeout=10)
    connection.connect()
    connection.auto_open = False
    try:
        while True:
            connection.request("POST", "/allocate", '{"size_bytes":1}', {"Content-Type": "application/json"})
            answer = json.load(connection.getresponse())
            if "id" not in answer:
                return
            known.append(answer["id"])
            connection.request("DELETE", "/allocate/" + known[-1])
            connection.getresponse().read()
    except (OSError, http.client.HTTPException):
        pass

known = []
threads = [threading.Thread(target=allocate_and_free, args=[known]) for _ in range(8)]
for thread in threads:
    thread.start()
time.sleep(0.5)
os.kill(int(sys.argv[2]), signal.SIGTERM)
for thread in threads:
    thread.join()
print(*known, sep="\n")
EOF
wait_server 0
[ -s "$WORK/known" ] || fail 'no client got memory'
start_server "${kept[@]}"
request GET /allocations
equal 'memory that no client knows of' '' "$(comm -13 <(sort "$WORK/known") <(jq -r '.allocations[].id' <<<"$BODY" | sort))"
stop_server

step 'a delay for the load balancer, which SIGHUP does not prolong'
start_server --drain-delay 2
at=$(date +%s%3N)
kill -TERM "$SERVER"
wait_for 1 not_ready
answered 200 request GET /allocations
while sleep 0.8; do kill -HUP "$SERVER" || break; done 2>/dev/null &
wait_server 0
wait
between 'ms until its end' 1900 60000 $(($(date +%s%3N) - at))

step 'with nothing to do it ends at once'
start_server
at=$(date +%s%3N)
stop_server
between 'ms until its end' 0 2000 $(($(date +%s%3N) - at))

step 'log file'
start_server --log-file "$WORK/maas.log" --log-level info
allocate '{"size_bytes":1000}'
id=$ID
request GET "/allocate/$id"
answered 409 request POST "/allocate/$id/renew" -d ''
made /sessions '{"name":"one","ttl_seconds":60}'
answered 200 request POST "/sessions/$ID/renew" -d ''
request DELETE "/allocate/$id"
wait_for 5 grep -q "DELETE /allocate/${id%%-*}\.\.\. status=200" "$WORK/maas.log"
grep -q 'POST /allocate status=200' "$WORK/maas.log" || fail 'no line for POST'
grep -q 'POST /sessions status=200' "$WORK/maas.log" || fail 'no line for a session'
! grep -qE ' GET |/renew ' "$WORK/maas.log" || fail 'a line for GET or a renewal at level info'
equal 'lines on stderr' "Listening on $URL" "$(cat "$LOG")"

stop_server
grep -q 'ending signal=Terminated' "$WORK/maas.log" || fail 'the last line is missing'

step 'log level'
start_server --log-level debug
request GET /health
wait_for 5 grep -q 'GET /health status=200' "$LOG"
stop_server
start_server --log-level error
allocate '{"size_bytes":1000}'
stop_server
equal 'lines at level error' "Listening on $URL" "$(cat "$LOG")"
