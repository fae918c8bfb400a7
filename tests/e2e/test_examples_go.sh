#!/usr/bin/env bash
# The program in examples/go, run as its page says. Run as: test_examples_go.sh MAASD
. "$(dirname "${BASH_SOURCE[0]}")/../go/lib.sh"
use_go
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck disable=SC2154  # of tests/go/lib.sh
cd "$root/examples/go"

step 'the module is in order'
go mod tidy -diff
go vet .

step 'it counts its runs'
start_server
line=$(sed -n 's/^\/\/\t\(go run .*\)/\1/p' main.go)
contains 'the page of main.go' "$line" 'http://localhost:3000'
for count in 1 2 3; do
	echo "\$ $line" >&2
	equal 'the program' "run $count" "$(eval "${line//http:\/\/localhost:3000/$URL}")"
done
equal 'allocations' 1 "$(metric maas_active_allocations)"

step 'and says what is wrong'
stop_server
! text=$(go run . -url "$URL" 2>&1) || fail 'it succeeds without a server'
contains 'the program' "$text" 'connection refused'
