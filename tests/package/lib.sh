# shellcheck shell=bash disable=SC2034  # the scripts that source this file use the variables
# Functions of the tests of the packages. OLD and NEW below $DEBS have a file for each package.
PACKAGES=(maasd maas libmaas0 libmaas-dev)
DEBS=/run/packages WORK=/run/try
unset "${!MAAS_@}" # nothing of the caller's shell gets into the server and the clients

step() {
	echo "- $*"
}

fail() {
	echo "FAILED: $*" >&2
	! declare -F show_log >/dev/null || show_log >&2
	exit 1
}

# files DIRECTORY: of our packages, in a form that apt takes for files.
files() {
	printf "$1/%s.deb\n" "${PACKAGES[@]}"
}

# name_packages DIRECTORY: a file is named for its package alone.
name_packages() {
	local deb
	for deb in "$1"/*.deb; do
		mv "$deb" "$1/$(dpkg-deb -f "$deb" Package).deb"
	done
}

version_in() {
	dpkg-deb -f "$1/maasd.deb" Version
}

has_version() {
	local name
	for name in "${PACKAGES[@]}"; do
		[ "$(dpkg-query -W -f '${Version}' "$name")" = "$1" ] || fail "$name is not $1"
	done
}

# bring_needed DIRECTORY PACKAGE...: what the packages there need, and others. They need the network.
bring_needed() {
	local directory=$1 needed
	shift
	install_packages --for 'this test' "$@"
	apt update
	# shellcheck disable=SC2046  # names of files without spaces
	needed=$(apt-get install -s --no-install-recommends $(files "$directory") | sed -n 's/^Inst \([^ ]*\).*/\1/p')
	mapfile -t needed < <(grep -vxF "$(printf '%s\n' "${PACKAGES[@]}")" <<<"$needed")
	install_packages --for 'the packages' "${needed[@]}"
}

# listing: every file with its owner, but what apt, dpkg and ldconfig keep for themselves.
listing() {
	find / \( -path /proc -o -path /sys -o -path /dev -o -path /maas -o -path /run -o -path /var/cache \
		-o -path /var/lib/apt -o -path /var/log/apt -o -path /tmp \) -prune -o \
		! -path '/var/lib/dpkg/*-old' ! -path '/var/log/dpkg.log' ! -path /etc/ld.so.cache -printf '%y %m %u:%g %p\n' |
		LC_ALL=C sort
	find /dev/shm -mindepth 1
}

# left LINE...: how $WORK/after may differ from $WORK/before, the files before the installation; a user stays.
left() {
	local wanted found
	wanted=$(printf '%s\n' "$@")
	found=$(diff "$WORK/before" "$WORK/after" | grep '^[<>]' |
		grep -vE ' /etc/((passwd|group|shadow|gshadow)-?|\.pwd\.lock)$') || true
	[ "$found" = "$wanted" ] || fail "other files than before: $found"
}
