#!/usr/bin/env bash
# The maas command at a server that asks who sends a request.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
MAAS=$(realpath "$2")
cd "$WORK"

# refused WORDS OPTION...: maas fails with 1, says so, and shows no token.
refused() {
	local status=0
	"$MAAS" "${@:2}" >out 2>&1 || status=$?
	equal "maas ${*:2}" 1 "$status"
	contains "maas ${*:2}" "$(cat out)" "$1"
	! grep mt_ out || fail 'the token is shown'
}

team=$("$MAAS" token new team --output team)
other=$("$MAAS" token new other --output other)
(umask 077 && printf '%s\n' "$team max-bytes=1MiB" "$other" >principals)
start_server --rdma off --max-pool-size 64MiB --auth-file principals
export MAAS_URL=$URL

step 'who is who'
contains whoami "$("$MAAS" whoami --token-file team)" 'principal  team' $'owner      team\n' \
	'0 B of 1 MiB' '0, no limit'
equal 'whoami --json' team "$(MAAS_TOKEN_FILE=team "$MAAS" whoami --json | jq -r .name)"
refused MAAS_TOKEN_FILE ls
refused MAAS_TOKEN_FILE prometheus status
! grep OWNER out || fail 'the heading of a table that nobody may see'
refused 'this proves nothing' whoami
contains 'who proves nothing' "$(cat out)" 'principal  *'
refused '"name": "*"' whoami --json
"$MAAS" token new team --output stranger >/dev/null
refused 'was it replaced?' ls --token-file stranger

contains doctor "$("$MAAS" doctor 2>&1 || true)" 'does not answer as it should'
contains doctor "$("$MAAS" doctor --token-file team 2>&1 || true)" 'how full it is: the principal team may not'
contains doctor "$("$MAAS" doctor --token-file stranger 2>&1 || true)" 'a token that the server knows'

step 'each has its own, and no more than its quota'
id=$("$MAAS" alloc 4096 --token-file team)
"$MAAS" ls --token-file team | grep "$id" >"$WORK/line" || fail 'its own is not listed'
refused '' get "$id" --token-file other
refused '' alloc 4096 --owner team --token-file other
refused '' alloc 4MiB --token-file team
refused '' stats --token-file team
"$MAAS" free "$id" --token-file team
stop_server

step 'who proves nothing, and may ask whether the server is well'
echo '* - health' >>principals
start_server --rdma off --auth-file principals
export MAAS_URL=$URL
contains health "$("$MAAS" health)" 'The server tells more to its principals'
[[ $("$MAAS" health) != *version* ]] || fail 'health shows an empty version'
contains health "$("$MAAS" health --token-file team)" 'version    '
answer=$("$MAAS" doctor 2>&1 || true)
contains doctor "$answer" 'is healthy, and tells no more without a token' 'how full it is: '
[[ $answer != *'has no RDMA'* && $answer != *'version ,'* ]] || fail "doctor: $answer"
refused 'this proves nothing' whoami
for _ in {1..20}; do request GET /stats; done # then its address gets 429
answer=$("$MAAS" doctor --json 2>err || true)
contains 'doctor, after 20 refusals' "$(jq -r '.[] | "\(.grade) \(.check): \(.finding)"' <<<"$answer")" \
	'note pool: how full it is: too many requests'
equal 'doctor, after 20 refusals: stderr' '' "$(cat err)"
stop_server

step 'as many principals as a file may have'
{
	echo "${team% owner*} admin"
	seq 100000 139999 | sed 's/.*/& uid=& metrics/'
} >principals
start_server --rdma off --auth-file principals
export MAAS_URL=$URL
contains top "$("$MAAS" top --count 1 --token-file team)" '0 allocations'
stop_server
