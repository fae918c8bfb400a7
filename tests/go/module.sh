#!/usr/bin/env bash
# module.sh MAASD DIRECTORY [PACKAGE...]: checks the form of the Go module in DIRECTORY, vets it, and
# tests it with the race detector against this maasd.
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
formless=$(gofmt -l .)
if [ -n "$formless" ]; then
	printf 'not as gofmt has it:\n%s\n' "$formless" >&2
	exit 1
fi
go build "${packages[@]}"
# Clients also run where maasd does not.
[ "$(go list -m)" != github.com/maas-memory/maas/go ] || GOOS=windows CGO_ENABLED=0 go build .
export CGO_ENABLED=1 # The race detector needs cgo. Vetted with the same flags, nothing is compiled twice.
go vet -race "${packages[@]}"
go_test -race -vet=off -count=1 -timeout 10m "${packages[@]}"
