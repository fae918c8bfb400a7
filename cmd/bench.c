/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench: threads that allocate, put, get, compare and free, in a loop. Every byte that is read is
 * compared with the byte that was written. The pattern depends on the thread, the round and the
 * place, so bytes of another slab or round are found.
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/cmd.h"
#include "cmd/latency.h"

#define MAX_THREADS 256
#define MAX_SIZE    ((uint64_t)1 << 30)

enum operation { ALLOC, PUT, GET, FREE, OPERATIONS };

static const char *const names[OPERATIONS] = {"alloc", "put", "get", "free"};

struct bench {
	struct cmd_context *context;
	struct maas *maas;
	uint64_t size;
	bool hold;	      /* one allocation for each thread, not one for each round */
	uint64_t rounds;      /* of all threads; 0: until the time is over */
	uint64_t deadline_ms; /* UINT64_MAX: none */
	_Atomic uint64_t taken;
	_Atomic uint64_t finished;
	_Atomic uint64_t wrong; /* bytes */
	_Atomic bool stop;
	uint32_t running; /* threads */
	double seconds;
	struct latency sum[OPERATIONS];
};

struct worker {
	struct bench *bench;
	pthread_t thread;
	uint32_t index;
	struct maas_allocation held;
	uint8_t *out;
	uint8_t *in;
	int error; /* the first failure, and its words */
	char what[MAAS_ERROR_BYTES + 16];
	struct latency latency[OPERATIONS];
};

/* splitmix64: each word depends on its place alone. */
static uint64_t pattern_word(uint64_t seed, uint64_t place)
{
	uint64_t x = seed + (place + 1) * UINT64_C(0x9e3779b97f4a7c15);

	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

static void fill(uint8_t *bytes, uint64_t len, uint64_t seed)
{
	for (uint64_t at = 0; at < len; at += 8) {
		uint64_t word = pattern_word(seed, at / 8);

		memcpy(bytes + at, &word, len - at < 8 ? len - at : 8);
	}
}

static uint64_t count_wrong(const uint8_t *a, const uint8_t *b, uint64_t len)
{
	uint64_t wrong = 0;

	if (!memcmp(a, b, len))
		return 0;
	for (uint64_t i = 0; i < len; i++)
		wrong += a[i] != b[i];
	return wrong;
}

/* Counts an operation that began at `start_ns`. True if it succeeded. */
static bool note(struct worker *worker, enum operation operation, uint64_t start_ns, int error)
{
	uint64_t ns = maas_clock_ns() - start_ns;

	if (!error)
		error = latency_add(&worker->latency[operation], ns);
	if (!error)
		return true;
	worker->latency[operation].failed++;
	if (!worker->error) {
		worker->error = error;
		snprintf(worker->what, sizeof(worker->what), "%s: %s", names[operation],
			 *maas_error() ? maas_error() : strerror(-error));
	}
	return false;
}

static void put_and_get(struct worker *worker, const char *id)
{
	struct bench *bench = worker->bench;
	uint64_t start = maas_clock_ns();

	if (!note(worker, PUT, start, maas_write(bench->maas, id, 0, worker->out, bench->size)))
		return;
	memset(worker->in, 0, bench->size);
	start = maas_clock_ns();
	if (note(worker, GET, start, maas_read(bench->maas, id, 0, worker->in, bench->size)))
		atomic_fetch_add(&bench->wrong, count_wrong(worker->out, worker->in, bench->size));
}

static void give_back(struct worker *worker, const char *id)
{
	uint64_t start = maas_clock_ns();

	note(worker, FREE, start, maas_free(worker->bench->maas, id));
}

static void one_round(struct worker *worker, uint64_t round)
{
	struct bench *bench = worker->bench;
	struct maas_allocation allocation;
	uint64_t start;

	fill(worker->out, bench->size, (uint64_t)worker->index << 48 | round);
	if (bench->hold && *worker->held.id) {
		put_and_get(worker, worker->held.id);
		return;
	}
	start = maas_clock_ns();
	if (!note(worker, ALLOC, start, maas_alloc(bench->maas, bench->size, NULL, &allocation)))
		return;
	put_and_get(worker, allocation.id);
	if (bench->hold)
		worker->held = allocation;
	else
		give_back(worker, allocation.id);
}

static bool go_on(const struct bench *bench)
{
	return !atomic_load(&bench->stop) && !cmd_interrupted() &&
	       maas_clock_ms() < bench->deadline_ms;
}

static void *work(void *arg)
{
	struct worker *worker = arg;
	struct bench *bench = worker->bench;

	/* After a failure no thread goes on. */
	while (!worker->error && go_on(bench)) {
		uint64_t round = atomic_fetch_add(&bench->taken, 1);

		if (bench->rounds && round >= bench->rounds)
			break;
		one_round(worker, round);
		atomic_fetch_add(&bench->finished, 1);
	}
	if (*worker->held.id)
		give_back(worker, worker->held.id);
	if (worker->error)
		atomic_store(&bench->stop, true);
	return NULL;
}

static int start_worker(struct worker *worker, struct bench *bench, uint32_t index)
{
	worker->bench = bench;
	worker->index = index;
	worker->out = cmd_buffer(bench->context, bench->size);
	worker->in = cmd_buffer(bench->context, bench->size);
	if (!worker->out || !worker->in)
		return -ENOMEM;
	return -pthread_create(&worker->thread, NULL, work, worker);
}

static void show_progress(struct bench *bench, struct cmd_progress *progress)
{
	struct timespec tenth = {.tv_nsec = 100000000};

	while (progress->on && go_on(bench)) {
		uint64_t finished = atomic_load(&bench->finished);

		if (bench->rounds && finished >= bench->rounds)
			break;
		cmd_progress_update(progress, finished * bench->size * 2);
		(void)nanosleep(&tenth, NULL);
	}
}

/* Joins a worker and adds its figures. Returns its first error. */
static int finish_worker(struct bench *bench, struct worker *worker)
{
	int error;

	pthread_join(worker->thread, NULL);
	error = worker->error;
	for (int o = 0; o < OPERATIONS && error != -ENOMEM; o++)
		if (latency_merge(&bench->sum[o], &worker->latency[o]))
			error = -ENOMEM;
	if (worker->error)
		fprintf(stderr, "maas: %s\n", worker->what);
	return error;
}

static int run_workers(struct bench *bench, struct worker *workers, uint32_t threads)
{
	struct cmd_progress progress;
	uint64_t start = maas_clock_ns();
	int error = 0;

	cmd_progress_begin(&progress, "bench", bench->rounds * bench->size * 2);
	while (bench->running < threads && !error) {
		error = start_worker(&workers[bench->running], bench, bench->running);
		bench->running += !error;
	}
	if (error) {
		fprintf(stderr, "maas: cannot start %u thread%s: %s\n", threads, MAAS_S(threads),
			strerror(-error));
		atomic_store(&bench->stop, true);
	}
	show_progress(bench, &progress);
	for (uint32_t i = 0; i < bench->running; i++) {
		int own = finish_worker(bench, &workers[i]);

		error = error ? error : own;
	}
	bench->seconds = (double)(maas_clock_ns() - start) / 1e9;
	cmd_progress_end(&progress, atomic_load(&bench->finished) * bench->size * 2);
	for (uint32_t i = 0; i < threads; i++) {
		for (int o = 0; o < OPERATIONS; o++)
			latency_fini(&workers[i].latency[o]);
	}
	return error;
}

/* ---- report */

static double microseconds(const struct latency *latency, double share)
{
	return (double)latency_quantile(latency, share) / 1e3;
}

static double mib_per_second(const struct bench *bench, int operation)
{
	if (operation != PUT && operation != GET)
		return 0;
	return (double)bench->sum[operation].count * (double)bench->size / bench->seconds / 1048576;
}

static void print_table(const struct bench *bench)
{
	printf("%-6s %10s %8s %12s %10s %10s %10s %10s\n", "", "operations", "failed", "per second",
	       "MiB/s", "p50 us", "p99 us", "p99.9 us");
	for (int o = 0; o < OPERATIONS; o++) {
		const struct latency *l = &bench->sum[o];

		printf("%-6s %10zu %8" PRIu64 " %12.0f %10.1f %10.1f %10.1f %10.1f\n", names[o],
		       l->count, l->failed, (double)l->count / bench->seconds,
		       mib_per_second(bench, o), microseconds(l, 0.5), microseconds(l, 0.99),
		       microseconds(l, 0.999));
	}
}

static int print_report_json(const struct bench *bench, const char *transport)
{
	json_t *report =
		json_pack("{s:s, s:I, s:i, s:f, s:I}", "transport", transport, "size_bytes",
			  (json_int_t)bench->size, "threads", (int)bench->running, "seconds",
			  bench->seconds, "wrong_bytes", (json_int_t)atomic_load(&bench->wrong));

	for (int o = 0; o < OPERATIONS; o++) {
		const struct latency *l = &bench->sum[o];

		json_object_set_new(report, names[o],
				    json_pack("{s:I, s:I, s:f, s:f, s:f, s:f, s:f}", "operations",
					      (json_int_t)l->count, "failed", (json_int_t)l->failed,
					      "per_second", (double)l->count / bench->seconds,
					      "mib_per_second", mib_per_second(bench, o), "p50_us",
					      microseconds(l, 0.5), "p99_us", microseconds(l, 0.99),
					      "p999_us", microseconds(l, 0.999)));
	}
	return cmd_print_json(report);
}

static int report(const struct cmd_context *context, struct bench *bench, int error)
{
	const char *transport = cmd_transport_name(context);
	uint64_t wrong = atomic_load(&bench->wrong);
	char size[CMD_TEXT];
	int status = CMD_OK;

	for (int o = 0; o < OPERATIONS; o++)
		latency_sort(&bench->sum[o]);
	if (context->json) {
		status = print_report_json(bench, transport);
	} else {
		printf("%s over %s, %s, %u thread%s, %.1f s\n\n", maas_url(context->maas),
		       transport, maas_size_round((double)bench->size, size), bench->running,
		       MAAS_S(bench->running), bench->seconds);
		print_table(bench);
		printf("\n%" PRIu64 " wrong byte%s\n", wrong, MAAS_S(wrong));
	}
	if (!wrong && cmd_is_unreachable(error))
		return CMD_UNREACHABLE;
	return error || wrong ? CMD_FAILED : status;
}

static int run(struct cmd_context *context, struct bench *bench, uint32_t threads)
{
	struct worker *workers = calloc(threads, sizeof(*workers));
	int status;
	int error;

	if (!workers) {
		fputs("maas: out of memory\n", stderr);
		return CMD_FAILED;
	}
	bench->context = context;
	bench->maas = context->maas;
	error = run_workers(bench, workers, threads);
	if (bench->sum[ALLOC].failed || bench->sum[FREE].failed)
		cmd_tell_lent(error);
	status = report(context, bench, error);
	/* The handle goes first: the buffers are registered with it. */
	maas_close(context->maas);
	context->maas = NULL;
	for (uint32_t i = 0; i < threads; i++) {
		free(workers[i].out);
		free(workers[i].in);
	}
	for (int o = 0; o < OPERATIONS; o++)
		latency_fini(&bench->sum[o]);
	free(workers);
	return status;
}

static int run_bench(struct cmd_context *context, int argc, char **argv)
{
	static const struct option options[] = {CMD_COMMON_OPTIONS,
						{"size", required_argument, NULL, 's'},
						CMD_TRANSPORT_OPTION,
						{"threads", required_argument, NULL, 'c'},
						{"count", required_argument, NULL, 'n'},
						{"time", required_argument, NULL, 'd'},
						{"hold", no_argument, NULL, 'H'},
						{0}};
	struct bench bench = {.size = 65536, .deadline_ms = UINT64_MAX};
	uint32_t threads = 4;
	uint32_t seconds = 5;
	int option;
	int status;

	while ((option = cmd_option(context, &cmd_bench, argc, argv, options)) != -1) {
		if (option == 's')
			bench.size = cmd_size(&cmd_bench, "--size", optarg);
		else if (option == 'T')
			cmd_transport(context, &cmd_bench, optarg);
		else if (option == 'c')
			threads = cmd_number(&cmd_bench, "--threads", optarg, 1, MAX_THREADS);
		else if (option == 'n')
			bench.rounds = cmd_number(&cmd_bench, "--count", optarg, 1, UINT32_MAX);
		else if (option == 'H')
			bench.hold = true;
		else if (option == 'd')
			seconds = cmd_number(&cmd_bench, "--time", optarg, 1, 86400);
	}
	if (optind != argc)
		cmd_usage(&cmd_bench, "it takes no arguments");
	if (!bench.size || bench.size > MAX_SIZE)
		cmd_usage(&cmd_bench, "--size: it must be 1 byte to 1GiB");
	context->options.max_connections = threads;
	status = cmd_connect_data(context);
	if (status)
		return status;
	cmd_interrupt_defer();
	if (!bench.rounds)
		bench.deadline_ms = maas_clock_ms() + (uint64_t)seconds * 1000;
	return run(context, &bench, threads);
}

const struct cmd cmd_bench = {
	.name = "bench",
	.arguments = "[OPTION...]",
	.summary = "Measures allocate, put, get and free, and checks every byte",
	.help = "  --size N         of each allocation (default 64KiB)\n"
		"  --threads N      at work at once (default 4)\n"
		"  --count N        rounds in all, instead of --time\n"
		"  --time SEC       how long (default 5)\n"
		"  --hold           put and get only: each thread keeps one "
		"allocation\n" CMD_TRANSPORT_HELP,
	.run = run_bench,
};
