/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program that uses a server while the server is replaced: user http|rdma OWNER COUNT. It holds
 * COUNT allocations, writes and reads them and replaces some until it gets SIGTERM, and then waits
 * until the server answers again. It fails if a byte differs, an allocation is lost or came twice,
 * a call takes longer than its timeout, or an error has no sentence. What it holds stays lent.
 *
 * Each word of an allocation says which allocation, which round of writing, and where. After an
 * error, all, some or none of a round's bytes were written (maas.h).
 */
#define _GNU_SOURCE /* strerrorname_np() */
#include <err.h>
#include <errno.h>
#include <maas.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define TIMEOUT_MS 10000
#define LATE_MS	   5000 /* beside what beat() notices */
#define BEAT_MS	   50
#define AWAY_MS	   300000 /* that the server may be away */
#define MAX_BYTES  (1 << 20)
#define WORDS	   (MAX_BYTES / sizeof(uint64_t))
#define MESSAGES   64

struct piece {
	char id[MAAS_ID_BYTES];
	uint64_t number; /* never the same again */
	size_t words;
	uint64_t round;
	bool torn; /* the last round may be there in part */
};

static struct maas *handle;
static volatile sig_atomic_t stopped;
static unsigned long calls, failures;
static long began_ms; /* the call under way */
static long began_lost_ms;
static atomic_long lost_ms; /* see beat() */
static long away_ms;	    /* since when the server is away; 0: it is there */
static long longest_ms;
static char messages[MESSAGES][MAAS_ERROR_BYTES];
static unsigned int message_count;
static uint64_t words[WORDS];

static void stop(int signal)
{
	(void)signal;
	stopped = 1;
}

static long now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void pause_ms(long ms)
{
	nanosleep(&(struct timespec){.tv_nsec = ms * 1000000}, NULL);
}

/* An emulated machine stands still while its host is busy: nobody in it can keep to a time then. */
static void *beat(void *unused)
{
	(void)unused;
	for (;;) {
		long before_ms = now_ms();
		long late_ms;

		pause_ms(BEAT_MS);
		late_ms = now_ms() - before_ms - BEAT_MS;
		if (late_ms > BEAT_MS)
			atomic_fetch_add(&lost_ms, late_ms);
	}
	return NULL;
}

/* ---- what a call came to */

static void tell(const char *call, int r)
{
	char text[MAAS_ERROR_BYTES];

	snprintf(text, sizeof(text), "%s: %s: %.200s", call, strerrorname_np(-r), maas_error());
	for (unsigned int i = 0; i < message_count; i++)
		if (!strcmp(messages[i], text))
			return;
	if (message_count < MESSAGES)
		strcpy(messages[message_count++], text);
	printf("  %s\n", text);
	fflush(stdout);
}

static bool is_away(int r)
{
	return r == -ECONNREFUSED || r == -ECONNRESET || r == -ESHUTDOWN || r == -ETIMEDOUT ||
	       r == -EKEYREVOKED || r == -EHOSTUNREACH;
}

static void begin(void)
{
	began_lost_ms = lost_ms;
	began_ms = now_ms();
}

/* Passes on what the call returned that began with begin(). */
static int ended(const char *call, int r)
{
	long took_ms = now_ms() - began_ms;

	calls++;
	if (took_ms > longest_ms)
		longest_ms = took_ms;
	if (took_ms > TIMEOUT_MS + LATE_MS + lost_ms - began_lost_ms)
		errx(1, "%s took %ld ms, and the machine stood still for %ld: %s", call, took_ms,
		     lost_ms - began_lost_ms, r < 0 ? maas_error() : "it worked");
	if (!is_away(r))
		away_ms = 0;
	if (r >= 0)
		return r;
	failures++;
	if (!*maas_error())
		errx(1, "%s: %s without a sentence", call, strerror(-r));
	tell(call, r);
	return r;
}

/* Whether to make the call again, a little later: what came of it says that the server is away. */
static bool again(int r)
{
	if (!is_away(r))
		return false;
	if (!away_ms)
		away_ms = now_ms();
	if (now_ms() - away_ms > AWAY_MS)
		errx(1, "the server is away too long: %s", maas_error());
	pause_ms(300);
	if (r == -EKEYREVOKED) {
		begin();
		(void)!ended("maas_reopen", maas_reopen(handle));
	}
	return true;
}

/* ---- bytes */

static size_t bytes_of(const struct piece *piece)
{
	return piece->words * sizeof(uint64_t);
}

static uint64_t word_of(const struct piece *piece, uint64_t round, size_t at)
{
	return (piece->number << 40 | round << 20 | at) * UINT64_C(0x9e3779b97f4a7c15);
}

/* A round of 0 has not been written: zeros. */
static bool is_word(const struct piece *piece, uint64_t round, size_t at)
{
	return words[at] == (round ? word_of(piece, round, at) : 0);
}

/* Of a torn round, bytes can be of either; it is whole again after the next write. */
static void check(const struct piece *piece)
{
	for (size_t at = 0; at < piece->words; at++) {
		uint64_t before = piece->round > 1 ? word_of(piece, piece->round - 1, at) : 0;
		uint64_t after = word_of(piece, piece->round, at);

		if (is_word(piece, piece->round, at))
			continue;
		for (unsigned int bit = 0; piece->torn && bit < 64; bit += 8)
			if ((words[at] >> bit & 255) != (before >> bit & 255) &&
			    (words[at] >> bit & 255) != (after >> bit & 255))
				errx(1, "%s: word %zu is of no round", piece->id, at);
		if (!piece->torn)
			errx(1, "%s: word %zu is not what was written", piece->id, at);
	}
}

static void read_piece(struct piece *piece)
{
	int r;

	do {
		begin();
		r = ended("maas_read", maas_read(handle, piece->id, 0, words, bytes_of(piece)));
	} while (again(r));
	if (r)
		errx(1, "maas_read %s: %s", piece->id, maas_error());
	check(piece);
}

/* After a torn round the same round is written until it is there. */
static void write_piece(struct piece *piece)
{
	int r;

	piece->round++;
	piece->torn = true;
	do {
		if (away_ms)
			read_piece(piece);
		for (size_t at = 0; at < piece->words; at++)
			words[at] = word_of(piece, piece->round, at);
		begin();
		r = ended("maas_write", maas_write(handle, piece->id, 0, words, bytes_of(piece)));
	} while (again(r));
	if (r)
		errx(1, "maas_write %s: %s", piece->id, maas_error());
	piece->torn = false;
}

/* ---- allocations */

static void borrow(struct piece *piece)
{
	static const size_t sizes[] = {1000, 4096, 100000, MAX_BYTES};
	static uint64_t numbers;
	struct maas_allocation memory;
	struct maas_alloc_options options = {.size = sizeof(options)};
	char request_id[64];
	int r;

	*piece = (struct piece){.number = ++numbers};
	piece->words = sizes[numbers % (sizeof(sizes) / sizeof(sizes[0]))] / sizeof(uint64_t);
	/* Others begin in the same millisecond. */
	snprintf(request_id, sizeof(request_id), "%d-%ld-%llu", (int)getpid(), now_ms(),
		 (unsigned long long)numbers);
	options.request_id = request_id;
	do {
		begin();
		r = ended("maas_alloc", maas_alloc(handle, bytes_of(piece), &options, &memory));
	} while (again(r));
	if (r)
		errx(1, "maas_alloc: %s", maas_error());
	strcpy(piece->id, memory.id);
}

static void give_back(struct piece *piece)
{
	unsigned long failures_before = failures;
	int r;

	do {
		begin();
		r = ended("maas_free", maas_free(handle, piece->id));
	} while (again(r));
	if (r && (r != -ENOENT || failures == failures_before + 1))
		errx(1, "maas_free %s: %s", piece->id, maas_error());
}

/* The server has what we hold, and nothing else of ours. */
static void compare_list(const char *owner, struct piece *pieces, size_t count)
{
	static struct maas_allocation page[MAAS_MAX_BATCH];
	char cursor[MAAS_ID_BYTES] = "";
	size_t known = 0;
	int r;

	do {
		begin();
		r = ended("maas_list", maas_list(handle, owner, cursor, page, MAAS_MAX_BATCH));
	} while (again(r));
	if (r < 0)
		errx(1, "maas_list: %s", maas_error());
	for (int i = 0; i < r; i++)
		for (size_t j = 0; j < count; j++)
			known += !strcmp(page[i].id, pieces[j].id);
	if ((size_t)r != count || known != count)
		errx(1, "%zu allocations are held, the server has %d, %zu of them", count, r,
		     known);
}

int main(int argc, char **argv)
{
	struct maas_options options = {
		.size = sizeof(options), .timeout_ms = TIMEOUT_MS, .ttl_seconds = 30};
	size_t count = argc == 4 ? strtoul(argv[3], NULL, 10) : 0;
	struct piece *pieces;
	pthread_t beating;
	size_t i = 0;

	if (!count)
		errx(2, "user http|rdma OWNER COUNT");
	signal(SIGTERM, stop);
	options.transport = strcmp(argv[1], "rdma") ? MAAS_TRANSPORT_HTTP : MAAS_TRANSPORT_RDMA;
	options.owner = argv[2];
	if (pthread_create(&beating, NULL, beat, NULL))
		errx(1, "no thread");
	pieces = calloc(count, sizeof(*pieces));
	if (!pieces || maas_open(&options, &handle))
		errx(1, "maas_open: %s", maas_error());
	for (size_t j = 0; j < count; j++)
		borrow(&pieces[j]);
	printf("%s: libmaas %s holds %zu allocations\n", argv[2], maas_version(), count);
	fflush(stdout);
	for (; !stopped; i = (i + 1) % count, pause_ms(10)) {
		write_piece(&pieces[i]);
		read_piece(&pieces[(i + count / 2) % count]);
		if (pieces[i].number % 5 == 0) {
			give_back(&pieces[i]);
			borrow(&pieces[i]);
		}
	}
	for (size_t j = 0; j < count; j++)
		read_piece(&pieces[j]);
	compare_list(argv[2], pieces, count);
	printf("%s: %lu calls, %lu failed, the longest took %ld ms; no byte differs, no allocation "
	       "is lost\n",
	       argv[2], calls, failures, longest_ms);
	maas_close(handle);
	return 0;
}
