/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/bench/jobs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define HEAD_BYTES  512
#define PAGE	    4096u
#define BATCH_REPLY ((size_t)8 << 20)

struct lane {
	char head[HEAD_BYTES];
	char id[JOB_ID_BYTES]; /* JOB_PAIR: what is to be freed next; "" allocates */
};

struct job {
	struct job_options options;
	struct load *load;
	unsigned int connections;
	struct lane lanes[JOB_CONNECTIONS];
};

static char line_end[] = "\r\n";

/* ---- ids */

/* Copies the first id at or after `at` and moves `at` behind it. Errors: -ENOENT, -EBADMSG. */
static int next_id(const char **at, const char *end, char id[JOB_ID_BYTES])
{
	const char *key = memmem(*at, (size_t)(end - *at), "\"id\":", 5);
	const char *open = key ? memchr(key + 5, '"', (size_t)(end - key - 5)) : NULL;
	const char *close = open ? memchr(open + 1, '"', (size_t)(end - open - 1)) : NULL;

	if (!key)
		return -ENOENT;
	if (!close || close - open - 1 >= JOB_ID_BYTES)
		return -EBADMSG;
	memset(id, 0, JOB_ID_BYTES);
	memcpy(id, open + 1, (size_t)(close - open - 1));
	*at = close;
	return 0;
}

static int id_list_grow(struct id_list *list)
{
	size_t cap = list->cap ? list->cap * 2 : 1024;
	void *ids = reallocarray(list->ids, cap, sizeof(list->ids[0]));

	if (!ids)
		return -ENOMEM;
	list->ids = ids;
	list->cap = cap;
	return 0;
}

int id_list_add(struct id_list *list, const char *json, size_t json_len)
{
	const char *at = json;
	int ret;

	for (;;) {
		if (list->num == list->cap && id_list_grow(list) != 0)
			return -ENOMEM;
		ret = next_id(&at, json + json_len, list->ids[list->num]);
		if (ret)
			return ret == -ENOENT ? 0 : ret;
		list->num++;
	}
}

/* ---- data */

static uint64_t word_at(uint64_t seed, unsigned int connection, size_t offset)
{
	uint64_t word = (seed << 32 | (uint64_t)connection << 28 | offset >> 3) + 1;

	word *= 0x9e3779b97f4a7c15u;
	return word ^ word >> 29;
}

void data_set_fill(struct data_set *data, uint64_t seed)
{
	for (unsigned int c = 0; c < JOB_DATA_CONNECTIONS; c++) {
		for (size_t at = 0; at < JOB_DATA_BYTES; at += sizeof(uint64_t)) {
			uint64_t word = word_at(seed, c, at);

			memcpy(data->bytes[c] + at, &word, sizeof(word));
		}
	}
}

/*
 * In a timed run one word of each page is compared: the comparison of all would measure the client.
 * Lost, swapped and foreign pages are seen; the untimed runs around it compare every byte.
 */
static int check_data(const struct job *job, unsigned int connection,
		      const struct load_reply *reply)
{
	const uint8_t *want = job->options.data->bytes[connection];
	size_t step = job->options.verify ? JOB_DATA_BYTES : PAGE;
	size_t len = job->options.verify ? JOB_DATA_BYTES : sizeof(uint64_t);

	if (reply->body_len != JOB_DATA_BYTES) {
		log_err("wrong length of data bytes=%zu", reply->body_len);
		return -EBADMSG;
	}
	for (size_t at = 0; at < JOB_DATA_BYTES; at += step) {
		if (memcmp(reply->body + at, want + at, len) != 0) {
			log_err("wrong byte in data connection=%u near=%zu", connection, at);
			return -EBADMSG;
		}
	}
	return 0;
}

/* ---- requests */

static struct iovec head_part(struct lane *lane, int len)
{
	return (struct iovec){.iov_base = lane->head, .iov_len = (size_t)len};
}

static int write_get(struct lane *lane, const char *path)
{
	return snprintf(lane->head, HEAD_BYTES, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", path);
}

static int write_allocate(struct lane *lane, unsigned int count)
{
	char body[64];
	int len = count ? snprintf(body, sizeof(body), "{\"size_bytes\":1024,\"count\":%u}", count)
			: snprintf(body, sizeof(body), "{\"size_bytes\":1024}");

	return snprintf(lane->head, HEAD_BYTES,
			"POST /allocate HTTP/1.1\r\nHost: localhost\r\n"
			"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
			len, body);
}

static int write_pair(struct lane *lane)
{
	if (!lane->id[0])
		return write_allocate(lane, 0);
	return snprintf(lane->head, HEAD_BYTES,
			"DELETE /allocate/%s HTTP/1.1\r\nHost: localhost\r\n\r\n", lane->id);
}

static int write_data(struct lane *lane, const char *id, bool put)
{
	if (!put)
		return snprintf(lane->head, HEAD_BYTES,
				"GET /allocate/%s/data HTTP/1.1\r\nHost: localhost\r\n\r\n", id);
	return snprintf(lane->head, HEAD_BYTES,
			"PUT /allocate/%s/data HTTP/1.1\r\nHost: localhost\r\n"
			"Content-Type: application/octet-stream\r\nContent-Length: %zu\r\n\r\n",
			id, JOB_DATA_BYTES);
}

static int write_redis(struct lane *lane, unsigned int connection, bool set)
{
	if (!set)
		return snprintf(lane->head, HEAD_BYTES, "*2\r\n$3\r\nGET\r\n$2\r\nk%u\r\n",
				connection);
	return snprintf(lane->head, HEAD_BYTES, "*3\r\n$3\r\nSET\r\n$2\r\nk%u\r\n$%zu\r\n",
			connection, JOB_DATA_BYTES);
}

static int write_head(struct job *job, unsigned int connection)
{
	struct lane *lane = &job->lanes[connection];
	enum job_kind kind = job->options.kind;

	switch (kind) {
	case JOB_HEALTH:
		return write_get(lane, "/health");
	case JOB_STATS:
		return write_get(lane, "/stats");
	case JOB_METRICS:
		return write_get(lane, "/metrics");
	case JOB_PAIR:
		return write_pair(lane);
	case JOB_ALLOCATE:
		return write_allocate(lane, 0);
	case JOB_BATCH:
		return write_allocate(lane, job->options.batch);
	case JOB_DATA_GET:
	case JOB_DATA_PUT:
		return write_data(lane, job->options.data->ids[connection], kind == JOB_DATA_PUT);
	case JOB_REDIS_GET:
	case JOB_REDIS_SET:
		return write_redis(lane, connection, kind == JOB_REDIS_SET);
	}
	return 0;
}

static void make_request(void *arg, unsigned int connection, struct iovec parts[LOAD_PARTS])
{
	struct job *job = arg;
	bool set = job->options.kind == JOB_REDIS_SET;

	parts[0] = head_part(&job->lanes[connection], write_head(job, connection));
	if (set || job->options.kind == JOB_DATA_PUT)
		parts[1] = (struct iovec){job->options.data->bytes[connection], JOB_DATA_BYTES};
	if (set)
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

static int reply_ids(const struct job *job, const struct load_reply *reply)
{
	struct id_list *ids = job->options.ids;
	size_t want = ids->num + (job->options.kind == JOB_BATCH ? job->options.batch : 1);
	int ret = id_list_add(ids, (const char *)reply->body, reply->body_len);

	if (ret == 0 && ids->num != want) {
		log_err("wrong number of ids got=%zu want=%zu", ids->num, want);
		ret = -EBADMSG;
	}
	return ret;
}

static int take_reply(void *arg, unsigned int connection, const struct load_reply *reply)
{
	struct job *job = arg;

	if (reply->status != 200) {
		log_err("request failed kind=%d status=%u head=\"%.*s\"", job->options.kind,
			reply->status, (int)reply->head_len, reply->head);
		return -EBADMSG;
	}
	switch (job->options.kind) {
	case JOB_HEALTH:
	case JOB_STATS:
	case JOB_METRICS:
		return reply->body_len > 0 ? 0 : -EBADMSG;
	case JOB_PAIR:
		return reply_pair(&job->lanes[connection], reply);
	case JOB_ALLOCATE:
	case JOB_BATCH:
		return reply_ids(job, reply);
	case JOB_DATA_GET:
	case JOB_REDIS_GET:
		return check_data(job, connection, reply);
	case JOB_DATA_PUT:
	case JOB_REDIS_SET:
		break;
	}
	return 0;
}

/* ---- jobs */

static unsigned int connections_of(enum job_kind kind)
{
	if (kind == JOB_BATCH)
		return 1;
	return kind >= JOB_DATA_GET ? JOB_DATA_CONNECTIONS : JOB_CONNECTIONS;
}

int job_open(uint16_t port, const struct job_options *options, struct job **ret_job)
{
	bool redis = options->kind == JOB_REDIS_GET || options->kind == JOB_REDIS_SET;
	struct job *job = calloc(1, sizeof(*job));
	struct load_job load = {
		.protocol = redis ? LOAD_RESP : LOAD_HTTP,
		.connections = connections_of(options->kind),
		.group = options->kind == JOB_PAIR ? 2 : 1,
		.max_reply_bytes = options->kind == JOB_BATCH ? BATCH_REPLY : JOB_DATA_BYTES,
		.arg = job,
		.request = make_request,
		.reply = take_reply,
	};
	int ret;

	if (!job)
		return -ENOMEM;
	job->options = *options;
	job->connections = load.connections;
	ret = load_open(port, &load, &job->load);
	if (ret) {
		log_err("cannot connect port=%u error=\"%s\"", port, strerror(-ret));
		free(job);
		return ret;
	}
	*ret_job = job;
	return 0;
}

int job_run(struct job *job, uint64_t operations, uint64_t *ret_wall_ns)
{
	return load_run(job->load, operations, ret_wall_ns);
}

unsigned int job_connections(const struct job *job)
{
	return job->connections;
}

void job_close(struct job *job)
{
	if (!job)
		return;
	load_close(job->load);
	free(job);
}
