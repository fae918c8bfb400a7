#!/usr/bin/env bash
# Runs Prometheus's own tests of tsdb on the edited source. Run as:
#   upstream.sh MAASD STORE [GO TEST ARGUMENT...]
# STORE: off, mirror, failing (mirror, with every 7th call to the server failing) or remote.
# shellcheck source=tests/go/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
use_go
maasd=$(realpath "$1") store=$2
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
arguments=("${@:3}")
[ ${#arguments[@]} != 0 ] || arguments=(./tsdb ./tsdb/chunks)
unset "${!MAAS_@}"

module=github.com/prometheus/prometheus
work=$root/build/prometheus/upstream
mkdir -p "$work"
cd "$root/prometheus"
go mod download $module
tree=$work/$(go list -m -f '{{.Version}}' $module)
rm -rf "$tree"
cp -R "$(go list -m -f '{{.Dir}}' $module)" "$tree"
chmod -R u+w "$tree"
go run ./edit -dir "$tree" -only tsdb -tests
go -C "$tree" mod edit -require github.com/maas-memory/maas/prometheus@v0.0.0 -require github.com/maas-memory/maas/go@v0.0.0 \
	-replace "github.com/maas-memory/maas/prometheus=$root/prometheus" -replace "github.com/maas-memory/maas/go=$root/go"

# Each test that is left out, with its reason. One runs in a bubble of fake time, which only goes on once
# all of it is at rest: a connection that waits for the network never is.
skips='^TestDelayedCompaction$/^delay_enabled$'
case $store in
mirror | failing)
	# They count every byte of the directory, or compare them: maas.json is one more file, and each
	# DB that is opened on it, read-only or not, writes there that it was.
	arguments=(-skip "$skips|^Test(DBReadOnly|SizeRetention)(_AppendV2)?\$" "${arguments[@]}")
	;;
remote)
	names=$(sed '/^#/d;/^$/d' "$here/upstream_remote.txt" | paste -sd '|')
	arguments=(-skip "$skips|^($names)(_Append(er)?V2)?\$" "${arguments[@]}")
	;;
esac
run=(go test -mod=mod -vet=off -count=1 -timeout 40m "${arguments[@]}")
if [ "$store" = failing ]; then
	go build -o "$work/failing" ./test/failing
	run=("$work/failing" "${run[@]}")
fi
if [ "$store" != off ]; then
	export MAAS_BIN=$maasd MAAS_STORE=$store
	run=("$root/scripts/with-maasd" --rdma off --max-pool-size 12GiB --log-level warn -- "${run[@]}")
fi
cd "$tree"
"${run[@]}"
