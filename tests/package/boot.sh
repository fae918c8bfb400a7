#!/usr/bin/env bash
# The packages under systemd, on a machine of their own with an RDMA device, while clients use the server by HTTP
# and by RDMA: upgraded from the version before, which cmake installed, to a later one, and back; within limits of
# memory; removed and purged. As root of a machine that image.sh made, by scripts/package --boot.
set -euo pipefail
shopt -s inherit_errexit
cd /maas
. tests/package/lib.sh
. tests/package/limits.sh
DEBS=/maas/packages OPTIONS=/etc/default/maasd
AWAY=(curl-7 curl-52 curl-56 http-503) # how a request of curl may end while the server is replaced
export LC_ALL=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
clients=() restarts=0
exec 2> >(cat >&1) # progress bars are for a terminal
trap 'kill "${clients[@]}" 2>/dev/null || true' EXIT

show_log() {
	journalctl --no-pager -o cat -u maasd -n 40 || true
}

# operate COMMAND: what an operator types; it has to work. What it prints is in $WORK/out, too.
operate() {
	local status=0
	echo "machine# $1"
	DEBIAN_FRONTEND=noninteractive bash -o pipefail -c "$1" </dev/null >"$WORK/out" 2>&1 || status=$?
	grep -vE '^\(Reading database|^Selecting previously|^Preparing to unpack|^Get:|^Reading |^Building ' "$WORK/out" || true
	[ "$status" = 0 ] || fail "that ended with $status"
}

# Of a command of ours, or of the last one of the operator.
said() {
	grep -qF -- "$1" "$WORK/out" || fail "it did not say: $1"
}

# healthy VERSION: the server serves, with RDMA, and systemd had to start it again $restarts times.
healthy() {
	local i
	for ((i = 0; i < 600; i++)); do
		! maas health >/dev/null 2>&1 || break
		sleep 0.1
	done
	maas health >/dev/null || fail 'maasd is not healthy after a minute'
	[ "$(curl -s "$url/health" | jq -r .version)" = "$1" ] || fail "the server's version is not $1"
	[ "$(curl -s "$url/health" | jq -r .rdma.state)" = active ] || fail "no RDMA: $(curl -s "$url/health" | jq -c .rdma)"
	[ "$(systemctl show -P NRestarts maasd)" = "$restarts" ] || fail "systemd started maasd again"
}

# ---- clients

# curl_client: puts and gets 100,000 bytes. After a PUT that failed, the bytes may be those of before, or new.
curl_client() {
	local id i code size=100000 told=' '
	trap 'stopped=1' TERM
	stopped=''
	head -c "$size" /dev/urandom >"$WORK/curl.0"
	head -c "$size" /dev/urandom >"$WORK/curl.1"
	id=$(curl -sf -H 'Content-Type: application/json' -d "{\"size_bytes\":$size,\"owner\":\"curl\"}" "$url/allocate" | jq -r .id)
	for ((i = 0; ; i++)); do
		until code=$(request -o /dev/null -X PUT --data-binary "@$WORK/curl.$((i % 2))" "$url/allocate/$id/data"); do
			[[ $told == *" $code "* ]] || echo "  curl PUT: $code"
			told+="$code "
		done
		until code=$(request -o "$WORK/curl.got" "$url/allocate/$id/data"); do
			[[ $told == *" $code "* ]] || echo "  curl GET: $code"
			told+="$code "
		done
		cmp "$WORK/curl.got" "$WORK/curl.$((i % 2))" || exit 1
		[ -z "$stopped" ] || break
	done
	echo "curl: $i rounds, no byte differs"
}

# request CURL_ARGUMENT...: prints how it ended. False: it may be repeated.
request() {
	local code status=0
	code=$(curl -s --max-time 10 -w '%{http_code}' "$@") || status=$?
	[ "$status" = 0 ] && code=http-$code || code=curl-$status
	echo "$code"
	[[ $code != http-20* ]] || return 0
	[[ " ${AWAY[*]} " == *" $code "* ]] || kill -KILL "$BASHPID"
	sleep 0.3
	return 1
}

# client NAME COMMAND...: in the background; its output is in $WORK/NAME.
client() {
	local name=$1 i
	shift
	"$@" >"$WORK/$name" 2>&1 &
	clients+=($!)
	names+=("$name")
}

start_clients() { # COUNT
	local i name
	clients=() names=()
	client http-user packages/before/user http "http-user-$1" 24
	client rdma-user packages/before/user rdma "rdma-user-$1" 24
	client curl curl_client
	for name in http-user rdma-user; do
		for ((i = 0; i < 300; i++)); do
			! grep -q ' holds ' "$WORK/$name" || continue 2
			sleep 0.2
		done
		cat "$WORK/$name"
		fail "$name did not start"
	done
	sleep 3
}

stop_clients() {
	local i status=0
	sleep 3
	kill "${clients[@]}"
	for i in "${!clients[@]}"; do
		wait "${clients[i]}" || status=$?
		cat "$WORK/${names[i]}"
	done
	clients=()
	[ "$status" = 0 ] || fail 'a client saw what it should not see'
}

# ---- what was lent at first is there at the end

keep() {
	head -c 3000000 /dev/urandom >"$WORK/kept"
	kept=$(maas put --owner kept "$WORK/kept") || fail "maas put"
	listed=$(maas ls --owner kept --json)
	arena=$(curl -s "$url/health" | jq -r .arena_id)
}

kept() {
	maas get "$kept" | cmp - "$WORK/kept" || fail 'the bytes that were put at first differ'
	[ "$(maas ls --owner kept --json | jq -S 'del(.. | .age_seconds?)')" = "$(jq -S 'del(.. | .age_seconds?)' <<<"$listed")" ] ||
		fail 'what was lent at first is described otherwise'
	[ "$(curl -s "$url/health" | jq -r .arena_id)" = "$arena" ] || fail 'the memory is not that of before'
}

# under_way STEP COMMAND...: while clients are at work. $VERSION is that of the server afterwards.
under_way() {
	step "$1, while clients are at work"
	start_clients "${1//[^a-z0-9.]/-}"
	shift
	"$@"
	healthy "$VERSION"
	stop_clients
	kept
}

# ---- the operator

write_options() {
	operate "cat >$OPTIONS <<'END'
MAAS_LISTEN=0.0.0.0:3000,unix:/run/maasd/maasd.sock
MAAS_MEMORY_FILE=/dev/shm/maasd
MAAS_MAX_POOL_SIZE=256MiB
MAAS_LOG_LEVEL=info
END"
}

# As docs/upgrading.md says, after the build.
install_by_cmake() {
	echo 'machine# cmake --install build/release'
	tar -cC "$DEBS/before/root" . | tar -xC / --no-overwrite-dir
	write_options
	operate 'ldconfig && systemd-sysusers && systemctl daemon-reload'
	operate 'systemctl enable maasd && systemctl restart maasd && systemctl --no-pager status maasd'
}

remove_what_cmake_installed() {
	operate 'systemctl disable --now maasd'
	operate "xargs -d '\n' rm -f <packages/before/install_manifest.txt"
	operate '(cd /usr/local && rmdir --ignore-fail-on-non-empty lib/{pkgconfig,systemd/system,systemd,sysusers.d} \
		share/{doc/maasd,doc,man/man1,man/man8,bash-completion{/completions,},zsh{/site-functions,}})
		ldconfig; systemctl daemon-reload'
}

# install DIRECTORY [APT_OPTION...]: N is the answer to what apt asks if there are options that are not the package's.
install() {
	local directory=$1
	shift
	operate "echo N | apt-get -y --no-install-recommends $* install $(files "packages/$directory" | sed 's|^|./|' | tr '\n' ' ')"
	has_version "$(version_in "$DEBS/$directory")"
}

# reinstall DIRECTORY [APT_OPTION...]: the options of the operator stay.
reinstall() {
	install "$@"
	grep -qx 'MAAS_LISTEN=0.0.0.0:3000,unix:/run/maasd/maasd.sock' "$OPTIONS" || fail 'the options of the operator are gone'
}

upgrade_from_cmake() {
	remove_what_cmake_installed
	reinstall now
}

use_readme() {
	operate 'systemctl --no-pager status maasd; curl -s http://localhost:3000/health | jq -c .'
	operate "cd $WORK; cp /maas/README.md notes.txt
		id=\$(maas put --owner me notes.txt); maas get \$id >copy && cmp notes.txt copy && maas ls && maas stats && maas free \$id"
	operate 'maas bench --count 200'
	said '0 wrong bytes'
	operate 'maas doctor || true'
}

# purged LINE...: nothing is left but what the operator made.
purged() {
	operate "apt-get -y purge ${PACKAGES[*]}"
	listing >"$WORK/after"
	left "$@"
}

kill_server() {
	restarts=1
	operate 'systemctl kill --signal KILL maasd'
}

use_access() {
	step 'principals, as docs/access.md says'
	operate "umask 027; cd $WORK; maas token new team1 --output team1.token >principals
		sed -i 's|owner=[^ ]*|owner=team1/* max-bytes=64MiB|' principals; echo 'ops uid=0 admin' >>principals
		echo '* - health' >>principals; cat principals"
	operate "cd $WORK; maasd --check --rdma off --listen unix:check.sock --auth-file principals"
	operate "install -m 0640 -o root -g maasd $WORK/principals /etc/maasd/principals"
	operate "sed -i.was 's|^MAAS_LISTEN=.*|MAAS_LISTEN=127.0.0.1:3000,unix:/run/maasd/maasd.sock|' $OPTIONS
		echo MAAS_AUTH_FILE=/etc/maasd/principals >>$OPTIONS; systemctl restart maasd"
	operate "maas whoami --url http://127.0.0.1:3000 --token-file $WORK/team1.token; maas whoami --url unix:/run/maasd/maasd.sock"
	operate 'systemctl reload maasd; journalctl --no-pager -o cat -u maasd -n 3'
	[ "$(maas get --url unix:/run/maasd/maasd.sock "$kept" | sha256sum)" = "$(sha256sum <"$WORK/kept")" ] ||
		fail 'the admin cannot read what was lent'
	step 'back to open: the memory that had principals is refused without a word for it'
	operate "mv $OPTIONS.was $OPTIONS; ! systemctl restart maasd; journalctl --no-pager -o cat -u maasd -n 12"
	said '--insecure-open'
	operate "echo MAAS_INSECURE_OPEN=yes >>$OPTIONS; systemctl reset-failed maasd; systemctl restart maasd"
}

main() {
	url=http://10.77.0.1:3000
	mkdir -p "$WORK"
	systemctl is-system-running --wait >/dev/null || systemctl --no-pager --failed
	NOW=$(version_in "$DEBS/now") LATER=$(version_in "$DEBS/later")
	listing >"$WORK/before"

	step 'install where nothing was, use as README.md says, purge'
	install now
	use_readme
	purged

	export MAAS_URL=$url
	step 'install by cmake, below /usr/local'
	install_by_cmake
	keep
	VERSION=${NOW%%[-~]*} under_way "upgrade from /usr/local to $NOW" upgrade_from_cmake
	operate 'maas doctor || true'
	VERSION=${LATER%%[-~]*} under_way "upgrade to $LATER" reinstall later
	VERSION=${LATER%%[-~]*} under_way 'kill -9' kill_server
	restarts=0
	VERSION=${NOW%%[-~]*} under_way "back to $NOW" reinstall now --allow-downgrades
	use_access
	limits
	step 'remove, which keeps options and memory, and install again'
	operate "apt-get -y remove ${PACKAGES[*]}"
	reinstall now
	healthy "${NOW%%[-~]*}"
	kept
	step 'purge'
	purged '> d 750 root:maasd /etc/maasd' '> f 640 root:maasd /etc/maasd/principals'
	step 'all is as it was'
}
main "$@"
