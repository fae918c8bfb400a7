#!/usr/bin/env bash
# The benches of slabs and of HTTP run, each for a short pair: nothing is measured, but all that is done is
# checked. A failed measurement is an error, not a table.
# Run as: test_bench.sh MAASD BUILD_DIR SOURCE_DIR
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
BUILD=$2 SOURCE=$3

# bench AREA ROWS [OPTION...] measures, and its report has so many rows.
bench() {
	step "$1"
	python3 "$SOURCE/tests/bench/bench.py" "$1" --bin "$BUILD" --quick --pairs 1 --json "$WORK/json" >"$WORK/table" ||
		fail "bench $1"
	contains 'table' "$(tail -n 1 "$WORK/table")" 'bars met; 1 pairs, quick: says nothing of speed, on'
	equal 'rows' "$2" "$(jq '[.rows[] | select(.ours >= 0 and .baseline > 0 and .pairs == 1)] | length' "$WORK/json")"
	equal 'form' "$1 true [\"area\",\"machine\",\"quick\",\"rows\"]" \
		"$(jq -r '"\(.area) \(.quick) \(keys)"' "$WORK/json")"
}

if libraries=$(ldconfig -p) && [[ $libraries == *libmimalloc.so* && $libraries == *libjemalloc.so.2* ]] && command -v redis-server; then
	bench slab 22
	bench http 21
else
	echo 'skipped: libjemalloc2, libmimalloc-dev and redis-server are needed'
	skipped=1
fi

step 'a program that fails'
mkdir -p "$WORK/bin/tests/bench"
printf '#!/bin/sh\necho "{}"\nexit 1\n' >"$WORK/bin/tests/bench/contest"
chmod +x "$WORK/bin/tests/bench/contest"
status=0
python3 "$SOURCE/tests/bench/bench.py" slab --bin "$WORK/bin" --pairs 1 >"$WORK/table" 2>"$WORK/err" || status=$?
equal 'status' 1 "$status"
equal 'no table' '' "$(cat "$WORK/table")"
contains 'why' "$(cat "$WORK/err")" 'contest full ended with 1; no table'
[ -z "${skipped:-}" ] || exit 77
