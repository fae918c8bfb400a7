# shellcheck shell=bash
# Functions of all scripts, which source this file. Sets the shell's options and goes to the root of the
# tree, from caller_dir.
set -euo pipefail
shopt -s inherit_errexit
unset CDPATH
# shellcheck disable=SC2034  # used by the scripts that source this file
caller_dir=$PWD
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
cd "$ROOT"
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin # where ip, depmod and their like are, also for those who are not root

# Debian packages by purpose, each name once. `a|b`: either will do, and the first is installed.
# shellcheck disable=SC2034  # used by the scripts that source this file
{
	PACKAGES_BUILD=(
		gcc libc6-dev cmake ninja-build 'pkg-config|pkgconf' libmicrohttpd-dev libjansson-dev
		'libcurl4-openssl-dev|libcurl4-gnutls-dev' libgnutls28-dev libsodium-dev libsystemd-dev
		libibverbs-dev librdmacm-dev
	)
	PACKAGES_RUN=(curl jq)
	PACKAGES_TOOLS=(python3-venv ca-certificates)
	PACKAGES_UNIT=(libcmocka-dev g++ python3) # needed to configure a build with tests
	PACKAGES_PROMTOOL=(prometheus)
	PACKAGES_TEST=(clang 'libclang-rt-dev|libclang-rt-14-dev' llvm python3-yaml python3-jsonschema procps openssl valgrind)
	PACKAGES_BROWSER=(chromium chromium-driver fonts-dejavu-core python3-selenium)
	PACKAGES_BENCH=(libjemalloc2 libmimalloc-dev redis-server) # what ours is compared with
	PACKAGES_SOFTROCE=(qemu-system-x86 busybox-static cpio kmod ibverbs-utils rdmacm-utils perftest)
	PACKAGES_RDMA=(iproute2 rdma-core ibverbs-providers) # in every machine with a device
	PACKAGES_CHECK=(clang-format-19 clang-tidy-19 shellcheck universal-ctags mandoc bsdextrautils abigail-tools)
	PACKAGES_DEBIAN=(debootstrap)
	PACKAGES_PACKAGE=(build-essential debhelper fakeroot git lintian)
	PACKAGES_MACHINE=(systemd-sysv dbus e2fsprogs) # of an image that boots
}

say() {
	printf '%s\n' "$*" >&2 || true # If the terminal is gone, the script still goes on to its end.
}

die() {
	say "scripts/${0##*/}: $*"
	exit 1
}

# Prints the version of the source. CMakeLists.txt is where it stands; scripts/check looks at the other places.
source_version() {
	sed -n 's/^project(maas VERSION \([0-9.]*\).*/\1/p' CMakeLists.txt
}

# Ends the script because of a wrong command line.
usage_error() {
	say "scripts/${0##*/}: $*"
	say "Try: scripts/${0##*/} --help"
	exit 2
}

# Everything that is made goes into build/. Called before anything is installed.
need_writable_tree() {
	if ! mkdir -p build 2>/dev/null || [ ! -w build ]; then
		die "cannot write to $ROOT/build: copy this tree to where you may write"
	fi
}

# sudo asks for a password on the terminal, whatever the standard input is; in the background, where that would
# stop it, it does not ask.
as_root() {
	local group foreground
	if [ "$(id -u)" = 0 ]; then
		"$@"
		return
	fi
	read -r _ _ _ _ group _ _ foreground _ </proc/self/stat
	if [ "$group" = "$foreground" ]; then
		sudo -- "$@"
	else
		sudo -n -- "$@"
	fi
}

# installed_packages NAME... prints the packages among these that are installed.
installed_packages() {
	# shellcheck disable=SC2016  # the format is dpkg-query's
	dpkg-query -W -f '${db:Status-Status} ${Package}\n' "$@" 2>/dev/null |
		sed -n 's/^installed //p' || true
}

# missing_packages ENTRY... prints the packages to install so that every entry is met.
missing_packages() {
	local entry name present
	# shellcheck disable=SC2068  # "a|b" are two names
	present=" $(installed_packages ${@//|/ } | tr '\n' ' ') "
	for entry; do
		for name in ${entry//|/ }; do
			[[ $present == *" $name "* ]] && continue 2
		done
		printf '%s\n' "${entry%%|*}"
	done
}

APT_LOG=build/apt.log

# apt COMMAND... runs apt-get; its output goes to a log.
apt() {
	as_root env LC_ALL=C DEBIAN_FRONTEND=noninteractive apt-get -y -q -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 \
		"$@" >>"$APT_LOG" 2>&1 </dev/null
}

POLICY=/usr/sbin/policy-rc.d

# Packages such as prometheus bring a service. The service is started neither now (dpkg asks policy-rc.d
# first) nor at the next boot: the tests start what they need.
install_without_services() {
	local status=0 package unit
	( # where "set -e" does not hold
		# A file with our name in it was left by a run that was killed.
		if [ ! -e "$POLICY" ] || grep -q 'of MaaS' "$POLICY"; then
			trap 'as_root rm -f "$POLICY"' EXIT
			trap 'exit 130' INT TERM HUP
			printf '#!/bin/sh\n# scripts/lib.sh of MaaS: for as long as packages are installed\nexit 101\n' | as_root tee "$POLICY" >/dev/null &&
				as_root chmod 755 "$POLICY" || exit
		fi
		apt install --no-install-recommends "$@"
	) || status=$?
	[ "$status" != 130 ] || exit 130
	command -v systemctl >/dev/null || return "$status"
	for package; do
		for unit in $(dpkg -L "$package" 2>/dev/null | sed -n 's|.*/systemd/system/\([^/@]*\.service\)$|\1|p'); do
			as_root systemctl --quiet disable "$unit" >/dev/null 2>&1 || true
		done
	done
	return "$status"
}

# install_packages [--for WHAT] ENTRY... makes sure that Debian packages are installed, and says so when it
# installs some. If none is missing, it neither runs apt-get nor needs a network.
install_packages() {
	local what=this missing
	if [ "${1:-}" = --for ]; then
		what=$2
		shift 2
	fi
	need_writable_tree
	if ! command -v dpkg-query >/dev/null; then
		say "scripts/${0##*/}: no dpkg here: make sure of these (Debian's names): $*"
		return
	fi
	mapfile -t missing < <(missing_packages "$@")
	[ ${#missing[@]} -gt 0 ] || return 0
	[ -z "${SCRIPTS_OFFLINE:-}" ] ||
		die "missing for $what: ${missing[*]}; install them, or leave out --offline"
	if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then
		die "packages are missing, and neither root nor sudo is at hand; as root, run: apt-get install ${missing[*]}"
	fi
	say "Installing for $what (log: $APT_LOG): ${missing[*]}"
	# The package lists may be missing, or older than the mirror's packages.
	if apt_knows "${missing[@]}" && install_without_services "${missing[@]}"; then
		return
	fi
	apt update || apt_failed "apt-get update failed"
	install_without_services "${missing[@]}" || apt_failed "could not install: ${missing[*]}"
}

apt_failed() {
	grep -E '^(E|W|Err|sudo)[: ]' "$APT_LOG" | tail -n 20 >&2 || true
	die "$1; the log is $APT_LOG"
}

apt_knows() {
	local known
	known=$(apt-cache madison "$@" 2>/dev/null | awk '{print $1}' | sort -u | wc -l)
	[ "$known" = "$(printf '%s\n' "$@" | sort -u | wc -l)" ]
}

# configure_preset PRESET configures a build once.
configure_preset() {
	local dir=build/$1 log=build/$1.log
	# If the tree was moved, its old place is in every file that CMake made.
	local home
	home=$(sed -n 's/^CMAKE_HOME_DIRECTORY:INTERNAL=//p' "$dir/CMakeCache.txt" 2>/dev/null || true)
	if [ -n "$home" ] && [ "$(realpath -m "$home")" != "$ROOT" ]; then
		rm -rf "$dir"
	fi
	if [ ! -f "$dir/build.ninja" ] && ! cmake --preset "$1" >"$log" 2>&1; then
		cat "$log" >&2
		die "configuring $1 failed; the log is $log"
	fi
}

# build_preset PRESET [TARGET...] configures and builds quietly: a progress line on a terminal, else
# nothing; the compiler's output only when the build fails.
build_preset() {
	local preset=$1 dir=build/$1 log=build/$1.log
	shift
	configure_preset "$preset"
	if ninja -C "$dir" -n "$@" 2>/dev/null | grep -q 'no work to do'; then
		return
	fi
	if [ -t 1 ]; then
		(cd "$dir" && NINJA_STATUS="building $preset [%f/%t] " ninja "$@") ||
			die "building $preset failed"
	elif ! ninja -C "$dir" "$@" >"$log" 2>&1; then
		grep -v '^\[[0-9]*/[0-9]*\] ' "$log" | tail -n 100 >&2
		die "building $preset failed; the log is $log"
	fi
}
