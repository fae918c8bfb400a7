/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rdma_data maas|bare URL PID: what libmaas, or a client with verbs alone, does over RDMA with
 * memory of the maasd of this URL and process. libmaas checks every byte of each size once, at
 * first: what was written to some allocations is what is read. Then it prints {}, and for each line
 * of its input one of figures:
 *
 *     write|read BYTES DEPTH MESSAGES  {"wall_ns":N,"cpu_ns":N,"times_ns":[...]}: DEPTH of them
 *                                      under way, or with 0 one by one, each of them timed
 *     allocate COUNT                   {"wall_ns":N,"cpu_ns":N}: by libmaas, COUNT times 1 KiB with
 *                                      keys in one request; they are freed again
 *
 * What was written is read once more, and each byte compared. CPU time is that of this process and
 * the server. One thread, beside those of libmaas.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "client/maas.h"
#include "tests/bench/rdma_data.h"

#define CHECK_BYTES   (16u << 20)
#define CHECK_SLABS   4
#define LIVE_BYTES    1024
#define MAX_ALLOCATED 10000

static const uint64_t sizes[] = {64, 1024, 4096, 65536, 1u << 20, 4u << 20};

uint64_t times_ns[MAX_MESSAGES];

static clockid_t server_clock;
static uint64_t seed;

/* Of libmaas. */
static struct maas *maas;
static struct maas_allocation targets[MAAS_ARRAY_SIZE(sizes)];
static uint8_t *memory; /* registered; checks come behind the messages */

static int failed(const char *what, int r)
{
	log_err("%s: %s (%d)", what, maas_error(), r);
	return r;
}

static void fill(uint8_t *bytes, size_t len)
{
	uint64_t x = ++seed * 0x9e3779b97f4a7c15u;

	for (size_t i = 0; i < len; i += 8) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		memcpy(bytes + i, &x, 8);
	}
}

static const char *target(uint64_t bytes)
{
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(sizes); i++)
		if (sizes[i] == bytes)
			return targets[i].id;
	return NULL;
}

static uint64_t cpu_ns(void)
{
	const clockid_t clocks[] = {CLOCK_PROCESS_CPUTIME_ID, server_clock};
	uint64_t ns = 0;

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(clocks); i++) {
		struct timespec time = {0};

		clock_gettime(clocks[i], &time);
		ns += (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
	}
	return ns;
}

/* ---- libmaas */

static int submit(const struct messages *messages)
{
	const struct maas_range range = {
		.id = target(messages->bytes), .buf = memory, .len = messages->bytes};

	return messages->write ? maas_submit_write(maas, &range, 1, 0, NULL)
			       : maas_submit_read(maas, &range, 1, 0, NULL);
}

/* As perftest does: the thread that submits asks for completions without sleeping. */
static int run_deep(const struct messages *messages)
{
	static struct maas_completion completions[64];
	unsigned int sent = 0;
	unsigned int done = 0;

	while (done < messages->count) {
		int got;

		while (sent < messages->count && sent - done < messages->depth) {
			int r = submit(messages);

			if (r)
				return failed("submit", r);
			sent++;
		}
		got = maas_poll(maas, completions, MAAS_ARRAY_SIZE(completions), 0);
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

static int run_timed(const struct messages *messages)
{
	const char *id = target(messages->bytes);

	for (unsigned int i = 0; i < messages->count; i++) {
		uint64_t start = maas_clock_ns();
		int r = messages->write ? maas_write(maas, id, 0, memory, messages->bytes)
					: maas_read(maas, id, 0, memory, messages->bytes);

		if (r)
			return failed(messages->write ? "write" : "read", r);
		times_ns[i] = maas_clock_ns() - start;
	}
	return 0;
}

static int run(const struct messages *messages)
{
	if (!target(messages->bytes))
		return -EINVAL;
	return messages->depth ? run_deep(messages) : run_timed(messages);
}

static int allocate(unsigned int count)
{
	static struct maas_allocation allocations[MAX_ALLOCATED];
	static const char *ids[MAX_ALLOCATED];
	uint64_t cpu = cpu_ns();
	uint64_t wall = maas_clock_ns();
	int r;

	if (count > MAX_ALLOCATED)
		return -EINVAL;
	r = maas_alloc_many(maas, LIVE_BYTES, count, NULL, allocations);
	if (r)
		return failed("allocate", r);
	wall = maas_clock_ns() - wall;
	cpu = cpu_ns() - cpu;
	for (unsigned int i = 0; i < count; i++)
		ids[i] = allocations[i].id;
	r = maas_free_many(maas, ids, count, NULL);
	if (r != (int)count)
		return failed("free", r < 0 ? r : -EIO);
	printf("{\"wall_ns\":%llu,\"cpu_ns\":%llu}\n", (unsigned long long)wall,
	       (unsigned long long)cpu);
	return 0;
}

/* Every byte, once. */
static int check_size(uint64_t bytes)
{
	struct maas_allocation slabs[CHECK_SLABS];
	struct maas_range ranges[CHECK_SLABS];
	uint8_t *sent = memory + MAX_BYTES;
	uint8_t *got = sent + CHECK_BYTES;
	const char *ids[CHECK_SLABS];
	int r = maas_alloc_many(maas, bytes, CHECK_SLABS, NULL, slabs);

	if (r)
		return failed("allocate", r);
	fill(sent, CHECK_SLABS * bytes);
	memset(got, 0, CHECK_SLABS * bytes);
	for (unsigned int i = 0; i < CHECK_SLABS; i++) {
		ids[i] = slabs[i].id;
		ranges[i] =
			(struct maas_range){.id = ids[i], .buf = sent + i * bytes, .len = bytes};
	}
	r = maas_writev(maas, ranges, CHECK_SLABS);
	for (unsigned int i = 0; i < CHECK_SLABS; i++)
		ranges[i].buf = got + i * bytes;
	if (!r)
		r = maas_readv(maas, ranges, CHECK_SLABS);
	if (r)
		return failed("check", r);
	if (memcmp(sent, got, CHECK_SLABS * bytes) != 0) {
		log_err("wrong bytes size=%llu", (unsigned long long)bytes);
		return -EBADMSG;
	}
	r = maas_free_many(maas, ids, CHECK_SLABS, NULL);
	return r == CHECK_SLABS ? 0 : failed("free", r < 0 ? r : -EIO);
}

static int prepare(void)
{
	const size_t len = MAX_BYTES + 2 * CHECK_BYTES;
	struct maas_buffer *buffer;
	int r;

	memory = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE,
		      -1, 0);
	if (memory == MAP_FAILED)
		return -errno;
	r = maas_buffer_register(maas, memory, len, &buffer);
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(sizes) && !r; i++)
		r = maas_alloc(maas, sizes[i], NULL, &targets[i]);
	if (r)
		return failed("prepare", r);
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(sizes) && !r; i++)
		r = check_size(sizes[i]);
	return r;
}

static int open_maas(const char *url, uint8_t **ret_memory)
{
	struct maas_options options = {
		.size = sizeof(options),
		.url = url,
		.transport = MAAS_TRANSPORT_RDMA,
		.max_submitted = 1024,
		.ttl_seconds = 600,
	};
	int r = maas_open(&options, &maas);

	if (r)
		return failed("open", r);
	r = prepare();
	*ret_memory = memory;
	return r;
}

static void close_maas(void)
{
	maas_close(maas);
}

static const struct way by_maas = {open_maas, run, allocate, close_maas};

/* ---- either way */

/* Of messages that were sent: what they read, or what they wrote as it is read now. */
static int check_bytes(const struct way *way, uint8_t *bytes, const struct messages *messages,
		       const uint8_t *expected)
{
	struct messages again = {false, messages->bytes, 1, 1};

	if (messages->write) {
		int r;

		memset(bytes, 0, messages->bytes);
		r = way->run(&again);
		if (r)
			return r;
	}
	if (memcmp(bytes, expected, messages->bytes) == 0)
		return 0;
	log_err("wrong bytes write=%d size=%llu", messages->write,
		(unsigned long long)messages->bytes);
	return -EBADMSG;
}

static int transfer(const struct way *way, uint8_t *bytes, const struct messages *messages)
{
	static uint8_t expected[MAX_BYTES];
	struct messages first = {true, messages->bytes, 1, 1};
	uint64_t wall;
	uint64_t cpu;
	int r;

	if (messages->bytes > MAX_BYTES || !messages->count || messages->count > MAX_MESSAGES)
		return -EINVAL;
	fill(expected, messages->bytes);
	memcpy(bytes, expected, messages->bytes);
	r = way->run(&first);
	if (r)
		return r;
	if (!messages->write)
		memset(bytes, 0, messages->bytes);
	cpu = cpu_ns();
	wall = maas_clock_ns();
	r = way->run(messages);
	if (r)
		return r;
	wall = maas_clock_ns() - wall;
	cpu = cpu_ns() - cpu;
	r = check_bytes(way, bytes, messages, expected);
	if (r)
		return r;
	printf("{\"wall_ns\":%llu,\"cpu_ns\":%llu,\"times_ns\":[", (unsigned long long)wall,
	       (unsigned long long)cpu);
	for (unsigned int i = 0; i < messages->count && !messages->depth; i++)
		printf("%s%llu", i ? "," : "", (unsigned long long)times_ns[i]);
	printf("]}\n");
	return 0;
}

static int obey(const struct way *way, uint8_t *bytes, const char *line)
{
	struct messages job;
	char verb[16];
	unsigned long long number;
	/* NOLINTNEXTLINE(cert-err34-c): what is too large is none of the sizes */
	int words = sscanf(line, "%15s %llu %u %u", verb, &number, &job.depth, &job.count);

	job.write = strcmp(verb, "write") == 0;
	job.bytes = number;
	if (words == 2 && strcmp(verb, "allocate") == 0 && way->allocate)
		return way->allocate((unsigned int)number);
	return words == 4 ? transfer(way, bytes, &job) : -EINVAL;
}

static int serve(const struct way *way, const char *url)
{
	uint8_t *bytes;
	char line[80];
	int r = way->open(url, &bytes);

	if (!r)
		printf("{}\n");
	fflush(stdout);
	while (!r && fgets(line, sizeof(line), stdin)) {
		r = obey(way, bytes, line);
		fflush(stdout);
	}
	way->close();
	return r;
}

int main(int argc, char **argv)
{
	const struct way *way = argc > 1 && strcmp(argv[1], "bare") == 0 ? &by_verbs : &by_maas;

	if (argc != 4 || clock_getcpuclockid((pid_t)strtol(argv[3], NULL, 10), &server_clock)) {
		fprintf(stderr, "usage: rdma_data maas|bare URL PID\n");
		return 2;
	}
	return serve(way, argv[2]) ? EXIT_FAILURE : EXIT_SUCCESS;
}
