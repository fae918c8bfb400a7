#!/usr/bin/env bash
# prometheus.sh BOOT_SECONDS MAASD: a Prometheus that keeps its head in remote memory over RDMA. It is
# built here and runs where there is a device.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/go/lib.sh
. "$here/../go/lib.sh"
use_go
bin=$root/build/prometheus/test-rdma
"$root/scripts/build-prometheus" --rdma --no-ui --no-sd --output "$bin"
exec bash "$here/boot.sh" "$1" -- bash "$here/prometheus_guest.sh" "$2" "$bin/prometheus"
