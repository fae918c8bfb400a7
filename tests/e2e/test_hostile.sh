#!/usr/bin/env bash
# Clients that behave badly leave nothing behind: test_hostile.sh MAASD HOSTILE.
. "$(dirname "$0")/lib.sh"

# The figures that have to come back to where they were.
figures() {
	curl -sS -m 10 "$URL/metrics" | awk '$1 ~ /^(maas_(active_allocations|sessions|transfers|pending_frees|http_connections|http_active_requests)|process_open_fds)$/'
}

back_at_start() {
	now=$(figures)
	[ "$now" = "$before" ]
}

start_server --connection-timeout 3 --max-body-size 1MiB
figures >/dev/null
sleep 0.5
before=$(figures)
equal 'figures' 7 "$(wc -l <<<"$before")"
at=$SECONDS
"$2" "${URL##*:}"
echo "- took $((SECONDS - at)) s"
end=$((SECONDS + 20))
until back_at_start; do
	[ $SECONDS -lt $end ] || fail "not back at the start: $(diff <(echo "$before") <(echo "$now"))"
	sleep 0.2
done
[ "$(metric maas_http_slow_connections_total)" -gt 0 ] || fail 'no slow connection was closed'
! grep -q 'status=500' "$LOG" || fail 'an answer with 500'
stop_server
! grep -Eq 'AddressSanitizer|runtime error|LeakSanitizer' "$LOG" || fail 'the sanitizer complains'
