# shellcheck shell=bash
# What the tests of our Go modules share.
set -euo pipefail
shopt -s inherit_errexit

# The version in the modules' go.mod, which is that of the Prometheus they are built for.
GO_MINOR=26

# use_go puts a Go that is new enough in PATH, or skips the test.
use_go() {
	local dir version
	for dir in "$(dirname "$(command -v go || echo /nowhere/go)")" /usr/local/go/bin; do
		[ -x "$dir/go" ] || continue
		# The one that is installed, not one that it would download.
		version=$(GOTOOLCHAIN=local "$dir/go" env GOVERSION)
		[[ $version =~ ^go1\.([0-9]+) ]] || continue
		if [ "${BASH_REMATCH[1]}" -ge "$GO_MINOR" ]; then
			export PATH=$dir:$PATH GOTOOLCHAIN=local GOWORK=off
			return
		fi
	done
	echo "no Go 1.$GO_MINOR or later in PATH or /usr/local/go/bin" >&2
	exit 77
}
