#!/usr/bin/env bash
# What operators are given in ops/ and docs/operations.md: alerts that fire and are silent again, a paragraph for each
# alert, an example of scraping that scrapes, a copy of lent memory that can be put back. (The metrics that they name:
# test_dashboards.py.)
# Run as: test_operations.sh MAASD MAAS SOURCE
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
. "$(dirname "${BASH_SOURCE[0]}")/certs.sh"
MAAS=$2
SOURCE=$3
OPS=$SOURCE/ops
umask 077

# run_promtool ARGUMENT...
run_promtool() {
	promtool "$@" >"$WORK/promtool.txt" 2>&1 || fail "promtool $*: $(head -n 60 "$WORK/promtool.txt")"
}

# same WHAT FILE FILE: lists of one word a line.
same() {
	diff "$2" "$3" >"$WORK/diff" || fail "$1: $(cat "$WORK/diff")"
}

step 'the rules, and the tests of the rules'
run_promtool check rules "$OPS/alerts.yml"
run_promtool test rules "$OPS/alerts_test.yml"
sed -n 's/^  - alert: //p' "$OPS/alerts.yml" | sort >"$WORK/alerts"
[ -s "$WORK/alerts" ] || fail "there are no alerts in $OPS/alerts.yml"
same 'an alert stands twice' "$WORK/alerts" <(uniq "$WORK/alerts")
same 'alerts, and those that alerts_test.yml fires' "$WORK/alerts" \
	<(grep -o 'alertname="[A-Za-z]*"' "$OPS/alerts_test.yml" | cut -d'"' -f2 | sort -u)
# A test that cannot fail tests nothing: one rule less, and one that always fires.
mkdir "$WORK/broken"
sed -n '1,/^tests:/p;/^- name: .healthy: a server,/,/^- name: .MaasRestarted/p' "$OPS/alerts_test.yml" |
	sed '/^- name: .MaasRestarted/d' >"$WORK/broken/alerts_test.yml"
for change in 's/up{job="maasd"} == 0/up > 7/' 's/maas_log_dropped_total\[10m\]) > 0/maas_log_dropped_total[10m]) > -1/'; do
	sed "$change" "$OPS/alerts.yml" >"$WORK/broken/alerts.yml"
	! cmp -s "$OPS/alerts.yml" "$WORK/broken/alerts.yml" || fail "nothing is changed by $change"
	! promtool test rules "$WORK/broken/alerts_test.yml" >"$WORK/promtool.txt" 2>&1 ||
		fail "the tests of the rules accept $change"
done

step 'a paragraph for each alert, and the reverse'
sed -n 's/^### //p' "$SOURCE/docs/operations.md" | sort >"$WORK/paragraphs"
same 'alerts, and paragraphs of docs/operations.md' "$WORK/alerts" "$WORK/paragraphs"
# shellcheck disable=SC2016  # the backticks are those of Markdown
grep -oE '`(Maas|PrometheusMaas)[A-Za-z]+`' "$SOURCE/docs/log.md" | tr -d '`' | sort -u >"$WORK/named"
same 'alerts of docs/log.md that do not exist' /dev/null <(comm -13 "$WORK/alerts" "$WORK/named")
same 'alerts, and their runbook' <(tr '[:upper:]' '[:lower:]' <"$WORK/alerts") \
	<(sed -n 's/^      runbook: docs\/operations.md#//p' "$OPS/alerts.yml" | sort)

# loaded_prometheus CONFIGURATION: starts Prometheus with a copy of ops/, with this in place of prometheus.yml and
# the server's address in it, and sets NODE, its process id, and
# PROMETHEUS, its URL.
loaded_prometheus() {
	local dir log
	dir=$(mktemp -d "$WORK/prometheus.XXXXXX")
	log=$dir.log
	cp "$OPS/alerts.yml" "$dir/"
	# Not a Prometheus that runs on this machine, too.
	sed "s|localhost:3000|${URL#*://}|; s/'localhost:909[01]'//g; s/\[, \]/[]/; s/: 15s/: 1s/; s|/etc/prometheus/maas|$WORK|" \
		"$1" >"$dir/prometheus.yml"
	! grep -q localhost: <(grep -v '^#' "$dir/prometheus.yml") || fail "a target of the example is still there"
	run_promtool check config "$dir/prometheus.yml"
	prometheus --config.file="$dir/prometheus.yml" --storage.tsdb.path="$dir/data" --web.listen-address=127.0.0.1:0 \
		2>"$log" </dev/null >&2 &
	NODE=$!
	children+=("$NODE")
	wait_for 60 grep -q 'msg="Listening on"' "$log"
	PROMETHEUS=$(grep -o 'msg="Listening on" address=[0-9.:]*' "$log" | sed 's/.*=/http:\/\//')
}

stop_prometheus() {
	kill -TERM "$NODE"
	wait "$NODE" || fail "Prometheus ended with $?"
}

# answer PATH FILTER: of Prometheus' API.
answer() {
	curl -sS -m 10 "$PROMETHEUS/api/v1/$1" | jq -r "$2"
}

scraped() { [ "$(answer 'query?query=up\{job="maasd"\}' '.data.result[0].value[1]')" = 1 ]; }
evaluated() { [ "$(answer rules '[.data.groups[].rules[] | .health == "ok"] | all')" = true ]; }

# judge_prometheus: it scrapes the server, evaluates all rules, and none of the server's is pending or fires.
judge_prometheus() {
	wait_for 60 scraped
	wait_for 60 evaluated
	equal 'rules that are evaluated' "$(wc -l <"$WORK/alerts")" "$(answer rules '[.data.groups[].rules[]] | length')"
	equal 'alerts of a healthy server' '' "$(answer alerts '.data.alerts[].labels.alertname')"
}

step 'a server without access control is scraped'
start_server --rdma off
loaded_prometheus "$OPS/prometheus.yml"
judge_prometheus
stop_prometheus
stop_server

step 'a server with principals and TLS is scraped'
make_ca ca
make_cert server ca serverAuth DNS:localhost,IP:127.0.0.1
{
	"$MAAS" token new team1 --output "$WORK/team1" | sed 's/$/ max-bytes=4MiB max-allocations=100 max-sessions=4 max-grants=9 max-connections=9/'
	"$MAAS" token new scraper --output "$WORK/scraper" | sed 's/owner=.*/metrics/'
} >"$WORK/principals"
start_server --rdma off --auth-file "$WORK/principals" --tls-cert "$WORK/server.crt" --tls-key "$WORK/server.key"
AS=(--url "$URL" --ca-file "$WORK/ca.crt")
"$MAAS" put "${AS[@]}" --token-file "$WORK/team1" --owner team1 "$WORK/alerts" >"$WORK/id"
sed 's/^  # \(scheme\|tls_config\|authorization\): /  \1: /' "$OPS/prometheus.yml" >"$WORK/secured.yml"
equal 'lines of the example taken out of their comment' 3 "$(diff "$OPS/prometheus.yml" "$WORK/secured.yml" | grep -c '^>')"
loaded_prometheus "$WORK/secured.yml"
judge_prometheus
stop_prometheus
stop_server

step 'a copy of a stopped server puts lent memory back'
KEEP=(--rdma off --memory-file "$WORK/memory" --max-pool-size 16MiB)
start_server "${KEEP[@]}"
ID=$("$MAAS" put --url "$URL" --owner me "$WORK/alerts")
stop_server
mkdir "$WORK/backup"
cp -p --sparse=always "$WORK/memory" "$WORK/memory.slots" "$WORK/backup/"
start_server "${KEEP[@]}"
"$MAAS" free --url "$URL" "$ID"
stop_server
cp -p --sparse=always "$WORK/backup/"* "$WORK/"
start_server "${KEEP[@]}"
"$MAAS" get --url "$URL" "$ID" | cmp - "$WORK/alerts" || fail 'the bytes are other ones'
stop_server
