/* SPDX-License-Identifier: Apache-2.0 */
/* Lines of the log that others provoke: how many there are, and that those left out are counted. */
#include "tests/unit/base/log_file.h"

/* ---- clock. The linker's name of --wrap. NOLINTBEGIN */

static _Atomic uint64_t now_ms = 5000;

uint64_t __wrap_maas_clock_ms(void);

uint64_t __wrap_maas_clock_ms(void)
{
	return atomic_load(&now_ms);
}
/* NOLINTEND */

#define THREADS 4
#define EACH	1000

static struct log_file file;

static void open_log(void)
{
	log_file_begin(&file);
}

static void close_log(void)
{
	log_file_end(&file);
}

/* So often it was told that lines were left out, and so many in all. */
static void expect_told(const char *kind, uint64_t times, uint64_t wanted)
{
	char words[64];
	uint64_t sum;

	snprintf(words, sizeof(words), "kind=\"%s\"", kind);
	assert_int_equal(log_file_lines(&file, words, &sum), times);
	assert_int_equal(sum, wanted);
}

static uint64_t logged(const char *words)
{
	return log_file_lines(&file, words, NULL);
}

static void next_second(void)
{
	atomic_fetch_add(&now_ms, 1000);
}

TEST(limited__a_handful_in_a_second)
{
	static struct maas_ratelimit limit = MAAS_RATELIMIT(MAAS_LOG_WARN, "floods");

	for (int i = 0; i < 100; i++)
		log_limited(&limit, "flood number=%d", i);
	assert_int_equal(logged("flood number="), MAAS_RATELIMIT_LINES);
	maas_ratelimit_flush(); /* the second is not over */
	expect_told("floods", 0, 0);

	next_second();
	maas_ratelimit_flush();
	maas_ratelimit_flush();
	expect_told("floods", 1, 100 - MAAS_RATELIMIT_LINES);
}

TEST(limited__goes_on_in_the_next_second)
{
	static struct maas_ratelimit limit = MAAS_RATELIMIT(MAAS_LOG_ERR, "rains");

	for (int second = 0; second < 3; second++) {
		for (int i = 0; i < 20; i++)
			log_limited(&limit, "rain second=%d", second);
		next_second();
	}
	log_limited(&limit, "rain ends");
	assert_int_equal(logged("rain second="), 3 * MAAS_RATELIMIT_LINES);
	assert_int_equal(logged("rain ends"), 1);
	expect_told("rains", 3, 3ull * (20 - MAAS_RATELIMIT_LINES));
}

TEST(limited__leaves_other_kinds_alone)
{
	static struct maas_ratelimit loud = MAAS_RATELIMIT(MAAS_LOG_WARN, "loud ones");
	static struct maas_ratelimit quiet = MAAS_RATELIMIT(MAAS_LOG_WARN, "quiet ones");

	for (int i = 0; i < 50; i++)
		log_limited(&loud, "loud one");
	log_limited(&quiet, "quiet one");
	assert_int_equal(logged("quiet one"), 1);
	next_second();
	maas_ratelimit_flush();
	expect_told("quiet ones", 0, 0);
	expect_told("loud ones", 1, 50 - MAAS_RATELIMIT_LINES);
}

/* A line below the log level does not count as left out. */
TEST(limited__below_the_level)
{
	static struct maas_ratelimit limit = MAAS_RATELIMIT(MAAS_LOG_DEBUG, "whispers");

	for (int i = 0; i < 50; i++)
		log_limited(&limit, "whisper");
	next_second();
	maas_log_set_level(MAAS_LOG_DEBUG);
	maas_ratelimit_flush();
	maas_log_set_level(MAAS_LOG_INFO);
	expect_told("whispers", 0, 0);
}

static struct maas_ratelimit shared = MAAS_RATELIMIT(MAAS_LOG_WARN, "crowds");

static void *shout(void *arg)
{
	(void)arg;
	for (int i = 0; i < EACH; i++) {
		log_limited(&shared, "crowd says");
		if (i % 100 == 0)
			next_second();
		if (i % 50 == 0)
			maas_ratelimit_flush();
	}
	return NULL;
}

TEST(limited__counts_in_many_threads)
{
	uint64_t sum;

	threads_run(THREADS, shout, NULL, 0);
	next_second();
	maas_ratelimit_flush();
	log_file_lines(&file, "kind=\"crowds\"", &sum);
	assert_int_equal(logged("crowd says") + sum, THREADS * EACH);
	assert_true(sum > 0);
}

TEST_MAIN(open_log, close_log)
