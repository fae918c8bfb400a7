/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http_load PORT KIND [ARGUMENT...]: sends requests of one kind to a maasd, a bare_mhd or a Redis
 * on loopback, and checks each answer. It prints {"connections":N} when it is connected. For each
 * line of its input, a number of operations, it does so many and prints {"wall_ns":N,"ids":[...]}:
 * the ids are of what it allocated and did not free.
 *
 *     health, stats, metrics       GET of that path
 *     pair                         POST /allocate, then DELETE: one operation
 *     allocate                     POST /allocate of 1 KiB
 *     batch SLABS                  the same of so many at once, on one connection
 *     data_get|data_put SEED ID ID 4 MiB of each allocation, in and out, one connection each
 *     data_verify SEED ID ID       as data_get, but each byte is compared, not a word of each page
 *     redis_get|redis_set|redis_verify SEED
 *                                  the same of two keys of a Redis
 *
 * The data follows from SEED, and its words tell where they stand. HTTP_LOAD_TOKEN of the
 * environment, if any, goes with each request to a maasd. One thread and epoll; one request is
 * under way on each connection, so that both servers see the same client.
 */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "tests/bench/bench.h"
#include "tests/bench/reply.h"

#define CONNECTIONS	 16
#define DATA_CONNECTIONS 2
#define DATA_BYTES	 ((size_t)4 << 20)
#define ID_BYTES	 40
#define HEAD_BYTES	 512
#define PAGE		 4096u
#define BATCH_REPLY	 ((size_t)8 << 20)
#define PARTS		 3
#define IDLE_MS		 30000

enum kind {
	HEALTH,
	STATS,
	METRICS,
	PAIR,
	ALLOCATE,
	BATCH,
	DATA_GET,
	DATA_PUT,
	DATA_VERIFY,
	REDIS_GET,
	REDIS_SET,
	REDIS_VERIFY,
	KINDS,
};

static const struct {
	const char *name;
	int num_arguments;
	unsigned int connections;
} kinds[KINDS] = {
	[HEALTH] = {"health", 0, CONNECTIONS},
	[STATS] = {"stats", 0, CONNECTIONS},
	[METRICS] = {"metrics", 0, CONNECTIONS},
	[PAIR] = {"pair", 0, CONNECTIONS},
	[ALLOCATE] = {"allocate", 0, CONNECTIONS},
	[BATCH] = {"batch", 1, 1},
	[DATA_GET] = {"data_get", 1 + DATA_CONNECTIONS, DATA_CONNECTIONS},
	[DATA_PUT] = {"data_put", 1 + DATA_CONNECTIONS, DATA_CONNECTIONS},
	[DATA_VERIFY] = {"data_verify", 1 + DATA_CONNECTIONS, DATA_CONNECTIONS},
	[REDIS_GET] = {"redis_get", 1, DATA_CONNECTIONS},
	[REDIS_SET] = {"redis_set", 1, DATA_CONNECTIONS},
	[REDIS_VERIFY] = {"redis_verify", 1, DATA_CONNECTIONS},
};

struct connection {
	int fd;
	unsigned int index;
	char id[ID_BYTES];     /* PAIR: what is to be freed next; "" allocates */
	const char *slab;      /* DATA_*: its allocation */
	uint8_t *data;	       /* DATA_*, REDIS_*: what that holds */
	char head[HEAD_BYTES]; /* of each request */
	size_t head_len;
	char free[HEAD_BYTES];	   /* PAIR: of a DELETE */
	struct iovec parts[PARTS]; /* what is still to be sent */
	bool busy;
	bool wants_out;
	uint8_t *in;
	size_t in_len;
	size_t in_need; /* the whole reply's bytes; 0: not known yet */
};

static enum kind kind;
static unsigned int batch;  /* BATCH: slabs in one request */
static struct maas_buf ids; /* ALLOCATE, BATCH: as JSON */
static struct connection connections[CONNECTIONS];
static int epoll_fd;
static size_t in_cap;
static uint64_t to_begin;   /* operations */
static uint64_t to_receive; /* replies */
static char line_end[] = "\r\n";
static char fields[128] = "Host: localhost\r\n"; /* of each request to a maasd */

/* ---- ids */

/* Copies the first id at or after `at` and moves `at` behind it; false: there is none. */
static bool next_id(const char **at, const char *end, char id[ID_BYTES])
{
	const char *key = memmem(*at, (size_t)(end - *at), "\"id\":", 5);
	const char *open = key ? memchr(key + 5, '"', (size_t)(end - key - 5)) : NULL;
	const char *close = open ? memchr(open + 1, '"', (size_t)(end - open - 1)) : NULL;

	need_0(key && (!close || close - open - 1 >= ID_BYTES) ? EBADMSG : 0, "an id");
	if (!key)
		return false;
	memset(id, 0, ID_BYTES);
	memcpy(id, open + 1, (size_t)(close - open - 1));
	*at = close;
	return true;
}

/* ---- data */

static uint64_t word_at(uint64_t seed, unsigned int connection, size_t offset)
{
	uint64_t word = (seed << 32 | (uint64_t)connection << 28 | offset >> 3) + 1;

	word *= 0x9e3779b97f4a7c15u;
	return word ^ word >> 29;
}

static void fill(uint8_t *bytes, uint64_t seed, unsigned int connection)
{
	for (size_t at = 0; at < DATA_BYTES; at += sizeof(uint64_t)) {
		uint64_t word = word_at(seed, connection, at);

		memcpy(bytes + at, &word, sizeof(word));
	}
}

/*
 * In a timed run one word of each page is compared: the comparison of all would measure the client.
 * Lost, swapped and foreign pages are seen; the untimed runs around it compare every byte.
 */
static void check_data(const struct connection *c, const struct load_reply *reply)
{
	bool verify = kind == DATA_VERIFY || kind == REDIS_VERIFY;
	size_t step = verify ? DATA_BYTES : PAGE;
	size_t len = verify ? DATA_BYTES : sizeof(uint64_t);

	if (reply->body_len != DATA_BYTES)
		errx(EXIT_FAILURE, "%zu bytes of data", reply->body_len);
	for (size_t at = 0; at < DATA_BYTES; at += step)
		if (memcmp(reply->body + at, c->data + at, len) != 0)
			errx(EXIT_FAILURE, "wrong byte in data connection=%u near=%zu", c->index,
			     at);
}

/* ---- requests */

/* A request to a maasd; `type` NULL: it has no body. */
static void write_http(struct connection *c, const char *method, const char *path, const char *type,
		       size_t len, const char *body)
{
	char more[96] = "";

	if (type)
		snprintf(more, sizeof(more),
			 "Content-Type: application/%s\r\nContent-Length: %zu\r\n", type, len);
	snprintf(c->head, HEAD_BYTES, "%s %s HTTP/1.1\r\n%s%s\r\n%s", method, path, fields, more,
		 body);
}

static void write_allocate(struct connection *c, unsigned int count)
{
	char body[64] = "{\"size_bytes\":1024}";

	if (count)
		snprintf(body, sizeof(body), "{\"size_bytes\":1024,\"count\":%u}", count);
	write_http(c, "POST", "/allocate", "json", strlen(body), body);
}

/* Before the clock runs. */
static void write_head(struct connection *c)
{
	char path[64];

	switch (kind) {
	case HEALTH:
	case STATS:
	case METRICS:
		snprintf(path, sizeof(path), "/%s", kinds[kind].name);
		return write_http(c, "GET", path, NULL, 0, "");
	case PAIR:
	case ALLOCATE:
	case BATCH:
		return write_allocate(c, batch);
	case DATA_GET:
	case DATA_PUT:
	case DATA_VERIFY:
		snprintf(path, sizeof(path), "/allocate/%s/data", c->slab);
		return kind == DATA_PUT ? write_http(c, "PUT", path, "octet-stream", DATA_BYTES, "")
					: write_http(c, "GET", path, NULL, 0, "");
	case REDIS_SET:
		snprintf(c->head, HEAD_BYTES, "*3\r\n$3\r\nSET\r\n$2\r\nk%u\r\n$%zu\r\n", c->index,
			 DATA_BYTES);
		return;
	default:
		snprintf(c->head, HEAD_BYTES, "*2\r\n$3\r\nGET\r\n$2\r\nk%u\r\n", c->index);
	}
}

static void make_request(struct connection *c)
{
	memset(c->parts, 0, sizeof(c->parts));
	c->parts[0] = (struct iovec){c->head, c->head_len};
	if (c->id[0]) {
		int len = snprintf(c->free, HEAD_BYTES, "DELETE /allocate/%s HTTP/1.1\r\n%s\r\n",
				   c->id, fields);

		c->parts[0] = (struct iovec){c->free, (size_t)len};
	}
	if (kind == REDIS_SET || kind == DATA_PUT)
		c->parts[1] = (struct iovec){c->data, DATA_BYTES};
	if (kind == REDIS_SET)
		c->parts[2] = (struct iovec){line_end, 2};
}

/* ---- replies */

static void reply_pair(struct connection *c, const struct load_reply *reply)
{
	const char *at = (const char *)reply->body;

	if (c->id[0])
		c->id[0] = '\0';
	else
		need_0(next_id(&at, at + reply->body_len, c->id) ? 0 : EBADMSG, "no id");
}

static void reply_ids(const struct load_reply *reply)
{
	const char *at = (const char *)reply->body;
	const char *end = at + reply->body_len;
	unsigned int want = batch ? batch : 1;
	unsigned int got = 0;
	char id[ID_BYTES];

	for (; next_id(&at, end, id); got++)
		maas_buf_printf(&ids, "%s\"%s\"", ids.len ? "," : "", id);
	if (got != want)
		errx(EXIT_FAILURE, "%u ids, not %u", got, want);
	need_0(ids.error, "ids");
}

static void take_reply(struct connection *c, const struct load_reply *reply)
{
	if (reply->status != 200)
		errx(EXIT_FAILURE, "%s: %u \"%.*s\"", kinds[kind].name, reply->status,
		     (int)reply->head_len, reply->head);
	switch (kind) {
	case HEALTH:
	case STATS:
	case METRICS:
		return need_0(reply->body_len > 0 ? 0 : EBADMSG, "an empty body");
	case PAIR:
		return reply_pair(c, reply);
	case ALLOCATE:
	case BATCH:
		return reply_ids(reply);
	case DATA_PUT:
	case REDIS_SET:
		return;
	default:
		return check_data(c, reply);
	}
}

/* ---- connections */

static void watch(struct connection *c, int op)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};

	if (c->wants_out)
		event.events |= EPOLLOUT;
	need(!epoll_ctl(epoll_fd, op, c->fd, &event), "epoll_ctl");
}

static void connect_one(struct connection *c, uint16_t port)
{
	const struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_port = htons(port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	const int on = 1;

	c->in = malloc(in_cap);
	need(c->in, "a buffer");
	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	need(c->fd >= 0, "socket");
	need(!connect(c->fd, (const struct sockaddr *)&address, sizeof(address)), "connect");
	need(!setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)), "TCP_NODELAY");
	watch(c, EPOLL_CTL_ADD);
}

/* Takes `len` sent bytes off the parts; true when all are sent. */
static bool advance(struct connection *c, size_t len)
{
	for (unsigned int i = 0; i < PARTS; i++) {
		size_t step = len < c->parts[i].iov_len ? len : c->parts[i].iov_len;

		c->parts[i].iov_base = (uint8_t *)c->parts[i].iov_base + step;
		c->parts[i].iov_len -= step;
		len -= step;
		if (c->parts[i].iov_len > 0)
			return false;
	}
	return true;
}

static void send_some(struct connection *c)
{
	const struct msghdr message = {.msg_iov = c->parts, .msg_iovlen = PARTS};
	bool blocked = false;
	ssize_t n;

	do {
		n = sendmsg(c->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
		blocked = n < 0;
		need(!blocked || errno == EAGAIN, "sendmsg");
	} while (!blocked && !advance(c, (size_t)n));
	if (blocked == c->wants_out)
		return;
	c->wants_out = blocked;
	watch(c, EPOLL_CTL_MOD);
}

/* An operation, or its second half. */
static void begin(struct connection *c)
{
	if (!c->id[0] && to_begin == 0)
		return;
	to_begin -= !c->id[0];
	c->busy = true;
	c->in_len = 0;
	c->in_need = 0;
	make_request(c);
	send_some(c);
}

/* Once the reply's length is known nothing beyond it is read: no pipelining, so none is there. */
static bool receive_some(struct connection *c, struct load_reply *ret_reply)
{
	size_t room = (c->in_need ? c->in_need : in_cap) - c->in_len;
	enum load_protocol protocol = kind >= REDIS_GET ? LOAD_RESP : LOAD_HTTP;
	ssize_t n = recv(c->fd, c->in + c->in_len, room, MSG_DONTWAIT);

	if (n < 0 && errno == EAGAIN)
		return false;
	need(n >= 0, "recv");
	need_0(n ? 0 : ECONNRESET, "the server");
	c->in_len += (size_t)n;
	if (c->in_need == 0) {
		need_0(reply_need(protocol, c->in, c->in_len, &c->in_need), "a reply");
		need_0(c->in_need > in_cap ? EMSGSIZE : 0, "a reply");
	}
	if (c->in_len < c->in_need || !c->in_need)
		return false;
	need_0(c->in_len > c->in_need ? EPROTO : 0, "two replies");
	reply_read(protocol, c->in, c->in_len, ret_reply);
	return true;
}

static void serve(struct connection *c, uint32_t events)
{
	struct load_reply reply;

	if (events & EPOLLOUT)
		send_some(c);
	if (!(events & ~(uint32_t)EPOLLOUT))
		return;
	need_0(c->busy ? 0 : ECONNRESET, "an idle connection");
	if (!receive_some(c, &reply))
		return;
	c->busy = false;
	to_receive--;
	take_reply(c, &reply);
	begin(c);
}

/* Returns how long they took, in ns. */
static uint64_t run(uint64_t operations)
{
	struct epoll_event events[CONNECTIONS];
	uint64_t start = maas_clock_ns();

	to_begin = operations;
	to_receive = operations * (kind == PAIR ? 2 : 1);
	for (unsigned int i = 0; i < kinds[kind].connections; i++)
		begin(&connections[i]);
	while (to_receive > 0) {
		int n = epoll_wait(epoll_fd, events, CONNECTIONS, IDLE_MS);

		need(n >= 0 || errno == EINTR, "epoll_wait");
		need_0(n ? 0 : ETIMEDOUT, "a reply");
		for (int i = 0; i < n; i++)
			serve(events[i].data.ptr, events[i].events);
	}
	return maas_clock_ns() - start;
}

/* ---- the program */

/* The arguments behind KIND: SLABS, or SEED and the ids of allocations. */
static void parse_arguments(int num_arguments, char **arguments)
{
	uint64_t number = num_arguments ? strtoull(arguments[0], NULL, 10) : 0;

	if (kind == BATCH)
		batch = (unsigned int)number;
	for (unsigned int i = 0; i < DATA_CONNECTIONS && kind >= DATA_GET; i++) {
		struct connection *c = &connections[i];

		if (num_arguments > 1)
			c->slab = arguments[1 + i];
		c->data = malloc(DATA_BYTES);
		need(c->data, "data");
		fill(c->data, number, i);
	}
}

int main(int argc, char **argv)
{
	const char *token = getenv("HTTP_LOAD_TOKEN");
	char line[32];

	while (argc > 2 && kind < KINDS && strcmp(argv[2], kinds[kind].name) != 0)
		kind++;
	if (argc < 3 || kind == KINDS || argc - 3 != kinds[kind].num_arguments)
		errx(2, "usage: http_load PORT KIND [ARGUMENT...]");
	if (token)
		snprintf(fields, sizeof(fields),
			 "Host: localhost\r\nAuthorization: Bearer %.64s\r\n", token);
	parse_arguments(argc - 3, argv + 3);
	in_cap = (kind == BATCH ? BATCH_REPLY : DATA_BYTES) + REPLY_HEAD_BYTES;
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	need(epoll_fd >= 0, "epoll_create1");
	for (unsigned int i = 0; i < kinds[kind].connections; i++) {
		connections[i].index = i;
		write_head(&connections[i]);
		connections[i].head_len = strlen(connections[i].head);
		connect_one(&connections[i], (uint16_t)strtoul(argv[1], NULL, 10));
	}
	printf("{\"connections\":%u}\n", kinds[kind].connections);
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		uint64_t wall_ns = run(strtoull(line, NULL, 10));

		printf("{\"wall_ns\":%llu,\"ids\":[%.*s]}\n", (unsigned long long)wall_ns,
		       (int)ids.len, ids.len ? ids.data : "");
		fflush(stdout);
		maas_buf_fini(&ids);
	}
	return EXIT_SUCCESS;
}
