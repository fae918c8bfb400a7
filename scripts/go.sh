# shellcheck shell=bash
# Finds Go; sourced by the scripts that build Prometheus.

# find_go sets GO, to the go in PATH or where its installer puts it.
find_go() {
	local candidate
	for candidate in "$(command -v go || true)" /usr/local/go/bin/go "$HOME/go/bin/go" /usr/lib/go/bin/go; do
		if [ -x "$candidate" ]; then
			GO=$candidate
			return 0
		fi
	done
	return 1
}

# go_is_enough GO.MOD says whether this Go is as new as a module needs. A Go from 1.21 on fetches a
# newer one by itself, where it is let.
go_is_enough() {
	local have need
	need=$(sed -n 's/^go //p' "$1")
	have=$(cd "$(dirname "$1")" && "$GO" env GOVERSION 2>/dev/null) || return 1
	[ "$(printf '%s\n' "$need" "${have#go}" | sort -V | head -n 1)" = "$need" ]
}

# require_go GO.MOD finds a Go for a module, or ends with what to do.
require_go() {
	if ! find_go || ! go_is_enough "$1"; then
		die "Prometheus needs Go $(sed -n 's/^go //p' "$1") or newer, which is not here: get it from https://go.dev/dl/ and put its bin folder into PATH"
	fi
	PATH=$(dirname "$GO"):$PATH
	export GO PATH GOFLAGS="${GOFLAGS:-} -buildvcs=false"
}
