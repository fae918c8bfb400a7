#!/usr/bin/env bash
# Builds the edited Prometheus and types what its users type. Run as: prometheus.sh MAASD [hosts]:
# with the server on this host, or on a second one.
# shellcheck source=tests/go/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
use_go
bin=$root/build/prometheus/test
"$root/scripts/build-prometheus" --no-ui --no-sd --output "$bin"
exec bash "$root/tests/e2e/test_prometheus${2:+_$2}.sh" "$1" "$bin/prometheus" "$bin/promtool"
