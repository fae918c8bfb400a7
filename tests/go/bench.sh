#!/usr/bin/env bash
# A short pair of each part of the bench of Prometheus. Run as: bench.sh
# shellcheck source=tests/go/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
use_go
for part in head starts standby death; do
	"$root/scripts/bench" prometheus --part "$part" --series 2000 --quick --pairs 1
done
