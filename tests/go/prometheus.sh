#!/usr/bin/env bash
# Builds the edited Prometheus and runs it as its users do. Run as: prometheus.sh MAASD
# [tls|tokens|standby|alerts|hosts|evening|released MAAS]: with the server on this host, at one that speaks TLS, at one
# that asks for tokens, two of them, under faults that fire alerts, the server on a second one, for a whole evening
# beside a stock one, or where one of an earlier release was.
# shellcheck source=tests/go/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
use_go
bin=$root/build/prometheus/test
"$root/scripts/build-prometheus" --no-ui --no-sd --output "$bin"
case ${2:-} in
released)
	exec python3 "$root/tests/e2e/test_released_prometheus.py" check "$1" "$bin/prometheus" "$3" "$root/tests/released"
	;;
standby | evening) exec python3 "$root/tests/e2e/test_$2.py" "$1" "$bin/prometheus" "$bin/promtool" ;;
# Debian's interpreter has the packages that this one uses.
alerts) exec /usr/bin/python3 "$root/tests/e2e/test_prometheus_alerts.py" "$1" "$bin/prometheus" "$bin/promtool" "$root" ;;
esac
exec bash "$root/tests/e2e/test_prometheus${2:+_$2}.sh" "$1" "$bin/prometheus" "$bin/promtool"
