#!/usr/bin/env bash
# Builds the edited Prometheus and types what its users type. Run as: prometheus.sh MAASD.
# shellcheck source=tests/go/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
use_go
bin=$root/build/prometheus/test
"$root/scripts/build-prometheus" --no-ui --no-sd --output "$bin"
bash "$root/tests/e2e/test_prometheus.sh" "$1" "$bin/prometheus" "$bin/promtool"
exec bash "$root/tests/e2e/test_prometheus_hosts.sh" "$1" "$bin/prometheus"
