#!/usr/bin/env bash
# Builds the edited Prometheus and types what its users type. Run as: prometheus.sh MAASD.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
. "$root/scripts/go.sh"

if ! find_go || ! go_is_enough "$root/client/prometheus/go.mod"; then
	echo "no Go that is new enough for Prometheus"
	exit 77
fi
bin=$root/build/prometheus/test
"$root/scripts/build-prometheus" --no-ui --output "$bin"
exec bash "$root/tests/e2e/test_prometheus.sh" "$1" "$bin/prometheus" "$bin/promtool"
