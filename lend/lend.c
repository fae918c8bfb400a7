/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The whole of lend: open and close, and housekeeping, which moves the lease clock and ends what
 * has lapsed, a bounded number of steps under each hold of the lock.
 */
#include <errno.h>
#include <sodium.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lend/internal.h"

#define PAUSE_NS    20000 /* and what the kernel adds: enough for a thread to wake */
#define TICK_MS	    100	  /* how often the caller means to tick */
#define TICK_MS_MAX 1000  /* a longer pause was no delay: the process was stopped */

static void learn_classes(struct maas_lend *lend)
{
	struct maas_slab_stats stats;

	maas_slab_stats(lend->slab, &stats);
	lend->num_classes = stats.num_classes;
	for (unsigned int i = 0; i < stats.num_classes; i++)
		lend->class_bytes[i] = stats.classes[i].slab_bytes;
}

bool maas_lend_had_principals(const struct maas_slab_mark *mark)
{
	uint32_t has_principals;

	static_assert(offsetof(struct maas_lend_owner_table, has_principals) +
				      sizeof(has_principals) <=
			      sizeof(mark->bytes),
		      "it is part of the mark");
	memcpy(&has_principals,
	       mark->bytes + offsetof(struct maas_lend_owner_table, has_principals),
	       sizeof(has_principals));
	return has_principals;
}

/* Memory that was kept apart does not become everybody's by an option that was left out. */
static int check_principals(struct maas_lend *lend, const struct maas_lend_options *options)
{
	if (lend->owners.table->has_principals && !options->has_principals &&
	    !options->insecure_open)
		return -EACCES;
	return 0;
}

int maas_lend_open(const struct maas_lend_options *options, struct maas_lend **ret_lend)
{
	struct maas_slab_area area;
	struct maas_lend *lend;
	int r;

	if (!options->slab || !options->max_sessions ||
	    options->max_sessions > MAAS_LEND_MAX_SESSIONS ||
	    options->max_session_ttl_s > MAAS_LEND_MAX_TTL_S)
		return -EINVAL;
	if (sodium_init() < 0)
		return -EIO;
	lend = calloc(1, sizeof(*lend));
	if (!lend)
		return -ENOMEM;
	lend->slab = options->slab;
	lend->keys = options->keys;
	lend->keys_ctx = options->keys_ctx;
	lend->clock_ms = options->clock_ms ? options->clock_ms : maas_clock_ms;
	lend->ticked_ms = lend->clock_ms();
	lend->principals.expected = options->has_principals;
	lend->max_session_ttl_s =
		options->max_session_ttl_s ? options->max_session_ttl_s : MAAS_LEND_SESSION_MAX_S;
	learn_classes(lend);
	for (size_t i = 0; i < MAAS_LEND_REQUEST_LOCKS; i++)
		pthread_mutex_init(&lend->request_locks[i], NULL);
	pthread_mutex_init(&lend->lock, NULL);
	TAILQ_INIT(&lend->transfers);
	TAILQ_INIT(&lend->waiting);
	TAILQ_INIT(&lend->forced);
	TAILQ_INIT(&lend->quarantined);
	maas_slab_area(lend->slab, &area);
	r = maas_lend_slots_init(&lend->uses, area.num_slots, sizeof(struct maas_lend_use));
	if (!r)
		r = maas_lend_leases_init(&lend->leases, area.num_slots, options->max_sessions);
	if (!r)
		r = maas_lend_request_queues_init(&lend->requests);
	if (!r)
		r = maas_lend_sessions_init(&lend->sessions, options->max_sessions);
	if (!r)
		r = maas_lend_quotas_init(&lend->quotas);
	if (!r)
		r = maas_lend_owners_init(&lend->owners, maas_slab_annex(lend->slab));
	if (!r)
		lend->had_principals = lend->owners.table->has_principals;
	if (!r)
		r = check_principals(lend, options);
	if (!r)
		r = maas_lend_restore(lend);
	if (r) {
		maas_lend_close(lend);
		return r;
	}
	*ret_lend = lend;
	return 0;
}

static void drop_pendings(struct maas_lend *lend)
{
	struct maas_lend_pending *pending;

	TAILQ_CONCAT(&lend->waiting, &lend->forced, link);
	TAILQ_CONCAT(&lend->waiting, &lend->quarantined, link);
	while ((pending = TAILQ_FIRST(&lend->waiting))) {
		TAILQ_REMOVE(&lend->waiting, pending, link);
		free(pending);
	}
}

void maas_lend_close(struct maas_lend *lend)
{
	if (!lend)
		return;
	drop_pendings(lend);
	maas_lend_slots_fini(&lend->uses);
	maas_lend_sessions_fini(&lend->sessions);
	maas_lend_request_queues_free(lend->requests.at, lend->requests.count);
	maas_lend_quotas_fini(&lend->quotas);
	maas_auth_unref(lend->principals.table);
	maas_lend_leases_fini(&lend->leases);
	pthread_mutex_destroy(&lend->lock);
	for (size_t i = 0; i < MAAS_LEND_REQUEST_LOCKS; i++)
		pthread_mutex_destroy(&lend->request_locks[i]);
	free(lend);
}

void maas_lend_discard(struct maas_lend *lend)
{
	struct maas_slab_stats stats;

	if (!lend)
		return;
	maas_slab_stats(lend->slab, &stats);
	if (!stats.allocations)
		lend->owners.table->has_principals = lend->had_principals;
	maas_lend_close(lend);
}

void maas_lend_pause(void)
{
	const struct timespec pause = {.tv_nsec = PAUSE_NS};

	nanosleep(&pause, NULL);
}

/* Moves the lease clock on, and what is due of the wheel; true when a second has turned. */
static bool advance(struct maas_lend *lend)
{
	uint64_t now_ms = lend->clock_ms();
	uint64_t passed_ms;
	uint64_t second;
	bool turned;

	pthread_mutex_lock(&lend->lock);
	second = lend->lease_ms / 1000;
	passed_ms = now_ms - lend->ticked_ms;
	lend->ticked_ms = now_ms;
	lend->lease_ms += passed_ms <= TICK_MS_MAX ? passed_ms : TICK_MS;
	turned = lend->lease_ms / 1000 != second;
	if (turned)
		maas_lend_lease_turn(&lend->leases, (uint32_t)second + 1);
	pthread_mutex_unlock(&lend->lock);
	return turned;
}

/* Lock held. Puts back what ends later in the round, or could not be freed. */
static void put_back(struct maas_lend *lend, struct maas_slab_ref ref, uint32_t deadline_s)
{
	int r = maas_lend_lease_start(lend, ref, deadline_s);

	assert(!r);
	(void)r;
}

/* Lock held. Looks at what is due, each one less of `left`, and stops where a free has to be
 * started. False when nothing else is due. */
static bool lapse_some(struct maas_lend *lend, uint32_t *left,
		       struct maas_lend_pending **ret_pending)
{
	uint32_t now_s = (uint32_t)(lend->lease_ms / 1000);
	struct maas_slab_ref ref;
	uint32_t deadline_s;

	for (; *left && !*ret_pending; --*left) {
		int r;

		if (!maas_lend_lease_first(&lend->leases, MAAS_LEND_LEASE_DUE, &ref, &deadline_s))
			return false;
		if (deadline_s > now_s) {
			put_back(lend, ref, deadline_s);
			continue;
		}
		r = maas_lend_free_locked(lend, ref, NULL, NULL, ret_pending);
		if (!r || r == -EINPROGRESS)
			lend->stats.lapsed_allocations++;
		else
			put_back(lend, ref, now_s + 1);
	}
	return true;
}

/* A step. False when nothing else is due. */
static bool lapse_step(struct maas_lend *lend)
{
	uint32_t left = MAAS_LEND_STEP;
	bool more = true;

	while (more && left) {
		struct maas_lend_pending *pending = NULL;

		pthread_mutex_lock(&lend->lock);
		more = lapse_some(lend, &left, &pending);
		pthread_mutex_unlock(&lend->lock);
		if (pending)
			(void)maas_lend_pending_start(lend, pending);
	}
	return more;
}

/* One kind of work, as much as a tick has room for beside its other kinds. */
static void run_steps(struct maas_lend *lend, bool (*step)(struct maas_lend *lend))
{
	uint64_t end_ms = lend->clock_ms() + TICK_MS;

	for (int i = 0; i < MAAS_LEND_TICK_STEPS && lend->clock_ms() < end_ms && step(lend); i++)
		maas_lend_pause();
}

/* Another table may come between two holds of the lock: then it is asked for what is next. */
static void forget_requests(struct maas_lend *lend)
{
	bool more = true;

	for (uint32_t i = 0; more;) {
		struct maas_lend_requests *requests = NULL;
		bool again;

		pthread_mutex_lock(&lend->lock);
		for (int step = 0; !requests && step < MAAS_LEND_STEP && i < lend->requests.count;)
			requests = lend->requests.at[i++];
		more = requests || i < lend->requests.count;
		again = requests &&
			maas_lend_requests_forget(requests, (uint32_t)(lend->lease_ms / 1000),
						  MAAS_LEND_STEP);
		i -= again;
		/* An empty queue is 1 MiB, and there is one for each principal. */
		if (requests && !again && requests->first == requests->end) {
			maas_lend_requests_fini(requests);
			free(requests);
			lend->requests.at[i - 1] = NULL;
		}
		pthread_mutex_unlock(&lend->lock);
		if (again)
			maas_lend_pause();
	}
}

void maas_lend_tick(struct maas_lend *lend)
{
	bool turned = advance(lend);

	maas_lend_free_force(lend);
	if (turned)
		maas_lend_sessions_lapse(lend);
	run_steps(lend, lapse_step);
	run_steps(lend, maas_lend_sessions_go_on);
	if (!turned)
		return;
	forget_requests(lend);
	maas_lend_quarantine_retry(lend);
}

void maas_lend_stats(struct maas_lend *lend, struct maas_lend_stats *ret_stats)
{
	pthread_mutex_lock(&lend->lock);
	*ret_stats = lend->stats;
	ret_stats->sessions = lend->sessions.live;
	ret_stats->owners = lend->owners.count;
	ret_stats->request_ids = 0;
	for (uint32_t i = 0; i < lend->requests.count; i++)
		if (lend->requests.at[i])
			ret_stats->request_ids += lend->requests.at[i]->count;
	pthread_mutex_unlock(&lend->lock);
}

uint64_t maas_lend_steps(struct maas_lend *lend)
{
	uint64_t steps;

	pthread_mutex_lock(&lend->lock);
	steps = lend->steps;
	pthread_mutex_unlock(&lend->lock);
	return steps;
}
