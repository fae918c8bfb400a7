#!/usr/bin/env bash
# Asks a stock tsdb and ours the same, of the same samples. Run as:
#   same_answers.sh build              in a tree with the edited tsdb; vets what is compiled there alone
#   same_answers.sh run MAASD GO_TEST  runs one of the tests that were built
# MAAS_LONG=1 feeds ten times as many series, and has every fault.
# shellcheck source=tests/go/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
use_go
tree=$root/build/prometheus/same-answers
tests=$tree/same_answers_test

if [ "$1" = build ]; then
	same_answers_tree "$tree"
	tags=netgo,maas_edited
	go vet -mod=vendor -tags "$tags" ./test/...
	go test -c -mod=vendor -tags "$tags" -vet=off -o "$tests" ./test/sameanswers
	exit
fi
maasd=$2 name=$3
long=${MAAS_LONG:-} seed=${MAAS_SEED:-}
unset "${!MAAS_@}"
export MAAS_BIN=$maasd MAAS_LONG=$long MAAS_SEED=$seed
cd "$tree/prometheus/test/sameanswers"
go_program "$tests" -test.timeout 3h -test.run "^$name$"
