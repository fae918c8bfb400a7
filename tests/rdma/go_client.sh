#!/usr/bin/env bash
# go_client.sh BOOT_SECONDS MAASD LIBMAAS_DIRECTORY HEADER_DIRECTORY: the tests of the Go client over
# RDMA. They are built here and run where there is a device.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/go/lib.sh
. "$here/../go/lib.sh"
use_go
limit=$1 maasd=$2 library=$3 header=$4
tests=$library/go_client_test

export CGO_ENABLED=1 CGO_CFLAGS="-g -O2 -I$header" CGO_LDFLAGS="-L$library -Wl,-rpath,$library"
cd "$here/../../go"
go vet -tags maasrdma .
go test -c -tags maasrdma -o "$tests" .
short=-test.short
[ "${MAAS_LONG:-}" != 1 ] || short=''
exec bash "$here/boot.sh" "$limit" -- env MAAS_TEST_TRANSPORT=rdma MAAS_BIN="$maasd" \
	"$tests" -test.timeout 60m $short
