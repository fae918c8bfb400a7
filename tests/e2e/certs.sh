# shellcheck shell=bash
# Certificates for tests, in $WORK: NAME.key and NAME.crt. Sourced after lib.sh.

# make_ca NAME
make_ca() {
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$WORK/$1.key" \
		-out "$WORK/$1.crt" -days 30 -subj "/CN=$1" -addext basicConstraints=critical,CA:TRUE \
		-addext keyUsage=critical,keyCertSign,cRLSign 2>"$WORK/openssl.txt" || fail "openssl: $(cat "$WORK/openssl.txt")"
}

# make_cert NAME CA PURPOSE NAMES [OPTION...]: PURPOSE is serverAuth, clientAuth or -, NAMES such as
# DNS:localhost,IP:127.0.0.1, OPTION those of `openssl x509 -req`, such as -days 1.
make_cert() {
	local name=$1 ca=$2 purpose=$3 names=$4
	shift 4
	openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$WORK/$name.key" \
		-out "$WORK/$name.csr" -subj "/CN=$name" 2>"$WORK/openssl.txt" || fail "openssl: $(cat "$WORK/openssl.txt")"
	{
		[ "$names" = - ] || echo "subjectAltName=$names"
		[ "$purpose" = - ] || echo "extendedKeyUsage=$purpose"
	} >"$WORK/$name.ext"
	[ $# -gt 0 ] || set -- -days 10
	openssl x509 -req -in "$WORK/$name.csr" -CA "$WORK/$ca.crt" -CAkey "$WORK/$ca.key" -CAcreateserial \
		-extfile "$WORK/$name.ext" -out "$WORK/$name.crt" "$@" 2>"$WORK/openssl.txt" ||
		fail "openssl: $(cat "$WORK/openssl.txt")"
}

# trust CA: the CA that curl believes.
trust() {
	export CURL_CA_BUNDLE=$WORK/$1.crt
}

# make_crl CA DAYS [CERT...]: CA.crl, which revokes these and those of before, and is to be replaced in DAYS.
make_crl() {
	local ca=$1 days=$2 name
	shift 2
	printf '[ca]\ndefault_ca = d\n[d]\ndatabase = %s\ndefault_md = sha256\n' "$WORK/$ca.index" >"$WORK/$ca.cnf"
	touch "$WORK/$ca.index"
	for name in "$@"; do
		openssl ca -config "$WORK/$ca.cnf" -keyfile "$WORK/$ca.key" -cert "$WORK/$ca.crt" \
			-revoke "$WORK/$name.crt" 2>"$WORK/openssl.txt" || fail "openssl: $(cat "$WORK/openssl.txt")"
	done
	openssl ca -config "$WORK/$ca.cnf" -keyfile "$WORK/$ca.key" -cert "$WORK/$ca.crt" -gencrl \
		-crldays "$days" -out "$WORK/$ca.crl" 2>"$WORK/openssl.txt" || fail "openssl: $(cat "$WORK/openssl.txt")"
}
