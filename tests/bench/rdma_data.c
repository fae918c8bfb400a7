/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/bench/rdma_data.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "client/maas.h"
#include "tests/bench/server.h"

#define BUFFER_BYTES  (4u << 20)
#define CHECK_BYTES   (16u << 20)
#define CHECK_SLABS   4
#define MAX_MESSAGES  100000
#define MAX_MIB_S     200000.0 /* faster than memory is */
#define LIVE_BYTES    1024
#define MAX_ALLOCATED 10000

static const uint64_t sizes[] = {64, 1024, 4096, 65536, 1u << 20, 4u << 20};

struct rdma_data {
	struct server server;
	struct maas *maas;
	char device[64];
	struct maas_allocation targets[MAAS_ARRAY_SIZE(sizes)];
	uint8_t *memory; /* registered: what is sent or received; checks come behind it */
	struct maas_buffer *buffer;
	uint64_t seed;
};

static int failed(const char *what, int ret)
{
	log_err("%s: %s (%d)", what, maas_error(), ret);
	return ret;
}

static void fill(struct rdma_data *data, uint8_t *bytes, size_t len)
{
	uint64_t x = ++data->seed * 0x9e3779b97f4a7c15u;

	for (size_t i = 0; i < len; i += 8) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		memcpy(bytes + i, &x, 8);
	}
}

static const char *target(const struct rdma_data *data, uint64_t bytes)
{
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(sizes); i++)
		if (sizes[i] == bytes)
			return data->targets[i].id;
	return NULL;
}

static uint64_t cpu_ns(const struct rdma_data *data)
{
	struct timespec time;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
	return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec +
	       server_cpu_ns(&data->server);
}

/* ---- jobs */

static int submit(struct rdma_data *data, const struct rdma_data_job *job)
{
	const struct maas_range range = {
		.id = target(data, job->bytes), .buf = data->memory, .len = job->bytes};

	return job->write ? maas_submit_write(data->maas, &range, 1, 0, NULL)
			  : maas_submit_read(data->maas, &range, 1, 0, NULL);
}

/* As perftest does: the thread that submits asks for completions without sleeping. */
static int run_deep(struct rdma_data *data, const struct rdma_data_job *job)
{
	static struct maas_completion completions[64];
	unsigned int sent = 0;
	unsigned int done = 0;

	while (done < job->messages) {
		int got;

		while (sent < job->messages && sent - done < job->depth) {
			int ret = submit(data, job);

			if (ret)
				return failed("submit", ret);
			sent++;
		}
		got = maas_poll(data->maas, completions, MAAS_ARRAY_SIZE(completions), 0);
		if (got < 0)
			return failed("poll", got);
		for (int i = 0; i < got; i++) {
			if (completions[i].status) {
				log_err("an operation failed: %s", completions[i].error);
				return completions[i].status;
			}
		}
		done += (unsigned int)got;
	}
	return 0;
}

static int compare_u64(const void *a, const void *b)
{
	const uint64_t *x = a;
	const uint64_t *y = b;

	return (*x > *y) - (*x < *y);
}

static double percentile_us(const uint64_t *sorted, unsigned int count, double share)
{
	unsigned int at = (unsigned int)(share * count);

	return (double)sorted[at < count ? at : count - 1] / 1e3;
}

static int run_timed(struct rdma_data *data, const struct rdma_data_job *job,
		     struct rdma_data_sample *ret)
{
	static uint64_t times[MAX_MESSAGES];
	const char *id = target(data, job->bytes);

	for (unsigned int i = 0; i < job->messages; i++) {
		uint64_t start = maas_clock_ns();
		int r = job->write ? maas_write(data->maas, id, 0, data->memory, job->bytes)
				   : maas_read(data->maas, id, 0, data->memory, job->bytes);

		if (r)
			return failed(job->write ? "write" : "read", r);
		times[i] = maas_clock_ns() - start;
	}
	qsort(times, job->messages, sizeof(times[0]), compare_u64);
	ret->p50_us = percentile_us(times, job->messages, 0.5);
	ret->p99_us = percentile_us(times, job->messages, 0.99);
	ret->p999_us = percentile_us(times, job->messages, 0.999);
	return 0;
}

/* What the job read, or what it wrote as it is read now. */
static int check_bytes(struct rdma_data *data, const struct rdma_data_job *job,
		       const uint8_t *expected)
{
	if (job->write) {
		int ret;

		memset(data->memory, 0, job->bytes);
		ret = maas_read(data->maas, target(data, job->bytes), 0, data->memory, job->bytes);
		if (ret)
			return failed("read", ret);
	}
	if (memcmp(data->memory, expected, job->bytes) == 0)
		return 0;
	log_err("wrong bytes write=%d size=%llu", job->write, (unsigned long long)job->bytes);
	return -EBADMSG;
}

int rdma_data_run(struct rdma_data *data, const struct rdma_data_job *job,
		  struct rdma_data_sample *ret_sample)
{
	static uint8_t expected[BUFFER_BYTES];
	uint64_t start;
	uint64_t cpu;
	int ret;

	if (!target(data, job->bytes) || job->messages > MAX_MESSAGES)
		return -EINVAL;
	*ret_sample = (struct rdma_data_sample){0};
	fill(data, expected, job->bytes);
	memcpy(data->memory, expected, job->bytes);
	ret = maas_write(data->maas, target(data, job->bytes), 0, data->memory, job->bytes);
	if (ret)
		return failed("write", ret);
	if (!job->write)
		memset(data->memory, 0, job->bytes);
	cpu = cpu_ns(data);
	start = maas_clock_ns();
	ret = job->depth ? run_deep(data, job) : run_timed(data, job, ret_sample);
	if (ret)
		return ret;
	start = maas_clock_ns() - start;
	ret_sample->cpu_ns = (double)(cpu_ns(data) - cpu) / job->messages;
	ret_sample->mib_s = (double)job->bytes * job->messages / (1u << 20) * 1e9 / (double)start;
	if (ret_sample->mib_s > MAX_MIB_S)
		return -ERANGE;
	return check_bytes(data, job, expected);
}

int rdma_data_allocate(struct rdma_data *data, unsigned int count, double *ret_wall_ns,
		       double *ret_cpu_ns)
{
	static struct maas_allocation allocations[MAX_ALLOCATED];
	static const char *ids[MAX_ALLOCATED];
	uint64_t cpu = cpu_ns(data);
	uint64_t start = maas_clock_ns();
	int ret = maas_alloc_many(data->maas, LIVE_BYTES, count, NULL, allocations);

	if (ret)
		return failed("allocate", ret);
	*ret_wall_ns = (double)(maas_clock_ns() - start) / count;
	*ret_cpu_ns = (double)(cpu_ns(data) - cpu) / count;
	for (unsigned int i = 0; i < count; i++)
		ids[i] = allocations[i].id;
	ret = maas_free_many(data->maas, ids, count, NULL);
	return ret == (int)count ? 0 : failed("free", ret < 0 ? ret : -EIO);
}

/* ---- every byte, once */

static int check_size(struct rdma_data *data, uint64_t bytes)
{
	struct maas_allocation slabs[CHECK_SLABS];
	struct maas_range ranges[CHECK_SLABS];
	uint8_t *sent = data->memory + BUFFER_BYTES;
	uint8_t *got = sent + CHECK_BYTES;
	const char *ids[CHECK_SLABS];
	int ret = maas_alloc_many(data->maas, bytes, CHECK_SLABS, NULL, slabs);

	if (ret)
		return failed("allocate", ret);
	fill(data, sent, CHECK_SLABS * bytes);
	memset(got, 0, CHECK_SLABS * bytes);
	for (unsigned int i = 0; i < CHECK_SLABS; i++) {
		ids[i] = slabs[i].id;
		ranges[i] =
			(struct maas_range){.id = ids[i], .buf = sent + i * bytes, .len = bytes};
	}
	ret = maas_writev(data->maas, ranges, CHECK_SLABS);
	for (unsigned int i = 0; i < CHECK_SLABS; i++)
		ranges[i].buf = got + i * bytes;
	if (!ret)
		ret = maas_readv(data->maas, ranges, CHECK_SLABS);
	if (ret)
		return failed("check", ret);
	if (memcmp(sent, got, CHECK_SLABS * bytes) != 0) {
		log_err("wrong bytes size=%llu", (unsigned long long)bytes);
		return -EBADMSG;
	}
	ret = maas_free_many(data->maas, ids, CHECK_SLABS, NULL);
	return ret == CHECK_SLABS ? 0 : failed("free", ret < 0 ? ret : -EIO);
}

/* ---- its life */

static int start_server(struct rdma_data *data, const struct rdma_data_options *options)
{
	char output[512];
	const char *const argv[] = {options->maasd, "--listen",	   "127.0.0.1:0", "--rdma",
				    "required",	    "--rdma-keys", options->mode, "--max-pool-size",
				    "1GiB",	    NULL};

	snprintf(output, sizeof(output), "%s/maasd-%s-%u", options->dir, options->mode,
		 options->live);
	data->server.name = "maasd";
	return server_start(&data->server, argv, output, NULL);
}

static int open_handle(const struct rdma_data *data, enum maas_transport_type transport,
		       struct maas **ret_maas)
{
	char url[64];
	const struct maas_options options = {
		.size = sizeof(options),
		.url = url,
		.transport = transport,
		.max_submitted = 1024,
		.ttl_seconds = transport == MAAS_TRANSPORT_RDMA ? 600 : 0,
	};
	int ret;

	snprintf(url, sizeof(url), "http://127.0.0.1:%u", data->server.port);
	ret = maas_open(&options, ret_maas);
	return ret ? failed("open", ret) : 0;
}

/* Without keys: nobody but the server holds them. */
static int add_live(const struct rdma_data *data, unsigned int live)
{
	static struct maas_allocation allocations[MAX_ALLOCATED];
	struct maas *maas;
	int ret = open_handle(data, MAAS_TRANSPORT_HTTP, &maas);

	if (ret)
		return ret;
	while (live && !ret) {
		unsigned int count = live < MAX_ALLOCATED ? live : MAX_ALLOCATED;

		ret = maas_alloc_many(maas, LIVE_BYTES, count, NULL, allocations);
		if (ret)
			(void)failed("allocate", ret);
		live -= count;
	}
	maas_close(maas);
	return ret;
}

static int learn_device(struct rdma_data *data, const char *mode)
{
	static const char key[] = "\"device\":\"";
	char keys[32];
	char *text;
	const char *at;
	int ret = maas_get(data->maas, "/health", &text, NULL);

	if (ret)
		return failed("/health", ret);
	snprintf(keys, sizeof(keys), "\"keys\":\"%s\"", mode);
	at = strstr(text, key);
	if (at && strstr(text, keys))
		sscanf(at + sizeof(key) - 1, "%63[^\"]", data->device);
	free(text);
	return *data->device ? 0 : -EPROTO;
}

static int prepare(struct rdma_data *data)
{
	const size_t len = BUFFER_BYTES + 2 * CHECK_BYTES;
	int ret;

	data->memory = mmap(NULL, len, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (data->memory == MAP_FAILED) {
		data->memory = NULL;
		return -errno;
	}
	ret = maas_buffer_register(data->maas, data->memory, len, &data->buffer);
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(sizes) && !ret; i++)
		ret = maas_alloc(data->maas, sizes[i], NULL, &data->targets[i]);
	if (ret)
		return failed("prepare", ret);
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(sizes) && !ret; i++)
		ret = check_size(data, sizes[i]);
	return ret;
}

int rdma_data_open(const struct rdma_data_options *options, struct rdma_data **ret_data)
{
	struct rdma_data *data = calloc(1, sizeof(*data));
	int ret;

	if (!data)
		return -ENOMEM;
	*ret_data = data;
	ret = start_server(data, options);
	if (!ret)
		ret = add_live(data, options->live);
	if (!ret)
		ret = open_handle(data, MAAS_TRANSPORT_RDMA, &data->maas);
	if (!ret)
		ret = learn_device(data, options->mode);
	return ret ? ret : prepare(data);
}

int rdma_data_close(struct rdma_data *data)
{
	int ret;

	if (!data)
		return 0;
	maas_close(data->maas);
	if (data->memory)
		munmap(data->memory, BUFFER_BYTES + 2 * CHECK_BYTES);
	ret = server_stop(&data->server);
	free(data);
	return ret;
}

const char *rdma_data_device(const struct rdma_data *data)
{
	return data->device;
}
