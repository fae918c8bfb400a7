/* SPDX-License-Identifier: Apache-2.0 */
/*
 * contest full|quick [PROOF]: one sample of one allocator: our slabs or, with PROOF, whatever
 * malloc(3) is in this process. PROOF is a symbol that must be there, so that a preload that did
 * not happen is noticed. It prints {FIGURE:[NS,…],…,"resident_mib":MIB}: what an operation took in
 * each timed piece. Each sample is a process of its own, so that jemalloc and mimalloc are
 * preloaded as their users do it and nobody's heap is anybody's neighbour.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <unistd.h>

#include "slab/slab.h"
#include "tests/bench/bench.h"

#define LIVE	   1000000u
#define FEW	   10u
#define SLAB_BYTES 1024u

/* Fewer than the delay queue holds: within a timed piece no slab comes back that needs zeroing. */
#define PIECE_PAIRS 2048u
#define PIECES	    101u
#define QUICK	    21u
#define WARM_PIECES 8u
#define WARM_NS	    UINT64_C(500000000)
#define POOL_BYTES  (1280ull << 20)
#define DELAY_MS    1000

union handle {
	struct maas_slab_ref ref;
	void *pointer;
};

static struct maas_slab *pool; /* NULL: malloc(3) is under test */
static union handle live[LIVE];
static uint32_t victims[PIECE_PAIRS];
static unsigned int failures;

/*
 * ---- one allocation: of our slabs or of malloc(3), which is known when this is compiled. What
 * malloc and free do is not known to the compiler, by an option for this file.
 */

static MAAS_INLINE bool take(bool ours, union handle *ret_handle)
{
	static const struct maas_slab_label no_label;

	if (ours)
		return maas_slab_alloc(pool, SLAB_BYTES, &no_label, &ret_handle->ref) == 0;
	ret_handle->pointer = malloc(SLAB_BYTES);
	return ret_handle->pointer;
}

static MAAS_INLINE bool give(bool ours, union handle handle)
{
	if (ours)
		return maas_slab_free(pool, handle.ref) == 0;
	free(handle.pointer);
	return true;
}

static uint8_t *bytes_of(union handle handle)
{
	struct maas_slab_info info;

	if (!pool)
		return handle.pointer;
	need_0(maas_slab_get(pool, handle.ref, &info), "a slab");
	return info.bytes;
}

/* A clock that runs ahead: twice past the delay, so that what was freed just now is due, too. */
static void reclaim_all(void)
{
	static uint64_t now_ms;

	if (now_ms == 0)
		now_ms = maas_clock_ms();
	for (int i = 0; i < 2; i++) {
		now_ms += DELAY_MS;
		while (maas_slab_reclaim(pool, now_ms, UINT64_MAX) > 0)
			;
	}
}

/* ---- whole loops, each compiled for either allocator: no call is measured but its own */

static MAAS_INLINE void pairs_of(bool ours, bool zero)
{
	unsigned int failed = 0;

	for (uint32_t i = 0; i < PIECE_PAIRS; i++) {
		union handle handle = {0};

		failed += !take(ours, &handle);
		if (zero && handle.pointer)
			memset(handle.pointer, 0, SLAB_BYTES);
		failed += !give(ours, handle);
	}
	failures += failed;
}

static void pairs(void)
{
	if (pool)
		pairs_of(true, false);
	else
		pairs_of(false, false);
}

/* Slabs are zeroed when they are reclaimed. */
static void pairs_zeroed(void)
{
	if (!pool)
		return pairs_of(false, true);
	pairs_of(true, false);
	reclaim_all();
}

static MAAS_INLINE void churn_of(bool ours)
{
	for (uint32_t i = 0; i < PIECE_PAIRS; i++) {
		union handle *victim = &live[victims[i]];

		failures += !give(ours, *victim);
		failures += !take(ours, victim);
	}
}

/* Frees each victim and allocates in its place. */
static void churn(void)
{
	if (pool)
		churn_of(true);
	else
		churn_of(false);
}

/* ---- between timed pieces */

/* Allocates and touches. */
static void fill(uint32_t from, uint32_t to)
{
	for (uint32_t i = from; i < to; i++) {
		need_0(take(pool, &live[i]) ? 0 : ENOMEM, "an allocation");
		bytes_of(live[i])[0] = 1;
	}
}

/* Zeroes what was freed, and checks that what our slabs hand out is zero. */
static void rest(void)
{
	static const uint8_t zeroes[SLAB_BYTES];

	if (!pool)
		return;
	reclaim_all();
	for (int i = 0; i < 16; i++) {
		union handle handle;
		uint8_t *bytes;

		need_0(take(true, &handle) ? 0 : ENOMEM, "a slab");
		bytes = bytes_of(handle);
		failures += memcmp(bytes, zeroes, sizeof(zeroes)) != 0;
		memset(bytes, 0xa5, sizeof(zeroes));
		failures += !give(true, handle);
	}
	reclaim_all();
}

/* ---- the sample */

static void choose_victims(uint32_t num_live)
{
	static uint64_t state = 0x9e3779b97f4a7c15u;

	for (uint32_t i = 0; i < PIECE_PAIRS; i++) {
		state ^= state << 13;
		state ^= state >> 7;
		state ^= state << 17;
		victims[i] = (uint32_t)(state % num_live);
	}
}

/* Prints `"NAME":[NS,…],`: what an operation took in each piece. */
static void time_pieces(const char *name, void (*piece)(void), uint32_t num_live,
			unsigned int num_pieces)
{
	double ns[PIECES];

	for (unsigned int i = 0; i < WARM_PIECES + num_pieces; i++) {
		uint64_t start;

		choose_victims(num_live);
		start = maas_clock_ns();
		piece();
		if (i >= WARM_PIECES)
			ns[i - WARM_PIECES] = (double)(maas_clock_ns() - start) / PIECE_PAIRS;
		rest();
	}
	printf("\"%s\":[%.9g", name, ns[0]);
	for (unsigned int i = 1; i < num_pieces; i++)
		printf(",%.9g", ns[i]);
	printf("],");
}

/* The sample before this one gave back a GiB: on the core's other thread the kernel is busy with
 * it. */
static void warm_up(uint64_t ns)
{
	uint64_t start = maas_clock_ns();

	while (maas_clock_ns() - start < ns) {
		pairs();
		rest();
	}
}

/* In MiB: the second number of statm, without what is lent. */
static double resident_beside(void)
{
	const double not_counted = LIVE * (double)SLAB_BYTES + sizeof(live);
	FILE *file = fopen("/proc/self/statm", "re");
	char line[256] = "";
	const char *resident;

	need(file && fgets(line, sizeof(line), file), "statm");
	fclose(file);
	resident = strchr(line, ' ');
	need_0(resident ? 0 : EIO, "statm");
	return (strtod(resident, NULL) * (double)sysconf(_SC_PAGESIZE) - not_counted) / (1 << 20);
}

static void open_pool(void)
{
	static const uint64_t classes[] = {1 << 10,   2 << 10, 4 << 10, 8 << 10,
					   512 << 10, 1 << 20, 4 << 20};
	const struct maas_slab_options options = {
		.max_bytes = POOL_BYTES,
		.class_bytes = classes,
		.num_classes = MAAS_ARRAY_SIZE(classes),
	};
	char error[MAAS_SLAB_ERROR] = "";

	need_0(maas_slab_open(&options, error, &pool), error);
}

/*
 * It only has to be there: in a process with one thread glibc leaves out of locks, and of malloc,
 * the atomic operations that they need in maasd.
 */
static _Noreturn void *idle(void *arg)
{
	(void)arg;
	for (;;)
		pause();
}

static void run(bool quick)
{
	unsigned int pieces = quick ? QUICK : PIECES;
	double resident_mib;
	pthread_t thread;

	fill(0, FEW);
	warm_up(quick ? WARM_NS / 10 : WARM_NS);
	printf("{");
	time_pieces("pair", pairs, FEW, pieces);
	need_0(pthread_create(&thread, NULL, idle, NULL), "a thread");
	time_pieces("threaded", pairs, FEW, pieces);
	time_pieces("zeroed", pairs_zeroed, FEW, pieces);
	time_pieces("few", churn, FEW, pieces);
	fill(FEW, LIVE);
	resident_mib = resident_beside();
	time_pieces("live", churn, LIVE, pieces);
	printf("\"resident_mib\":%.9g}\n", resident_mib);
}

int main(int argc, char **argv)
{
	const char *proof = argc > 2 ? argv[2] : NULL;

	if (argc < 2 || argc > 3 || (strcmp(argv[1], "full") != 0 && strcmp(argv[1], "quick") != 0))
		errx(2, "usage: contest full|quick [PROOF]");
	if (proof && !dlsym(RTLD_DEFAULT, proof))
		errx(EXIT_FAILURE, "allocator was not preloaded symbol=%s", proof);
	if (!proof)
		open_pool();
	run(strcmp(argv[1], "quick") == 0);
	if (pool)
		maas_slab_check(pool);
	maas_slab_close(pool);
	if (failures > 0)
		errx(EXIT_FAILURE, "%u failed operations or wrong bytes", failures);
	return EXIT_SUCCESS;
}
