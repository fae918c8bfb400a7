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
#include <sys/mman.h>

#include "client/maas.h"
#include "tests/bench/bench.h"
#include "tests/rdma/raw.h"

#define MAX_BYTES     (4u << 20)
#define MAX_MESSAGES  100000
#define CHECK_BYTES   (16u << 20)
#define CHECK_SLABS   4
#define LIVE_BYTES    1024
#define MAX_ALLOCATED 10000
#define TTL_S	      36000 /* of bare verbs: nothing is renewed while they are measured */

static const uint64_t sizes[] = {64, 1024, 4096, 65536, 1u << 20, 4u << 20};

struct messages {
	bool write;
	uint64_t bytes;
	unsigned int depth; /* so many under way; 0: one by one, each of them timed */
	unsigned int count;
};

/* A way to send them. What fails ends the program. */
struct way {
	uint8_t *(*open)(const char *url); /* returns where bytes are sent from, or received */
	void (*run)(const struct messages *messages);
	void (*close)(void);
};

/* Nanoseconds of those that are timed, in turn. */
static uint64_t times_ns[MAX_MESSAGES];

static clockid_t server_clock;
static uint64_t seed;

/* Of libmaas. */
static struct maas *maas;
static struct maas_allocation targets[MAAS_ARRAY_SIZE(sizes)];
static uint8_t *memory; /* registered; checks come behind the messages */

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

static void must_be_equal(const uint8_t *got, const uint8_t *want, uint64_t len, const char *what)
{
	if (memcmp(got, want, len) != 0)
		errx(EXIT_FAILURE, "wrong bytes after %s, %llu at once", what,
		     (unsigned long long)len);
}

static uint64_t cpu_ns(void)
{
	return clock_ns(CLOCK_PROCESS_CPUTIME_ID) + clock_ns(server_clock);
}

/* ---- libmaas */

/* Of what it returns: how many, or why not. */
static unsigned int must(int r, const char *what)
{
	if (r < 0)
		errx(EXIT_FAILURE, "%s: %s (%d)", what, maas_error(), r);
	return (unsigned int)r;
}

static const char *target(uint64_t bytes)
{
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(sizes); i++)
		if (sizes[i] == bytes)
			return targets[i].id;
	errx(EXIT_FAILURE, "none of the sizes: %llu", (unsigned long long)bytes);
}

/* As perftest does: the thread that submits asks for completions without sleeping. */
static void run_deep(const struct messages *messages)
{
	static struct maas_completion completions[64];
	const struct maas_range range = {
		.id = target(messages->bytes), .buf = memory, .len = messages->bytes};
	unsigned int sent = 0;
	unsigned int done = 0;
	unsigned int got;

	for (; done < messages->count; done += got) {
		for (; sent < messages->count && sent - done < messages->depth; sent++)
			must(messages->write ? maas_submit_write(maas, &range, 1, 0, NULL)
					     : maas_submit_read(maas, &range, 1, 0, NULL),
			     "submit");
		got = must(maas_poll(maas, completions, MAAS_ARRAY_SIZE(completions), 0), "poll");
		for (unsigned int i = 0; i < got; i++)
			if (completions[i].status)
				errx(EXIT_FAILURE, "an operation failed: %s", completions[i].error);
	}
}

static void run_timed(const struct messages *messages)
{
	const char *id = target(messages->bytes);

	for (unsigned int i = 0; i < messages->count; i++) {
		uint64_t start = maas_clock_ns();

		must(messages->write ? maas_write(maas, id, 0, memory, messages->bytes)
				     : maas_read(maas, id, 0, memory, messages->bytes),
		     messages->write ? "write" : "read");
		times_ns[i] = maas_clock_ns() - start;
	}
}

static void run_maas(const struct messages *messages)
{
	(messages->depth ? run_deep : run_timed)(messages);
}

static void free_all(const struct maas_allocation *allocations, unsigned int count)
{
	static const char *ids[MAX_ALLOCATED];

	for (unsigned int i = 0; i < count; i++)
		ids[i] = allocations[i].id;
	need_0(must(maas_free_many(maas, ids, count, NULL), "free") == count ? 0 : EIO, "free");
}

static void allocate(unsigned int count)
{
	static struct maas_allocation allocations[MAX_ALLOCATED];
	uint64_t cpu = cpu_ns();
	uint64_t wall = maas_clock_ns();

	need_0(count > MAX_ALLOCATED ? EINVAL : 0, "allocate");
	must(maas_alloc_many(maas, LIVE_BYTES, count, NULL, allocations), "allocate");
	wall = maas_clock_ns() - wall;
	cpu = cpu_ns() - cpu;
	free_all(allocations, count);
	printf("{\"wall_ns\":%llu,\"cpu_ns\":%llu}\n", (unsigned long long)wall,
	       (unsigned long long)cpu);
}

/* Every byte, once. */
static void check_size(uint64_t bytes)
{
	struct maas_allocation slabs[CHECK_SLABS];
	struct maas_range ranges[CHECK_SLABS];
	uint8_t *sent = memory + MAX_BYTES;
	uint8_t *got = sent + CHECK_BYTES;

	must(maas_alloc_many(maas, bytes, CHECK_SLABS, NULL, slabs), "allocate");
	fill(sent, CHECK_SLABS * bytes);
	memset(got, 0, CHECK_SLABS * bytes);
	for (unsigned int i = 0; i < CHECK_SLABS; i++)
		ranges[i] = (struct maas_range){
			.id = slabs[i].id, .buf = sent + i * bytes, .len = bytes};
	must(maas_writev(maas, ranges, CHECK_SLABS), "write to several");
	for (unsigned int i = 0; i < CHECK_SLABS; i++)
		ranges[i].buf = got + i * bytes;
	must(maas_readv(maas, ranges, CHECK_SLABS), "read from several");
	must_be_equal(got, sent, CHECK_SLABS * bytes, "a check");
	free_all(slabs, CHECK_SLABS);
}

static uint8_t *open_maas(const char *url)
{
	const size_t len = MAX_BYTES + 2 * CHECK_BYTES;
	struct maas_options options = {
		.size = sizeof(options),
		.url = url,
		.transport = MAAS_TRANSPORT_RDMA,
		.max_submitted = 1024,
		.ttl_seconds = 600,
	};
	struct maas_buffer *buffer;

	must(maas_open(&options, &maas), "open");
	memory = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE,
		      -1, 0);
	need(memory != MAP_FAILED, "mmap");
	must(maas_buffer_register(maas, memory, len, &buffer), "register");
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(sizes); i++)
		must(maas_alloc(maas, sizes[i], NULL, &targets[i]), "allocate");
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(sizes); i++)
		check_size(sizes[i]);
	return memory;
}

static void close_maas(void)
{
	maas_close(maas);
}

static const struct way by_maas = {open_maas, run_maas, close_maas};

/*
 * ---- verbs alone, which share nothing with libmaas: one connection, one key, and a loop that
 * posts and asks for completions. Each message has one, as libmaas's have.
 */

static struct raw_http *http;
static struct raw_session session;
static struct raw_link link;
static struct raw_key key;

/* Returns how many ended. */
static unsigned int take(void)
{
	struct ibv_wc wcs[16];
	int n = ibv_poll_cq(link.cq, MAAS_ARRAY_SIZE(wcs), wcs);

	if (n < 0)
		errx(EXIT_FAILURE, "ibv_poll_cq: %d", n);
	for (int i = 0; i < n; i++)
		if (wcs[i].status != IBV_WC_SUCCESS)
			errx(EXIT_FAILURE, "a message failed: %s",
			     ibv_wc_status_str(wcs[i].status));
	return (unsigned int)n;
}

static void run_verbs(const struct messages *messages)
{
	const unsigned int depth = messages->depth ? messages->depth : 1;
	unsigned int sent = 0;
	unsigned int done = 0;
	unsigned int n;
	uint64_t start = 0;
	int r;

	need_0(depth > RAW_DEPTH ? EINVAL : 0, "the depth");
	for (; done < messages->count; done += n) {
		for (; sent < messages->count && sent - done < depth; sent++) {
			if (!messages->depth)
				start = maas_clock_ns();
			r = raw_post(&link, messages->write ? IBV_WR_RDMA_WRITE : IBV_WR_RDMA_READ,
				     0, messages->bytes, key.addr, key.rkey, 0);
			if (r)
				errx(EXIT_FAILURE, "a message: %s", strerror(-r));
		}
		n = take();
		if (n && !messages->depth)
			times_ns[done] = maas_clock_ns() - start;
	}
}

static void need_200(int status, const char *what)
{
	if (status != 200)
		errx(EXIT_FAILURE, "%s: status %d", what, status);
}

static uint8_t *open_link(const char *url)
{
	int r;

	http = raw_http_new(url);
	need_200(raw_session_open(http, "", TTL_S, &session), "a session");
	r = raw_connect(&link, &session, MAX_BYTES);
	/* The first one loads libraries. In a machine whose clock counts instructions, that may
	 * take longer than a ticket lives. */
	if (r == -ECONNREFUSED && link.reason == MAAS_WIRE_TICKET_UNKNOWN) {
		need_200(raw_session_ticket(http, &session), "a ticket");
		r = raw_connect(&link, &session, MAX_BYTES);
	}
	need_0(r, "connecting");
	need_200(raw_alloc(http, &session, MAX_BYTES, NULL, NULL, &key), "an allocation");
	return link.bytes;
}

static void close_link(void)
{
	raw_session_end(http, &session);
	raw_close(&link);
	raw_http_free(http);
}

static const struct way by_verbs = {open_link, run_verbs, close_link};

/* ---- either way */

/* What was read, or what was written as it is read now, is compared. */
static void transfer(const struct way *way, uint8_t *bytes, const struct messages *messages)
{
	static uint8_t expected[MAX_BYTES];
	const struct messages first = {true, messages->bytes, 1, 1};
	const struct messages again = {false, messages->bytes, 1, 1};
	uint64_t wall;
	uint64_t cpu;

	fill(expected, messages->bytes);
	memcpy(bytes, expected, messages->bytes);
	way->run(&first);
	if (!messages->write)
		memset(bytes, 0, messages->bytes);
	cpu = cpu_ns();
	wall = maas_clock_ns();
	way->run(messages);
	wall = maas_clock_ns() - wall;
	cpu = cpu_ns() - cpu;
	if (messages->write) {
		memset(bytes, 0, messages->bytes);
		way->run(&again);
	}
	must_be_equal(bytes, expected, messages->bytes, messages->write ? "writes" : "reads");
	printf("{\"wall_ns\":%llu,\"cpu_ns\":%llu,\"times_ns\":[", (unsigned long long)wall,
	       (unsigned long long)cpu);
	for (unsigned int i = 0; i < messages->count && !messages->depth; i++)
		printf("%s%llu", i ? "," : "", (unsigned long long)times_ns[i]);
	printf("]}\n");
}

static void obey(const struct way *way, uint8_t *bytes, const char *line)
{
	struct messages job;
	char verb[16];
	unsigned long long number;
	/* NOLINTNEXTLINE(cert-err34-c): what is too large is none of the sizes */
	int words = sscanf(line, "%15s %llu %u %u", verb, &number, &job.depth, &job.count);

	job.write = strcmp(verb, "write") == 0;
	job.bytes = number;
	if (words == 2 && strcmp(verb, "allocate") == 0 && way == &by_maas)
		allocate((unsigned int)number);
	else if (words == 4 && number <= MAX_BYTES && job.count && job.count <= MAX_MESSAGES)
		transfer(way, bytes, &job);
	else
		errx(EXIT_FAILURE, "cannot do %s", line);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	const struct way *way = argc > 1 && strcmp(argv[1], "bare") == 0 ? &by_verbs : &by_maas;
	uint8_t *bytes;
	char line[80];

	if (argc != 4 || clock_getcpuclockid((pid_t)strtol(argv[3], NULL, 10), &server_clock))
		errx(2, "usage: rdma_data maas|bare URL PID");
	bytes = way->open(argv[2]);
	printf("{}\n");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin))
		obey(way, bytes, line);
	way->close();
	return EXIT_SUCCESS;
}
