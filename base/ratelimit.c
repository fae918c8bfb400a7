/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ratelimit: a handful of lines of each kind in a second, and then how many there would have been.
 * The lock is held for the counting only, never while a line is logged.
 */
#include <pthread.h>

#include "base/base.h"

#define WINDOW_MS 1000

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct maas_ratelimit *limits; /* that have ever left a line out */

/* Lock held. Begins another second; returns how many lines the last one left out. */
static uint64_t renew(struct maas_ratelimit *limit, uint64_t now_ms)
{
	uint64_t left_out = limit->left_out;

	limit->since_ms = now_ms;
	limit->lines = 0;
	limit->left_out = 0;
	return left_out;
}

static bool is_over(const struct maas_ratelimit *limit, uint64_t now_ms)
{
	return !limit->since_ms || now_ms >= limit->since_ms + WINDOW_MS;
}

static void leave_out(struct maas_ratelimit *limit)
{
	limit->left_out++;
	if (limit->listed)
		return;
	limit->listed = true;
	limit->next = limits;
	limits = limit;
}

static void say(const struct maas_ratelimit *limit, uint64_t left_out)
{
	if (left_out)
		maas_log(limit->level, "log: lines left out=%llu kind=\"%s\"",
			 (unsigned long long)left_out, limit->kind);
}

bool maas_ratelimit_pass(struct maas_ratelimit *limit)
{
	uint64_t now_ms = maas_clock_ms();
	uint64_t left_out = 0;
	bool pass;

	if (!maas_log_enabled(limit->level))
		return false;
	pthread_mutex_lock(&lock);
	if (is_over(limit, now_ms))
		left_out = renew(limit, now_ms);
	pass = limit->lines < MAAS_RATELIMIT_LINES;
	if (pass)
		limit->lines++;
	else
		leave_out(limit);
	pthread_mutex_unlock(&lock);
	say(limit, left_out);
	return pass;
}

void maas_ratelimit_flush(void)
{
	uint64_t now_ms = maas_clock_ms();
	struct maas_ratelimit *limit;
	uint64_t left_out;

	do {
		left_out = 0;
		pthread_mutex_lock(&lock);
		for (limit = limits; limit; limit = limit->next)
			if (limit->left_out && is_over(limit, now_ms)) {
				left_out = renew(limit, now_ms);
				break;
			}
		pthread_mutex_unlock(&lock);
		if (limit)
			say(limit, left_out);
	} while (limit);
}
