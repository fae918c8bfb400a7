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
 *     data_verify SEED ID ID       the same as data_get, and compares every byte, not one word a
 * page redis_get|redis_set SEED     the same of two keys of a Redis redis_verify SEED
 *
 * The data follows from SEED, and its words tell where they stand. HTTP_LOAD_TOKEN of the
 * environment, if any, goes with each request to a maasd. One thread.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/bench/load.h"

#define CONNECTIONS	 16
#define DATA_CONNECTIONS 2
#define DATA_BYTES	 ((size_t)4 << 20)
#define ID_BYTES	 40
#define HEAD_BYTES	 512
#define PAGE		 4096u
#define BATCH_REPLY	 ((size_t)8 << 20)

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

struct lane {
	char id[ID_BYTES]; /* PAIR: what is to be freed next; "" allocates */
	const char *slab;  /* DATA_*: its allocation */
	uint8_t *data;	   /* DATA_*, REDIS_*: what that holds */
	char head[HEAD_BYTES];
};

struct job {
	enum kind kind;
	unsigned int batch;  /* BATCH: slabs in one request */
	struct maas_buf ids; /* ALLOCATE, BATCH: as JSON */
	struct lane lanes[CONNECTIONS];
};

static char line_end[] = "\r\n";
static char fields[128] = "Host: localhost\r\n"; /* of each request to a maasd */

/* ---- ids */

/* Copies the first id at or after `at` and moves `at` behind it. Errors: -ENOENT, -EBADMSG. */
static int next_id(const char **at, const char *end, char id[ID_BYTES])
{
	const char *key = memmem(*at, (size_t)(end - *at), "\"id\":", 5);
	const char *open = key ? memchr(key + 5, '"', (size_t)(end - key - 5)) : NULL;
	const char *close = open ? memchr(open + 1, '"', (size_t)(end - open - 1)) : NULL;

	if (!key)
		return -ENOENT;
	if (!close || close - open - 1 >= ID_BYTES)
		return -EBADMSG;
	memset(id, 0, ID_BYTES);
	memcpy(id, open + 1, (size_t)(close - open - 1));
	*at = close;
	return 0;
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
static int check_data(const struct job *job, unsigned int connection,
		      const struct load_reply *reply)
{
	bool verify = job->kind == DATA_VERIFY || job->kind == REDIS_VERIFY;
	const uint8_t *want = job->lanes[connection].data;
	size_t step = verify ? DATA_BYTES : PAGE;
	size_t len = verify ? DATA_BYTES : sizeof(uint64_t);

	if (reply->body_len != DATA_BYTES) {
		log_err("wrong length of data bytes=%zu", reply->body_len);
		return -EBADMSG;
	}
	for (size_t at = 0; at < DATA_BYTES; at += step) {
		if (memcmp(reply->body + at, want + at, len) != 0) {
			log_err("wrong byte in data connection=%u near=%zu", connection, at);
			return -EBADMSG;
		}
	}
	return 0;
}

/* ---- requests */

static int write_get(struct lane *lane, const char *path)
{
	return snprintf(lane->head, HEAD_BYTES, "GET %s HTTP/1.1\r\n%s\r\n", path, fields);
}

static int write_allocate(struct lane *lane, unsigned int count)
{
	char body[64];
	int len = count ? snprintf(body, sizeof(body), "{\"size_bytes\":1024,\"count\":%u}", count)
			: snprintf(body, sizeof(body), "{\"size_bytes\":1024}");

	return snprintf(lane->head, HEAD_BYTES,
			"POST /allocate HTTP/1.1\r\n%s"
			"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
			fields, len, body);
}

static int write_pair(struct lane *lane)
{
	char id[ID_BYTES]; /* gcc cannot tell that lane->id and lane->head do not overlap */

	if (!lane->id[0])
		return write_allocate(lane, 0);
	memcpy(id, lane->id, sizeof(id));
	return snprintf(lane->head, HEAD_BYTES, "DELETE /allocate/%s HTTP/1.1\r\n%s\r\n", id,
			fields);
}

static int write_data(struct lane *lane, bool put)
{
	if (!put)
		return snprintf(lane->head, HEAD_BYTES, "GET /allocate/%s/data HTTP/1.1\r\n%s\r\n",
				lane->slab, fields);
	return snprintf(lane->head, HEAD_BYTES,
			"PUT /allocate/%s/data HTTP/1.1\r\n%s"
			"Content-Type: application/octet-stream\r\nContent-Length: %zu\r\n\r\n",
			lane->slab, fields, DATA_BYTES);
}

static int write_redis(struct lane *lane, unsigned int connection, bool set)
{
	if (!set)
		return snprintf(lane->head, HEAD_BYTES, "*2\r\n$3\r\nGET\r\n$2\r\nk%u\r\n",
				connection);
	return snprintf(lane->head, HEAD_BYTES, "*3\r\n$3\r\nSET\r\n$2\r\nk%u\r\n$%zu\r\n",
			connection, DATA_BYTES);
}

static int write_head(struct job *job, unsigned int connection)
{
	struct lane *lane = &job->lanes[connection];

	switch (job->kind) {
	case HEALTH:
		return write_get(lane, "/health");
	case STATS:
		return write_get(lane, "/stats");
	case METRICS:
		return write_get(lane, "/metrics");
	case PAIR:
		return write_pair(lane);
	case ALLOCATE:
	case BATCH:
		return write_allocate(lane, job->batch);
	case DATA_GET:
	case DATA_PUT:
	case DATA_VERIFY:
		return write_data(lane, job->kind == DATA_PUT);
	default:
		return write_redis(lane, connection, job->kind == REDIS_SET);
	}
}

static void make_request(void *arg, unsigned int connection, struct iovec parts[LOAD_PARTS])
{
	struct job *job = arg;
	struct lane *lane = &job->lanes[connection];
	int len = write_head(job, connection);

	parts[0] = (struct iovec){lane->head, (size_t)len};
	if (job->kind == REDIS_SET || job->kind == DATA_PUT)
		parts[1] = (struct iovec){lane->data, DATA_BYTES};
	if (job->kind == REDIS_SET)
		parts[2] = (struct iovec){line_end, 2};
}

/* ---- replies */

static int reply_pair(struct lane *lane, const struct load_reply *reply)
{
	const char *at = (const char *)reply->body;

	if (lane->id[0]) {
		lane->id[0] = '\0';
		return 0;
	}
	return next_id(&at, at + reply->body_len, lane->id);
}

static int reply_ids(struct job *job, const struct load_reply *reply)
{
	const char *at = (const char *)reply->body;
	unsigned int want = job->batch ? job->batch : 1;
	unsigned int got = 0;
	char id[ID_BYTES];
	int r;

	while (!(r = next_id(&at, (const char *)reply->body + reply->body_len, id))) {
		maas_buf_printf(&job->ids, "%s\"%s\"", job->ids.len ? "," : "", id);
		got++;
	}
	if (r == -ENOENT && got == want)
		return job->ids.error;
	log_err("wrong ids got=%u want=%u", got, want);
	return -EBADMSG;
}

static int take_reply(void *arg, unsigned int connection, const struct load_reply *reply)
{
	struct job *job = arg;

	if (reply->status != 200) {
		log_err("request failed kind=%s status=%u head=\"%.*s\"", kinds[job->kind].name,
			reply->status, (int)reply->head_len, reply->head);
		return -EBADMSG;
	}
	switch (job->kind) {
	case HEALTH:
	case STATS:
	case METRICS:
		return reply->body_len > 0 ? 0 : -EBADMSG;
	case PAIR:
		return reply_pair(&job->lanes[connection], reply);
	case ALLOCATE:
	case BATCH:
		return reply_ids(job, reply);
	case DATA_PUT:
	case REDIS_SET:
		return 0;
	default:
		return check_data(job, connection, reply);
	}
}

/* ---- the program */

/* The arguments behind KIND: SLABS, or SEED and the ids of allocations. */
static int parse_arguments(struct job *job, int num_arguments, char **arguments)
{
	uint64_t number = num_arguments ? strtoull(arguments[0], NULL, 10) : 0;

	if (num_arguments != kinds[job->kind].num_arguments)
		return -EINVAL;
	if (job->kind == BATCH)
		job->batch = (unsigned int)number;
	for (unsigned int i = 0; i < DATA_CONNECTIONS && job->kind >= DATA_GET; i++) {
		struct lane *lane = &job->lanes[i];

		if (num_arguments > 1)
			lane->slab = arguments[1 + i];
		lane->data = malloc(DATA_BYTES);
		if (!lane->data)
			return -ENOMEM;
		fill(lane->data, number, i);
	}
	return 0;
}

/* Does as many operations as each line of the input says. */
static int serve(struct job *job, struct load *load)
{
	char line[32];
	int r = 0;

	printf("{\"connections\":%u}\n", kinds[job->kind].connections);
	fflush(stdout);
	while (!r && fgets(line, sizeof(line), stdin)) {
		uint64_t wall_ns;

		r = load_run(load, strtoull(line, NULL, 10), &wall_ns);
		if (r)
			break;
		printf("{\"wall_ns\":%llu,\"ids\":[%.*s]}\n", (unsigned long long)wall_ns,
		       (int)job->ids.len, job->ids.len ? job->ids.data : "");
		fflush(stdout);
		maas_buf_fini(&job->ids);
	}
	return r;
}

static int run(uint16_t port, struct job *job)
{
	const struct load_job load_job = {
		.protocol = job->kind >= REDIS_GET ? LOAD_RESP : LOAD_HTTP,
		.connections = kinds[job->kind].connections,
		.group = job->kind == PAIR ? 2 : 1,
		.max_reply_bytes = job->kind == BATCH ? BATCH_REPLY : DATA_BYTES,
		.arg = job,
		.request = make_request,
		.reply = take_reply,
	};
	struct load *load;
	int r = load_open(port, &load_job, &load);

	if (r) {
		log_err("cannot connect port=%u error=\"%s\"", port, strerror(-r));
		return r;
	}
	r = serve(job, load);
	load_close(load);
	return r;
}

int main(int argc, char **argv)
{
	struct job job = {.kind = HEALTH};
	const char *token = getenv("HTTP_LOAD_TOKEN");
	int r = -EINVAL;

	if (token)
		snprintf(fields, sizeof(fields),
			 "Host: localhost\r\nAuthorization: Bearer %.64s\r\n", token);
	while (argc > 2 && job.kind < KINDS && strcmp(argv[2], kinds[job.kind].name) != 0)
		job.kind++;
	if (argc > 2 && job.kind < KINDS)
		r = parse_arguments(&job, argc - 3, argv + 3);
	if (r == -EINVAL) {
		fprintf(stderr, "usage: http_load PORT KIND [ARGUMENT...]\n");
		return 2;
	}
	if (!r)
		r = run((uint16_t)strtoul(argv[1], NULL, 10), &job);
	maas_buf_fini(&job.ids);
	for (unsigned int i = 0; i < CONNECTIONS; i++)
		free(job.lanes[i].data);
	return r ? EXIT_FAILURE : EXIT_SUCCESS;
}
