/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a caller's thread cannot do at once: keys, connections, deadlines. No operation is held over
 * a request to the server: what became of it meanwhile is looked up again.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>

#include "client/rdma_internal.h"

#define TICK_MS	     1000
#define STEP_MIN_MS  100  /* a request to the server may take so long, whatever is waiting … */
#define PAUSE_MAX_MS 1000 /* between two tries to connect */

struct worker {
	struct maas_verbs *verbs;
	uint64_t not_before_ms; /* of the next request to the server, after one that failed */
	unsigned int failures;	/* in a row, of requests for keys */
};

void maas_verbs_thread_wake(struct maas_verbs *verbs)
{
	eventfd_write(verbs->wake_fd, 1);
}

/* ---- deadlines */

/* Holds the lock. Returns how many ended. */
static unsigned int expire_in(struct maas_verbs *verbs, struct maas_verbs_ops *ops,
			      _Atomic uint32_t *count, uint64_t now_ms)
{
	struct maas_verbs_op *op;
	struct maas_verbs_op *after;
	unsigned int ended = 0;

	for (op = TAILQ_FIRST(ops); op; op = after) {
		after = TAILQ_NEXT(op, link);
		if (atomic_load(&op->deadline_ms) > now_ms)
			continue;
		TAILQ_REMOVE(ops, op, link);
		atomic_fetch_sub(count, 1);
		maas_error_set("its time was over%s%s", *verbs->connect_words ? ": " : "",
			       verbs->connect_words);
		maas_verbs_op_end(verbs, op, -ETIMEDOUT);
		ended++;
	}
	return ended;
}

void maas_verbs_expire(struct maas_verbs *verbs)
{
	uint64_t now_ms = maas_clock_ms();
	unsigned int ended;

	pthread_mutex_lock(&verbs->lock);
	ended = expire_in(verbs, &verbs->todo, &verbs->num_todo, now_ms);
	ended += expire_in(verbs, &verbs->waiting, &verbs->num_waiting, now_ms);
	pthread_mutex_unlock(&verbs->lock);
	if (ended)
		maas_verbs_wake(verbs);
}

/* Holds the lock. The first deadline of what is queued or posted; `late`: marks what is posted and
 * out of time. */
static uint64_t look(struct maas_verbs *verbs, bool late, bool *ret_late)
{
	uint32_t used = atomic_load(&verbs->ops_used);
	uint64_t now_ms = maas_clock_ms();
	uint64_t first_ms = UINT64_MAX;

	*ret_late = false;
	for (uint32_t i = 0; i < used; i++) {
		struct maas_verbs_op *op = &verbs->ops[i];
		unsigned int state = atomic_load(&op->state);
		uint64_t deadline_ms = atomic_load(&op->deadline_ms);

		if (state != MAAS_OP_QUEUED && state != MAAS_OP_POSTED)
			continue;
		if (deadline_ms < first_ms)
			first_ms = deadline_ms;
		if (state == MAAS_OP_POSTED && deadline_ms <= now_ms) {
			*ret_late = true;
			if (late)
				atomic_store(&op->late, true);
		}
	}
	return first_ms;
}

static uint64_t first_deadline(struct maas_verbs *verbs)
{
	uint64_t first_ms;
	bool ignored;

	pthread_mutex_lock(&verbs->lock);
	first_ms = look(verbs, false, &ignored);
	pthread_mutex_unlock(&verbs->lock);
	return first_ms;
}

/* What is posted can only be had back with all else of its queue pair. */
static void end_late(struct maas_verbs *verbs)
{
	bool late;

	pthread_mutex_lock(&verbs->lock);
	look(verbs, false, &late);
	pthread_mutex_unlock(&verbs->lock);
	if (!late)
		return;
	/* Perhaps it is done, and only nobody looked. */
	maas_verbs_role_seize(verbs);
	maas_verbs_drain(verbs);
	maas_verbs_role_put(verbs);
	pthread_mutex_lock(&verbs->lock);
	look(verbs, true, &late);
	if (late)
		maas_verbs_break(verbs);
	pthread_mutex_unlock(&verbs->lock);
}

/* A request to the server must not keep others from their deadlines for long. */
static uint64_t step_deadline(struct maas_verbs *verbs)
{
	uint64_t now_ms = maas_clock_ms();
	uint64_t first_ms = first_deadline(verbs);
	uint64_t last_ms = now_ms + verbs->maas->options.connect_timeout_ms;

	if (first_ms < now_ms + STEP_MIN_MS)
		return now_ms + STEP_MIN_MS;
	return first_ms < last_ms ? first_ms : last_ms;
}

/* ---- failures */

/* Holds the lock. Ends what needs `id`, or, where that is NULL, everything that is to be done. */
static void fail_todo(struct maas_verbs *verbs, const struct maas_verbs_id *id, int error)
{
	struct maas_verbs_op *op;
	struct maas_verbs_op *after;

	for (op = TAILQ_FIRST(&verbs->todo); op; op = after) {
		bool concerned = !id;

		after = TAILQ_NEXT(op, link);
		for (uint32_t i = 0; i < op->count && !concerned; i++)
			concerned = memcmp(&op->ranges[i].id, id, sizeof(*id)) == 0;
		if (!concerned)
			continue;
		TAILQ_REMOVE(&verbs->todo, op, link);
		atomic_fetch_sub(&verbs->num_todo, 1);
		maas_verbs_op_end(verbs, op, error);
	}
}

/* What a moment's patience may mend: the deadlines decide. */
static bool is_passing(int error)
{
	return error == -ETIMEDOUT || error == -EHOSTUNREACH || error == -ENETUNREACH ||
	       error == -ENETDOWN;
}

/* What another try or two may mend, such as a server that restarts. */
static bool is_brief(int error)
{
	return error == -ECONNREFUSED || error == -ECONNRESET || error == -EAGAIN ||
	       error == -ENOBUFS || error == -ENOTCONN;
}

static void pause_after(struct worker *worker, unsigned int failures)
{
	worker->not_before_ms =
		maas_clock_ms() + (failures < 4 ? 5u << (2 * failures) : PAUSE_MAX_MS);
}

/* With the sentence of `error`. */
static void connect_failed(struct worker *worker, int error)
{
	struct maas_verbs *verbs = worker->verbs;
	uint32_t count = atomic_fetch_add(&verbs->num_failed, 1) + 1;

	log_debug("rdma: cannot connect again: %s", maas_error());
	pause_after(worker, count);
	pthread_mutex_lock(&verbs->lock);
	verbs->connect_error = error;
	snprintf(verbs->connect_words, sizeof(verbs->connect_words), "%s", maas_error());
	if (!is_passing(error) && !(is_brief(error) && count < MAAS_VERBS_TRIES)) {
		fail_todo(verbs, NULL, error);
		atomic_store(&verbs->num_failed, 0);
		atomic_fetch_add(&verbs->num_given_up, 1);
	}
	pthread_mutex_unlock(&verbs->lock);
	maas_verbs_wake(verbs);
}

static void fail_lost(struct maas_verbs *verbs)
{
	pthread_mutex_lock(&verbs->lock);
	fail_todo(verbs, NULL,
		  maas_fail(-EKEYREVOKED, "the session is lost, and what it owned; open a new one "
					  "with maas_reopen()"));
	pthread_mutex_unlock(&verbs->lock);
	maas_verbs_wake(verbs);
}

/* ---- what is to be done */

static bool is_wanted(struct maas_verbs *verbs)
{
	if (atomic_load(&verbs->lost))
		return atomic_load(&verbs->num_todo);
	return atomic_load(&verbs->num_todo) ||
	       (atomic_load(&verbs->needs) && !maas_verbs_up(verbs));
}

static void reconnect(struct worker *worker)
{
	struct maas_verbs *verbs = worker->verbs;
	int r;

	maas_error_clear();
	r = maas_verbs_connect(verbs, step_deadline(verbs));
	if (r) {
		connect_failed(worker, r);
		return;
	}
	worker->failures = 0;
	atomic_store(&verbs->num_failed, 0);
	pthread_mutex_lock(&verbs->lock);
	verbs->connect_words[0] = '\0';
	pthread_mutex_unlock(&verbs->lock);
	maas_verbs_wake(verbs);
}

/* Holds the lock. Posts what has all its keys; returns how many the first that has not is to ask
 * for.
 */
static uint32_t post_todo(struct maas_verbs *verbs, struct maas_verbs_ask asks[MAAS_VERBS_ASKS])
{
	struct maas_verbs_op *op;

	while (maas_verbs_up(verbs) && (op = TAILQ_FIRST(&verbs->todo))) {
		uint32_t count = maas_verbs_asks_find(verbs, op, asks);
		int ignored;

		if (count)
			return count;
		TAILQ_REMOVE(&verbs->todo, op, link);
		atomic_fetch_sub(&verbs->num_todo, 1);
		ignored = maas_verbs_post(verbs, op);
		(void)ignored; /* its ids and its memory have been looked at */
	}
	return 0;
}

/* The server knows of a new connection a moment after the client does; of one that broke, before.
 */
static bool may_pass(int error)
{
	return is_passing(error) || error == -ENOTCONN;
}

static void key_failed(struct worker *worker, const struct maas_verbs_id *id, int error)
{
	struct maas_verbs *verbs = worker->verbs;

	if (may_pass(error)) {
		pause_after(worker, ++worker->failures);
		if (error == -ENOTCONN && worker->failures > MAAS_VERBS_TRIES)
			maas_verbs_broken(verbs, maas_verbs_number(verbs));
		return;
	}
	pthread_mutex_lock(&verbs->lock);
	fail_todo(verbs, id, error);
	pthread_mutex_unlock(&verbs->lock);
	maas_verbs_wake(verbs);
}

/* A few at a time: each may take long, and meanwhile others come to their end. What passes is one
 * failure for all of them. */
static void serve(struct worker *worker)
{
	struct maas_verbs *verbs = worker->verbs;
	struct maas_verbs_ask asks[MAAS_VERBS_ASKS];
	const struct maas_verbs_ask *passing = NULL;
	uint32_t count;

	pthread_mutex_lock(&verbs->lock);
	count = post_todo(verbs, asks);
	pthread_mutex_unlock(&verbs->lock);
	maas_verbs_wake(verbs);
	if (!count)
		return;
	maas_verbs_asks_run(asks, count, step_deadline(verbs));
	for (uint32_t i = 0; i < count; i++) {
		if (asks[i].error && may_pass(asks[i].error)) {
			passing = &asks[i];
		} else if (asks[i].error) {
			maas_error_set("%s", asks[i].words);
			key_failed(worker, &asks[i].id, asks[i].error);
		}
	}
	if (passing)
		key_failed(worker, &passing->id, passing->error);
	else
		worker->failures = 0;
}

static void work(struct worker *worker)
{
	struct maas_verbs *verbs = worker->verbs;

	if (atomic_load(&verbs->link) == MAAS_LINK_BROKEN)
		maas_verbs_disconnect(verbs);
	if (atomic_load(&verbs->lost))
		fail_lost(verbs);
	else if (!is_wanted(verbs) || maas_clock_ms() < worker->not_before_ms)
		return;
	else if (maas_verbs_up(verbs))
		serve(worker);
	else
		reconnect(worker);
}

/* ---- the thread */

static void sleep_a_while(struct worker *worker)
{
	struct maas_verbs *verbs = worker->verbs;
	struct pollfd fds[] = {
		{.fd = verbs->wake_fd, .events = POLLIN},
		{.fd = verbs->conn.events ? verbs->conn.events->fd : -1, .events = POLLIN},
	};
	uint64_t now_ms = maas_clock_ms();
	uint64_t until_ms;
	eventfd_t ignored;

	/* Whoever starts an operation meanwhile wakes the thread. */
	atomic_store(&verbs->next_ms, UINT64_MAX);
	until_ms = first_deadline(verbs);
	if (until_ms > now_ms + TICK_MS)
		until_ms = now_ms + TICK_MS;
	if (is_wanted(verbs) && worker->not_before_ms < until_ms)
		until_ms = worker->not_before_ms;
	atomic_store(&verbs->next_ms, until_ms);
	if (until_ms > now_ms)
		poll(fds, MAAS_ARRAY_SIZE(fds), (int)(until_ms - now_ms));
	if (fds[0].revents)
		eventfd_read(verbs->wake_fd, &ignored);
}

static void *run(void *arg)
{
	struct worker worker = {.verbs = arg};
	struct maas_verbs *verbs = arg;

	while (!atomic_load(&verbs->stop)) {
		maas_verbs_events(verbs);
		maas_verbs_expire(verbs);
		end_late(verbs);
		work(&worker);
		sleep_a_while(&worker);
	}
	return NULL;
}

int maas_verbs_thread_start(struct maas_verbs *verbs)
{
	int r = maas_thread_start(&verbs->thread, run, verbs);

	if (r)
		return maas_fail(r, "no thread for RDMA: %s", strerror(-r));
	verbs->running = true;
	return 0;
}

void maas_verbs_thread_stop(struct maas_verbs *verbs)
{
	atomic_store(&verbs->stop, true);
	maas_verbs_thread_wake(verbs);
	if (verbs->running)
		pthread_join(verbs->thread, NULL);
	verbs->running = false;
}
