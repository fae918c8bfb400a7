#!/usr/bin/env bash
# Runs those of Prometheus's own tests that belong to the tier. Run as: upstream_all.sh MAASD.
set -euo pipefail
run=$(dirname "${BASH_SOURCE[0]}")/upstream.sh
if [ -z "${MAAS_LONG:-}" ]; then
	exec bash "$run" "$1" failing -run '^Test(Head|DB|OOO|SortedPass|Drop)' ./tsdb ./tsdb/chunks
fi
for store in off mirror failing remote; do
	echo "== $store"
	bash "$run" "$1" "$store"
done
