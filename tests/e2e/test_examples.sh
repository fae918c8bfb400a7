#!/usr/bin/env bash
# The C and shell programs of examples/, built with the library as it is installed and run, each by
# the lines that its page gives for that. tests/rdma/programs.sh runs the one that needs a device.
# Run as: test_examples.sh MAASD BUILD_DIR SOURCE_DIR CC -fsanitize=LIST
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
BUILD=$2 SOURCE=$3 CC=$4
STRICT=(-Wall -Wextra -Wshadow -Wconversion -pedantic -Werror)
[ "$5" = -fsanitize= ] || STRICT+=("$5") # as the library was built
PREFIX=$WORK/prefix

# What the pages type.
cc() {
	command "$CC" "${STRICT[@]}" "$@"
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

step 'install'
cmake --install "$BUILD" --prefix "$PREFIX" >"$WORK/install.log"
PKG_CONFIG_PATH=$(dirname "$(find "$PREFIX" -name libmaas.pc)")
export PKG_CONFIG_PATH LD_LIBRARY_PATH=${PKG_CONFIG_PATH%/*}
cp -R "$SOURCE/examples" "$WORK/"
cd "$WORK/examples"

step 'the C programs are compiled'
for program in *.c; do
	typed "$program" 'cc -o'
done

step 'a file goes there and back'
start_server --rdma off
typed file.c 'MAAS_URL=http://localhost:3000 ./file'
typed file.sh 'MAAS_URL=http://localhost:3000 ./file'
head -c 3500001 /dev/urandom >large
MAAS_URL=$URL ./file large | cmp - large
MAAS_URL=$URL ./file.sh large | cmp - large
equal 'allocations left' 0 "$(metric maas_active_allocations)"

step 'the program for RDMA does without, where it is told to'
sed s/MAAS_TRANSPORT_RDMA/MAAS_TRANSPORT_AUTO/ rdma.c >auto.c
read -ra flags < <(pkg-config --cflags --libs libmaas)
cc -o auto auto.c "${flags[@]}"
equal 'with MAAS_TRANSPORT_AUTO' "16 MiB went to $URL and back" "$(MAAS_URL=$URL ./auto)"
equal 'allocations left' 0 "$(metric maas_active_allocations)"

# refusal COMMAND...: it fails; sets TEXT, what it says.
refusal() {
	! TEXT=$(MAAS_URL=$URL "$@" 2>&1 >"$WORK/copy") || fail "$* succeeded"
	[ ! -s "$WORK/copy" ] || fail "$* prints a part of the file"
}

step 'what fails says why'
head -c 5000001 /dev/urandom >larger
refusal ./file.sh larger
contains 'file.sh' "$TEXT" '5000001 bytes do not fit'
for program in ./file ./file.sh; do
	refusal "$program" nowhere
	contains "$program" "$TEXT" 'nowhere: '
done
refusal ./rdma
contains './rdma' "$TEXT" 'RDMA'
stop_server
refusal ./file large
equal './file' "file: no server at $URL: Connection refused" "$TEXT"
refusal ./file.sh large
contains './file.sh' "$TEXT" connect
