/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of tls: what is refused of a server's files, and what is told of them. */
#include "tests/unit/tls/tls_fixture.h"

static void load_refuses(int want, const char *words)
{
	struct maas_tls *tls = NULL;

	assert_int_equal(maas_tls_load(&files, error, &tls), want);
	assert_null(tls);
	says(error, words);
}

static void load_refuses_cert(const struct cert *cert, int want, const char *words)
{
	cert_write(cert, in("server.crt"));
	cert_write_key(cert, in("server.key"));
	load_refuses(want, words);
}

TEST(load__says_what_is_wrong_with_a_certificate)
{
	load_refuses_cert(CERT(ca, .until_s = -1, .from_s = -DAY_S, NAMES(DNS("a"))), -EKEYEXPIRED,
			  "expired at");
	load_refuses_cert(CERT(ca, .from_s = 600, .until_s = DAY_S, NAMES(DNS("a"))), -EKEYEXPIRED,
			  "is valid from");
	load_refuses_cert(CLIENT(ca, NAMES(DNS("a"))), -EINVAL, "is not for servers");
	load_refuses_cert(CERT(ca, 0), -EINVAL, "names no host");
}

/* A root or a CA's former certificate, which no client needs. */
TEST(load__looks_at_the_way_to_a_ca_alone)
{
	const struct cert *root = CERT(NULL, .renews = ca, .ca = true, EXPIRED);
	const struct cert *middle = CERT(ca, .ca = true, .from_s = -60, .until_s = 600);
	const struct cert *former = CERT(ca, .renews = middle, .ca = true, EXPIRED);
	const struct cert *cert = CERT(middle, NAMES(DNS("a")));
	struct maas_tls *tls;

	cert_write(cert, in("server.crt"));
	cert_write_key(cert, in("server.key"));
	cert_add(former, in("server.crt"));
	load_refuses(-EKEYEXPIRED, "expired at");
	cert_write(cert, in("server.crt"));
	cert_add(middle, in("server.crt"));
	cert_add(former, in("server.crt"));
	cert_add(root, in("server.crt"));
	tls = load();
	assert_int_equal(maas_tls_expiry_s(tls), expiry_s(middle));
	maas_tls_unref(tls);
}

TEST(load__refuses_files_that_do_not_fit)
{
	files.key = in("other.key");
	load_refuses(-EINVAL, "is not that of the certificate");
	files.key = in("server.crt");
	load_refuses(-EPERM, "may be read by others");
	files.key = in("none");
	load_refuses(-ENOENT, "No such file");
	files.key = in("server.key");
	files.client_ca = in("ca.key");
	load_refuses(-EINVAL, "has no CA's certificate");
	files.client_ca = in("ca.crt");
	files.client_crl = in("ca.crt");
	load_refuses(-EINVAL, "has no revocation list");
	cert_write_crl(other, NULL, DAY_S, in("crl"));
	files.client_crl = in("crl");
	load_refuses(-EINVAL, "that no CA of");
	cert_write_crl(ca, NULL, -1, in("crl"));
	load_refuses(-EKEYEXPIRED, "was to be replaced at");
}

TEST(load__tells_its_figures)
{
	struct maas_tls *a = load(), *b = load(), *c;
	struct maas_buf text = {0};

	assert_true(maas_tls_same(a, b));
	assert_int_equal(maas_tls_expiry_s(a), expiry_s(server));
	assert_int_equal(maas_tls_client(a), MAAS_TLS_CLIENT_OPTIONAL);
	maas_tls_print(a, &text);
	maas_buf_add(&text, "", 1);
	says(text.data, "certificate names = memory.example,127.0.0.1\n");
	assert_null(strstr(text.data, "revocation"));
	assert_int_equal(maas_tls_crl_expiry_s(a), 0);
	maas_buf_fini(&text);
	files.client_ca = NULL;
	c = load();
	assert_false(maas_tls_same(a, c));
	assert_int_equal(maas_tls_client(c), MAAS_TLS_CLIENT_NONE);
	maas_tls_unref(a);
	maas_tls_unref(b);
	maas_tls_unref(c);
}

TEST(load__tells_when_a_revocation_list_is_out_of_date)
{
	uint64_t day_s = (uint64_t)time(NULL) + DAY_S;
	struct maas_buf text = {0};
	struct maas_tls *tls;

	cert_write_crl(ca, NULL, DAY_S, in("crl"));
	files.client_crl = in("crl");
	tls = load();
	assert_in_range(maas_tls_crl_expiry_s(tls), day_s, day_s + 60);
	maas_tls_print(tls, &text);
	maas_buf_add(&text, "", 1);
	says(text.data, "revocation list valid until = 2");
	maas_buf_fini(&text);
	maas_tls_unref(tls);
}

int main(void)
{
	return tls_test_run(tls_files, NULL);
}
