#!/usr/bin/env bash
# A server that was stopped extends every lease by the time it missed. (That a lease lapses in its time is in
# tests/unit/lend/test_lend_lease.c.)
. "$(dirname "$0")/lib.sh"

gone() {
	request GET "/allocate/$ID"
	[ "$STATUS" = 404 ]
}

session_gone() {
	request POST "/sessions/$session/ticket"
	[ "$STATUS" = 404 ]
}

start_server
made /sessions '{"name":"stopped","ttl_seconds":4}'
session=$ID
allocate '{"size_bytes":1000,"ttl_seconds":4}'

kill -STOP "$SERVER"
sleep 8
kill -CONT "$SERVER"
sleep 1
answered 200 request GET "/allocate/$ID"
between 'lease_seconds' 1 4 "$(jq .lease_seconds <<<"$BODY")"
answered 200 request POST "/sessions/$session/ticket"

wait_for 8 gone
wait_for 6 [ "$(metric maas_active_allocations)" = 0 ]
equal 'lapsed' 1 "$(metric maas_allocations_lapsed_total)"
# The session's second may be the next one. It is asked for a ticket: a renewal would keep it.
wait_for 6 session_gone
answered 404 request POST "/sessions/$session/renew"
stop_server
