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

# install_pair NAME: the server's certificate and its key.
install_pair() {
	install_file "$1.crt" tls.crt
	install_file "$1.key" tls.key
}
install_pair server-ca
install_file ca.crt clients.crt
install_file ca.crl clients.crl
echo 'a cert=a.example admin' >"$WORK/principals"
start_server --rdma off --auth-file "$WORK/principals" --tls-cert "$WORK/tls.crt" --tls-key "$WORK/tls.key" \
	--tls-client-ca "$WORK/clients.crt" --tls-client-crl "$WORK/clients.crl"

# logged COUNT WORDS
logged() { [ "$(grep -c "$2" "$LOG")" -ge "$1" ]; }

reads=1 failures=0
# is_read: what was installed is taken at SIGHUP.
is_read() {
	reads=$((reads + 1))
	reload logged $reads 'info certificates read'
}

# is_refused WORDS: what was installed is not.
is_refused() {
	failures=$((failures + 1))
	reload logged $failures 'error certificates stay as they were'
	contains 'the log' "$(grep 'certificates stay as they were' "$LOG" | tail -n 1)" "$1"
}

# issuer: who signed what the server shows.
issuer() {
	openssl s_client -connect "${URL#https://}" </dev/null 2>/dev/null | sed -n 's/^issuer=CN *= *//p'
}

# load NAME CLIENT [CURL OPTION...]: requests of the client with this certificate in the background, at one connection
# or, with -H 'Connection: close', at as many; in the long run ten times as many.
requests=500
[ "${MAAS_LONG:-}" != 1 ] || requests=5000
load() {
	seq "$requests" | sed "s|.*|url = \"$URL/allocations\"\noutput = /dev/null|" >"$WORK/$1.urls"
	curl -sS -w '%{http_code}\n' -K "$WORK/$1.urls" --cert "$WORK/client-$2.crt" --key "$WORK/client-$2.key" "${@:3}" \
		>"$WORK/$1.codes" 2>"$WORK/$1.err" &
	children+=($!)
	loads+=("$!=$1")
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

# loads_of CLIENT
loads_of() {
	load kept "$1"
	load closed "$1" -H 'Connection: close'
}

with_client() { curl -sS --cert "$WORK/client-$1.crt" --key "$WORK/client-$1.key" "$URL$2"; }
value() { with_client "$1" /metrics | awk -v name="$2" '$1 == name { print $2 }'; }

step 'metrics'
until=$(date -d "$(openssl x509 -in "$WORK/tls.crt" -noout -enddate | cut -d= -f2)" +%s)
equal 'expiry' "$until" "$(value ca maas_tls_certificate_expiry_seconds)"
until=$(date -d "$(openssl crl -in "$WORK/clients.crl" -noout -nextupdate | cut -d= -f2)" +%s)
equal 'expiry of the list' "$until" "$(value ca maas_tls_crl_expiry_seconds)"
equal 'reload' 1 "$(value ca maas_config_last_reload_successful)"

step 'the certificate and its key, under load'
loads=()
loads_of ca
equal 'issuer' ca "$(issuer)"
install_file server-new.crt tls.crt
is_refused 'is not that of the certificate'
equal 'issuer' ca "$(issuer)"
equal 'reload' 0 "$(value ca maas_config_last_reload_successful)"
install_file server-new.key tls.key
is_read
equal 'issuer' new "$(issuer)"
equal 'reload' 1 "$(value ca maas_config_last_reload_successful)"
loads_end

step 'the CAs, under load'
contains 'a CA that is not believed' "$(with_client new /stats)" 'has signed it'
loads_of ca
install_file all.crt clients.crt
is_read
load new new
loads_end
make_crl new 7
cat "$WORK/new.crl" >"$WORK/clients.crl"
loads_of new
install_file new.crt clients.crt
is_read
contains 'a CA that was believed' "$(with_client ca /stats)" 'has signed it'
loads_end

step 'the revocation list, under load; a kept connection loses its right'
make_cert bad new clientAuth DNS:a.example
loads_of new
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
is_read
touch "$WORK/reloaded"
wait_for 20 grep -q 'HTTP/1.1 401' "$WORK/two"
touch "$WORK/answered"
wait "$two"
equal 'the requests before and after' '200,401' "$(grep -ao 'HTTP/1.1 [0-9]*' "$WORK/two" | cut -d' ' -f2 | paste -sd,)"
contains 'the answer' "$(tail -n 1 "$WORK/two")" 'its CA has revoked it'
loads_end

step 'bad files keep the old ones'
echo nonsense >"$WORK/clients.crt"
is_refused 'has no CA'
contains 'as before' "$(with_client new /stats)" total_allocations
rm "$WORK/clients.crt"
is_refused 'No such file'
install_file new.crt clients.crt
chmod 0644 "$WORK/tls.key"
is_refused 'may be read by others'
chmod 0600 "$WORK/tls.key"
is_read

step 'new files are seen without a signal'
make_cert brief ca serverAuth DNS:localhost,IP:127.0.0.1 25
install_pair brief
wait_for 25 logged $((reads + 1)) 'info certificates read'
equal 'issuer' ca "$(issuer)"

step 'one that expires'
wait_for 40 grep -q 'error the certificate has expired, and clients refuse it' "$LOG"
stop_server
