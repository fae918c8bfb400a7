#!/usr/bin/env bash
# How scripts/test counts, and goes on with a long run that was interrupted: in a tree whose tests are made
# up. Run as: test_gate.sh MAASD SOURCE_DIR
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "$0")/lib.sh"
source=$2 gate=scripts/test
tree=$WORK/tree
mkdir -p "$tree/tests" "$tree/prometheus" "$WORK/bin"
cp -R "$source/scripts" "$source/CMakePresets.json" "$tree/"
cp "$source/tests/results.py" "$tree/tests/"
cp "$source/prometheus/go.mod" "$tree/prometheus/"
# Nothing here is in Go.
printf '#!/bin/sh\necho go9.9.9\n' >"$WORK/bin/go"
chmod +x "$WORK/bin/go"
cd "$tree"
cat >CMakeLists.txt <<'END'
cmake_minimum_required(VERSION 3.21)
project(tree NONE)
enable_testing()
add_test(NAME prepares COMMAND sh -c "echo prepares >>$ENV{RAN}")
# What sets up a fixture has run in the same shard, or in one before.
add_test(NAME good COMMAND sh -ec "grep -q prepares $ENV{RAN}; echo good >>$ENV{RAN}")
add_test(NAME bad COMMAND sh -c "echo bad >>$ENV{RAN}; echo 'no <good>'; exit 1")
add_test(NAME missing COMMAND /nonexistent)
add_test(NAME waits
	COMMAND sh -ec "grep -q prepares $ENV{RAN}; echo $$ >$ENV{RAN}.pid; echo waits >>$ENV{RAN}; [ -e $ENV{RAN}.go ] || exec sleep 600")
add_test(NAME skips COMMAND sh -c "echo skips >>$ENV{RAN}; echo 'no device'; exit 77")
set_tests_properties(prepares good bad missing waits skips PROPERTIES LABELS unit SKIP_RETURN_CODE 77)
set_tests_properties(prepares PROPERTIES FIXTURES_SETUP prepared)
set_tests_properties(good waits PROPERTIES FIXTURES_REQUIRED prepared)
END
export RAN=$WORK/ran PATH=$WORK/bin:$PATH

# interrupted [SIGNAL] starts a long run, and ends it in the middle.
interrupted() {
	local job status=0
	rm -f "$RAN" "$RAN.go"
	set -m
	"$gate" --long . >"$WORK/run.log" 2>&1 </dev/null &
	job=$!
	set +m
	children+=("$job")
	wait_for 60 grep -qs waits "$RAN"
	kill "-${1:-INT}" "-$job"
	wait "$job" || status=$?
	equal 'status' 130 "$status"
	ended "$(cat "$RAN.pid")" || fail 'its tests go on'
	touch "$RAN.go"
}

# run [OPTION...] runs to the end, which is a failure. COUNTS is what it prints last.
run() {
	status=0
	"$gate" "$@" . >"$WORK/run.log" 2>&1 </dev/null || status=$?
	equal 'status' 1 "$status"
	COUNTS=$(tail -n 1 "$WORK/run.log")
}
ran() { grep -c "$1" "$RAN" || true; }

step 'it goes on: what ended does not run again, and counts'
MAAS_SEED=5 interrupted
run --long
contains 'again' "$(cat "$WORK/run.log")" 'goes on with the run that was interrupted'
contains 'seed' "$(cat "$WORK/run.log")" 'seed 5'
# Plain and with both sanitizers. What runs beside the one that was interrupted runs again, if it had begun.
equal 'counts' '9 passed, 6 failed, 3 skipped' "$COUNTS"
equal 'ran' '3 3 3 4' "$(ran prepares) $(ran good) $(ran bad) $(ran waits)"
for text in 'FAILED: bad, after' 'no <good>' 'FAILED: missing, after' 'skipped: skips: no device'; do
	contains 'told' "$(cat "$WORK/run.log")" "$text"
done

step 'one that ended does not, nor where a file or the seed is another'
interrupted
equal 'ran' 1 "$(ran good)"
touch new
run --long
equal 'ran' 4 "$(ran good)"
MAAS_SEED=6 interrupted HUP # its terminal is gone
MAAS_SEED=7 run --long
equal 'ran' 4 "$(ran good)"

step 'the gate counts the same'
run
equal 'counts' '9 passed, 6 failed, 3 skipped' "$COUNTS"

step 'without a filter'
status=0
"$gate" --unit >"$WORK/run.log" 2>&1 </dev/null || status=$?
equal 'status' 1 "$status"
equal 'counts' '3 passed, 2 failed, 1 skipped' "$(tail -n 1 "$WORK/run.log")"

step 'Go: what failed or was skipped is told'
go_says() { # STATUS EVENT...
	local wanted=$1 status=0
	shift
	printf '%s\n' "$@" | python3 tests/results.py go >"$WORK/go" || status=$?
	equal 'status' "$wanted" "$status"
}
said='{"Action":"output","Package":"p","Test":"T","Output":"why\n"}'
line='{"Action":"output","Package":"p","Output":"ok p 1s\n"}'
go_says 0 "$said" '{"Action":"pass","Package":"p","Test":"T"}' "$line" '{"Action":"pass","Package":"p"}'
equal 'passed' 'ok p 1s' "$(cat "$WORK/go")"
go_says 77 "$said" '{"Action":"skip","Package":"p","Test":"T"}' "$line" '{"Action":"pass","Package":"p"}'
equal 'skipped' $'why\nok p 1s' "$(cat "$WORK/go")"
go_says 1 "$said" '{"Action":"fail","Package":"p","Test":"T"}' '{"Action":"fail","Package":"p"}'
equal 'failed' why "$(cat "$WORK/go")"
go_says 1 "$said" '{"Action":"fail","Package":"p"}'
equal 'ended early' why "$(cat "$WORK/go")"
go_says 1 '{"Action":"start","Package":"p"}' '{"Action":"pass","Package":"p"}'
equal 'no such test' '' "$(cat "$WORK/go")"
go_says 1 '{"Action":"build-output","ImportPath":"p","Output":"syntax\n"}' '{"Action":"fail","Package":"p"}'
equal 'not built' syntax "$(cat "$WORK/go")"
