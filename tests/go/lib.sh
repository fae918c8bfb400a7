# shellcheck shell=bash
# What the tests of our Go modules share.
set -euo pipefail
shopt -s inherit_errexit
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck source=scripts/go.sh
. "$root/scripts/go.sh"

# use_go puts a Go that is new enough in PATH, or skips the test.
use_go() {
	if ! find_go "$root/client/prometheus/go.mod"; then
		how_to_get_go "$root/client/prometheus/go.mod" >&2
		exit 77
	fi
}
