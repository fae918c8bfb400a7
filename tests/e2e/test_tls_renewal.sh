#!/usr/bin/env bash
# maasd renews its certificate, the CAs and the revocation list while clients work.
# Run as: test_tls_renewal.sh MAASD
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
. "$(dirname "${BASH_SOURCE[0]}")/certs.sh"

umask 077
make_ca ca
make_ca new
cat "$WORK/ca.crt" "$WORK/new.crt" >"$WORK/all.crt"
trust all
for ca in ca new; do
	make_cert "server-$ca" "$ca" serverAuth DNS:localhost,IP:127.0.0.1
	make_cert "client-$ca" "$ca" clientAuth DNS:a.example
done
make_crl ca 7

# install_file FROM TO: in one step.
install_file() {
	cp "$WORK/$1" "$WORK/$2.tmp"
	mv "$WORK/$2.tmp" "$WORK/$2"
}
install_file server-ca.crt tls.crt
install_file server-ca.key tls.key
install_file ca.crt clients.crt
install_file ca.crl clients.crl
echo 'a cert=a.example admin' >"$WORK/principals"
start_server --rdma off --auth-file "$WORK/principals" --tls-cert "$WORK/tls.crt" --tls-key "$WORK/tls.key" \
	--tls-client-ca "$WORK/clients.crt" --tls-client-crl "$WORK/clients.crl"

reads=1
read_again() { [ "$(grep -c 'info certificates read' "$LOG")" -ge "$reads" ]; }
# reload: reads what was installed, and sees that it is taken.
reload() {
	reads=$((reads + 1))
	kill -HUP "$SERVER"
	wait_for 10 read_again
}

failures=0
# reload_fails WORDS: what was installed is refused.
reload_fails() {
	failed_again() { [ "$(grep -c 'error certificates stay as they were' "$LOG")" -ge "$failures" ]; }
	failures=$((failures + 1))
	kill -HUP "$SERVER"
	wait_for 10 failed_again
	contains 'the log' "$(grep 'certificates stay as they were' "$LOG" | tail -n 1)" "$1"
}

# issuer: who signed what the server shows.
issuer() {
	openssl s_client -connect "${URL#https://}" </dev/null 2>/dev/null | sed -n 's/^issuer=CN *= *//p'
}

# load NAME [CURL OPTION...]: requests in the background, at one connection or, with -H 'Connection: close', at as many;
# in the long run ten times as many.
requests=500
[ "${MAAS_LONG:-}" != 1 ] || requests=5000
load() {
	local name=$1
	shift
	seq "$requests" | sed "s|.*|url = \"$URL/allocations\"\noutput = /dev/null|" >"$WORK/$name.urls"
	curl -sS -w '%{http_code}\n' -K "$WORK/$name.urls" "$@" >"$WORK/$name.codes" 2>"$WORK/$name.err" &
	children+=($!)
	loads+=("$!=$name")
}

# loads_end: not one request has failed.
loads_end() {
	local load
	for load in "${loads[@]}"; do
		wait "${load%%=*}" || fail "curl: $(cat "$WORK/${load#*=}.err")"
		equal "answers of ${load#*=}" "$requests 200" "$(sort "$WORK/${load#*=}.codes" | uniq -c | xargs)"
	done
	loads=()
}

# expiry: what /metrics say.
with_client() { curl -sS --cert "$WORK/client-$1.crt" --key "$WORK/client-$1.key" "${@:3}" "$URL$2"; }
value() { with_client "$1" /metrics | awk -v name="$2" '$1 == name { print $2 }'; }

step 'metrics'
until=$(date -d "$(openssl x509 -in "$WORK/tls.crt" -noout -enddate | cut -d= -f2)" +%s)
equal 'expiry' "$until" "$(value ca maas_tls_certificate_expiry_seconds)"
equal 'reload' 1 "$(value ca maas_config_last_reload_successful)"

step 'the certificate and its key, under load'
loads=()
CA=(--cert "$WORK/client-ca.crt" --key "$WORK/client-ca.key")
NEW=(--cert "$WORK/client-new.crt" --key "$WORK/client-new.key")
load kept "${CA[@]}"
load closed "${CA[@]}" -H 'Connection: close'
equal 'issuer' ca "$(issuer)"
install_file server-new.crt tls.crt
reload_fails 'is not that of the certificate'
equal 'issuer' ca "$(issuer)"
equal 'reload' 0 "$(value ca maas_config_last_reload_successful)"
install_file server-new.key tls.key
reload
equal 'issuer' new "$(issuer)"
equal 'reload' 1 "$(value ca maas_config_last_reload_successful)"
loads_end

step 'the CAs, under load'
with_client new /stats >"$WORK/body"
contains 'a CA that is not believed' "$(cat "$WORK/body")" 'has signed it'
load kept "${CA[@]}"
load closed "${CA[@]}" -H 'Connection: close'
install_file all.crt clients.crt
reload
load new "${NEW[@]}"
loads_end
make_crl new 7
cat "$WORK/new.crl" >"$WORK/clients.crl"
load new "${NEW[@]}"
load closed "${NEW[@]}" -H 'Connection: close'
install_file new.crt clients.crt
reload
contains 'a CA that was believed' "$(with_client ca /stats)" 'has signed it'
loads_end

step 'the revocation list, under load; a kept connection loses its right'
make_cert bad new clientAuth DNS:a.example
load new "${NEW[@]}"
load closed "${NEW[@]}" -H 'Connection: close'
{
	printf 'GET /stats HTTP/1.1\r\nHost: localhost\r\n\r\n'
	wait_for 60 [ -e "$WORK/reloaded" ]
	printf 'GET /stats HTTP/1.1\r\nHost: localhost\r\n\r\n'
	wait_for 60 [ -e "$WORK/answered" ]
} | timeout 120 openssl s_client -connect "${URL#https://}" -quiet -cert "$WORK/bad.crt" -key "$WORK/bad.key" \
	>"$WORK/two" 2>"$WORK/two.err" &
children+=($!)
two=$!
wait_for 20 grep -q 'HTTP/1.1 200' "$WORK/two"
make_crl new 7 bad
install_file new.crl clients.crl
reload
touch "$WORK/reloaded"
wait_for 20 grep -q 'HTTP/1.1 401' "$WORK/two"
touch "$WORK/answered"
wait "$two"
equal 'the requests before and after' '200,401' "$(grep -ao 'HTTP/1.1 [0-9]*' "$WORK/two" | cut -d' ' -f2 | paste -sd,)"
contains 'the answer' "$(tail -n 1 "$WORK/two")" 'its CA has revoked it'
loads_end

step 'bad files keep the old ones'
echo nonsense >"$WORK/clients.crt"
reload_fails 'has no CA'
with_client new /stats >"$WORK/body"
contains 'as before' "$(cat "$WORK/body")" total_allocations
rm "$WORK/clients.crt"
reload_fails 'No such file'
install_file new.crt clients.crt
chmod 0644 "$WORK/tls.key"
reload_fails 'may be read by others'
chmod 0600 "$WORK/tls.key"
reload

step 'new files are seen without a signal'
make_cert brief ca serverAuth DNS:localhost,IP:127.0.0.1 25
install_file brief.crt tls.crt
install_file brief.key tls.key
reads=$((reads + 1))
wait_for 25 read_again
equal 'issuer' ca "$(issuer)"

step 'one that expires'
wait_for 40 grep -q 'error the certificate has expired, and clients refuse it' "$LOG"
stop_server
