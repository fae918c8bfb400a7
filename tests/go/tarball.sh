#!/usr/bin/env bash
# The archive of the edited Prometheus: packed twice, it is the same file, with all that belongs into it. The unit
# and the manual page fit the program. What is packed is what the other tests run.
# shellcheck source=tests/go/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
use_go
bin=$root/build/prometheus/test
work=$(mktemp -d)
trap 'rm -rf "$work" "$bin"/prometheus-*.tar.gz' EXIT

fail() {
	echo "FAILED: $*" >&2
	exit 1
}

# pack FILE
pack() {
	rm -f "$bin"/prometheus-*.tar.gz
	"$root/scripts/build-prometheus" --no-ui --no-sd --output "$bin" --tarball
	mv "$bin"/prometheus-*.tar.gz "$1"
}

"$root/scripts/build-prometheus" --no-ui --no-sd --output "$bin"
pack "$work/first"
# Others have other habits: none of them may be in the file.
(
	umask 077
	export TZ=Pacific/Auckland LC_ALL=C.UTF-8
	touch -d @1000000000 "$bin"/{LICENSE,promtool}
	chmod g+w "$bin/NOTICE"
	pack "$work/second"
)
chmod g-w "$bin/NOTICE"
cmp "$work/first" "$work/second" || fail 'packed again, it is another file'

mkdir "$work/tree"
tar -C "$work/tree" -xf "$work/first"
cd "$work/tree"/prometheus-*
for file in LICENSE NOTICE prometheus promtool prometheus.service prometheus-maas.1; do
	[ -s "$file" ] || fail "$file is not in the archive: $(ls)"
done
[ "$(tar -tvf "$work/first" | awk '{ print $2 }' | sort -u)" = 0/0 ] || fail 'files belong to somebody'
./prometheus --version | grep -q '+maas' || fail 'another version'

flags=$(./prometheus --help 2>&1 | grep -oE -- '--(\[no-\])?storage\.tsdb\.maas\.[a-z-]+' | sed 's/\[no-\]//' | sort -u)
[ "$(wc -l <<<"$flags")" -ge 12 ] || fail "few flags: $flags"
for flag in $flags; do
	grep -qE "Fl ${flag#-}( |$)" prometheus-maas.1 || fail "the manual page lacks $flag"
done
