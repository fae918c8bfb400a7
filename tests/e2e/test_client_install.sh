#!/usr/bin/env bash
# libmaas as it is installed: header, shared and static library, pkg-config, exported symbols.
# Run as: test_client_install.sh MAASD BUILD_DIR SOURCE_DIR CC CXX -fsanitize=LIST
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
BUILD=$2 SOURCE=$3 CC=$4 CXX=$5
OPTIONS=()
[ "$6" = -fsanitize= ] || OPTIONS=("$6") # as the library was built
PROGRAMS=$SOURCE/tests/e2e/programs
PREFIX=$WORK/prefix

step 'install'
cmake --install "$BUILD" --prefix "$PREFIX" >"$WORK/install.log"
PC=$(find "$PREFIX" -name libmaas.pc)
LIB=$(dirname "$(dirname "$PC")")
cmp "$SOURCE/docs/openapi.yaml" "$PREFIX/share/doc/maasd/openapi.yaml"
export PKG_CONFIG_PATH=${PC%/*}
pc() {
	pkg-config --define-variable=prefix="$PREFIX" "$@"
}
equal 'soname' libmaas.so.0 "$(objdump -p "$LIB/libmaas.so" | awk '$1 == "SONAME" { print $2 }')"
contains 'maas --version' "$(LD_LIBRARY_PATH=$LIB "$PREFIX/bin/maas" --version)" \
	"$(pc --modversion libmaas)"

step 'exported symbols are those of the header'
nm -D --defined-only "$LIB/libmaas.so" | sed -n 's/^[0-9a-f]* T \([a-z_0-9]*\)@@MAAS_0$/\1/p' |
	sort >"$WORK/exported"
grep -oE '^[a-z][a-z_ ]*[ *]maas_[a-z_]+\(' "$PREFIX/include/maas.h" | grep -oE 'maas_[a-z_]+\($' |
	tr -d '(' | sort >"$WORK/declared"
[ -s "$WORK/declared" ] || fail 'no function found in the header'
diff "$WORK/declared" "$WORK/exported" || fail 'header and library differ'
equal 'other symbols' '' "$(nm -D --defined-only "$LIB/libmaas.so" | grep -v -e '@@MAAS_0$' -e ' A MAAS_0$' || true)"

read -ra cflags < <(pc --cflags libmaas)
read -ra libs < <(pc --libs libmaas)
strict=(-Wall -Wextra -pedantic -Werror "${OPTIONS[@]}")

step 'C11, C17 and C++ compile the header strictly'
for standard in c11 c17; do
	"$CC" -std=$standard "${strict[@]}" "${cflags[@]}" "$PROGRAMS/borrow.c" \
		"${libs[@]}" -o "$WORK/borrow-$standard"
done
for standard in c++11 c++17 c++20; do
	"$CXX" -std=$standard "${strict[@]}" "${cflags[@]}" "$PROGRAMS/borrow.cpp" \
		"${libs[@]}" -o "$WORK/borrow-$standard"
done

step 'so does a program with libmaas.a in it'
read -ra static < <(pc --static --libs libmaas)
"$CC" -std=c11 "${strict[@]}" "${cflags[@]}" "$PROGRAMS/borrow.c" \
	"${static[@]/#-lmaas/-l:libmaas.a}" -o "$WORK/borrow-static"
equal 'libmaas.so is needed' '' "$(objdump -p "$WORK/borrow-static" | grep libmaas || true)"

step 'they run'
start_server
for program in "$WORK"/borrow-*; do
	equal "${program##*/}" "hello from $URL" \
		"$(MAAS_URL=$URL LD_LIBRARY_PATH=$LIB "$program")"
done
equal 'allocations left' 0 "$(metric maas_active_allocations)"
stop_server

step 'without the server they say so'
text=$(MAAS_URL=$URL LD_LIBRARY_PATH=$LIB "$WORK/borrow-c11" 2>&1) && fail 'it succeeded'
equal 'the error' "borrow: alloc: no server at $URL: Connection refused" "$text"

step 'removed, as docs/upgrading.md says'
xargs -d '\n' rm <"$BUILD/install_manifest.txt"
equal 'files left' '' "$(find "$PREFIX" ! -type d)"
