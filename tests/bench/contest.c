/* SPDX-License-Identifier: Apache-2.0 */
/*
 * contest full|quick [PROOF]: one sample of one allocator: our slabs or, with PROOF, whatever
 * malloc(3) is in this process. PROOF is a symbol that must be there, so that a preload that did
 * not happen is noticed. It prints {FIGURE:[NS,…],…,"resident_mib":MIB}: what an operation took in
 * each timed piece. Each sample is a process of its own, so that jemalloc and mimalloc are
 * preloaded as their users do it and nobody's heap is anybody's neighbour.
 */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "slab/slab.h"

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

/* An allocator under test. Each function is a whole loop, so that no call is measured but its own.
 */
struct contestant {
	void (*pairs)(void);
	void (*pairs_zeroed)(void);
	void (*fill)(uint32_t from, uint32_t to); /* allocates and touches */
	void (*churn)(void);			  /* frees each victim and allocates in its place */
	void (*rest)(void);			  /* between timed pieces */
};

union handle {
	struct maas_slab_ref ref;
	void *pointer;
};

static struct maas_slab *pool;
static union handle live[LIVE];
static uint32_t victims[PIECE_PAIRS];
static unsigned int failures;

/* ---- our slabs */

static const struct maas_slab_label no_label;

static struct maas_slab_ref slab_alloc(void)
{
	struct maas_slab_ref ref = {0};

	failures += maas_slab_alloc(pool, SLAB_BYTES, &no_label, &ref) != 0;
	return ref;
}

static void slab_free(struct maas_slab_ref ref)
{
	failures += maas_slab_free(pool, ref) != 0;
}

static void slab_pairs(void)
{
	unsigned int failed = 0;

	for (uint32_t i = 0; i < PIECE_PAIRS; i++) {
		struct maas_slab_ref ref = {0};

		failed += maas_slab_alloc(pool, SLAB_BYTES, &no_label, &ref) != 0;
		failed += maas_slab_free(pool, ref) != 0;
	}
	failures += failed;
}

/* A clock that runs ahead: twice past the delay, so that what was freed just now is due, too. */
static void slab_reclaim_all(void)
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

static void slab_pairs_zeroed(void)
{
	slab_pairs();
	slab_reclaim_all();
}

static uint8_t *slab_bytes(struct maas_slab_ref ref)
{
	struct maas_slab_info info;

	if (maas_slab_get(pool, ref, &info) != 0) {
		failures++;
		return NULL;
	}
	return info.bytes;
}

static void slab_fill(uint32_t from, uint32_t to)
{
	for (uint32_t i = from; i < to; i++) {
		uint8_t *bytes;

		live[i].ref = slab_alloc();
		bytes = slab_bytes(live[i].ref);
		if (bytes)
			bytes[0] = 1;
	}
}

static void slab_churn(void)
{
	for (uint32_t i = 0; i < PIECE_PAIRS; i++) {
		union handle *victim = &live[victims[i]];

		slab_free(victim->ref);
		victim->ref = slab_alloc();
	}
}

/* Zeroes what was freed, and checks that what is handed out is zero. */
static void slab_rest(void)
{
	static const uint8_t zeroes[SLAB_BYTES];

	slab_reclaim_all();
	for (int i = 0; i < 16; i++) {
		struct maas_slab_ref ref = slab_alloc();
		uint8_t *bytes = slab_bytes(ref);

		if (bytes) {
			failures += memcmp(bytes, zeroes, sizeof(zeroes)) != 0;
			memset(bytes, 0xa5, sizeof(zeroes));
		}
		slab_free(ref);
	}
	slab_reclaim_all();
}

/* ---- malloc(3); this file is compiled without knowing what malloc and free do */

static void *malloc_alloc(void)
{
	void *pointer = malloc(SLAB_BYTES);

	failures += !pointer;
	return pointer;
}

static void malloc_pairs(void)
{
	unsigned int failed = 0;

	for (uint32_t i = 0; i < PIECE_PAIRS; i++) {
		void *pointer = malloc(SLAB_BYTES);

		failed += !pointer;
		free(pointer);
	}
	failures += failed;
}

static void malloc_pairs_zeroed(void)
{
	for (uint32_t i = 0; i < PIECE_PAIRS; i++) {
		void *pointer = malloc_alloc();

		if (pointer)
			memset(pointer, 0, SLAB_BYTES);
		free(pointer);
	}
}

static void malloc_fill(uint32_t from, uint32_t to)
{
	for (uint32_t i = from; i < to; i++) {
		live[i].pointer = malloc_alloc();
		if (live[i].pointer)
			*(uint8_t *)live[i].pointer = 1;
	}
}

static void malloc_churn(void)
{
	for (uint32_t i = 0; i < PIECE_PAIRS; i++) {
		union handle *victim = &live[victims[i]];

		free(victim->pointer);
		victim->pointer = malloc_alloc();
	}
}

static void malloc_rest(void)
{
}

static const struct contestant slab_contestant = {slab_pairs, slab_pairs_zeroed, slab_fill,
						  slab_churn, slab_rest};
static const struct contestant malloc_contestant = {malloc_pairs, malloc_pairs_zeroed, malloc_fill,
						    malloc_churn, malloc_rest};

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
static void time_pieces(const char *name, void (*piece)(void), void (*rest)(void),
			uint32_t num_live, unsigned int num_pieces)
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
static void warm_up(const struct contestant *c, uint64_t ns)
{
	uint64_t start = maas_clock_ns();

	while (maas_clock_ns() - start < ns) {
		c->pairs();
		c->rest();
	}
}

static int resident_beside(double *ret_mib)
{
	uint64_t not_counted = LIVE * (uint64_t)SLAB_BYTES + sizeof(live);
	FILE *file = fopen("/proc/self/statm", "re");
	char line[256];
	const char *resident; /* the second number */
	bool read;

	if (!file)
		return -errno;
	read = fgets(line, sizeof(line), file) != NULL;
	fclose(file);
	resident = read ? strchr(line, ' ') : NULL;
	if (!resident)
		return -EIO;
	*ret_mib = (strtod(resident, NULL) * (double)sysconf(_SC_PAGESIZE) - (double)not_counted) /
		   (1 << 20);
	return 0;
}

static int open_pool(void)
{
	static const uint64_t classes[] = {1 << 10,   2 << 10, 4 << 10, 8 << 10,
					   512 << 10, 1 << 20, 4 << 20};
	const struct maas_slab_options options = {
		.max_bytes = POOL_BYTES,
		.class_bytes = classes,
		.num_classes = MAAS_ARRAY_SIZE(classes),
		.dir_fd = -1,
	};
	char error[MAAS_SLAB_ERROR];
	int r = maas_slab_open(&options, error, &pool);

	if (r)
		log_err("cannot open a pool error=\"%s\"", error);
	return r;
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

static int run(const char *proof, bool quick)
{
	const struct contestant *c = proof ? &malloc_contestant : &slab_contestant;
	unsigned int pieces = quick ? QUICK : PIECES;
	double resident_mib = 0;
	pthread_t thread;
	int r;

	if (proof && !dlsym(RTLD_DEFAULT, proof)) {
		log_err("allocator was not preloaded symbol=%s", proof);
		return -ENOENT;
	}
	if (!proof && open_pool() != 0)
		return -EIO;
	c->fill(0, FEW);
	warm_up(c, quick ? WARM_NS / 10 : WARM_NS);
	printf("{");
	time_pieces("pair", c->pairs, c->rest, FEW, pieces);
	if (pthread_create(&thread, NULL, idle, NULL) != 0)
		return -EAGAIN;
	time_pieces("threaded", c->pairs, c->rest, FEW, pieces);
	time_pieces("zeroed", c->pairs_zeroed, c->rest, FEW, pieces);
	time_pieces("few", c->churn, c->rest, FEW, pieces);
	c->fill(FEW, LIVE);
	r = resident_beside(&resident_mib);
	if (r)
		return r;
	time_pieces("live", c->churn, c->rest, LIVE, pieces);
	printf("\"resident_mib\":%.9g}\n", resident_mib);
	if (pool)
		maas_slab_check(pool);
	maas_slab_close(pool);
	if (failures > 0) {
		log_err("failed operations or wrong bytes count=%u", failures);
		return -EIO;
	}
	return 0;
}

int main(int argc, char **argv)
{
	if (argc < 2 || argc > 3 ||
	    (strcmp(argv[1], "full") != 0 && strcmp(argv[1], "quick") != 0)) {
		fprintf(stderr, "usage: contest full|quick [PROOF]\n");
		return 2;
	}
	return run(argc > 2 ? argv[2] : NULL, strcmp(argv[1], "quick") == 0) ? EXIT_FAILURE
									     : EXIT_SUCCESS;
}
