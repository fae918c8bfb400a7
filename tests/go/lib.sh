# shellcheck shell=bash
# What the tests of our Go modules share.
set -euo pipefail
shopt -s inherit_errexit
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck source=scripts/tools.sh
. "$root/scripts/tools.sh"

# use_go puts a Go that is new enough in PATH, or skips the test. What one test compiles serves the others: no
# cgo, no paths and the same tags, as in scripts/build-prometheus.
use_go() {
	if ! find_go "$root/prometheus/go.mod"; then
		how_to_get_go "$root/prometheus/go.mod" >&2
		exit 77
	fi
	export CGO_ENABLED=0 GOFLAGS="${GOFLAGS:-} -trimpath -tags=netgo"
}

# go_test ARGUMENT... is `go test`, and go_program PROGRAM ARGUMENT... runs what `go test -c` has built. A Go
# test that was skipped is this test, skipped.
go_test() {
	go test -json "$@" | python3 "$root/tests/results.py" go
}

go_program() {
	go tool test2json -t -p "${1##*/}" "$@" -test.v=test2json | python3 "$root/tests/results.py" go
}

# same_answers_tree DIRECTORY: makes it our modules with the edited tsdb, and goes there.
same_answers_tree() {
	rm -rf "$1"
	mkdir -p "$1"
	cp -R "$root/go" "$root/prometheus" "$1/"
	cd "$1/prometheus"
	go mod vendor
	go run ./edit -dir vendor/github.com/prometheus/prometheus
}
