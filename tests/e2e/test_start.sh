#!/usr/bin/env bash
# How maasd starts, and how it says that it cannot.
. "$(dirname "$0")/lib.sh"

step 'version and help'
[[ $("$MAASD" --version) =~ ^maasd\ [0-9]+\.[0-9]+\.[0-9]+$ ]] || fail "$("$MAASD" --version)"
contains 'maasd --help' "$("$MAASD" --help)" --listen
equal 'maasd -h' "$("$MAASD" --help)" "$("$MAASD" -h)"

step 'bad options' # All that can be wrong with one is in tests/unit/daemon/test_options.c.
refused 2 '--max-pool-size "1XB": it must be a size' --max-pool-size 1XB
refused 2 '--rdma is off' --rdma off --require-isolation
MAAS_RDMA_DEVICE=mlx5_7 refused 2 '--rdma-device asks for' --rdma off
refused 1 'No such file' --listen 127.0.0.1:0 --tls-cert "$WORK/none" --tls-key "$WORK/none"
refused 2 '--extent-size' --check --extent-size 64KiB --listen 127.0.0.1:0
refused 2 '--max-pool-size' --check --max-pool-size 64KiB --listen 127.0.0.1:0
refused 2 '--extent-size' --extent-size 64KiB --listen 127.0.0.1:0
refused 1 '--log-file' --log-file "$WORK/no/such/directory/log" --listen 127.0.0.1:0
refused 1 '192.0.2.77:0' --listen 192.0.2.77:0
refused 1 'no RDMA device mlx5_7' --rdma-device mlx5_7 --listen 127.0.0.1:0
refused 1 'RDMA: no ' --rdma-addr 192.0.2.77 --listen 127.0.0.1:0
refused 1 'the nodes here are' --numa-node 1000 --listen 127.0.0.1:0
MAAS_MAX_POOL_SIZE=many refused 2 'MAAS_MAX_POOL_SIZE "many"'

step '--check'
text=$("$MAASD" --check --max-pool-size 1TiB --slab-sizes 4KiB,1MiB --listen 127.0.0.1:0 2>"$WORK/check.log")
contains '--check' "$text" 'max-pool-size = 1TiB' 'slab-sizes = 4KiB,1MiB' 'extent-size = 1MiB' \
	'limit of locked memory = ' 'RDMA '
kib=$(awk '$1 == "MemTotal:" { print $2 }' /proc/meminfo)
grep -Eq "^machine memory = [0-9.]+ [GT]iB( \($kib KiB\))?\$" <<<"$text" || fail "machine memory: $text"
contains '--check' "$("$MAASD" --check --max-body-size 5000000 --listen 127.0.0.1:0)" 'max-body-size = 5000000B (4.8 MiB)'
contains '--check' "$("$MAASD" --check --rdma off --listen 127.0.0.1:0)" 'RDMA = off'
refused 1 'no RDMA device mlx5_7' --check --rdma-device mlx5_7
contains '--check' "$(cat "$WORK/check.log")" "more than this machine's memory"
[[ $text != *Listening* ]] || fail '--check serves'
MAAS_CHECK=yes refused 0 'max-pool-size = 2GiB' --max-pool-size 2GiB --listen 127.0.0.1:0
refused 2 'did you mean --max-pool-size?' --check --max-poolsize 1GiB

step '--check tries the log file and the addresses, and leaves nothing'
here=(--check --rdma off --listen 127.0.0.1:0)
printf 'a line\n' >"$WORK/kept"
refused 0 "log-file = $WORK/kept" "${here[@]}" --log-file "$WORK/kept"
equal 'the log file as it was' 'a line' "$(cat "$WORK/kept")"
refused 0 "log-file = $WORK/new" "${here[@]}" --log-file "$WORK/new"
[ ! -e "$WORK/new" ] || fail '--check leaves a log file'
refused 1 "--log-file $WORK/no/log: No such file" "${here[@]}" --log-file "$WORK/no/log"
refused 1 "--log-file $WORK: Is a directory" "${here[@]}" --log-file "$WORK"
refused 1 'cannot listen on 192.0.2.77:0' --check --rdma off --listen 192.0.2.77:0
refused 1 "cannot listen on unix:$WORK/kept" "${here[@]}" --listen "unix:$WORK/kept"
refused 1 "cannot listen on unix:$WORK/no/sock" "${here[@]}" --listen "unix:$WORK/no/sock"
refused 0 'listen = ' "${here[@]}" --listen "unix:$WORK/check.sock"
refused 0 'listen-metrics = ' "${here[@]}" --listen-metrics "unix:$WORK/check.sock"
[ ! -e "$WORK/check.sock" ] || fail '--check leaves a socket'
/usr/bin/python3 -c 'import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])' "$WORK/stale.sock"
refused 0 'listen = ' "${here[@]}" --listen "unix:$WORK/stale.sock"
[ -S "$WORK/stale.sock" ] || fail '--check removes a socket'

step 'an address that is taken'
start_server
for check in --check --check=no; do
	refused 1 "${URL#http://}: Address already in use" $check --listen "${URL#http://}"
	refused 1 'choose another address' $check --listen "${URL#http://}"
	refused 1 '--listen-metrics: cannot listen on' $check --listen 127.0.0.1:0 \
		--listen-metrics "${URL#http://}"
done
refused 1 'max-pool-size = 1GiB' --check --listen "${URL#http://}"
stop_server
port=${URL##*:}
for check in --check --check=no; do
	refused 1 "--listen: cannot listen on 0.0.0.0:$port: Address already in use" $check --rdma off \
		--listen "127.0.0.1:$port" --listen "0.0.0.0:$port"
	refused 1 "--listen-metrics: cannot listen on unix:$WORK/two.sock: Address already in use" $check --rdma off \
		--listen 127.0.0.1:0 --listen "unix:$WORK/two.sock" --listen-metrics "unix:$WORK/two.sock"
done
[ ! -e "$WORK/two.sock" ] || fail 'a socket is left'

step 'environment, below the command line'
MAAS_SLAB_SIZES=4KiB,64KiB MAAS_MAX_POOL_SIZE=1MiB MAAS_LISTEN=127.0.0.1:0,unix:$WORK/env.sock \
	start_server --listen 127.0.0.1:0 --max-pool-size 2MiB
equal 'classes and max_pool_size' '[4096,65536] 2097152' \
	"$(curl -sS "$URL/stats" | jq -r '"\([.pool_stats[].slab_size]) \(.max_pool_size)"')"
[ ! -e "$WORK/env.sock" ] || fail 'the command line does not replace MAAS_LISTEN'
stop_server

step 'several addresses'
listen=(--listen 127.0.0.1:0 --listen "unix:$WORK/maas.sock")
ipv6=$(grep -c ' lo$' /proc/net/if_inet6 2>/dev/null || true)
[ "${ipv6:-0}" = 0 ] || listen+=(--listen '[::1]:0')
start_server "${listen[@]}"
wait_for 10 grep -q 'Listening on unix:' "$LOG"
equal 'through the Unix socket' healthy \
	"$(curl -sS --unix-socket "$WORK/maas.sock" http://localhost/health | jq -r .status)"
equal 'through TCP' healthy "$(curl -sS "$URL/health" | jq -r .status)"
if [ "${ipv6:-0}" != 0 ]; then
	wait_for 10 grep -q 'Listening on http://\[::1\]:' "$LOG"
	equal 'through IPv6' healthy \
		"$(curl -sS -g "$(sed -n 's/^Listening on \(.*\[::1\].*\)/\1/p' "$LOG")/health" | jq -r .status)"
fi
! grep -q 'no authentication' "$LOG" || fail 'warns although only this host can reach it'
stop_server
[ ! -e "$WORK/maas.sock" ] || fail 'the socket stays behind'

step 'who may connect to a Unix socket'
refused 1 '--socket-group no-such-group: there is no such group' \
	--socket-group no-such-group --listen "unix:$WORK/mode.sock"
refused 1 'there is no such group' --check --socket-group no-such-group --listen 127.0.0.1:0
[ ! -e "$WORK/mode.sock" ] || fail 'the socket is there'
umask 0077
start_server --listen 127.0.0.1:0 --listen "unix:$WORK/mode.sock" --socket-mode 0666 --socket-group "$(id -g)"
umask 0022
wait_for 30 grep -q '^Listening on unix' "$LOG"
equal 'mode and group' "666 $(id -g)" "$(stat -c '%a %g' "$WORK/mode.sock")"
stop_server

step 'mistyped variables'
MAAS_LISTN=127.0.0.1:1 refused 0 'is MAAS_LISTEN meant?' --check --listen 127.0.0.1:0
export MAAS_LOGFILE=$WORK/log MAAS_PORT=tcp://10.0.0.1:3000 MAAS_SERVICE_HOST=10.0.0.1 \
	MAAS_PORT_3000_TCP_ADDR=10.0.0.1 MAAS_URL=http://10.0.0.1:3000
start_server
wait_for 5 grep -q 'warn MAAS_LOGFILE .* is MAAS_LOG_FILE meant?' "$LOG"
equal 'warnings' 1 "$(grep -c 'in the environment' "$LOG")"
stop_server
unset MAAS_LOGFILE MAAS_PORT MAAS_SERVICE_HOST MAAS_PORT_3000_TCP_ADDR MAAS_URL

step 'warnings before "Listening", which comes last'
MAAS_LISTN=1 start_server --listen :0 --max-pool-size 3TiB
equal 'a port alone' "http://0.0.0.0:${URL##*:}" "$URL"
equal 'last line' "Listening on $URL" "$(tail -n 1 "$LOG")"
for words in 'warn no authentication' "warn .* this machine's memory" 'warn MAAS_LISTN' 'info rdma: '; do
	equal "lines with '$words'" 1 "$(grep -c "$words" "$LOG")"
done
if [ ! -e /sys/class/infiniband ] || [ -z "$(ls /sys/class/infiniband)" ]; then
	grep -q 'this host has no RDMA device, .* nothing needs to be done' "$LOG" ||
		fail "the log does not say that there is no RDMA device: $(cat "$LOG")"
fi
stop_server

step 'one life, one boot_id'
ids() { curl -sS "$URL/health" | jq -r '.boot_id + " " + .arena_id'; }
start_server
first=$(ids)
equal 'boot_id of the same life' "$first" "$(ids)"
stop_server
start_server
second=$(ids)
[ "${first% *}" != "${second% *}" ] || fail "boot_id stays over a restart: $first"
[ "${first#* }" != "${second#* }" ] || fail "arena_id stays over a restart: $first"
stop_server

step 'the limit of open files'
limited() {
	local drop=()
	# root may raise any limit, unless it may not
	[ "$(id -u)" != 0 ] || drop=(setpriv --bounding-set=-sys_resource --inh-caps=-sys_resource)
	launch prlimit --nofile="$1" "${drop[@]}" "$MAASD" --listen 127.0.0.1:0 "${@:2}"
}
limited 200 --max-connections 1000 --http-threads 2
contains 'log' "$(cat "$LOG")" '--max-connections 1000 lowered to 36: the limit of open files is 200'
stop_server
limited 100
contains 'log' "$(cat "$LOG")" 'leaves none for connections'
wait_server 1

step 'systemd hears of it'
/usr/bin/python3 "$(dirname "$0")/notify.py" "$MAASD"

step 'NUMA node, memory taken at once'
start_server --prealloc --max-pool-size 64MiB
equal 'backed_bytes' 67108864 "$(curl -sS "$URL/stats" | jq .backed_bytes)"
stop_server
if [ -e /sys/devices/system/node/node0 ]; then
	start_server --numa-node 0
	allocate '{"size_bytes":4194304}'
	request PUT "/allocate/$ID/data" --data-binary "@$MAASD"
	stop_server
fi
