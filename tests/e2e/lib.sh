# shellcheck shell=bash
# What the end-to-end tests share. Each is run as `bash test_NAME.sh MAASD`, in a directory of its
# own that is removed at the end, and ends everything that it started, by its process id.
set -euo pipefail
shopt -s inherit_errexit
MAASD=$1
WORK=$(mktemp -d)
SERVER='' URL='' LOG=''
children=()
remove=() # what lies outside of WORK

cleanup() {
	local status=$? pid
	trap - EXIT
	for pid in "${children[@]}"; do
		kill -KILL "$pid" 2>/dev/null || true
	done
	if [ "$status" != 0 ]; then
		echo "FAILED with $status" >&2
		for log in "$WORK"/*.log; do
			[ ! -e "$log" ] || { echo "--- ${log##*/}" && tail -n 60 "$log"; } >&2
		done
	fi
	rm -rf "$WORK" "${remove[@]}" || true
	exit "$status"
}
trap cleanup EXIT
trap 'exit 1' INT TERM

# Nothing of the caller's shell gets into the servers.
unset "${!MAAS_@}"

fail() {
	echo "FAILED: $*" >&2
	exit 1
}

step() {
	echo "- $*"
}

# between WHAT FROM TO GOT
between() {
	(($2 <= $4 && $4 <= $3)) || fail "$1: wanted $2 to $3, got $4"
}

# equal WHAT WANTED GOT
equal() {
	[ "$2" = "$3" ] || fail "$1: wanted '$2', got '$3'"
}

# contains WHAT TEXT WORDS...: each of them.
contains() {
	local words
	[ $# -ge 3 ] || fail "$1: no words"
	for words in "${@:3}"; do [[ $2 == *"$words"* ]] || fail "$1: '$words' is not in: $2"; done
}

# wait_for SECONDS COMMAND...: until the command succeeds.
wait_for() {
	local end=$((SECONDS + $1))
	shift
	until "$@"; do
		[ $SECONDS -lt $end ] || fail "waited too long for: $*"
		sleep 0.05
	done
}

ended() {
	! kill -0 "$1" 2>/dev/null || [[ $(ps -o stat= -p "$1") == Z* ]]
}

said_or_ended() {
	grep -q '^Listening on ' "$LOG" || ended "$SERVER"
}

# launch COMMAND...: a maasd by any command; sets SERVER (its process id) and LOG (its stderr). It listens, or has ended.
launch() {
	LOG=$(mktemp "$WORK/server.XXXXXX.log")
	"$@" 2>"$LOG" </dev/null &
	SERVER=$!
	children+=("$SERVER")
	wait_for 30 said_or_ended
}

# start_server OPTION...: the same, which listens at URL.
start_server() {
	[[ " $* " == *" --listen "* ]] || set -- --listen 127.0.0.1:0 "$@"
	launch "$MAASD" "$@"
	URL=$(sed -n 's/^Listening on \(https\?:.*\)/\1/p;ta;b;:a;q' "$LOG")
	ended "$SERVER" && fail "maasd $* ended: $(cat "$LOG")"
	return 0
}

# wait_server STATUS: the server ends by itself, with this status.
wait_server() {
	local status=0
	wait_for 60 ended "$SERVER"
	wait "$SERVER" || status=$?
	equal 'exit status of maasd' "$1" "$status"
	SERVER=''
}

stop_server() {
	kill -TERM "$SERVER"
	wait_server 0
}

kill_server() {
	kill -KILL "$SERVER"
	wait_server 137
}

# reload COMMAND...: SIGHUP, and soon the command succeeds.
reload() {
	kill -HUP "$SERVER"
	wait_for 10 "$@"
}

# own_mounts COMMAND... runs it in a mount namespace whose mounts nobody else sees: also in a plain
# chroot, whose / is no mount point that unshare(1) could make private.
own_mounts() {
	# shellcheck disable=SC2016  # the inner shell's
	unshare --mount --propagation unchanged bash -c '
		while read -r _ _ _ _ point _; do mount --make-private "$point" 2>/dev/null || true; done </proc/self/mountinfo
		exec "$@"' own_mounts "$@"
}

# request METHOD PATH [CURL OPTION...]: sets STATUS and BODY.
request() {
	local method=$1 path=$2
	shift 2
	STATUS=$(curl -sS -m 60 -X "$method" -o "$WORK/body" -w '%{http_code}' "$@" "$URL$path") ||
		fail "curl $method $path: exit $?"
	BODY=$(tr -d '\0' <"$WORK/body")
}

# answered STATUS COMMAND...: the command makes a request, and this is the status of the answer.
answered() {
	"${@:2}"
	equal "${*:2}" "$1" "$STATUS"
}

# post PATH JSON [CURL OPTION...]
post() {
	request POST "$1" -H 'Content-Type: application/json' -d "${@:2}"
}

# made PATH JSON: sets ID, that of what is made there.
made() {
	answered 200 post "$@"
	# shellcheck disable=SC2034  # for the caller
	ID=$(jq -r .id <<<"$BODY")
}

allocate() {
	made /allocate "$1"
}

# metric NAME: its value, without labels.
metric() {
	curl -sS -m 10 "$URL/metrics" | awk -v name="$1" '$1 == name { print $2 }'
}

# proof TOKEN: its words in a file of principals.
proof() {
	echo "token=sha256:$(printf %s "$1" | sha256sum | cut -d' ' -f1)"
}

# refused STATUS WORDS OPTION...: maasd does not start, ends with this status and says these words.
refused() {
	local wanted=$1 words=$2 status=0 text
	shift 2
	text=$(timeout 20 "$MAASD" "$@" 2>&1 </dev/null) || status=$?
	equal "exit status of maasd $*" "$wanted" "$status"
	contains "maasd $*" "$text" "$words"
}
