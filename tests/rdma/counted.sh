#!/usr/bin/env bash
# On a machine of scripts/softroce --counted: one CPU, and a loop takes the same time twice, within
# 1 %, however busy the host is. Run as: counted.sh, by scripts/softroce.
set -euo pipefail

loop_us() {
	local i start=${EPOCHREALTIME/./}
	for ((i = 0; i < 50000; i++)); do :; done
	echo $((${EPOCHREALTIME/./} - start))
}

first=$(loop_us)
second=$(loop_us)
difference=$((first > second ? first - second : second - first))
echo "a loop took $first and $second us, on $(nproc) CPU"
[ "$(nproc)" = 1 ]
[ $((difference * 100)) -le "$first" ]
