#!/usr/bin/env bash
# A log that is stuck: everybody is served as before, and the server ends as before. What becomes of the lines is in
# tests/unit/base/test_log.c.
. "$(dirname "$0")/lib.sh"

# posts COUNT: so many requests that each log a line, on one connection.
posts() {
	# shellcheck disable=SC2016  # the words are awk's
	awk -v count="$1" -v url="$URL/sessions/x/ticket" 'BEGIN {
		for (i = 0; i < count; i++)
			printf "url = \"%s\"\noutput = /dev/null\nwrite-out = \"%%{http_code}\\n\"\n" \
				"request = POST\ndata = \"\"\nnext\n", url
	}' | sed '$d' >"$WORK/posts"
	curl -sS -m 60 -K "$WORK/posts" >"$WORK/answers" || fail "curl: exit $?"
	equal 'answers' "$1" "$(grep -c '^[1-5][0-9][0-9]$' "$WORK/answers")"
}

# ends_soon: SIGTERM ends it with 0 although the log takes nothing.
ends_soon() {
	local at=$SECONDS
	kill -TERM "$SERVER"
	wait_server 0
	between 'seconds of ending' 0 5 $((SECONDS - at))
}

serves() {
	answered 200 request GET /health -m 5
	allocate '{"size_bytes":1000}'
	answered 200 request DELETE "/allocate/$ID" -m 5
	[ "$(metric maas_log_dropped_total)" -gt 0 ] || fail 'nothing was dropped'
}

step 'a FIFO that nobody reads'
mkfifo "$WORK/fifo"
exec 8<>"$WORK/fifo"
start_server --log-file "$WORK/fifo" --http-threads 2
equal 'dropped at first' 0 "$(metric maas_log_dropped_total)"
posts 4000
serves
equal 'lines on stderr' "Listening on $URL" "$(cat "$LOG")"

step 'SIGHUP gets it out of there'
mv "$WORK/fifo" "$WORK/fifo.old"
reload grep -qs 'log file opened anew' "$WORK/fifo"
allocate '{"size_bytes":1000}'
wait_for 5 grep -q 'POST /allocate status=200' "$WORK/fifo"
wait_for 5 grep -q ' warn log lines dropped count=[1-9]' "$WORK/fifo"
ends_soon

step 'a file that may not grow'
launch bash -c 'ulimit -f 1024; exec "$@"' bash "$MAASD" --listen 127.0.0.1:0
wait_server 1
contains 'a pool beyond the limit' "$(cat "$LOG")" 'File too large'
truncate -s $((20 << 20)) "$WORK/large"
launch bash -c 'ulimit -f 20480; exec "$@"' bash "$MAASD" --listen 127.0.0.1:0 --max-pool-size 8MiB --log-file "$WORK/large"
URL=$(sed -n 's/^Listening on //p' "$LOG")
posts 10
dropped() { [ "$(metric maas_log_dropped_total)" -gt 0 ]; }
wait_for 10 dropped
serves
ends_soon

step 'SIGTERM does not wait for its reader'
start_server --log-file "$WORK/fifo.old"
posts 4000
ends_soon
exec 8<&-

step 'stderr that nobody reads any more'
mkfifo "$WORK/stderr"
exec 9<>"$WORK/stderr"
"$MAASD" --listen 127.0.0.1:0 2>&9 9<&- </dev/null &
SERVER=$!
children+=("$SERVER")
line=''
until [[ $line == 'Listening on '* ]]; do
	read -r -t 30 -u 9 line || fail 'it does not say where it listens'
done
URL=${line#Listening on }
posts 4000
serves
ends_soon
exec 9<&-
