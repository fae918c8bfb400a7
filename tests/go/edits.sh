#!/usr/bin/env bash
# Compiles the edited tsdb of the minors around the pinned one, and, in the long run, the whole
# command. Run as: edits.sh.
# shellcheck source=tests/go/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
use_go
module=github.com/prometheus/prometheus
work=$root/build/prometheus/versions
for version in v0.313.5 v0.314.0 v0.316.0; do
	tree=$work/$version
	rm -rf "$tree"
	mkdir -p "$work"
	cp -R "$(cd "$root/prometheus" && go mod download -json $module@$version | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')" "$tree"
	chmod -R u+w "$tree"
	if [ -n "${MAAS_LONG:-}" ]; then
		"$root/scripts/build-prometheus" --source "$tree" --no-ui --no-sd --output "$work/$version.bin"
	else
		(cd "$root/prometheus" && go run ./edit -dir "$tree" -only tsdb)
		(cd "$tree" && go build ./tsdb)
	fi
done
