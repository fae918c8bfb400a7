/* SPDX-License-Identifier: Apache-2.0 */
/* The client without a server: URLs, error numbers, options. */
#include <sys/wait.h>
#include <unistd.h>

#include "client/internal.h"
#include "tests/unit/client/client_fixture.h"

/* ---- URLs */

static void expect_url(const char *text, const char *base, const char *unix_path)
{
	struct maas_url url;

	if (maas_url_parse(text, &url))
		fail_msg("%s: %s", text, maas_error());
	assert_string_equal(url.base, base);
	assert_string_equal(url.unix_path ? url.unix_path : "none", unix_path);
	maas_url_fini(&url);
}

TEST(url_parse__what_is_one)
{
	expect_url("http://localhost:3000", "http://localhost:3000", "none");
	expect_url("localhost:3000", "http://localhost:3000", "none");
	expect_url("127.0.0.1:3000/", "http://127.0.0.1:3000", "none");
	expect_url("[::1]:3000", "http://[::1]:3000", "none");
	expect_url("host", "http://host:80", "none");
	expect_url("http://localhost:3000/", "http://localhost:3000", "none");
	expect_url("http://host-1.example.org", "http://host-1.example.org:80", "none");
	expect_url("http://[::1]:65535", "http://[::1]:65535", "none");
	expect_url("http://[fe80::1%eth0]:1/", "http://[fe80::1%eth0]:1", "none");
	expect_url("https://host", "https://host:443", "none");
	expect_url("https://[::1]:3000/", "https://[::1]:3000", "none");
	expect_url("unix:/run/maas.sock", "http://localhost", "/run/maas.sock");
	expect_url("unix:maas.sock", "http://localhost", "maas.sock");
	expect_url("http+unix://%2Frun%2fmaas.sock", "http://localhost", "/run/maas.sock");
	expect_url("http+unix://%2Frun%2Fa%25b/", "http://localhost", "/run/a%b");
}

TEST(url_parse__what_is_none)
{
	static const char *const texts[] = {
		"",
		":3000",
		"/run/maas.sock",
		"localhost:3000/path",
		"user@localhost:3000",
		"host:80x",
		"ho st",
		"http://",
		"http://:3000",
		"http://host:",
		"http://host:0",
		"http://host:65536",
		"http://host:99999999999999999999",
		"http://host:80x",
		"http://host/path",
		"http://user@host:80",
		"http://host:80?x",
		"http://ho st",
		"http://[::1",
		"https://",
		"https://host:0",
		"https://host/path",
		"http://[]:80",
		"http://host\r\nX: y",
		"unix:",
		"http+unix://",
		"http+unix:///run/maas.sock",
		"http+unix://%2",
		"http+unix://%zz",
	};
	struct maas_url url;

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(texts); i++) {
		maas_error_clear();
		if (maas_url_parse(texts[i], &url) != -EINVAL)
			fail_msg("taken: %s", texts[i]);
		assert_true(strlen(maas_error()) > 0);
	}
	assert_int_equal(maas_url_parse("HTTPS://host:3000", &url), -EPROTONOSUPPORT);
	assert_int_equal(maas_url_parse("ftp://host", &url), -EPROTONOSUPPORT);
}

TEST(url_parse__no_secret_is_repeated)
{
	static const char *const texts[] = {
		"http://me:secret@host:3000",  "me:secret@host:3000",
		"http://me:%secret@host:3000", "http://me:secret/x@host:1",
		"https://me:secret@host:3000", "ftp://me:a@secret@host",
		"http://host:3000/?secret",
	};
	struct maas_url url;

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(texts); i++) {
		maas_error_clear();
		assert_true(maas_url_parse(texts[i], &url) < 0);
		assert_non_null(strstr(maas_error(), "host"));
		if (strstr(maas_error(), "secret"))
			fail_msg("%s: %s", texts[i], maas_error());
	}
}

TEST(url_set_name__is_what_the_certificate_has_and_no_more)
{
	static const char *const wrong[] = {"", "a b", "a:1", "a/b", "a\r\nb", "[::1", "a@b"};
	struct maas_url url;

	assert_int_equal(maas_url_parse("https://[::1]:3000", &url), 0);
	assert_int_equal(maas_url_set_name(&url, "name.example"), 0);
	assert_string_equal(url.base, "https://name.example:3000");
	assert_string_equal(url.text, "https://[::1]:3000");
	assert_string_equal(url.connect_to->data, "::[::1]:3000");
	assert_string_equal(url.host_header, "Host: [::1]:3000");
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(wrong); i++)
		if (maas_url_set_name(&url, wrong[i]) != -EINVAL)
			fail_msg("taken: %s", wrong[i]);
	maas_url_fini(&url);
}

TEST(url_parse__socket_path_of_107_bytes_and_one_more)
{
	char text[128] = "unix:";
	struct maas_url url;

	memset(text + 5, 'a', 107);
	assert_int_equal(maas_url_parse(text, &url), 0);
	maas_url_fini(&url);
	text[5 + 107] = 'a';
	assert_int_equal(maas_url_parse(text, &url), -EINVAL);
}

/* ---- errors */

TEST(error_of_status__codes_and_others)
{
	assert_int_equal(maas_error_of_status(200, ""), 0);
	assert_int_equal(maas_error_of_status(206, ""), 0);
	assert_int_equal(maas_error_of_status(400, "bad_json"), -EINVAL);
	assert_int_equal(maas_error_of_status(404, "not_found"), -ENOENT);
	assert_int_equal(maas_error_of_status(404, "unknown_session"), -EKEYREVOKED);
	assert_int_equal(maas_error_of_status(409, "name_taken"), -EEXIST);
	assert_int_equal(maas_error_of_status(409, "request_id_reused"), -ENOTUNIQ);
	assert_int_equal(maas_error_of_status(409, "not_renewable"), -EMEDIUMTYPE);
	assert_int_equal(maas_error_of_status(413, "too_large"), -EFBIG);
	assert_int_equal(maas_error_of_status(416, ""), -ERANGE);
	assert_int_equal(maas_error_of_status(503, "draining"), -ESHUTDOWN);
	assert_int_equal(maas_error_of_status(503, ""), -ENOBUFS);
	assert_int_equal(maas_error_of_status(503, "too_many_connections"), -EUSERS);
	assert_int_equal(maas_error_of_status(507, "pool_exhausted"), -ENOSPC);
	assert_int_equal(maas_error_of_status(507, "quota_exhausted"), -ENOSR);
	assert_int_equal(maas_error_of_status(403, "forbidden"), -EPERM);
	assert_int_equal(maas_error_of_status(429, "too_many"), -EUSERS);
	assert_int_equal(maas_error_of_status(302, ""), -EPROTO);
	assert_int_equal(maas_error_of_status(418, ""), -EPROTO);
}

TEST(fail_status__keeps_the_words_of_the_server)
{
	static const char body[] = "{\"error\":{\"code\":\"pool_exhausted\",\"message\":\"full\"}}";
	static const char *const others[] = {"", "<html>", "[]", "{\"error\":\"x\"}",
					     "{\"error\":{\"code\":1,\"message\":[]}}"};

	assert_int_equal(maas_fail_status(507, body, strlen(body)), -ENOSPC);
	assert_string_equal(maas_error(), "full");
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(others); i++) {
		assert_int_equal(maas_fail_status(507, others[i], strlen(others[i])), -ENOSPC);
		assert_non_null(strstr(maas_error(), "status 507"));
	}
}

TEST(fail__cuts_a_long_sentence)
{
	assert_int_equal(maas_fail(-EIO, "%1000s", "x"), -EIO);
	assert_int_equal(strlen(maas_error()), MAAS_ERROR_BYTES - 1);
}

TEST(fail__keeps_control_characters_from_the_terminal)
{
	static const char body[] = "{\"error\":{\"code\":\"x\",\"message\":"
				   "\"\\u001b]0;owned\\u0007\\u009b2J\\u202e\\u007f\\né\"}}";

	assert_int_equal(maas_fail_status(400, body, strlen(body)), -EINVAL);
	assert_string_equal(maas_error(), "\\x1b]0;owned\\x07\\xc2\\x9b2J"
					  "\\xe2\\x80\\xae\\x7f\\x0aé");
}

/* ---- redirections */

static void expect_same(const char *base, const char *to, const char *path)
{
	struct maas_buf found = {0};
	struct maas_url url;

	assert_int_equal(maas_url_parse(base, &url), 0);
	if (maas_url_same(&url, to, &found) != (path != NULL))
		fail_msg("%s from %s", to, base);
	if (path) {
		assert_int_equal(found.len, strlen(path));
		assert_memory_equal(found.data, path, found.len);
	}
	maas_buf_fini(&found);
	maas_url_fini(&url);
}

TEST(url_same__host_port_and_scheme)
{
	static const char base[] = "http://host:3000";

	expect_same(base, "http://host:3000/allocate", "/allocate");
	expect_same(base, "http://HOST:3000/a/b?c=d#e", "/a/b?c=d");
	expect_same("http://host", "http://host/x", "/x");
	expect_same("http://host", "http://host:80/x", "/x");
	expect_same("http://[::1]:3000", "http://[::1]:3000/x", "/x");
	expect_same("unix:/run/maas.sock", "http://localhost/x", "/x");
	expect_same(base, "http://host/x", NULL);
	expect_same(base, "http://host:3001/x", NULL);
	expect_same(base, "http://host.:3000/x", NULL);
	expect_same(base, "http://other:3000/x", NULL);
	expect_same(base, "https://host:3000/x", NULL);
	expect_same(base, "http://me@host:3000/x", NULL);
	expect_same(base, "http://me:pw@host:3000/x", NULL);
	expect_same(base, "http://host:3000@other/x", NULL);
	expect_same(base, "file:///etc/passwd", NULL);
	expect_same(base, "gopher://host:3000/x", NULL);
	expect_same(base, "/x", NULL);
	expect_same(base, "", NULL);
	expect_same("http://[::1]:3000", "http://[::1%25eth0]:3000/x", NULL);
	expect_same("unix:/run/maas.sock", "http://localhost:81/x", NULL);
}

TEST(url_same__with_tls_and_by_either_name)
{
	struct maas_buf path = {0};
	struct maas_url url;

	expect_same("https://host", "https://host:443/x", "/x");
	expect_same("https://host:3000", "http://host:3000/x", NULL);
	expect_same("https://host", "https://host:80/x", NULL);
	assert_int_equal(maas_url_parse("https://host", &url), 0);
	assert_int_equal(maas_url_set_name(&url, "name"), 0);
	assert_true(maas_url_same(&url, "https://host/x", &path));
	assert_true(maas_url_same(&url, "https://name/x", &path));
	assert_false(maas_url_same(&url, "https://other/x", &path));
	assert_false(maas_url_same(&url, "http://host/x", &path));
	maas_buf_fini(&path);
	maas_url_fini(&url);
}

TEST(id_valid__only_its_letters)
{
	static const char *const wrong[] = {
		"", "a/b", "a?b", "a%2f", "a\r\nb", "0123456789012345678901234567890123456789"};

	assert_true(maas_id_valid("0189-ab"));
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(wrong); i++)
		if (maas_id_valid(wrong[i]))
			fail_msg("taken: %s", wrong[i]);
}

/* ---- open */

TEST(open__defaults_and_environment)
{
	unsetenv("MAAS_URL");
	assert_int_equal(maas_open(NULL, &maas), 0);
	assert_string_equal(maas_url(maas), "http://localhost:3000");
	assert_int_equal(maas_transport(maas), MAAS_TRANSPORT_HTTP);
	client_close(&maas);

	setenv("MAAS_URL", "unix:/run/a.sock", 1);
	assert_int_equal(maas_open(NULL, &maas), 0);
	assert_string_equal(maas_url(maas), "unix:/run/a.sock");
	client_close(&maas);
	unsetenv("MAAS_URL");
	maas_close(NULL);
}

TEST(open__options_that_cannot_be)
{
	const enum maas_transport_type none = 9;

	expect_error(maas_open(&(const struct maas_options){.size = 0}, &maas), -EINVAL, "size");
	expect_error(maas_open(OPTIONS(.transport = none), &maas), -EINVAL, "transport");
	expect_error(maas_open(OPTIONS(.owner = "a b"), &maas), -EINVAL, "owner");
	expect_error(maas_open(OPTIONS(.session_name = ""), &maas), -EINVAL, "name");
	expect_error(maas_open(OPTIONS(.session_exclusive = true), &maas), -EINVAL, "exclusive");
	expect_error(maas_open(OPTIONS(.max_connections = 1u << 30), &maas), -EINVAL, "4096 conn");
	expect_error(maas_open(OPTIONS(.url = "no sense"), &maas), -EINVAL, "no sense");
	expect_error(maas_open(OPTIONS(.url = "ftp://a"), &maas), -EPROTONOSUPPORT, "ftp://a");
}

TEST(open__struct_of_another_version)
{
	struct {
		struct maas_options known;
		uint64_t later;
	} newer = {.known = {.size = sizeof(newer)}};
	struct maas_options older = {.size = offsetof(struct maas_options, transport),
				     .url = "http://a:1",
				     .transport = MAAS_TRANSPORT_RDMA};

	assert_int_equal(maas_open(&newer.known, &maas), 0);
	client_close(&maas);
	newer.later = 1;
	assert_int_equal(maas_open(&newer.known, &maas), -EINVAL);
	/* Nothing behind an older program's struct is read. */
	assert_int_equal(maas_open(&older, &maas), 0);
	assert_string_equal(maas_url(maas), "http://a:1");
	client_close(&maas);
}

TEST(call__without_a_server)
{
	maas = client_open("unix:/nowhere/maas.sock", NULL);
	expect_error(client_get("/health"), -ECONNREFUSED, "no server at unix:/nowhere/maas.sock");
	assert_int_equal(client_get("health"), -EINVAL);
	assert_int_equal(client_get("/a b"), -EINVAL);
	assert_int_equal(maas_free(maas, "a/b"), -EINVAL);
	client_close(&maas);
	maas = client_open("http://127.0.0.1:1", NULL);
	assert_int_equal(client_get("/health"), -ECONNREFUSED);
	client_close(&maas);
	maas = client_open("http://no-such-host.invalid:1", NULL);
	assert_int_equal(client_get("/health"), -EHOSTUNREACH);
}

TEST(fork__child_may_only_close)
{
	struct maas_completion completion;
	struct maas_allocation at;
	int status;
	pid_t pid;

	maas = client_open("http://127.0.0.1:1", NULL);
	pid = fork();
	if (!pid) {
		bool right = maas_alloc(maas, 1, NULL, &at) == -ECHILD &&
			     maas_poll(maas, &completion, 1, 0) == -ECHILD &&
			     maas_event_fd(maas) == -ECHILD && strlen(maas_error()) > 0;

		client_close(&maas);
		_exit(right ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_true(maas_event_fd(maas) >= 0);
}

TEST_MAIN(NULL, client_end)
