/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rdma_data URL PID: what libmaas does over RDMA with memory of the maasd of this URL and process.
 * At first every byte of each size is checked once: what was written to some allocations is what is
 * read. Then it prints {}, and for each line of its input one of figures:
 *
 *     write|read BYTES DEPTH MESSAGES  {"wall_ns":N,"cpu_ns":N,"times_ns":[...]}: DEPTH of them
 * under way, or with 0 one by one, each of them timed allocate COUNT {"wall_ns":N,"cpu_ns":N}:
 * COUNT times 1 KiB with keys in one request; they are freed again
 *
 * CPU time is that of this process and the server. One thread, beside those of libmaas.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "base/base.h"
#include "client/maas.h"

#define BUFFER_BYTES  (4u << 20)
#define CHECK_BYTES   (16u << 20)
#define CHECK_SLABS   4
#define MAX_MESSAGES  100000
#define LIVE_BYTES    1024
#define MAX_ALLOCATED 10000

static const uint64_t sizes[] = {64, 1024, 4096, 65536, 1u << 20, 4u << 20};

struct rdma_data {
	clockid_t server_clock;
	struct maas *maas;
	struct maas_allocation targets[MAAS_ARRAY_SIZE(sizes)];
	uint8_t *memory; /* registered: what is sent or received; checks come behind it */
	struct maas_buffer *buffer;
	uint64_t seed;
};

/* What to do: messages of `bytes`, `depth` of them under way. */
struct job {
	bool write;
	uint64_t bytes;
	unsigned int depth; /* 0: one by one, each of them timed */
	unsigned int messages;
};

/* Nanoseconds of the messages that are timed. */
static uint64_t times_ns[MAX_MESSAGES];

static int failed(const char *what, int r)
{
	log_err("%s: %s (%d)", what, maas_error(), r);
	return r;
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
	const clockid_t clocks[] = {CLOCK_PROCESS_CPUTIME_ID, data->server_clock};
	uint64_t ns = 0;

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(clocks); i++) {
		struct timespec time = {0};

		clock_gettime(clocks[i], &time);
		ns += (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
	}
	return ns;
}

/* ---- jobs */

static int submit(struct rdma_data *data, const struct job *job)
{
	const struct maas_range range = {
		.id = target(data, job->bytes), .buf = data->memory, .len = job->bytes};

	return job->write ? maas_submit_write(data->maas, &range, 1, 0, NULL)
			  : maas_submit_read(data->maas, &range, 1, 0, NULL);
}

/* As perftest does: the thread that submits asks for completions without sleeping. */
static int run_deep(struct rdma_data *data, const struct job *job)
{
	static struct maas_completion completions[64];
	unsigned int sent = 0;
	unsigned int done = 0;

	while (done < job->messages) {
		int got;

		while (sent < job->messages && sent - done < job->depth) {
			int r = submit(data, job);

			if (r)
				return failed("submit", r);
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

static int run_timed(struct rdma_data *data, const struct job *job)
{
	const char *id = target(data, job->bytes);

	for (unsigned int i = 0; i < job->messages; i++) {
		uint64_t start = maas_clock_ns();
		int r = job->write ? maas_write(data->maas, id, 0, data->memory, job->bytes)
				   : maas_read(data->maas, id, 0, data->memory, job->bytes);

		if (r)
			return failed(job->write ? "write" : "read", r);
		times_ns[i] = maas_clock_ns() - start;
	}
	return 0;
}

/* What the job read, or what it wrote as it is read now. */
static int check_bytes(struct rdma_data *data, const struct job *job, const uint8_t *expected)
{
	if (job->write) {
		int r;

		memset(data->memory, 0, job->bytes);
		r = maas_read(data->maas, target(data, job->bytes), 0, data->memory, job->bytes);
		if (r)
			return failed("read", r);
	}
	if (memcmp(data->memory, expected, job->bytes) == 0)
		return 0;
	log_err("wrong bytes write=%d size=%llu", job->write, (unsigned long long)job->bytes);
	return -EBADMSG;
}

static int transfer(struct rdma_data *data, const struct job *job)
{
	static uint8_t expected[BUFFER_BYTES];
	uint64_t wall;
	uint64_t cpu;
	int r;

	if (!target(data, job->bytes) || !job->messages || job->messages > MAX_MESSAGES)
		return -EINVAL;
	fill(data, expected, job->bytes);
	memcpy(data->memory, expected, job->bytes);
	r = maas_write(data->maas, target(data, job->bytes), 0, data->memory, job->bytes);
	if (r)
		return failed("write", r);
	if (!job->write)
		memset(data->memory, 0, job->bytes);
	cpu = cpu_ns(data);
	wall = maas_clock_ns();
	r = job->depth ? run_deep(data, job) : run_timed(data, job);
	if (r)
		return r;
	wall = maas_clock_ns() - wall;
	cpu = cpu_ns(data) - cpu;
	r = check_bytes(data, job, expected);
	if (r)
		return r;
	printf("{\"wall_ns\":%llu,\"cpu_ns\":%llu,\"times_ns\":[", (unsigned long long)wall,
	       (unsigned long long)cpu);
	for (unsigned int i = 0; i < job->messages && !job->depth; i++)
		printf("%s%llu", i ? "," : "", (unsigned long long)times_ns[i]);
	printf("]}\n");
	return 0;
}

static int allocate(struct rdma_data *data, unsigned int count)
{
	static struct maas_allocation allocations[MAX_ALLOCATED];
	static const char *ids[MAX_ALLOCATED];
	uint64_t cpu = cpu_ns(data);
	uint64_t wall = maas_clock_ns();
	int r;

	if (count > MAX_ALLOCATED)
		return -EINVAL;
	r = maas_alloc_many(data->maas, LIVE_BYTES, count, NULL, allocations);
	if (r)
		return failed("allocate", r);
	wall = maas_clock_ns() - wall;
	cpu = cpu_ns(data) - cpu;
	for (unsigned int i = 0; i < count; i++)
		ids[i] = allocations[i].id;
	r = maas_free_many(data->maas, ids, count, NULL);
	if (r != (int)count)
		return failed("free", r < 0 ? r : -EIO);
	printf("{\"wall_ns\":%llu,\"cpu_ns\":%llu}\n", (unsigned long long)wall,
	       (unsigned long long)cpu);
	return 0;
}

/* ---- every byte, once */

static int check_size(struct rdma_data *data, uint64_t bytes)
{
	struct maas_allocation slabs[CHECK_SLABS];
	struct maas_range ranges[CHECK_SLABS];
	uint8_t *sent = data->memory + BUFFER_BYTES;
	uint8_t *got = sent + CHECK_BYTES;
	const char *ids[CHECK_SLABS];
	int r = maas_alloc_many(data->maas, bytes, CHECK_SLABS, NULL, slabs);

	if (r)
		return failed("allocate", r);
	fill(data, sent, CHECK_SLABS * bytes);
	memset(got, 0, CHECK_SLABS * bytes);
	for (unsigned int i = 0; i < CHECK_SLABS; i++) {
		ids[i] = slabs[i].id;
		ranges[i] =
			(struct maas_range){.id = ids[i], .buf = sent + i * bytes, .len = bytes};
	}
	r = maas_writev(data->maas, ranges, CHECK_SLABS);
	for (unsigned int i = 0; i < CHECK_SLABS; i++)
		ranges[i].buf = got + i * bytes;
	if (!r)
		r = maas_readv(data->maas, ranges, CHECK_SLABS);
	if (r)
		return failed("check", r);
	if (memcmp(sent, got, CHECK_SLABS * bytes) != 0) {
		log_err("wrong bytes size=%llu", (unsigned long long)bytes);
		return -EBADMSG;
	}
	r = maas_free_many(data->maas, ids, CHECK_SLABS, NULL);
	return r == CHECK_SLABS ? 0 : failed("free", r < 0 ? r : -EIO);
}

/* ---- the program */

static int prepare(struct rdma_data *data)
{
	const size_t len = BUFFER_BYTES + 2 * CHECK_BYTES;
	int r;

	data->memory = mmap(NULL, len, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (data->memory == MAP_FAILED)
		return -errno;
	r = maas_buffer_register(data->maas, data->memory, len, &data->buffer);
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(sizes) && !r; i++)
		r = maas_alloc(data->maas, sizes[i], NULL, &data->targets[i]);
	if (r)
		return failed("prepare", r);
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(sizes) && !r; i++)
		r = check_size(data, sizes[i]);
	return r;
}

static int obey(struct rdma_data *data, const char *line)
{
	struct job job;
	char verb[16];
	unsigned long long number;
	/* NOLINTNEXTLINE(cert-err34-c): what is too large is none of the sizes */
	int words = sscanf(line, "%15s %llu %u %u", verb, &number, &job.depth, &job.messages);

	job.write = strcmp(verb, "write") == 0;
	job.bytes = number;
	if (words == 2 && strcmp(verb, "allocate") == 0)
		return allocate(data, (unsigned int)number);
	return words == 4 ? transfer(data, &job) : -EINVAL;
}

static int serve(struct rdma_data *data)
{
	char line[80];
	int r = prepare(data);

	if (!r)
		printf("{}\n");
	fflush(stdout);
	while (!r && fgets(line, sizeof(line), stdin)) {
		r = obey(data, line);
		fflush(stdout);
	}
	return r;
}

int main(int argc, char **argv)
{
	struct maas_options options = {
		.size = sizeof(options),
		.transport = MAAS_TRANSPORT_RDMA,
		.max_submitted = 1024,
		.ttl_seconds = 600,
	};
	struct rdma_data data = {0};
	int r;

	if (argc != 3 ||
	    clock_getcpuclockid((pid_t)strtol(argv[2], NULL, 10), &data.server_clock)) {
		fprintf(stderr, "usage: rdma_data URL PID\n");
		return 2;
	}
	options.url = argv[1];
	r = maas_open(&options, &data.maas);
	if (r)
		(void)failed("open", r);
	else
		r = serve(&data);
	maas_close(data.maas);
	return r ? EXIT_FAILURE : EXIT_SUCCESS;
}
