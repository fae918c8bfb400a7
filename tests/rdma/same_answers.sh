#!/usr/bin/env bash
# same_answers.sh BOOT_SECONDS MAASD LIBMAAS_DIRECTORY HEADER_DIRECTORY: a stock tsdb and ours on remote
# memory over RDMA, asked the same. They are built here and run where there is a device.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/go/lib.sh
. "$here/../go/lib.sh"
use_go
limit=$1 maasd=$2 library=$3 header=$4
tests=$library/same_answers_test

export CGO_ENABLED=1 CGO_CFLAGS="-g -O2 -I$header" CGO_LDFLAGS="-L$library -Wl,-rpath,$library"
same_answers_tree "$root/build/prometheus/same-answers-rdma"
go test -c -mod=vendor -tags netgo,maas_edited,maasrdma -o "$tests" ./test/sameanswers
exec bash "$here/boot.sh" "$limit" -- env MAAS_TEST_TRANSPORT=rdma MAAS_BIN="$maasd" \
	"$tests" -test.timeout 3h -test.v -test.run TestRDMA
