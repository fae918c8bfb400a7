/* SPDX-License-Identifier: Apache-2.0 */
/* The answers that are files of the source: each as it stands there, and by the same bytes. */
#include <sodium.h>

#include "tests/unit/http/http_fixture.h"

static const struct {
	const char *path;
	const char *file;
	const char *type;
} pages[] = {
	{"/", MAAS_PAGE, "Content-Type: text/html; charset=utf-8"},
	{"/openapi.yaml", MAAS_SOURCE "/docs/openapi.yaml", "Content-Type: application/yaml"},
};

static struct maas_buf file_of(const char *name)
{
	static char bytes[1 << 20];
	struct maas_buf buf = {0};
	FILE *file = fopen(name, "r");

	assert_non_null(file);
	maas_buf_add(&buf, bytes, fread(bytes, 1, sizeof(bytes), file));
	fclose(file);
	assert_in_range(buf.len, 1, sizeof(bytes) - 1);
	return buf;
}

/* A browser loads nothing of others for the page, and shows it in no frame of another. */
TEST(page__is_the_file_and_closed_to_all_else)
{
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(pages); i++) {
		const char *get = http_text("GET %s", pages[i].path);
		struct maas_buf wanted = file_of(pages[i].file);
		const struct http_answer *a = NULL, *head;

		/* Twice: the answer is made once, and has to outlive the request. */
		for (int again = 0; again < 2; again++) {
			a = http_expect(get, NULL, 200, "");
			http_expect_parts(
				a->headers,
				"\nCache-Control: no-store\r*\nX-Content-Type-Options: nosniff\r*"
				"\nContent-Security-Policy: default-src 'none';*frame-ancestors "
				"'none'");
			http_expect_parts(a->headers, http_text("\n%s\r", pages[i].type));
			assert_int_equal(a->len, wanted.len);
			assert_memory_equal(a->body, wanted.data, wanted.len);
			assert_int_equal(a->new_connections, !i && !again);
			assert_null(strstr(a->headers, "unsafe"));
		}
		head = http_expect(
			http_text("HEAD %s", pages[i].path), NULL, 200,
			http_text("\n%s\r*\nContent-Length: %zu\r", pages[i].type, a->len));
		assert_int_equal(head->len, 0);
		maas_buf_fini(&wanted);
	}
}

/* The page is sent whole to whoever asks, so it stays small. */
TEST(page__is_small)
{
	assert_in_range(http_get("/")->len, 1000, 150 << 10);
}

/* A browser runs these bytes and no others: their hashes are in the policy. */
TEST(page__runs_only_what_is_its_own)
{
	static const char *const parts[][3] = {
		{"<style>", "</style>", "style-src"},
		{"<script type=\"module\">", "</script>", "script-src"},
	};
	unsigned char hash[crypto_hash_sha256_BYTES];
	char text[64];

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(parts); i++) {
		const struct http_answer *a = http_get("/");
		const char *part = strstr(a->body, parts[i][0]), *end;

		assert_non_null(part);
		part += strlen(parts[i][0]);
		assert_null(strstr(part, parts[i][0])); /* it is there once */
		end = strstr(part, parts[i][1]);
		assert_true(end > part);
		crypto_hash_sha256(hash, (const unsigned char *)part, (size_t)(end - part));
		sodium_bin2base64(text, sizeof(text), hash, sizeof(hash),
				  sodium_base64_VARIANT_ORIGINAL);
		http_expect_parts(a->headers, http_text("; %s 'sha256-%s'; ", parts[i][2], text));
	}
}

/* No other part of the page runs: a handler or a style within a tag would be dropped by the policy.
 */
TEST(page__has_no_style_or_handler_in_a_tag)
{
	static const char *const none[] = {" style=\"",	 " onclick=\"",	 "innerHTML",
					   "src=\"http", "localStorage", "document.cookie"};
	const struct http_answer *a = http_get("/");

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(none); i++)
		if (strstr(a->body, none[i]))
			fail_msg("%s", none[i]);
}

/* A body in chunks ends the connection; that is said, in this answer and in no later one. */
TEST(page__says_that_the_connection_ends)
{
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(pages); i++) {
		http_expect_raw(http_request("GET %s\nTransfer-Encoding: chunked\n\n0\r\n\r\n",
					     pages[i].path),
				200, http_text("\nConnection: close\r*\n%s\r", pages[i].type));
		assert_null(strstr(http_get(pages[i].path)->headers, "Connection: close"));
	}
}

TEST(page__is_counted_by_its_path)
{
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(pages); i++) {
		http_get(pages[i].path);
		http_wait_idle();
		http_expect("GET /metrics", NULL, 200,
			    http_text("maas_http_requests_total{method=\"GET\",route=\"%s\","
				      "code=\"200\"} 1\n",
				      pages[i].path));
	}
}

TEST_MAIN(http_setup, http_teardown)
