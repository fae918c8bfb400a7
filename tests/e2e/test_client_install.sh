#!/usr/bin/env bash
# libmaas as it is installed: header, shared and static library, pkg-config, exported symbols; and the C and shell
# programs of examples/, built with it and run, each by the lines that its page gives for that. (The one that needs a
# device: tests/rdma/programs.sh.)
# Run as: test_client_install.sh MAASD BUILD_DIR SOURCE_DIR CC CXX -fsanitize=LIST
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
BUILD=$2 SOURCE=$3 CC=$4 CXX=$5
OPTIONS=(-Wall -Wextra -pedantic -Werror)
[ "$6" = -fsanitize= ] || OPTIONS+=("$6") # as the library was built
PROGRAMS=$SOURCE/tests/e2e/programs
PREFIX=$WORK/prefix

# What the pages type.
cc() {
	command "$CC" "${OPTIONS[@]}" -Wshadow -Wconversion "$@"
}
pkg-config() {
	command pkg-config --define-variable=prefix="$PREFIX" "$@"
}

# typed FILE BEGINNING runs the line of the file's page that begins so.
typed() {
	local line
	line=$(awk -F'\t' -v beginning="$2" '/^( \*|#)\t/ && index($2, beginning) == 1 { print $2 }' "$1")
	[ -n "$line" ] || fail "the page of $1 has no line: $2"
	line=${line//http:\/\/localhost:3000/$URL}
	echo "\$ $line" >&2
	eval "$line"
}

# refuses PATTERN COMMAND...: it fails, and says this.
refuses() {
	local text
	! text=$("${@:2}" 2>&1 >"$WORK/copy") || fail "${*:2} succeeded"
	[ ! -s "$WORK/copy" ] || fail "${*:2} prints a part of the file"
	# shellcheck disable=SC2053  # a pattern
	[[ $text == $1 ]] || fail "${*:2} says: $text"
}

step 'install'
cmake --install "$BUILD" --prefix "$PREFIX" >"$WORK/install.log"
PKG_CONFIG_PATH=$(dirname "$(find "$PREFIX" -name libmaas.pc)")
LIB=${PKG_CONFIG_PATH%/*}
export PKG_CONFIG_PATH LD_LIBRARY_PATH=$LIB
cmp "$SOURCE/docs/openapi.yaml" "$PREFIX/share/doc/maasd/openapi.yaml"
equal 'soname' libmaas.so.0 "$(objdump -p "$LIB/libmaas.so" | awk '$1 == "SONAME" { print $2 }')"
contains 'maas --version' "$("$PREFIX/bin/maas" --version)" "$(pkg-config --modversion libmaas)"

step 'exported symbols are those of the header'
nm -D --defined-only "$LIB/libmaas.so" | sed -n 's/^[0-9a-f]* T \([a-z_0-9]*\)@@MAAS_0$/\1/p' | sort >"$WORK/exported"
grep -oE '^[a-z][a-z_ ]*[ *]maas_[a-z_]+\(' "$PREFIX/include/maas.h" | grep -oE 'maas_[a-z_]+\($' |
	tr -d '(' | sort >"$WORK/declared"
[ -s "$WORK/declared" ] || fail 'no function found in the header'
diff "$WORK/declared" "$WORK/exported" || fail 'header and library differ'
equal 'other symbols' '' "$(nm -D --defined-only "$LIB/libmaas.so" | grep -v -e '@@MAAS_0$' -e ' A MAAS_0$' || true)"

read -ra cflags < <(pkg-config --cflags libmaas)
read -ra libs < <(pkg-config --libs libmaas)

# build NAME STANDARD LIBRARY...: the program borrow, strictly.
build() {
	local compiler=$CC page=borrow.c
	[[ $2 != c++* ]] || compiler=$CXX page=borrow.cpp
	"$compiler" "-std=$2" "${OPTIONS[@]}" "${cflags[@]}" "$PROGRAMS/$page" "${@:3}" -o "$WORK/borrow-$1"
}

step 'C11, C17 and C++ compile the header strictly'
for standard in c11 c17 c++11 c++17 c++20; do build $standard $standard "${libs[@]}"; done

step 'so does a program with libmaas.a in it'
read -ra static < <(pkg-config --static --libs libmaas)
build static c11 "${static[@]/#-lmaas/-l:libmaas.a}"
equal 'libmaas.so is needed' '' "$(objdump -p "$WORK/borrow-static" | grep libmaas || true)"

step 'and the examples'
cp -R "$SOURCE/examples" "$WORK/"
cd "$WORK/examples"
for program in *.c; do
	typed "$program" 'cc -o'
done
sed s/MAAS_TRANSPORT_RDMA/MAAS_TRANSPORT_AUTO/ rdma.c >auto.c
cc -o auto auto.c "${cflags[@]}" "${libs[@]}"

step 'they run'
start_server --rdma off
export MAAS_URL=$URL
for program in "$WORK"/borrow-*; do
	equal "${program##*/}" "hello from $URL" "$("$program")"
done
typed file.c 'MAAS_URL=http://localhost:3000 ./file'
typed file.sh 'MAAS_URL=http://localhost:3000 ./file'
head -c 3500001 /dev/urandom >large
./file large | cmp - large
./file.sh large | cmp - large
cp large 'a [1] {2}'
./file.sh 'a [1] {2}' | cmp - large
equal 'the one for RDMA, with MAAS_TRANSPORT_AUTO' "16 MiB went to $URL and back" "$(./auto)"
equal 'allocations left' 0 "$(metric maas_active_allocations)"

step 'what fails says why'
head -c 5000001 /dev/urandom >larger
refuses '*5000001 bytes do not fit*' ./file.sh larger
for program in ./file ./file.sh; do refuses '*nowhere: *' "$program" nowhere; done
refuses '*RDMA*' ./rdma
stop_server
refuses "borrow: alloc: no server at $URL: Connection refused" "$WORK/borrow-c11"
refuses "file: no server at $URL: Connection refused" ./file large
refuses '*connect*' ./file.sh large

step 'with a token'
(umask 077 && "$PREFIX/bin/maas" token new team --output token >principals)
start_server --rdma off --auth-file principals
export MAAS_URL=$URL MAAS_TOKEN_FILE=token
./file large | cmp - large
equal 'the one for RDMA' "16 MiB went to $URL and back" "$(./auto)"
stop_server

step 'removed, as docs/upgrading.md says'
xargs -d '\n' rm <"$BUILD/install_manifest.txt"
equal 'files left' '' "$(find "$PREFIX" ! -type d)"
