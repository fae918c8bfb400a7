/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that is freed while it is read or written: nobody ever gets a foreign byte. */
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/http/http_fixture.h"

#define SIZE	(4u << 20)
#define READERS 8
#define REPEAT	8
#define CROWD	20 /* of writers with 10,000 transfers each */
#define SLABS	16 /* all that the pool has of this size */

static char bytes[SIZE];

/* A slab full of `byte`. */
static const char *allocate(char byte)
{
	const char *id = http_allocate(SIZE);

	memset(bytes, byte, SIZE);
	assert_int_equal(http_call(http_text("PUT /allocate/%s/data", id), bytes, SIZE)->status,
			 200);
	return id;
}

/*
 * A reader that has asked and reads no more. The kernel's buffers may swallow a whole slab, but
 * not the REPEAT times that every other reader asks for.
 */
static int slow_reader(const char *id, bool repeat)
{
	struct maas_buf body = {0};
	int fd = http_connect();
	struct pollfd wait = {.fd = fd, .events = POLLIN};
	int small = 64 << 10;

	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	for (unsigned int i = 0; i < REPEAT; i++)
		http_add_range(&body, id, 0, SIZE);
	maas_buf_add(&body, "]}", 3);
	if (repeat)
		http_ask_later(fd, "POST /data/read", body.data);
	else
		http_ask_later(fd, http_text("GET /allocate/%s/data", id), NULL);
	maas_buf_fini(&body);
	/* The answer has begun, and with it the transfer. */
	assert_int_equal(poll(&wait, 1, 10000), 1);
	return fd;
}

static uint64_t transfers(void)
{
	return http_lend_stats().transfers;
}

/* Reads what is left of an answer: each byte is an A, and with `repeat` some are missing. */
static void expect_cut_short(int fd, bool repeat)
{
	int large = 1 << 20;
	const char *body, *end;

	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &large, sizeof(large));
	end = http_said + http_recv(fd, 3000);
	body = strstr(http_said, "\r\n\r\n");
	assert_non_null(body);
	body += 4;
	if (repeat)
		assert_true((size_t)(end - body) < (size_t)SIZE * REPEAT);
	for (const char *at = body; at < end; at++)
		if (*at != 'A')
			fail_msg("a foreign byte, %d, at %zu", *at, (size_t)(at - body));
	close(fd);
}

TEST(free__cuts_slow_readers)
{
	int readers[READERS];
	uint64_t before_ms;
	const char *id = allocate('A');

	for (unsigned int i = 0; i < READERS; i++)
		readers[i] = slow_reader(id, i % 2);

	before_ms = maas_clock_ms();
	http_free(id);
	assert_in_range(maas_clock_ms() - before_ms, 500, 10000);
	AWAIT(!transfers());

	/* The whole pool is lent again and overwritten; only then do the readers go on. */
	for (int i = 0; i < SLABS; i++)
		allocate('B');
	for (unsigned int i = 0; i < READERS; i++)
		expect_cut_short(readers[i], i % 2);
}

TEST(free__many_with_readers)
{
	struct maas_buf body = {0};
	int readers[4];

	for (int i = 0; i < 4; i++) {
		const char *id = allocate('A');

		readers[i] = slow_reader(id, true);
		maas_buf_printf(&body, "%s\"%s\"", i ? "," : "{\"ids\":[", id);
	}
	maas_buf_add(&body, "]}", 3);
	http_expect_members(http_json("POST /free", body.data, 200), "{'freed':4}");
	AWAIT(!transfers());
	for (int i = 0; i < 4; i++)
		expect_cut_short(readers[i], true);
	maas_buf_fini(&body);
}

/* The beginning of nine bytes; the transfer has begun. */
static int start_put(const char *id, const char *first)
{
	int fd = http_connect();

	http_send_text(fd,
		       http_request("PUT /allocate/%s/data\nContent-Length: 9\n\n%s", id, first));
	AWAIT(transfers());
	return fd;
}

/* A writer is told at its next piece, and the free waits no longer than that. */
TEST(free__stops_a_slow_writer)
{
	uint64_t before_ms;
	const char *id = http_allocate(SIZE);
	int fd = start_put(id, "abc");

	before_ms = maas_clock_ms();
	http_free(id);
	assert_in_range(maas_clock_ms() - before_ms, 500, 10000);
	http_send_text(fd, "defghi");
	assert_int_equal(http_recv(fd, 2000), 0);
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

TEST(free__writer_that_goes_on_gets_404)
{
	pthread_t thread;
	const char *id = http_allocate(SIZE);
	int fd = start_put(id, "abc");

	pthread_create(&thread, NULL, send_the_rest, &fd);
	http_free(id);
	pthread_join(thread, NULL);
	http_expect_answer(fd, 404, "");
	assert_int_equal(http_lend_stats().forced_transfers, 0);
}

/* The server stops while a free waits: it ends at once, and so does the reader. */
TEST(stop__while_a_free_waits)
{
	const char *id = allocate('A');
	int reader = slow_reader(id, true);
	int freer = http_connect();

	http_ask_later(freer, http_text("DELETE /allocate/%s", id), NULL);
	AWAIT(http_lend_stats().pending_frees);
	http_stop();
	close(reader);
	close(freer);
}

/* A /data/write of one byte to each of `count` ranges, without those bytes. Ranges of `b` stand
 * between those of `a`, `run` at a time. */
static int stalled_writer(const char *a, const char *b, unsigned int run, unsigned int count)
{
	struct maas_buf json = {0}, frame = {0};
	int fd = http_connect();

	for (unsigned int i = 0; i < count; i++)
		http_add_range(&json, i / run % 2 ? b : a, i, 1);
	maas_buf_str(&json, "]}");
	http_add_frame(&frame, &json);
	assert_int_equal(frame.error, 0);
	http_send_text(fd, http_request("POST /data/write\nConnection: close\nContent-Length: %zu",
					frame.len + count));
	http_send(fd, frame.data, frame.len);
	maas_buf_fini(&json);
	maas_buf_fini(&frame);
	return fd;
}

static void expect_start(const char *id, const char *text)
{
	const char *get = http_text("GET /allocate/%s/data\nRange: bytes=0-8", id);

	assert_string_equal(http_expect(get, NULL, 206, "")->body, text);
}

TEST(vector__one_transfer_for_ranges_in_a_row)
{
	const char *a = allocate('.');
	const char *b = allocate('.');
	int fd = stalled_writer(a, b, 3, 8);

	AWAIT(transfers() >= 3);
	usleep(20000);
	assert_int_equal(transfers(), 3);
	http_send_text(fd, "01234567");
	http_expect_answer(fd, 200, "");
	AWAIT(!transfers());
	expect_start(a, "012...67.");
	expect_start(b, "...345...");
}

struct probe {
	const char *request; /* for memory with a name */
	_Atomic bool stop;
	unsigned int answers;
	uint64_t worst_ms;
};

/* Another client: how long it waits at most. No asserts: another thread. */
static void *ask_for_memory(void *arg)
{
	struct probe *probe = arg;
	int fd = http_connect();
	int status = 1;

	while (status && !atomic_load(&probe->stop)) {
		uint64_t before_ms = maas_clock_ms(), took_ms;

		status = http_ask(fd, probe->request);
		took_ms = maas_clock_ms() - before_ms;
		probe->answers += status == 200;
		if (took_ms > probe->worst_ms)
			probe->worst_ms = took_ms;
		usleep(10000);
	}
	close(fd);
	return NULL;
}

/* As many transfers as a few connections can have, and a free that none of them concerns,
 * then one that has to end half of them. Another client goes on all the while. */
TEST(free__beside_a_crowd)
{
	int writers[CROWD];
	const char *ids[3];
	struct probe probe = {.request = http_request("POST /allocate\nContent-Length: 30\n\n"
						      "{\"size_bytes\":64,\"owner\":\"me\"}")};
	uint64_t before_ms;
	pthread_t thread;
	int alone;

	for (int i = 0; i < 3; i++)
		ids[i] = http_allocate(SIZE);
	alone = start_put(ids[2], "");
	for (int i = 0; i < CROWD; i++)
		writers[i] = stalled_writer(ids[0], ids[1], 1, 10000);
	AWAIT(transfers() >= CROWD * 10000 + 1);
	assert_int_equal(pthread_create(&thread, NULL, ask_for_memory, &probe), 0);

	before_ms = maas_clock_ms();
	http_free(ids[2]);
	close(alone);
	http_free(ids[0]);
	assert_in_range(maas_clock_ms() - before_ms, 1500, 10000);
	/* A connection was cut once, for all of its transfers. */
	AWAIT(!transfers());
	http_free(ids[1]);
	atomic_store(&probe.stop, true);
	pthread_join(thread, NULL);
	print_message("%u answers, the slowest in %llu ms\n", probe.answers,
		      (unsigned long long)probe.worst_ms);
	assert_true(probe.answers > 10);
	assert_true(probe.worst_ms < 1000);
	http_close_all(writers, CROWD);
}

static uint64_t lent(void)
{
	struct maas_slab_stats stats;

	maas_slab_stats(server.slab, &stats);
	return stats.live_slabs;
}

/* {"ids":[…]} of so many new allocations. */
static const char *allocate_batch(unsigned int count)
{
	const json_t *answer =
		http_json("POST /allocate",
			  http_text("{'size_bytes':64,'count':%u,'owner':'batch'}", count), 200);
	struct maas_buf body = {0};
	const char *text;
	const json_t *one;
	size_t i;

	json_array_foreach(json_object_get(answer, "allocations"), i, one)
		maas_buf_printf(&body, "%s'%s'", i ? "," : "{'ids':[", http_string(one, "id"));
	maas_buf_printf(&body, "]}");
	text = http_text("%s", body.data);
	maas_buf_fini(&body);
	return text;
}

/* The ids are freed in steps; still none is when one of them is bad, and one answer tells of all.
 */
TEST(free__many_ids)
{
	const char *ids = allocate_batch(3000);
	size_t len = strlen(ids) - 2;

	http_expect_error("POST /free", http_text("%.*s,7]}", (int)len, ids), 400, "bad_field");
	assert_int_equal(lent(), 3000);
	http_expect("POST /free", http_text("%.*s,'x']}", (int)len, ids), 200,
		    "{\"freed\":3000,\"unknown\":[\"x\"]}");
	assert_int_equal(lent(), 0);
}

/* A free that was begun is carried out to its end. */
TEST(free__client_breaks_off)
{
	const struct linger reset = {.l_onoff = 1};

	for (int i = 0; i < 4; i++) {
		const char *ids = allocate_batch(10000);
		int fd = http_connect();

		http_ask_later(fd, "POST /free", ids);
		AWAIT(lent() < 10000);
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
		close(fd);
		http_wait_idle();
		assert_int_equal(lent(), 0);
	}
}

TEST_MAIN(http_setup, http_teardown)
