/* SPDX-License-Identifier: Apache-2.0 */
/* What is freed while somebody reads or writes it: nobody ever gets a foreign byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "http_fixture.h"

#define SIZE	(4u << 20)
#define READERS 8
#define REPEAT	8
#define SLABS	16 /* all that the pool has of this size */

static struct http_fixture f;
static char *bytes;
static char *got;

static int start(void **state)
{
	const struct maas_http_options options = {.threads = 2};

	(void)state;
	http_fixture_start(&f, &options);
	bytes = malloc(SIZE);
	got = malloc((size_t)SIZE * REPEAT + 4096);
	return 0;
}

static int stop(void **state)
{
	(void)state;
	http_fixture_stop(&f);
	free(bytes);
	free(got);
	return 0;
}

static void fill(const char *id, char byte)
{
	struct http_answer a;
	char path[80];

	memset(bytes, byte, SIZE);
	snprintf(path, sizeof(path), "/allocate/%s/data", id);
	http_call(&f, &a, "PUT", path, bytes, SIZE, NULL);
	assert_int_equal(a.status, 200);
	http_answer_fini(&a);
}

/*
 * A reader that has asked and reads no more. The kernel's buffers may swallow a whole slab, but
 * not the REPEAT times that every other reader asks for.
 */
static int slow_reader(const char *id, bool repeat)
{
	struct maas_buf body = {0};
	int fd = http_connect(&f);
	int small = 64 << 10;

	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	if (!repeat) {
		http_send_text(fd, "GET /allocate/%s/data HTTP/1.1\r\nHost: localhost\r\n\r\n", id);
		return fd;
	}
	for (unsigned int i = 0; i < REPEAT; i++)
		maas_buf_printf(&body, "%s{\"id\":\"%s\",\"offset\":0,\"length\":%u}",
				i ? "," : "{\"ranges\":[", id, SIZE);
	maas_buf_str(&body, "]}");
	http_send_text(fd,
		       "POST /data/read HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
		       "application/json\r\nContent-Length: %zu\r\n\r\n",
		       body.len);
	http_send(fd, body.data, body.len);
	maas_buf_fini(&body);
	return fd;
}

static uint64_t transfers(void)
{
	struct maas_lend_stats stats;

	maas_lend_stats(f.lend, &stats);
	return stats.transfers;
}

static void wait_at_least(uint64_t count)
{
	for (int i = 0; i < 500 && transfers() < count; i++)
		usleep(10000);
	assert_true(transfers() >= count);
}

static void wait_for_none(void)
{
	for (int i = 0; i < 500 && transfers(); i++)
		usleep(10000);
	assert_int_equal(transfers(), 0);
}

/* Reads what is left of an answer: each byte is `byte`, and with `repeat` some are missing. */
static void expect_cut_short(int fd, char byte, bool repeat)
{
	size_t max = (size_t)SIZE * REPEAT + 4096;
	int large = 1 << 20;
	size_t len;
	char *body;

	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &large, sizeof(large));
	len = http_recv(fd, got, max - 1, 3000);
	body = strstr(got, "\r\n\r\n");
	assert_non_null(body);
	body += 4;
	if (repeat)
		assert_true((size_t)(got + len - body) < (size_t)SIZE * REPEAT);
	for (const char *at = body; at < got + len; at++)
		if (*at != byte)
			fail_msg("a foreign byte, %d, at %zu", *at, (size_t)(at - body));
	close(fd);
}

static void free__cuts_slow_readers(void **state)
{
	int readers[READERS];
	char id[MAAS_ID_TEXT];
	char path[80];
	uint64_t before_ms;

	(void)state;
	http_allocate(&f, SIZE, id);
	fill(id, 'A');
	for (unsigned int i = 0; i < READERS; i++)
		readers[i] = slow_reader(id, i % 2);
	wait_at_least((uint64_t)READERS / 2 * REPEAT);

	before_ms = maas_clock_ms();
	snprintf(path, sizeof(path), "/allocate/%s", id);
	assert_null(http_json(&f, "DELETE", path, NULL, 200));
	assert_in_range(maas_clock_ms() - before_ms, 500, 10000);
	wait_for_none();

	/* The whole pool is lent anew and written over; only then do the readers go on. */
	for (int i = 0; i < SLABS; i++) {
		http_allocate(&f, SIZE, id);
		fill(id, 'B');
	}
	for (unsigned int i = 0; i < READERS; i++) {
		expect_cut_short(readers[i], 'A', i % 2);
	}
}

static void free__many_with_readers(void **state)
{
	struct maas_buf body = {0};
	int readers[4];
	json_t *json;

	(void)state;
	for (int i = 0; i < 4; i++) {
		char id[MAAS_ID_TEXT];

		http_allocate(&f, SIZE, id);
		fill(id, 'A');
		readers[i] = slow_reader(id, true);
		maas_buf_printf(&body, "%s\"%s\"", i ? "," : "{\"ids\":[", id);
	}
	maas_buf_add(&body, "]}", 3);
	wait_at_least((uint64_t)4 * REPEAT);
	json = http_json(&f, "POST", "/free", body.data, 200);
	assert_int_equal(json_integer_value(json_object_get(json, "freed")), 4);
	json_decref(json);
	wait_for_none();
	for (int i = 0; i < 4; i++) {
		expect_cut_short(readers[i], 'A', true);
	}
	maas_buf_fini(&body);
}

/* A writer is told at its next piece, and the free waits no longer than that. */
static void free__stops_a_slow_writer(void **state)
{
	char buffer[1024];
	char id[MAAS_ID_TEXT];
	char path[80];
	int fd = http_connect(&f);
	uint64_t before_ms;

	(void)state;
	http_allocate(&f, SIZE, id);
	http_send_text(
		fd,
		"PUT /allocate/%s/data HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nabc",
		id);
	wait_at_least(1);
	snprintf(path, sizeof(path), "/allocate/%s", id);
	before_ms = maas_clock_ms();
	assert_null(http_json(&f, "DELETE", path, NULL, 200));
	assert_in_range(maas_clock_ms() - before_ms, 500, 10000);
	http_send_text(fd, "defghi");
	assert_int_equal(http_recv(fd, buffer, sizeof(buffer) - 1, 2000), 0);
	close(fd);
}

static void *send_the_rest(void *arg)
{
	usleep(50000);
	http_send_text(*(int *)arg, "def");
	usleep(100000);
	http_send_text(*(int *)arg, "ghi");
	return NULL;
}

static void free__writer_that_goes_on_gets_404(void **state)
{
	char buffer[1024];
	char id[MAAS_ID_TEXT];
	char path[80];
	int fd = http_connect(&f);
	pthread_t thread;
	struct maas_lend_stats stats;

	(void)state;
	http_allocate(&f, SIZE, id);
	http_send_text(
		fd,
		"PUT /allocate/%s/data HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nabc",
		id);
	wait_at_least(1);
	pthread_create(&thread, NULL, send_the_rest, &fd);
	snprintf(path, sizeof(path), "/allocate/%s", id);
	assert_null(http_json(&f, "DELETE", path, NULL, 200));
	pthread_join(thread, NULL);
	http_recv(fd, buffer, sizeof(buffer) - 1, 2000);
	assert_memory_equal(buffer, "HTTP/1.1 404 ", 13);
	maas_lend_stats(f.lend, &stats);
	assert_int_equal(stats.forced_transfers, 0);
	close(fd);
}

/* The server stops while a free waits: it ends at once, and so does the reader. */
static void stop__while_a_free_waits(void **state)
{
	char id[MAAS_ID_TEXT];
	int reader;
	int freer;

	(void)state;
	http_allocate(&f, SIZE, id);
	fill(id, 'A');
	reader = slow_reader(id, true);
	wait_at_least(REPEAT);
	freer = http_connect(&f);
	http_send_text(freer, "DELETE /allocate/%s HTTP/1.1\r\nHost: localhost\r\n\r\n", id);
	for (int i = 0; i < 100; i++) {
		struct maas_lend_stats stats;

		maas_lend_stats(f.lend, &stats);
		if (stats.pending_frees)
			break;
		usleep(1000);
	}
	stop(NULL);
	close(reader);
	close(freer);
	start(NULL);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)
	static const struct CMUnitTest tests[] = {
		TEST(free__cuts_slow_readers),	 TEST(free__many_with_readers),
		TEST(free__stops_a_slow_writer), TEST(free__writer_that_goes_on_gets_404),
		TEST(stop__while_a_free_waits),
	};

	curl_global_init(CURL_GLOBAL_ALL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
