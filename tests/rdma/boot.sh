#!/usr/bin/env bash
# boot.sh SECONDS [SOFTROCE OPTION...] -- COMMAND...: one boot, ten times as long in the long tier.
set -euo pipefail
limit=$1
shift
[ "${MAAS_LONG:-}" != 1 ] || limit=$((limit * 10))
exec "$(dirname "$0")/../../scripts/softroce" --timeout "$limit" "$@"
