/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <systemd/sd-daemon.h>
#include <time.h>

#include "daemon/internal.h"

#define TICK_MS	      100
#define RECLAIM_MS    40 /* of each tick, for zeroing at most */
#define RECLAIM_BYTES (4u << 20)

struct maas_housekeeping {
	struct maas_housekeeping_options options;
	uint64_t watchdog_ms; /* when systemd hears of us next */
	pthread_t thread;
	pthread_cond_t wake;

	pthread_mutex_t lock;
	bool stop; /* guarded by lock */
};

static void reclaim(struct maas_slab *slab)
{
	uint64_t start_ms = maas_clock_ms();
	uint64_t now_ms = start_ms;

	while (now_ms - start_ms < RECLAIM_MS && maas_slab_reclaim(slab, now_ms, RECLAIM_BYTES))
		now_ms = maas_clock_ms();
}

/* From here, not from the main thread: a housekeeping that hangs is a server that hangs. */
static void feed_watchdog(struct maas_housekeeping *keeper, uint64_t now_ms)
{
	if (!keeper->options.watchdog_us || now_ms < keeper->watchdog_ms)
		return;
	keeper->watchdog_ms = now_ms + keeper->options.watchdog_us / 3000;
	sd_notify(0, "WATCHDOG=1");
}

static void tick(struct maas_housekeeping *keeper)
{
	maas_lend_tick(keeper->options.lend);
	/* At once: it cuts the connections that a free has waited for. */
	maas_http_tick(keeper->options.http);
	reclaim(keeper->options.slab);
	maas_ratelimit_flush();
	feed_watchdog(keeper, maas_clock_ms());
}

/* False when it is time to end. */
static bool wait_until(struct maas_housekeeping *keeper, uint64_t deadline_ms)
{
	const struct timespec deadline = {
		.tv_sec = (time_t)(deadline_ms / 1000),
		.tv_nsec = (long)(deadline_ms % 1000) * 1000000,
	};
	int r = 0;
	bool stop;

	pthread_mutex_lock(&keeper->lock);
	while (!keeper->stop && r != ETIMEDOUT)
		r = pthread_cond_timedwait(&keeper->wake, &keeper->lock, &deadline);
	stop = keeper->stop;
	pthread_mutex_unlock(&keeper->lock);
	return !stop;
}

static void *keep_house(void *arg)
{
	struct maas_housekeeping *keeper = arg;
	uint64_t next_ms = maas_clock_ms();

	do {
		uint64_t now_ms;

		tick(keeper);
		/* A deadline, not a pause, so that the work does not add to the period; one that
		 * was missed is not made up for. */
		next_ms += TICK_MS;
		now_ms = maas_clock_ms();
		if (next_ms < now_ms)
			next_ms = now_ms;
	} while (wait_until(keeper, next_ms));
	return NULL;
}

int maas_housekeeping_start(const struct maas_housekeeping_options *options,
			    struct maas_housekeeping **ret_keeper)
{
	struct maas_housekeeping *keeper = calloc(1, sizeof(*keeper));
	pthread_condattr_t attr;
	int r;

	if (!keeper)
		return -ENOMEM;
	keeper->options = *options;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&keeper->wake, &attr);
	pthread_condattr_destroy(&attr);
	pthread_mutex_init(&keeper->lock, NULL);
	r = pthread_create(&keeper->thread, NULL, keep_house, keeper);
	if (r) {
		pthread_mutex_destroy(&keeper->lock);
		pthread_cond_destroy(&keeper->wake);
		free(keeper);
		return -r;
	}
	*ret_keeper = keeper;
	return 0;
}

void maas_housekeeping_stop(struct maas_housekeeping *keeper)
{
	if (!keeper)
		return;
	pthread_mutex_lock(&keeper->lock);
	keeper->stop = true;
	pthread_cond_signal(&keeper->wake);
	pthread_mutex_unlock(&keeper->lock);
	pthread_join(keeper->thread, NULL);
	pthread_mutex_destroy(&keeper->lock);
	pthread_cond_destroy(&keeper->wake);
	free(keeper);
}
