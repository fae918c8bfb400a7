#!/usr/bin/env bash
# module.sh MAASD DIRECTORY [PACKAGE...]: vets and tests the Go module in DIRECTORY, with the race
# detector, against this maasd.
# shellcheck source=tests/go/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
use_go
maasd=$1 module=$2
packages=("${@:3}")
[ ${#packages[@]} != 0 ] || packages=(./...)

# Nothing of the caller's shell gets into the servers.
unset "${!MAAS_@}"
export MAAS_BIN=$maasd
cd "$module"
go vet "${packages[@]}"
go test -race -count=1 -timeout 10m "${packages[@]}"
