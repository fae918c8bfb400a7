# shellcheck shell=bash
# Certificates for tests, in $WORK: NAME.key and NAME.crt. Sourced after lib.sh.

# run_openssl ARGUMENT...: without its chatter.
run_openssl() {
	openssl "$@" 2>"$WORK/openssl.txt" || fail "openssl $1: $(cat "$WORK/openssl.txt")"
}

# run_ca CA ARGUMENT...: openssl ca(1), which keeps what was issued and revoked in CA.index.
run_ca() {
	local ca=$1
	shift
	cat >"$WORK/$ca.cnf" <<-END
		[ca]
		default_ca = d
		[d]
		database = $WORK/$ca.index
		new_certs_dir = $WORK
		default_md = sha256
		rand_serial = yes
		policy = p
		unique_subject = no
		[p]
		commonName = supplied
	END
	touch "$WORK/$ca.index"
	run_openssl ca -batch -config "$WORK/$ca.cnf" -keyfile "$WORK/$ca.key" -cert "$WORK/$ca.crt" "$@"
}

# make_ca NAME
make_ca() {
	run_openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$WORK/$1.key" \
		-out "$WORK/$1.crt" -days 30 -subj "/CN=$1" -addext basicConstraints=critical,CA:TRUE \
		-addext keyUsage=critical,keyCertSign,cRLSign
}

# make_cert NAME CA PURPOSE NAMES [SECONDS]: PURPOSE is serverAuth, clientAuth or -, NAMES such as
# DNS:localhost,IP:127.0.0.1 or -, SECONDS how long it is valid from now on; below 0: it was.
make_cert() {
	run_openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$WORK/$1.key" \
		-out "$WORK/$1.csr" -subj "/CN=$1"
	{
		[ "$4" = - ] || echo "subjectAltName=$4"
		[ "$3" = - ] || echo "extendedKeyUsage=$3"
	} >"$WORK/$1.ext"
	run_ca "$2" -notext -in "$WORK/$1.csr" -out "$WORK/$1.crt" -extfile "$WORK/$1.ext" \
		-startdate "$(date -u -d '-20 days' +%Y%m%d%H%M%SZ)" \
		-enddate "$(date -u -d "${5:-864000} seconds" +%Y%m%d%H%M%SZ)"
}

# make_crl CA DAYS [CERT...]: CA.crl, which revokes these and those of before, and is to be replaced in DAYS.
make_crl() {
	local ca=$1 days=$2 name
	shift 2
	for name in "$@"; do
		run_ca "$ca" -revoke "$WORK/$name.crt"
	done
	run_ca "$ca" -gencrl -crldays "$days" -out "$WORK/$ca.crl"
}

# trust CA: the CA that curl believes.
trust() {
	export CURL_CA_BUNDLE=$WORK/$1.crt
}
