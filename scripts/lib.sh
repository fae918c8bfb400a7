# shellcheck shell=bash
# What the scripts share; sourced by each. Sets the shell's options and goes to the root of the
# tree.
set -euo pipefail
shopt -s inherit_errexit
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$ROOT"

# Debian packages by purpose. `a|b`: either will do, the first is what gets installed.
# shellcheck disable=SC2034  # used by the scripts that source this file
{
	PACKAGES_BUILD=(
		gcc libc6-dev cmake ninja-build 'pkg-config|pkgconf' libmicrohttpd-dev libjansson-dev
		'libcurl4-openssl-dev|libcurl4-gnutls-dev' libsodium-dev libsystemd-dev libibverbs-dev librdmacm-dev curl jq
	)
	PACKAGES_TEST=(
		libcmocka-dev g++ clang 'libclang-rt-dev|libclang-rt-14-dev' llvm prometheus jq curl
		python3 python3-yaml python3-jsonschema procps iproute2 git
	)
	PACKAGES_SOFTROCE=(
		qemu-system-x86 busybox-static cpio kmod iproute2 rdma-core ibverbs-providers
		ibverbs-utils rdmacm-utils perftest
	)
	PACKAGES_CHECK=(clang-format clang-tidy shellcheck universal-ctags mandoc bsdextrautils git)
}

say() {
	printf '%s\n' "$*" >&2
}

die() {
	say "${0##*/}: $*"
	exit 1
}

as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	elif [ -t 0 ]; then
		sudo -- "$@"
	else
		sudo -n -- "$@"
	fi
}

# installed_packages NAME... prints those of the packages that are installed.
installed_packages() {
	# shellcheck disable=SC2016  # the format is dpkg-query's
	dpkg-query -W -f '${db:Status-Status} ${Package}\n' "$@" 2>/dev/null |
		sed -n 's/^installed //p' || true
}

# missing_packages ENTRY... prints what has to be installed so that every entry is there.
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

# Packages such as prometheus come with a service of their own. It is neither started now (dpkg asks
# policy-rc.d first) nor at the next boot: the tests start what they need.
install_without_services() {
	local policy=/usr/sbin/policy-rc.d ours='' status=0 package unit
	if [ ! -e $policy ]; then
		ours=1
		printf '#!/bin/sh\nexit 101\n' | as_root tee $policy >/dev/null
		as_root chmod 755 $policy
	fi
	as_root env DEBIAN_FRONTEND=noninteractive \
		apt-get install -y -q --no-install-recommends -o Dpkg::Use-Pty=0 "$@" >&2 || status=$?
	if [ -n "$ours" ]; then
		as_root rm -f $policy
	fi
	command -v systemctl >/dev/null || return "$status"
	for package; do
		for unit in $(dpkg -L "$package" 2>/dev/null | sed -n 's|.*/systemd/system/\([^/@]*\.service\)$|\1|p'); do
			as_root systemctl --quiet disable "$unit" >/dev/null 2>&1 || true
		done
	done
	return "$status"
}

# install_packages [--for WHAT] ENTRY... makes sure that Debian packages are installed, and says so
# when it has to install some. Where nothing is missing it neither runs apt-get nor needs a network.
install_packages() {
	local what=this missing
	if [ "${1:-}" = --for ]; then
		what=$2
		shift 2
	fi
	if ! command -v dpkg-query >/dev/null; then
		say "${0##*/}: no dpkg here: make sure of these (Debian's names): $*"
		return
	fi
	mapfile -t missing < <(missing_packages "$@")
	[ ${#missing[@]} -gt 0 ] || return 0
	say "Installing for $what: ${missing[*]}"
	if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then
		die "neither root nor sudo is at hand; as root, run: apt-get install ${missing[*]}"
	fi
	if ! apt_knows "${missing[@]}"; then
		as_root apt-get update -q >&2 || die "apt-get update failed"
	fi
	if install_without_services "${missing[@]}"; then
		return
	fi
	# The lists may be older than what the mirror still holds.
	as_root apt-get update -q >&2 || die "apt-get update failed"
	install_without_services "${missing[@]}" || die "could not install: ${missing[*]}"
}

apt_knows() {
	local known
	known=$(apt-cache madison "$@" 2>/dev/null | awk '{print $1}' | sort -u | wc -l)
	[ "$known" = "$(printf '%s\n' "$@" | sort -u | wc -l)" ]
}

# build_preset PRESET [TARGET...] configures (once) and builds, quietly: a progress line on a
# terminal, else nothing; the compiler's words only when it fails.
build_preset() {
	local preset=$1 dir=build/$1 log=build/$1.log
	shift
	mkdir -p build
	if [ ! -f "$dir/build.ninja" ] && ! cmake --preset "$preset" >"$log" 2>&1; then
		cat "$log" >&2
		die "configuring $preset failed; the log is $log"
	fi
	if ninja -C "$dir" -n "$@" 2>/dev/null | grep -q 'no work to do'; then
		return
	fi
	if [ -t 1 ]; then
		NINJA_STATUS="building $preset [%f/%t] " ninja -C "$dir" "$@" ||
			die "building $preset failed"
	elif ! ninja -C "$dir" "$@" >"$log" 2>&1; then
		grep -v '^\[[0-9]*/[0-9]*\] ' "$log" | tail -n 100 >&2
		die "building $preset failed; the log is $log"
	fi
}
