/* SPDX-License-Identifier: Apache-2.0 */
/* The answers that are files of the source: each as it stands there, and by the same bytes. */
#include <unistd.h>

#include "tests/unit/http/http_fixture.h"

static const struct {
	const char *path;
	const char *file;
	const char *type;
} pages[] = {
	{"/", MAAS_SOURCE "/http/page.html", "Content-Type: text/html; charset=utf-8"},
	{"/openapi.yaml", MAAS_SOURCE "/docs/openapi.yaml", "Content-Type: application/yaml"},
};

static void read_file(const char *path, struct maas_buf *out)
{
	FILE *file = fopen(path, "rbe");
	char data[4096];
	size_t len;

	assert_non_null(file);
	while ((len = fread(data, 1, sizeof(data), file)) > 0)
		maas_buf_add(out, data, len);
	fclose(file);
	assert_int_equal(out->error, 0);
	assert_true(out->len > 0);
}

TEST(page__is_the_file)
{
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(pages); i++) {
		struct maas_buf wanted = {0};
		const struct http_answer *a;

		read_file(pages[i].file, &wanted);
		/* Twice: the answer is made once, and has to outlive the request. */
		for (int again = 0; again < 2; again++) {
			a = http_get(pages[i].path);
			assert_int_equal(a->status, 200);
			assert_true(http_has_header(a, pages[i].type));
			assert_true(http_has_header(a, "Cache-Control: no-store"));
			assert_true(http_has_header(a, "X-Content-Type-Options: nosniff"));
			assert_int_equal(a->len, wanted.len);
			assert_memory_equal(a->body, wanted.data, wanted.len);
			assert_int_equal(a->new_connections, !i && !again);
		}
		maas_buf_fini(&wanted);
	}
}

/* A browser runs and loads nothing for the page, and shows it in no frame of another. */
TEST(page__is_closed_to_all_else)
{
	const struct http_answer *a;

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(pages); i++) {
		a = http_get(pages[i].path);
		assert_non_null(strstr(a->headers, "Content-Security-Policy: default-src 'none';"));
		assert_non_null(strstr(a->headers, "frame-ancestors 'none'"));
		assert_null(strstr(a->headers, "unsafe"));
	}
}

TEST(page__head_has_no_body)
{
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(pages); i++) {
		const struct http_answer *get = http_get(pages[i].path);
		const struct http_answer *head = http_call("HEAD", pages[i].path, NULL, 0, NULL);

		assert_int_equal(head->status, 200);
		assert_int_equal(head->len, 0);
		assert_true(http_has_header(head, pages[i].type));
		assert_true(http_has_header(head, http_text("Content-Length: %zu", get->len)));
	}
}

/* A body in chunks ends the connection; that is said, in this answer and in no later one. */
TEST(page__says_that_the_connection_ends)
{
	static char text[128 << 10];

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(pages); i++) {
		const struct http_answer *a;
		int fd = http_connect();

		http_send_text(
			fd, HTTP_REQUEST("GET %s", "Transfer-Encoding: chunked\r\n", "0\r\n\r\n"),
			pages[i].path);
		assert_true(http_recv(fd, text, sizeof(text) - 1, 5000) > 0);
		assert_true(http_is_answer(text, 200));
		assert_non_null(strstr(text, "\r\nConnection: close\r\n"));
		assert_non_null(strstr(text, pages[i].type));
		close(fd);
		a = http_get(pages[i].path);
		assert_null(strstr(a->headers, "Connection: close"));
	}
}

TEST(page__is_counted_by_its_path)
{
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(pages); i++) {
		const struct http_answer *a;

		http_get(pages[i].path);
		http_wait_idle();
		a = http_get("/metrics");
		assert_non_null(strstr(a->body, http_text("maas_http_requests_total{method=\"GET\","
							  "route=\"%s\",code=\"200\"} 1\n",
							  pages[i].path)));
	}
}

TEST_MAIN(http_setup, http_teardown)
