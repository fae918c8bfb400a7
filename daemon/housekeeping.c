/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The housekeeping thread: ten times a second it moves the lease clock, cuts slow connections,
 * zeroes freed slabs and tells systemd that the process is alive. Its lock guards the order to
 * stop, nothing else.
 */
#include <errno.h>
#include <stdlib.h>
#include <systemd/sd-daemon.h>
#include <time.h>

#include "base/thread.h"
#include "daemon/internal.h"

#define TICK_MS	      100
#define RECLAIM_MS    40 /* of each tick, for zeroing at most */
#define RECLAIM_BYTES (4u << 20)

struct maasd_housekeeping {
	struct maasd_housekeeping_options options;
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
static void feed_watchdog(struct maasd_housekeeping *housekeeping, uint64_t now_ms)
{
	if (!housekeeping->options.watchdog_us || now_ms < housekeeping->watchdog_ms)
		return;
	housekeeping->watchdog_ms = now_ms + housekeeping->options.watchdog_us / 3000;
	sd_notify(0, "WATCHDOG=1");
}

static void tick(struct maasd_housekeeping *housekeeping)
{
	maas_lend_tick(housekeeping->options.lend);
	/* Right after it, because this cuts the connections that a free has waited for. */
	maas_http_tick(housekeeping->options.http);
	reclaim(housekeeping->options.slab);
	maas_ratelimit_flush();
	feed_watchdog(housekeeping, maas_clock_ms());
}

/* False when it is time to end. */
static bool wait_until(struct maasd_housekeeping *housekeeping, uint64_t deadline_ms)
{
	bool stop;

	pthread_mutex_lock(&housekeeping->lock);
	while (!housekeeping->stop &&
	       maas_cond_wait_until(&housekeeping->wake, &housekeeping->lock, deadline_ms))
		;
	stop = housekeeping->stop;
	pthread_mutex_unlock(&housekeeping->lock);
	return !stop;
}

static void *keep_house(void *arg)
{
	struct maasd_housekeeping *housekeeping = arg;
	uint64_t next_ms = maas_clock_ms();

	do {
		uint64_t now_ms;

		tick(housekeeping);
		/* A deadline, not a pause, so that the work does not add to the period; one that
		 * was missed is not made up for. */
		next_ms += TICK_MS;
		now_ms = maas_clock_ms();
		if (next_ms < now_ms)
			next_ms = now_ms;
	} while (wait_until(housekeeping, next_ms));
	return NULL;
}

static void free_housekeeping(struct maasd_housekeeping *housekeeping)
{
	pthread_mutex_destroy(&housekeeping->lock);
	pthread_cond_destroy(&housekeeping->wake);
	free(housekeeping);
}

int maasd_housekeeping_start(const struct maasd_housekeeping_options *options,
			     struct maasd_housekeeping **ret_housekeeping)
{
	struct maasd_housekeeping *housekeeping = calloc(1, sizeof(*housekeeping));
	int r;

	if (!housekeeping)
		return -ENOMEM;
	housekeeping->options = *options;
	pthread_cond_init(&housekeeping->wake, NULL);
	pthread_mutex_init(&housekeeping->lock, NULL);
	r = maas_thread_start(&housekeeping->thread, keep_house, housekeeping);
	if (r)
		free_housekeeping(housekeeping);
	else
		*ret_housekeeping = housekeeping;
	return r;
}

void maasd_housekeeping_stop(struct maasd_housekeeping *housekeeping)
{
	if (!housekeeping)
		return;
	pthread_mutex_lock(&housekeeping->lock);
	housekeeping->stop = true;
	pthread_cond_signal(&housekeeping->wake);
	pthread_mutex_unlock(&housekeeping->lock);
	pthread_join(housekeeping->thread, NULL);
	free_housekeeping(housekeeping);
}
