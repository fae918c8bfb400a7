#!/usr/bin/env bash
# The release tree where cmocka is not installed: it builds what is installed, and no tests, and the
# benchmarks when they are asked for.
# Run as: test_release.sh MAASD SOURCE_DIR
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
SOURCE=$2 TREE=$WORK/tree
mkdir "$WORK/pc"
IFS=: read -ra directories < <(pkg-config --variable pc_path pkg-config)
find "${directories[@]}" -name '*.pc' ! -name cmocka.pc -exec ln -sf -t "$WORK/pc" {} + 2>/dev/null ||
	true
export PKG_CONFIG_LIBDIR=$WORK/pc

step 'configure'
(cd "$SOURCE" && cmake --preset release -B "$TREE") >"$WORK/cmake.log" 2>&1 ||
	fail "$(cat "$WORK/cmake.log")"

step 'unasked, no test and no benchmark'
ninja -C "$TREE" -n >"$WORK/plan"
grep -q 'daemon/maasd' "$WORK/plan" || fail 'maasd is not built'
equal 'of tests/' '' "$(grep ' tests/' "$WORK/plan" || true)"

step 'a benchmark that is asked for'
ninja -C "$TREE" -n contest http_load bare_mhd rdma_data bind_keys >"$WORK/plan" ||
	fail 'ninja knows no benchmark'
