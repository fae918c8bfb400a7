/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of tls: what a client's certificate proves over a real handshake. */
#include <sys/socket.h>

#include <gnutls/gnutls.h>

#include "tests/unit/tls/tls_fixture.h"

/* ---- handshakes */

struct pair {
	int fds[2];
	gnutls_session_t server, client;
	gnutls_certificate_credentials_t credentials; /* the client's */
	struct maas_tls_stream stream;
	bool shaken;
};

static void on_shaken(struct maas_tls_stream *stream)
{
	((struct pair *)((char *)stream - offsetof(struct pair, stream)))->shaken = true;
}

/* Of CAs, which the client shows behind its own certificate, up to a NULL. */
static const struct cert *between[4];

static void pair_open(struct pair *pair, const struct cert *cert, const char *priorities)
{
	gnutls_x509_crt_t chain[MAAS_ARRAY_SIZE(between)] = {cert ? cert->crt : NULL};
	int count = 1;

	for (; between[count - 1]; count++)
		chain[count] = between[count - 1]->crt;
	memset(pair, 0, sizeof(*pair));
	assert_int_equal(
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair->fds), 0);
	assert_int_equal(gnutls_init(&pair->server, GNUTLS_SERVER | GNUTLS_NONBLOCK), 0);
	assert_int_equal(gnutls_priority_set_direct(pair->server, maas_tls_priorities(), NULL), 0);
	gnutls_transport_set_int(pair->server, pair->fds[0]);
	assert_int_equal(
		maas_tls_stream_init(&pair->stream, load(), pair->server, pair->fds[0], on_shaken),
		0);
	assert_int_equal(gnutls_init(&pair->client,
				     GNUTLS_CLIENT | GNUTLS_NONBLOCK | GNUTLS_FORCE_CLIENT_CERT),
			 0);
	assert_int_equal(gnutls_priority_set_direct(pair->client, priorities, NULL), 0);
	gnutls_certificate_allocate_credentials(&pair->credentials);
	if (cert)
		assert_int_equal(
			gnutls_certificate_set_x509_key(pair->credentials, chain, count, cert->key),
			0);
	gnutls_credentials_set(pair->client, GNUTLS_CRD_CERTIFICATE, pair->credentials);
	gnutls_transport_set_int(pair->client, pair->fds[1]);
}

static void pair_close(struct pair *pair)
{
	gnutls_deinit(pair->server);
	maas_tls_stream_fini(&pair->stream);
	gnutls_deinit(pair->client);
	gnutls_certificate_free_credentials(pair->credentials);
	close(pair->fds[0]);
	close(pair->fds[1]);
}

/* Returns the server's result. */
static int shake(struct pair *pair)
{
	int s = GNUTLS_E_AGAIN, c = GNUTLS_E_AGAIN;

	for (int i = 0; i < 20 && (s == GNUTLS_E_AGAIN || c == GNUTLS_E_AGAIN); i++) {
		if (c == GNUTLS_E_AGAIN)
			c = gnutls_handshake(pair->client);
		if (s == GNUTLS_E_AGAIN)
			s = gnutls_handshake(pair->server);
	}
	return s;
}

/* What was read ahead of a record is the next ones, in their order and whole. */
TEST(stream__records_that_come_together)
{
	static const size_t sizes[] = {1, 3000, 200, 16384, 1, 2048};
	static char sent[16384], got[16384 + 1];
	struct pair pair;

	pair_open(&pair, NULL, "NORMAL");
	assert_int_equal(shake(&pair), 0);
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(sizes); i++) {
		memset(sent, (int)('a' + i), sizes[i]);
		assert_int_equal(gnutls_record_send(pair.client, sent, sizes[i]), sizes[i]);
	}
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(sizes); i++) {
		memset(sent, (int)('a' + i), sizes[i]);
		assert_int_equal(gnutls_record_recv(pair.server, got, sizeof(got)), sizes[i]);
		assert_memory_equal(got, sent, sizes[i]);
	}
	assert_int_equal(gnutls_record_recv(pair.server, got, sizeof(got)), GNUTLS_E_AGAIN);
	pair_close(&pair);
}

/* What the server found of the last client. */
static struct maas_tls_peer *peer;

static void forget_peer(void)
{
	free(peer);
	peer = NULL;
}

/* Shows `cert`, and returns what maas_tls_peer_verify() does. */
static int verify(const struct cert *cert)
{
	struct pair pair;
	int r;

	*error = '\0';
	forget_peer();
	pair_open(&pair, cert, "NORMAL");
	assert_int_equal(shake(&pair), 0);
	assert_true(pair.shaken);
	r = maas_tls_peer_verify(pair.stream.tls, &pair.stream, error, &peer);
	assert_int_equal(peer != NULL, !r);
	pair_close(&pair);
	return r;
}

static void verify_refuses(const struct cert *cert, int want, const char *words)
{
	assert_int_equal(verify(cert), want);
	says(error, words);
}

TEST(verify__takes_the_names_of_a_good_certificate)
{
	static const char address[4] = {127, 0, 0, 1};
	const struct cert *cert = CLIENT(ca, NAMES(DNS("A.example"), URI("spiffe://x/a"),
						   {"a@b.example", GNUTLS_SAN_RFC822NAME, 0},
						   {address, GNUTLS_SAN_IPADDRESS, 4}));

	assert_int_equal(verify(cert), 0);
	assert_int_equal(peer->num_names, 2);
	assert_string_equal(peer->names[0].text, "A.example");
	assert_false(peer->names[0].is_uri);
	assert_string_equal(peer->names[1].text, "spiffe://x/a");
	assert_true(peer->names[1].is_uri);
	assert_int_equal(peer->expiry_s, expiry_s(cert));
}

TEST(verify__takes_no_name_with_a_nul)
{
	/* DNS "a.example", a NUL, ".evil"; URI "spiffe://a", a NUL, "b"; DNS "b" */
	static const char der[] = "\x30\x22\x82\x0f"
				  "a.example\0.evil\x86\x0c"
				  "spiffe://a\0b\x82\x01"
				  "b";

	assert_int_equal(verify(CLIENT(ca, .der = der, .der_len = sizeof(der) - 1)), 0);
	assert_int_equal(peer->num_names, 1);
	assert_string_equal(peer->names[0].text, "b");
}

TEST(verify__refuses_what_proves_nothing)
{
	static struct cert_name many[MAAS_TLS_MAX_NAMES + 1];

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(many); i++)
		many[i] = (struct cert_name)DNS("a.example");
	verify_refuses(CLIENT(NULL, NAMES(DNS("a"))), -EKEYREJECTED, "has signed it");
	verify_refuses(CLIENT(other, NAMES(DNS("a"))), -EKEYREJECTED, "has signed it");
	verify_refuses(CLIENT(ca, .from_s = -DAY_S, .until_s = -1), -EKEYEXPIRED, "has expired");
	verify_refuses(CLIENT(ca, .from_s = 600, .until_s = DAY_S), -EKEYEXPIRED, "not valid yet");
	verify_refuses(CERT(ca, .purpose = GNUTLS_KP_TLS_WWW_SERVER), -EKEYREJECTED,
		       "not for clients");
	verify_refuses(CLIENT(ca, .rsa_bits = 1024), -EKEYREJECTED, "too weak");
	verify_refuses(CLIENT(ca, .names = many, .num_names = MAAS_ARRAY_SIZE(many)), -EKEYREJECTED,
		       "more than 64 names");
}

/* What an intermediate CA may not sign for is nobody's name, hosts and URIs alike. */
TEST(verify__holds_names_to_what_a_ca_may_sign_for)
{
	const struct cert_name host = DNS("b.example"), uri = URI("b.example");
	const struct cert *hosts = CERT(ca, .ca = true, .permitted = &host);
	const struct cert *uris = CERT(ca, .ca = true, .permitted = &uri);
	const struct cert *with_uri = CLIENT(uris, NAMES(URI("spiffe://a.example/x")));

	between[0] = hosts;
	verify_refuses(CLIENT(hosts, NAMES(DNS("a.example"))), -EKEYREJECTED,
		       "may not sign for such");
	between[0] = uris;
	verify_refuses(with_uri, -EKEYREJECTED, "some URIs only");
	assert_int_equal(verify(CLIENT(uris, NAMES(DNS("a.example")))), 0);
	/* The same of one that is trusted by itself. */
	between[0] = NULL;
	cert_write(uris, in("uris.crt"));
	files.client_ca = in("uris.crt");
	verify_refuses(with_uri, -EKEYREJECTED, "some URIs only");
}

/* What the client shows besides is nobody's business: a CA's former certificate, a root. */
TEST(verify__ends_with_what_it_rests_on)
{
	const struct cert *root = CERT(NULL, .renews = ca, .ca = true, EXPIRED);
	const struct cert *middle = CERT(ca, .ca = true, .from_s = -60, .until_s = 600);
	const struct cert *former = CERT(ca, .renews = middle, .ca = true, EXPIRED);
	const struct cert *cert = CLIENT(ca, NAMES(DNS("a")));

	between[0] = root;
	assert_int_equal(verify(cert), 0);
	assert_int_equal(peer->expiry_s, expiry_s(cert));
	cert = CLIENT(middle, NAMES(DNS("a")));
	between[0] = middle;
	between[1] = root;
	assert_int_equal(verify(cert), 0);
	assert_int_equal(peer->expiry_s, expiry_s(middle));
	between[0] = former;
	verify_refuses(cert, -EKEYEXPIRED, "has expired");
}

TEST(verify__refuses_what_was_revoked)
{
	const struct cert *bad = CLIENT(ca, NAMES(DNS("a")));

	cert_write_crl(ca, bad, DAY_S, in("crl"));
	files.client_crl = in("crl");
	assert_int_equal(verify(CLIENT(ca, NAMES(DNS("a")))), 0);
	assert_int_equal(verify(bad), -EKEYREVOKED);
}

/* A server that loaded the list while it was good; GnuTLS alone would go by it for ever. */
TEST(verify__refuses_everybody_while_the_list_is_old)
{
	const struct cert *cert = CLIENT(ca, NAMES(DNS("a")));
	struct pair pair;

	cert_write_crl(ca, NULL, 4, in("crl"));
	files.client_crl = in("crl");
	forget_peer();
	pair_open(&pair, cert, "NORMAL");
	assert_int_equal(shake(&pair), 0);
	assert_int_equal(maas_tls_peer_verify(pair.stream.tls, &pair.stream, error, &peer), 0);
	while (maas_clock_wall_s() < peer->expiry_s)
		usleep(100000);
	forget_peer();
	assert_int_equal(maas_tls_peer_verify(pair.stream.tls, &pair.stream, error, &peer),
			 -EKEYREJECTED);
	says(error, "--tls-client-crl is out of date");
	pair_close(&pair);
}

TEST(verify__client_without_a_certificate)
{
	assert_int_equal(verify(NULL), -ENODATA);
}

/* ---- handshakes that fail */

static void fails(struct pair *pair, enum maas_tls_failure want, const char *words)
{
	const char *detail;

	assert_true(shake(pair) < 0);
	assert_ptr_equal(maas_tls_stream_shaking(), &pair->stream);
	assert_int_equal(maas_tls_stream_fail(&pair->stream, &detail), want);
	says(detail, words);
	assert_null(maas_tls_stream_shaking());
	assert_false(pair->shaken);
	pair_close(pair);
}

TEST(fail__plain_http_is_answered)
{
	static const char request[] = "GET / HTTP/1.1\r\n\r\n";
	char answer[512] = "";
	struct pair pair;

	pair_open(&pair, NULL, "NORMAL");
	assert_int_equal(write(pair.fds[1], request, strlen(request)), strlen(request));
	assert_true(gnutls_handshake(pair.server) < 0);
	assert_int_equal(maas_tls_stream_fail(&pair.stream, &(const char *){NULL}),
			 MAAS_TLS_FAIL_PLAINTEXT);
	assert_true(read(pair.fds[1], answer, sizeof(answer) - 1) > 0);
	says(answer, "HTTP/1.1 400 Bad Request\r\n");
	says(answer, "tls_required");
	pair_close(&pair);
}

TEST(fail__says_why)
{
	struct pair pair;

	pair_open(&pair, NULL, "NORMAL:-VERS-ALL:+VERS-TLS1.1:%COMPAT");
	fails(&pair, MAAS_TLS_FAIL_PROPOSAL, "TLS 1.3, or 1.2");
	pair_open(&pair, NULL, "NORMAL:-VERS-ALL:+VERS-TLS1.2:-CIPHER-ALL:+AES-128-CBC");
	fails(&pair, MAAS_TLS_FAIL_PROPOSAL, "TLS 1.3, or 1.2");
	pair_open(&pair, NULL, "NORMAL");
	shutdown(pair.fds[1], SHUT_WR);
	assert_true(gnutls_handshake(pair.server) < 0);
	assert_int_equal(maas_tls_stream_fail(&pair.stream, &(const char *){NULL}),
			 MAAS_TLS_FAIL_CLOSED);
	pair_close(&pair);
}

/* It would stay in memory for as long as the connection. */
TEST(fail__a_chain_that_is_too_long)
{
	static char text[251];
	static struct cert_name many[200];
	struct pair pair;

	memset(text, 'a', sizeof(text) - 1);
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(many); i++)
		many[i] = (struct cert_name)DNS(text);
	pair_open(&pair, CLIENT(NULL, .names = many, .num_names = MAAS_ARRAY_SIZE(many)), "NORMAL");
	fails(&pair, MAAS_TLS_FAIL_PROTOCOL, "breaks the protocol");
}

/* Who closes the stream leaves nothing behind for the next one. */
TEST(fail__a_stream_that_is_gone_is_nobodys)
{
	struct pair pair;

	pair_open(&pair, NULL, "NORMAL");
	(void)gnutls_handshake(pair.server);
	assert_ptr_equal(maas_tls_stream_shaking(), &pair.stream);
	pair_close(&pair);
	assert_null(maas_tls_stream_shaking());
}

/* ---- */

static void set_up(void)
{
	memset(between, 0, sizeof(between));
	tls_files();
}

int main(void)
{
	return tls_test_run(set_up, forget_peer);
}
