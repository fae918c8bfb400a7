/* SPDX-License-Identifier: Apache-2.0 */
/* What one client can take from the others: connections, memory of large requests, time. */
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "http/internal.h"
#include "tests/unit/http/http_fixture.h"

#define CONNECTIONS 16
#define PER_ADDRESS 8

/* Sends a GET and returns the status of its answer, 0 when the connection was closed instead. */
static int get(int fd, const char *path)
{
	return http_ask(fd, http_request("GET %s", path));
}

/* One request on a connection of its own from 127.0.0.`host`; returns the status. */
static int ask(unsigned int host, const char *request, const char *body)
{
	int fd = http_connect_from(host);
	int status;

	http_ask_later(fd, request, body);
	status = http_recv_answer(fd);
	close(fd);
	return status;
}

static void expect(unsigned int host, const char *request, int status, const char *parts)
{
	assert_int_equal(ask(host, request, NULL), status);
	http_expect_parts(http_said, parts);
}

TEST(connections__of_one_address)
{
	int fds[PER_ADDRESS];

	for (unsigned int i = 0; i < PER_ADDRESS; i++) {
		fds[i] = http_connect_from(2);
		assert_int_equal(get(fds[i], "/stats"), 200);
	}
	/* One more has the reserve: health checks alone, one a connection. */
	expect(2, "GET /stats", 503, "Connection: close*too_many_connections");
	expect(2, "GET /health", 200, "Connection: close");
	expect(2, "GET /metrics", 200, "*\nmaas_http_refused_connections_total 1\n");
	/* Other addresses are not affected. */
	expect(3, "GET /stats", 200, "");
	/* A place that was given back can be used again. */
	close(fds[0]);
	usleep(100000);
	fds[0] = http_connect_from(2);
	assert_int_equal(get(fds[0], "/stats"), 200);
	http_close_all(fds, PER_ADDRESS);
}

TEST(connections__fewer_than_threads)
{
	int fd;

	HTTP_START(.threads = 4, .max_connections = 1);
	fd = http_connect_from(2);
	assert_int_equal(get(fd, "/stats"), 200);
	expect(3, "GET /stats", 503, "too_many_connections");
	close(fd);
}

TEST(connections__the_reserve)
{
	int fds[CONNECTIONS], idle[5];
	int answered = 0;

	for (unsigned int i = 0; i < CONNECTIONS; i++) {
		fds[i] = http_connect_from(i < PER_ADDRESS ? 2 : 3);
		assert_int_equal(get(fds[i], "/stats"), 200);
	}
	expect(4, "GET /health", 200, "");
	expect(4, "GET /ready", 200, "");
	expect(4, "GET /metrics", 200, "");
	expect(4, "GET /allocations", 503, "");
	/* A client that announces a body would keep the place. */
	expect(4, "GET /health\nContent-Length: 9", 503, "");
	/* Of one address two at a time, … */
	usleep(100000);
	for (int i = 0; i < 5; i++)
		idle[i] = http_connect_from(5);
	usleep(200000);
	for (int i = 0; i < 5; i++)
		answered += get(idle[i], "/health") == 200;
	assert_int_equal(answered, 2);
	http_close_all(idle, 5);
	/* … for a second without a request, … */
	usleep(100000);
	idle[0] = http_connect_from(5);
	usleep(1500000);
	assert_int_equal(get(idle[0], "/health"), 0);
	close(idle[0]);
	/* … and again when that is over. */
	expect(5, "GET /health", 200, "");
	http_close_all(fds, CONNECTIONS);
}

/* Clients that ended in the middle of a request take no place for long. */
TEST(connections__of_the_dead)
{
	static const char *const parts[] = {
		"GET /hea",
		"GET /health HTTP/1.1\r\nHo",
		"POST /data/write HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n{",
	};

	for (unsigned int i = 0; i < PER_ADDRESS; i++) {
		int fd = http_connect_from(2);

		http_send(fd, parts[i % 3], strlen(parts[i % 3]));
		close(fd);
	}
	AWAIT(ask(2, "GET /stats", NULL) == 200);
}

/* ---- memory */

static int announce_on(int fd, size_t len, size_t sent)
{
	http_send_text(fd, http_request("POST /free\nContent-Length: %zu", len));
	http_send(fd, http_text("%*s", (int)sent, ""), sent);
	return fd;
}

static int announce(unsigned int host, size_t len, size_t sent)
{
	return announce_on(http_connect_from(host), len, sent);
}

/* A list of one unknown id and many blanks. */
static int free_large(unsigned int host, int len)
{
	return ask(host, "POST /free", http_text("{'ids':['x']%*s}", len - 13, ""));
}

TEST(held__what_was_announced_is_free)
{
	int fds[PER_ADDRESS / 2];

	for (unsigned int i = 0; i < PER_ADDRESS / 2; i++)
		fds[i] = announce(2, 4 << 20, 0);
	usleep(100000);
	assert_int_equal(free_large(2, 1 << 20), 200);
	assert_int_equal(ask(2, "POST /allocate", "{'size_bytes':64}"), 200);
	http_close_all(fds, PER_ADDRESS / 2);
}

TEST(held__one_address_has_its_part)
{
	const uint64_t held = UINT64_C(2) * (900000 - MAAS_HTTP_FREE_BYTES);
	int fds[2];

	/* The part of one address is 2 MiB. Both have come before a third asks: it could be one of
	 * them that is refused. */
	for (int i = 0; i < 2; i++)
		fds[i] = announce(2, 4 << 20, 900000);
	AWAIT(atomic_load(&server.http->held_bytes) >= held);
	assert_int_equal(atomic_load(&server.http->held_bytes), held);
	assert_int_equal(free_large(2, 1 << 20), 503);
	http_expect_parts(http_said, "busy");
	/* Small requests do not count, and other addresses have their own part. */
	assert_int_equal(ask(2, "POST /allocate", "{'size_bytes':64}"), 200);
	assert_int_equal(free_large(2, 60000), 200);
	assert_int_equal(free_large(3, 1 << 20), 200);
	http_close_all(fds, 2);
	AWAIT(free_large(2, 1 << 20) == 200);
}

static int connect_unix(const char *url)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	snprintf(to.sun_path, sizeof(to.sun_path), "%s", url + strlen("unix:"));
	assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
	return fd;
}

TEST(held__clients_of_unix_sockets_have_one_part)
{
	const uint64_t held = UINT64_C(2) * (900000 - MAAS_HTTP_FREE_BYTES);
	const char *const listen[] = {"127.0.0.1:0",
				      http_text("unix:/tmp/maas-peers-%d.sock", (int)getpid())};
	int fds[2];

	HTTP_START(.listen = listen, .num_listen = 2, .max_connections_per_address = PER_ADDRESS,
		   .max_body_bytes = 4 << 20, .max_held_bytes = 8 << 20);
	for (int i = 0; i < 2; i++)
		fds[i] = announce_on(connect_unix(listen[1]), 4 << 20, 900000);
	AWAIT(atomic_load(&server.http->held_bytes) >= held);
	http_expect_answer(announce_on(connect_unix(listen[1]), 1 << 20, 1 << 20), 503, "busy");
	assert_int_equal(free_large(2, 1 << 20), 200);
	http_close_all(fds, 2);
	AWAIT(!atomic_load(&server.http->held_bytes));
	http_expect_answer(announce_on(connect_unix(listen[1]), 1 << 20, 1 << 20), 400, "");
}

/* What is copied for a reader that takes nothing counts, too. */
TEST(held__blocks_of_answers)
{
	const uint64_t block = (256 << 10) - MAAS_HTTP_FREE_BYTES;
	const char *all =
		http_text("{'id':'%s','offset':0,'length':%d}", http_allocate(4 << 20), 4 << 20);
	const char *body = http_text("{'ranges':[%s,%s,%s,%s]}", all, all, all, all);
	int fds[PER_ADDRESS - 1];

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(fds); i++) {
		fds[i] = http_connect_from(2);
		http_ask_later(fds[i], "POST /data/read", body);
	}
	AWAIT(atomic_load(&server.http->held_bytes) >= MAAS_ARRAY_SIZE(fds) * block);
	http_close_all(fds, MAAS_ARRAY_SIZE(fds));
	AWAIT(!atomic_load(&server.http->held_bytes));
}

/* A client that holds a share and only drips is cut off long before the time for a whole body. */
TEST(held__dripping_is_cut)
{
	int fd = announce(2, 4 << 20, 1 << 20);
	uint64_t start_ms = maas_clock_ms();
	bool open = true;

	while (open && maas_clock_ms() - start_ms < 25000) {
		open = http_send(fd, " ", 1);
		usleep(100000);
	}
	assert_false(open);
	close(fd);
}

/* The same of one that asks for large answers and reads none, however much the sockets take. */
TEST(held__a_reader_that_stops_is_cut)
{
	const char *list = http_request("GET /allocations?limit=5000");
	uint64_t start_ms = maas_clock_ms();
	int small = 4096;
	int fd = http_connect_from(2);

	assert_int_equal(ask(2, "POST /allocate", "{'size_bytes':1,'count':5000}"), 200);
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	for (int i = 0; i < 10; i++)
		http_send_text(fd, list);
	while (!atomic_load(&server.http->metrics.timeouts) && maas_clock_ms() - start_ms < 25000)
		usleep(100000);
	assert_int_equal(atomic_load(&server.http->metrics.timeouts), 1);
	AWAIT(!atomic_load(&server.http->held_bytes));
	close(fd);
}

/* A held answer goes in blocks: all of it arrives, and the connection stays. */
TEST(held__answers_are_whole)
{
	json_t *list;

	http_json("POST /allocate", "{'size_bytes':1,'count':5000}", 200);
	for (int i = 0; i < 3; i++) {
		const struct http_answer *a = http_call("GET /allocations?limit=5000", NULL, 0);

		list = json_object_get(http_parse(a->body), "allocations");
		assert_int_equal(json_array_size(list), 5000);
		assert_int_equal(a->new_connections, 0);
		assert_int_equal(http_call("HEAD /allocations?limit=5000", NULL, 0)->status, 200);
	}
}

/* ---- time */

static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static _Atomic unsigned int at_gate;
static _Atomic unsigned int through; /* with their memory */

/* Allocations of "slow" wait at the gate. The linker's names of --wrap. NOLINTBEGIN */
typeof(maas_lend_allocate) __real_maas_lend_allocate, __wrap_maas_lend_allocate;

int __wrap_maas_lend_allocate(struct maas_lend *lend, const struct maas_lend_alloc_request *request,
			      struct maas_slab_ref *ret_refs,
			      struct maas_lend_allocation *ret_first)
{
	int r = __real_maas_lend_allocate(lend, request, ret_refs, ret_first);

	if (request->owner && !strcmp(request->owner, "slow")) {
		atomic_fetch_add(&at_gate, 1);
		pthread_mutex_lock(&gate);
		pthread_mutex_unlock(&gate);
		atomic_fetch_add(&through, !r);
	}
	return r;
}
/* NOLINTEND */

static int post_slow(unsigned int host)
{
	int fd = http_connect_from(host);

	http_ask_later(fd, "POST /allocate", "{'size_bytes':1048576,'count':6,'owner':'slow'}");
	return fd;
}

/* However many a client asks for and however long each takes. */
TEST(heavy__another_client_does_not_wait)
{
	const char *quick = "{'size_bytes':1048576,'count':6,'owner':'quick'}";
	int fds[3];

	atomic_store(&at_gate, 0);
	pthread_mutex_lock(&gate);
	for (int i = 0; i < 3; i++)
		fds[i] = post_slow(2);
	AWAIT(atomic_load(&at_gate));
	for (int i = 0; i < 3; i++)
		assert_int_equal(ask(3, "POST /allocate", quick), 200);
	/* Its own wait for each other. */
	assert_int_equal(atomic_load(&at_gate), 1);
	pthread_mutex_unlock(&gate);
	for (int i = 0; i < 3; i++)
		http_expect_answer(fds[i], 200, "allocations");
	assert_int_equal(atomic_load(&at_gate), 3);
}

/* Nor where the allocation is small, and has a large extent made for it. */
TEST(heavy__a_large_extent_is_made)
{
	int slow;

	http_extent_bytes = 16 << 20;
	HTTP_START(.threads = 1);
	http_extent_bytes = 0;
	slow = http_connect_from(2);
	atomic_store(&at_gate, 0);
	pthread_mutex_lock(&gate);
	http_ask_later(slow, "POST /allocate", "{'size_bytes':1,'owner':'slow'}");
	AWAIT(atomic_load(&at_gate));
	assert_int_equal(ask(3, "GET /ready", NULL), 200);
	pthread_mutex_unlock(&gate);
	http_expect_answer(slow, 200, "size_bytes");
	close(slow);
}

/* Keeps the gate shut until the server has begun to stop. */
static void *shut_gate(void *arg)
{
	pthread_barrier_t *shut = arg;

	pthread_mutex_lock(&gate);
	pthread_barrier_wait(shut);
	AWAIT(atomic_load(&server.http->stopping));
	nap_ms(50);
	pthread_mutex_unlock(&gate);
	return NULL;
}

/* What waits then is told so, and holds nothing up; what is done then is told that. */
TEST(heavy__the_server_stops)
{
	int fds[MAAS_HTTP_HEAVY_THREADS + 2];
	unsigned int answered[2] = {0};
	pthread_barrier_t shut;
	pthread_t keeper;

	atomic_store(&at_gate, 0);
	atomic_store(&through, 0);
	pthread_barrier_init(&shut, NULL, 2);
	threads_start(&keeper, 1, shut_gate, &shut, 0);
	pthread_barrier_wait(&shut);
	for (unsigned int i = 0; i < MAAS_ARRAY_SIZE(fds); i++)
		fds[i] = post_slow(i + 2);
	AWAIT(atomic_load(&at_gate) == MAAS_HTTP_HEAVY_THREADS);
	AWAIT(maas_http_active(server.http) == MAAS_ARRAY_SIZE(fds));
	http_stop();
	threads_join(&keeper, 1);
	for (unsigned int i = 0; i < MAAS_ARRAY_SIZE(fds); i++) {
		int status = http_recv_answer(fds[i]);

		assert_true(status == 200 || status == 503);
		answered[status == 503]++;
	}
	assert_int_equal(answered[0], atomic_load(&through));
	assert_int_equal(answered[1], MAAS_ARRAY_SIZE(fds) - answered[0]);
	http_close_all(fds, MAAS_ARRAY_SIZE(fds));
	pthread_barrier_destroy(&shut);
}

/* ---- answers that come before the body has */

TEST(early__each_upload_gets_its_status)
{
	enum { UPLOADS = 100, CHUNK = 64 << 10 };
	static char data[CHUNK];
	int fds[UPLOADS];

	HTTP_START(.max_connections = 200);
	for (int i = 0; i < UPLOADS; i++) {
		fds[i] = http_connect_from(2);
		http_send_text(fds[i],
			       http_request("PUT /allocate/0/data\nContent-Length: %d", 4 << 20));
		/* At once: what comes late is not waited for. */
		for (int sent = 0; sent < 4 << 20; sent += CHUNK)
			if (!http_send(fds[i], data, CHUNK))
				fail_msg("upload %d was broken after %d bytes", i, sent);
	}
	for (int i = 0; i < UPLOADS; i++)
		http_expect_answer(fds[i], 404, "");
}

/* An answer in the middle of a long body comes at once, and ends the connection. */
TEST(early__in_the_middle_of_a_body)
{
	static const char frame[] = "\x02\0\0\0{}";
	int fd = http_connect_from(2);

	http_send_text(fd, http_request("POST /data/write\nContent-Length: %d", 10 << 20));
	http_send(fd, frame, sizeof(frame) - 1);
	http_expect_answer(fd, 400, "Connection: close*missing_field");
}

TEST(early__impossible_lengths)
{
	static const char *const lengths[] = {"9223372036854775807", "41953040000"};

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(lengths); i++)
		expect(2, http_text("POST /data/write\nContent-Length: %s", lengths[i]), 413, "");
}

HTTP_TEST_MAIN(.max_connections = CONNECTIONS, .max_connections_per_address = PER_ADDRESS,
	       .max_body_bytes = 4 << 20, .max_held_bytes = 8 << 20)
