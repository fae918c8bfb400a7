#!/usr/bin/env bash
# Asks a stock tsdb and ours the same, of the same samples, in a tree with the edited tsdb, and vets what is
# compiled there alone. Run as:
#   same_answers.sh MAASD [GO TEST ARGUMENT...]
# MAAS_LONG=1 feeds ten times as many series, and has every fault.
# shellcheck source=tests/go/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
use_go
maasd=$1
long=${MAAS_LONG:-} seed=${MAAS_SEED:-}
unset "${!MAAS_@}"
export MAAS_BIN=$maasd MAAS_LONG=$long MAAS_SEED=$seed

same_answers_tree "$root/build/prometheus/same-answers"
tags=netgo,maas_edited
go vet -mod=vendor -tags "$tags" ./test/...
go_test -mod=vendor -tags "$tags" -vet=off -count=1 -timeout 3h "${@:2}" ./test/sameanswers
