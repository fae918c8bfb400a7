/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The files of https:// without a server: which are refused and how, and what a handle does when
 * they change. e2e_tls_clients has the handshakes.
 */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/internal.h"
#include "tests/fake/fail_nth.h"
#include "tests/unit/client/client_fixture.h"

#define URL "https://127.0.0.1:1"

/* Two certificates that sign themselves, and their keys; they end in 2126. */
static const char one_pem[] = "-----BEGIN CERTIFICATE-----\n"
			      "MIHYMIGLAhRb06IpQbFY+4AAdV2/LbDnBs9MbjAFBgMrZXAwDjEMMAoGA1UEAwwD\n"
			      "b25lMCAXDTI2MTEyOTE4MTEzMloYDzIxMjYxMTA1MTgxMTMyWjAOMQwwCgYDVQQD\n"
			      "DANvbmUwKjAFBgMrZXADIQDieLLkwgbg8IDY6M0nisA/4pwMGI7G6tBPiYLmyFC8\n"
			      "pzAFBgMrZXADQQBkWf8bcfLAo7uw2/Xd9YmDgRrg+Kvvehnrk93SwPzVjkDfj1DN\n"
			      "+V1Cc26JGrLzs0uRUybdJRP+8ajoTVfuv8IF\n"
			      "-----END CERTIFICATE-----\n";
static const char one_key[] = "-----BEGIN PRIVATE KEY-----\n"
			      "MC4CAQAwBQYDK2VwBCIEIHSrQVV6O7zMdg8z+VLBj21Yf4E3I9mt3g7diksEtwI5\n"
			      "-----END PRIVATE KEY-----\n";
static const char two_pem[] = "-----BEGIN CERTIFICATE-----\n"
			      "MIHYMIGLAhRY3WZB0DQNVbEitcOqoQAF7e1xOzAFBgMrZXAwDjEMMAoGA1UEAwwD\n"
			      "dHdvMCAXDTI2MTEyOTE4MTEzMloYDzIxMjYxMTA1MTgxMTMyWjAOMQwwCgYDVQQD\n"
			      "DAN0d28wKjAFBgMrZXADIQC2VPWQewnLZSuqv12YOhVwdILiWZvlGwoKHmmXI7zE\n"
			      "UDAFBgMrZXADQQD/NELkInm+5DSeiOKMi53j9KynQpZQIuE2D63Yf2JMihc70WEZ\n"
			      "MnYuBWlp2WLFmchW1cyrUx2pmQfCrrgw93sA\n"
			      "-----END CERTIFICATE-----\n";
static const char two_key[] = "-----BEGIN PRIVATE KEY-----\n"
			      "MC4CAQAwBQYDK2VwBCIEIP3Vc70dLl2nzw2bgW6isNSIswncXngPDRqmxw2CJXTV\n"
			      "-----END PRIVATE KEY-----\n";

static const char ca_path[] = "client-tls.ca";
static const char cert_path[] = "client-tls.pem";
static const char key_path[] = "client-tls.key";
static struct maas_options options;

static void set_up(void)
{
	put_file(ca_path, two_pem, 0644);
	put_file(cert_path, one_pem, 0644);
	put_file(key_path, one_key, 0600);
	unsetenv("MAAS_CA_FILE");
	unsetenv("MAAS_CERT_FILE");
	unsetenv("MAAS_KEY_FILE");
	unsetenv("MAAS_SERVER_NAME");
	options = *OPTIONS(.url = URL, .transport = MAAS_TRANSPORT_HTTP, .ca_file = ca_path,
			   .cert_file = cert_path, .key_file = key_path);
}

static void tear_down(void)
{
	client_end();
	unlink(ca_path);
	unlink(cert_path);
	unlink(key_path);
}

static void expect_taken(void)
{
	if (maas_open(&options, &maas))
		fail_msg("%s", maas_error());
	client_close(&maas);
}

static void expect_refused(int error, const char *words)
{
	expect_error(maas_open(&options, &maas), error, words);
	assert_null(strstr(maas_error(), "BEGIN"));
}

/* ---- opening */

TEST(open__with_files_that_can_be_used)
{
	char both[sizeof(one_pem) + sizeof(one_key)];

	expect_taken();
	options.cert_file = options.key_file = NULL;
	expect_taken();
	options.ca_file = NULL;
	expect_taken();
	/* The key may be in the certificate's file, and then others may not read that. */
	snprintf(both, sizeof(both), "%s%s", one_pem, one_key);
	put_file(cert_path, both, 0600);
	options.cert_file = cert_path;
	expect_taken();
	put_file(cert_path, both, 0644);
	expect_refused(-EPERM, "no other key file is given, and the certificate file");
	put_file(cert_path, one_pem, 0600);
	expect_refused(-EINVAL, "no other key file is given, and the certificate file");
}

TEST(open__a_file_that_cannot_be_used_says_why)
{
	put_file(key_path, one_key, 0604);
	expect_refused(-EPERM, "chmod 0640");
	put_file(key_path, two_key, 0600);
	expect_refused(-EINVAL, "is not that of the certificate in");
	put_file(key_path, "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n", 0600);
	expect_refused(-EINVAL, "passphrase");
	put_file(key_path, one_pem, 0600);
	expect_refused(-EINVAL, "no private key");
	unlink(key_path);
	expect_refused(-ENOENT, key_path);
	put_file(key_path, one_key, 0640);
	put_file(cert_path, "30 82", 0644);
	expect_refused(-EINVAL, "no certificate in it, in PEM");
	put_file(cert_path, one_pem, 0644);
	put_file(ca_path, "", 0644);
	expect_refused(-EINVAL, "no certificate in it, in PEM");
	options.ca_file = "/";
	expect_refused(-EINVAL, "not a regular file");
	options.ca_file = NULL;
	options.cert_file = NULL;
	expect_refused(-EINVAL, "without a cert_file");
}

/* Whoever names a CA means to be safe: a forgotten s is an error. */
TEST(open__files_are_for_https_alone)
{
	static const char *const urls[] = {"http://127.0.0.1:1", "127.0.0.1:1", "unix:/run/a.sock"};

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(urls); i++) {
		options.url = urls[i];
		expect_refused(-EINVAL, "for https://");
	}
	options = *OPTIONS(.url = urls[0], .server_name = "name");
	expect_refused(-EINVAL, "for https://");
	options.server_name = "";
	assert_int_equal(maas_open(&options, &maas), 0);
}

TEST(open__the_environment_is_for_https_alone)
{
	options = *OPTIONS(.url = URL, .transport = MAAS_TRANSPORT_HTTP);
	setenv("MAAS_CA_FILE", "/nowhere", 1);
	expect_refused(-ENOENT, "/nowhere");
	options.ca_file = "";
	expect_taken();
	options.ca_file = NULL;
	options.url = "http://127.0.0.1:1";
	expect_taken();
	unsetenv("MAAS_CA_FILE");
	options.url = URL;
	setenv("MAAS_SERVER_NAME", "a b", 1);
	expect_refused(-EINVAL, "a b");
}

/* ---- changes */

static struct maas_tls_reading *read_now(void)
{
	maas->tls.look_ms = 0;
	return maas_tls_get(&maas->tls);
}

/* What a connection gets that begins with this reading. */
static void expect_text(const struct maas_tls_reading *reading, enum maas_tls_file file,
			const char *text)
{
	char found[2048] = "";
	int fd = open(reading->path[file], O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_true(read(fd, found, sizeof(found) - 1) > 0);
	close(fd);
	assert_string_equal(found, text);
}

TEST(change__is_seen_when_the_pair_is_whole)
{
	struct maas_tls_reading *first, *now;

	assert_int_equal(maas_open(&options, &maas), 0);
	first = read_now();
	put_file(cert_path, two_pem, 0644);
	now = read_now();
	assert_ptr_equal(now, first);
	assert_string_equal(maas_error(), "");
	maas_tls_put(&maas->tls, now);
	put_file(key_path, two_key, 0600);
	now = read_now();
	assert_int_equal(now->number, first->number + 1);
	expect_text(now, MAAS_TLS_CERT, two_pem);
	expect_text(now, MAAS_TLS_KEY, two_key);
	/* A request that is under way has what it began with. */
	expect_text(first, MAAS_TLS_CERT, one_pem);
	expect_text(first, MAAS_TLS_KEY, one_key);
	maas_tls_put(&maas->tls, first);
	maas_tls_put(&maas->tls, now);
}

TEST(change__is_not_looked_for_at_each_request)
{
	struct maas_tls_reading *now;

	assert_int_equal(maas_open(&options, &maas), 0);
	put_file(ca_path, one_pem, 0644);
	now = maas_tls_get(&maas->tls);
	assert_int_equal(now->number, 0);
	maas_tls_put(&maas->tls, now);
	/* A refusal by the server is a reason to look at once. */
	assert_true(maas_tls_is_other(&maas->tls, 0));
	assert_false(maas_tls_is_other(&maas->tls, 1));
	assert_true(maas_tls_is_other(&maas->tls, 0));
}

TEST(change__to_what_cannot_be_used_is_said_at_a_refusal)
{
	assert_int_equal(maas_open(&options, &maas), 0);
	put_file(key_path, one_key, 0644);
	for (int i = 0; i < 2; i++) {
		maas_error_clear();
		assert_false(maas_tls_is_other(&maas->tls, 0));
		assert_non_null(strstr(maas_error(), "chmod 0640"));
	}
	assert_int_equal(chmod(key_path, 0600), 0);
	assert_true(maas_tls_is_other(&maas->tls, 0));
}

TEST(change__names_no_two_readings_alike)
{
	struct maas_tls_reading *now = NULL;
	char before[96] = "";

	assert_int_equal(maas_open(&options, &maas), 0);
	for (int i = 0; i < 40; i++) {
		put_file(ca_path, i % 2 ? one_pem : two_pem, 0644);
		now = read_now();
		assert_int_equal(now->number, i + 1);
		assert_string_not_equal(now->path[MAAS_TLS_CA], before);
		snprintf(before, sizeof(before), "%s", now->path[MAAS_TLS_CA]);
		maas_tls_put(&maas->tls, now);
	}
}

static atomic_bool stop;

static void *take_and_put(void *arg)
{
	while (!stop) {
		struct maas_tls_reading *now = maas_tls_get(&maas->tls);
		char first = '\0';
		int fd = open(now->path[MAAS_TLS_CA], O_RDONLY | O_CLOEXEC);

		CHECK(read(fd, &first, 1) == 1 && first == '-');
		close(fd);
		maas_tls_put(&maas->tls, now);
	}
	return arg;
}

TEST(change__while_threads_send_requests)
{
	pthread_t threads[4];

	assert_int_equal(maas_open(&options, &maas), 0);
	stop = false;
	threads_start(threads, MAAS_ARRAY_SIZE(threads), take_and_put, NULL, 0);
	for (unsigned int i = 0; i < 20; i++) {
		put_file(ca_path, i % 2 ? two_pem : one_pem, 0644);
		assert_true(maas_tls_is_other(&maas->tls, i));
	}
	stop = true;
	threads_join(threads, MAAS_ARRAY_SIZE(threads));
}

static int open_and_change(void)
{
	int r;

	put_file(ca_path, two_pem, 0644);
	r = maas_open(&options, &maas);
	if (r)
		return r;
	put_file(ca_path, one_pem, 0644);
	r = maas_tls_is_other(&maas->tls, 0) ? 0 : -ENOMEM;
	client_close(&maas);
	return r;
}

TEST(memory__each_request_fails)
{
	bool fired = true;
	long blocks;

	options.server_name = "name.example";
	assert_int_equal(open_and_change(), 0);
	blocks = fail_nth_blocks();
	for (long n = 1; fired; n++) {
		int r;

		fail_nth_arm(n);
		r = open_and_change();
		fired = fail_nth_disarm();
		assert_int_equal(r, fired ? -ENOMEM : 0);
		assert_int_equal(fail_nth_blocks(), blocks);
		assert_true(n < 1000);
	}
}

TEST_MAIN(set_up, tear_down)
