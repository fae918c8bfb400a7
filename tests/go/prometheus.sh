#!/usr/bin/env bash
# Builds the edited Prometheus and types what its users type. Run as: prometheus.sh MAASD [hosts|evening]:
# with the server on this host, on a second one, or for a whole evening beside a stock one.
# shellcheck source=tests/go/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
use_go
bin=$root/build/prometheus/test
"$root/scripts/build-prometheus" --no-ui --no-sd --output "$bin"
[ "${2:-}" != evening ] || exec python3 "$root/tests/e2e/test_evening.py" "$1" "$bin/prometheus"
exec bash "$root/tests/e2e/test_prometheus${2:+_$2}.sh" "$1" "$bin/prometheus" "$bin/promtool"
