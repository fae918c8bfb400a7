#!/usr/bin/env bash
# The programs that people run, over a real device: the C11 and the C++ program, the example, the maas command,
# doctor. Run as: programs.sh MAASD MAAS EXAMPLE PROGRAM..., by scripts/softroce.
if [ -z "${SOFTROCE_ADDR:-}" ]; then
	echo 'no RDMA device: run it through scripts/softroce' >&2
	[ -z "${MAAS_REQUIRE_RDMA:-}" ] || exit 1
	exit 77
fi
# shellcheck source=tests/e2e/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../e2e/lib.sh"
# shellcheck source=tests/e2e/certs.sh
. "$(dirname "${BASH_SOURCE[0]}")/../e2e/certs.sh"
MAAS=$2 EXAMPLE=$3
programs=("${@:4}")

maas() {
	"$MAAS" "$@"
}

step 'a server that has RDMA'
start_server --rdma required --listen "$SOFTROCE_ADDR:0"
export MAAS_URL=$URL
mkdir "$WORK/prometheus"
cat >"$WORK/prometheus/prometheus.yml" <<-END
	global: {scrape_interval: 1s}
	scrape_configs: [{job_name: maasd, static_configs: [{targets: ['${URL#http://}']}]}]
END
prometheus --config.file="$WORK/prometheus/prometheus.yml" --storage.tsdb.path="$WORK/prometheus/data" \
	--web.listen-address=127.0.0.1:9090 >"$WORK/prometheus.log" 2>&1 </dev/null &
children+=($!)

step 'the programs borrow, write and read by RDMA'
for program in "${programs[@]}"; do
	equal "${program##*/}" "hello from $URL" "$("$program" rdma)"
done

step 'the example has many transfers under way at once'
equal 'the example' "16 MiB went to $URL and back" "$("$EXAMPLE")"
equal 'allocations left' 0 "$(metric maas_active_allocations)"

step 'put and get by either way are the same bytes'
head -c 1000003 /dev/urandom >"$WORK/out"
id=$(maas alloc 1MiB)
for pair in 'rdma rdma' 'rdma http' 'http rdma' 'auto auto'; do
	read -r there back <<<"$pair"
	head -c 1000003 /dev/urandom >"$WORK/out"
	maas put --transport "$there" "$id" "$WORK/out"
	maas get --transport "$back" --length 1000003 "$id" "$WORK/in"
	cmp "$WORK/out" "$WORK/in" || fail "$there there, $back back: other bytes"
done
equal 'what auto came to' rdma \
	"$(maas put --json "$id" "$WORK/out" | jq -r .transport)"
maas free "$id"

step 'bench over RDMA, each byte compared'
maas bench --transport rdma --json --count 40 --threads 2 --size 8KiB >"$WORK/bench.json"
equal 'bench' 'rdma 0 0 0' \
	"$(jq -r '"\(.transport) \(.wrong_bytes) \(.put.failed) \(.get.failed)"' "$WORK/bench.json")"
maas bench --transport rdma --hold --json --time 6 --threads 1 --size 4KiB >"$WORK/hold.json"
equal 'bench --hold' 'rdma 0 true true' \
	"$(jq -r '"\(.transport) \(.wrong_bytes) \(.put.operations > 0) \(.get.p99_us > 0)"' "$WORK/hold.json")"

step 'doctor finds the device here and the keys there in order'
status=0
maas doctor --json >"$WORK/doctor.json" || status=$?
# says FIELD CHECK: that field of all findings of a check.
says() {
	jq -r --arg field "$1" --arg check "$2" '[.[] | select(.check == $check)[$field]] | unique | join("; ")' \
		"$WORK/doctor.json"
}
equal 'exit code of doctor' 0 "$status"
equal 'memlock' ok "$(says grade memlock)"
contains 'rdma' "$(says finding rdma)" 'port 1 is active'
contains 'rdma' "$(says finding rdma)" 'does not hold the bounds of memory windows'
contains 'the server' "$(says finding 'server rdma')" 'its mr keys keep clients apart'

step 'and finds what is not'
(ulimit -l 64 && maas doctor --json >"$WORK/doctor.json")
equal 'memlock, for root' ok "$(says grade memlock)"
status=0
(ulimit -l 64 && setpriv --bounding-set -ipc_lock --inh-caps -ipc_lock "$MAAS" doctor --json >"$WORK/doctor.json") ||
	status=$?
equal 'exit code of doctor' 1 "$status"
equal 'memlock' warning "$(says grade memlock)"

step 'each panel of the dashboard of RDMA has shown something'
python3 "$(dirname "${BASH_SOURCE[0]}")/../e2e/dashboards.py" ask http://127.0.0.1:9090 60 \
	"$(dirname "${BASH_SOURCE[0]}")/../../ops/grafana/rdma.json" ||
	fail 'a panel is empty'

step 'nothing is left behind'
equal 'allocations left' 0 "$(metric maas_active_allocations)"
stop_server

step 'with certificates: HTTP by TLS, and the bytes by RDMA'
umask 077
make_ca ca
make_cert server ca serverAuth "IP:$SOFTROCE_ADDR"
make_cert me ca clientAuth DNS:me.example
echo 'me cert=me.example owner=me,borrower' >"$WORK/principals"
start_server --rdma required --listen "$SOFTROCE_ADDR:0" --tls-cert "$WORK/server.crt" --tls-key "$WORK/server.key" \
	--tls-client-ca "$WORK/ca.crt" --auth-file "$WORK/principals"
grep -q 'warn .*RDMA is in clear' "$LOG" || fail "no word of what RDMA does not encrypt: $(cat "$LOG")"
export MAAS_URL=$URL MAAS_CA_FILE=$WORK/ca.crt MAAS_CERT_FILE=$WORK/me.crt MAAS_KEY_FILE=$WORK/me.key
id=$(maas alloc 1MiB)
equal 'what carried the bytes' rdma "$(maas put --json "$id" "$WORK/out" | jq -r .transport)"
maas get --transport rdma --length 1000003 "$id" "$WORK/in"
cmp "$WORK/out" "$WORK/in" || fail 'other bytes'
maas free "$id"
! MAAS_CERT_FILE='' MAAS_KEY_FILE='' maas put --transport rdma "$WORK/out" 2>"$WORK/stranger.log" ||
	fail 'a stranger has memory'
contains 'a stranger' "$(cat "$WORK/stranger.log")" 'who you are'
stop_server
unset "${!MAAS_@}"

step 'rdma is never quietly http'
start_server --rdma off
export MAAS_URL=$URL
for program in "$EXAMPLE" "${programs[@]}"; do
	! "$program" rdma >"$WORK/program.log" 2>&1 || fail "${program##*/} needs no RDMA"
done
equal 'auto without RDMA' http "$(id=$(maas alloc 1KiB) && maas put --json "$id" <<<hello | jq -r .transport)"
