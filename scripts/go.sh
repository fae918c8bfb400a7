# shellcheck shell=bash
# Finds Go; sourced by what builds or tests a Go module.

# go_needed GO.MOD prints the version that a module asks for.
go_needed() {
	sed -n 's/^go //p' "$1"
}

# find_go GO.MOD puts a Go that is new enough for a module in PATH: the one there, or where Go's
# installer puts it. It takes what is installed, not what that would download.
find_go() {
	local dir version needed
	needed=$(go_needed "$1")
	for dir in "$(dirname "$(command -v go || echo /nowhere/go)")" /usr/local/go/bin; do
		[ -x "$dir/go" ] || continue
		version=$(GOTOOLCHAIN=local "$dir/go" env GOVERSION)
		if [ "$(printf '%s\n' "$needed" "${version#go}" | sort -V | head -n 1)" = "$needed" ]; then
			export PATH=$dir:$PATH GOTOOLCHAIN=local GOWORK=off
			return 0
		fi
	done
	return 1
}

# how_to_get_go GO.MOD
how_to_get_go() {
	printf 'Go %s or newer is needed: get it from https://go.dev/dl/ and put its bin folder into PATH.\n' "$(go_needed "$1")"
}
