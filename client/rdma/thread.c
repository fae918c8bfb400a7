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

#include "client/rdma/internal.h"

#define TICK_MS	     1000
#define STEP_MIN_MS  100  /* a request to the server may take so long, whatever is waiting … */
#define PAUSE_MAX_MS 1000 /* between two tries to connect */

struct worker {
	struct maas_rdma_client *rdma;
	uint64_t not_before_ms; /* of the next request to the server, after one that failed */
	unsigned int failures;	/* in a row, of requests for keys */
};

/* ---- deadlines */

/* Of what is queued or posted. */
static uint64_t first_deadline(struct maas_rdma_client *rdma)
{
	uint64_t first_ms = UINT64_MAX;

	maas_lock_take(&rdma->lock);
	for (uint32_t i = 0; i < atomic_load(&rdma->ops_used); i++) {
		const struct maas_rdma_client_op *op = &rdma->ops[i];
		unsigned int state = atomic_load(&op->state);
		uint64_t deadline_ms = atomic_load(&op->deadline_ms);

		if ((state == MAAS_OP_QUEUED || state == MAAS_OP_POSTED) && deadline_ms < first_ms)
			first_ms = deadline_ms;
	}
	maas_lock_release(&rdma->lock);
	return first_ms;
}

/* Holds the lock. The next operation from `at` on that is posted and out of time, or NULL. */
static struct maas_rdma_client_op *next_late(struct maas_rdma_client *rdma,
					     struct maas_rdma_client_op *at)
{
	uint64_t now_ms = maas_clock_ms();

	for (; at < rdma->ops + atomic_load(&rdma->ops_used); at++)
		if (atomic_load(&at->state) == MAAS_OP_POSTED &&
		    atomic_load(&at->deadline_ms) <= now_ms)
			return at;
	return NULL;
}

/* What is posted can only be had back with all else of its queue pair. */
void maas_rdma_client_end_late(struct maas_rdma_client *rdma)
{
	struct maas_rdma_client_op *op;
	bool late;

	maas_lock_take(&rdma->lock);
	op = next_late(rdma, rdma->ops);
	maas_lock_release(&rdma->lock);
	if (!op)
		return;
	/* Perhaps it is done, and only nobody looked. */
	maas_rdma_client_role_seize(rdma);
	maas_rdma_client_drain(rdma);
	maas_rdma_client_role_put(rdma);
	maas_lock_take(&rdma->lock);
	op = next_late(rdma, rdma->ops);
	late = op;
	/* Marked first: once the connection breaks, the poller asks whether to try them again. */
	for (; op; op = next_late(rdma, op + 1))
		atomic_store(&op->late, true);
	if (late)
		maas_rdma_client_break(rdma);
	maas_lock_release(&rdma->lock);
}

/* A request to the server must not keep others from their deadlines for long. */
static uint64_t step_deadline(struct maas_rdma_client *rdma)
{
	uint64_t now_ms = maas_clock_ms();
	uint64_t first_ms = first_deadline(rdma);
	uint64_t last_ms = now_ms + rdma->maas->options.connect_timeout_ms;

	if (first_ms < now_ms + STEP_MIN_MS)
		return now_ms + STEP_MIN_MS;
	return first_ms < last_ms ? first_ms : last_ms;
}

/* ---- failures */

/* Holds the lock. Ends what needs `id`, or, where that is NULL, everything that is to be done. */
static void fail_todo(struct maas_rdma_client *rdma, const struct maas_rdma_client_id *id,
		      int error)
{
	struct maas_rdma_client_op *op;
	struct maas_rdma_client_op *after;

	for (op = TAILQ_FIRST(&rdma->todo); op; op = after) {
		bool concerned = !id;

		after = TAILQ_NEXT(op, link);
		for (const struct maas_rdma_client_range *range = op->ranges;
		     range < op->end && !concerned; range++)
			concerned = maas_rdma_client_id_is(&range->id, id);
		if (!concerned)
			continue;
		TAILQ_REMOVE(&rdma->todo, op, link);
		atomic_fetch_sub(&rdma->num_todo, 1);
		maas_rdma_client_op_end(rdma, op, error);
	}
}

/* What a moment's patience may mend: the deadlines decide. An answer that the session is unknown
 * may be of the one before; if it is of this one, `lost` will be set. */
static bool is_passing(int error)
{
	return error == -EKEYREVOKED || error == -ETIMEDOUT || error == -EHOSTUNREACH ||
	       error == -ENETUNREACH || error == -ENETDOWN;
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
	struct maas_rdma_client *rdma = worker->rdma;
	uint32_t count = atomic_fetch_add(&rdma->num_failed, 1) + 1;

	log_debug("rdma: cannot connect again: %s", maas_error());
	pause_after(worker, count);
	maas_lock_take(&rdma->lock);
	if (error != -EKEYREVOKED) {
		rdma->connect_error = error;
		snprintf(rdma->connect_words, sizeof(rdma->connect_words), "%s", maas_error());
	}
	if (!is_passing(error) && !(is_brief(error) && count < MAAS_RDMA_TRIES)) {
		fail_todo(rdma, NULL, error);
		atomic_store(&rdma->num_failed, 0);
		atomic_fetch_add(&rdma->num_given_up, 1);
	}
	maas_lock_release(&rdma->lock);
	maas_rdma_client_wake(rdma);
}

static void fail_lost(struct maas_rdma_client *rdma)
{
	maas_lock_take(&rdma->lock);
	fail_todo(rdma, NULL, maas_client_session_fail_lost());
	maas_lock_release(&rdma->lock);
	maas_rdma_client_wake(rdma);
}

/* ---- what is to be done */

static bool is_wanted(struct maas_rdma_client *rdma)
{
	if (atomic_load(&rdma->lost))
		return atomic_load(&rdma->num_todo);
	return atomic_load(&rdma->num_todo) ||
	       (atomic_load(&rdma->needs) && !maas_rdma_client_up(rdma));
}

static void reconnect(struct worker *worker)
{
	struct maas_rdma_client *rdma = worker->rdma;
	int r;

	maas_error_clear();
	r = maas_rdma_client_connect(rdma, step_deadline(rdma), UINT64_MAX);
	if (r) {
		connect_failed(worker, r);
		return;
	}
	worker->failures = 0;
	atomic_store(&rdma->num_failed, 0);
	maas_lock_take(&rdma->lock);
	rdma->connect_error = 0;
	rdma->connect_words[0] = '\0';
	maas_lock_release(&rdma->lock);
	maas_rdma_client_wake(rdma);
}

/* Holds the lock. Posts what has all its keys; returns how many the first that has not is to ask
 * for.
 */
static uint32_t post_todo(struct maas_rdma_client *rdma,
			  struct maas_rdma_client_ask asks[MAAS_RDMA_ASKS])
{
	struct maas_rdma_client_op *op;

	while (maas_rdma_client_up(rdma) && (op = TAILQ_FIRST(&rdma->todo))) {
		uint32_t count = maas_rdma_client_asks_find(rdma, op, asks);
		int ignored;

		if (count)
			return count;
		TAILQ_REMOVE(&rdma->todo, op, link);
		atomic_fetch_sub(&rdma->num_todo, 1);
		ignored = maas_rdma_client_post(rdma, op);
		(void)ignored; /* its ids and its memory have been looked at */
	}
	return 0;
}

/* The server learns of a new connection a moment after the client, of a broken one before. */
static bool may_pass(int error)
{
	return is_passing(error) || error == -ENOTCONN;
}

static void key_failed(struct worker *worker, const struct maas_rdma_client_id *id, int error)
{
	struct maas_rdma_client *rdma = worker->rdma;

	if (may_pass(error)) {
		pause_after(worker, ++worker->failures);
		if (error == -ENOTCONN && worker->failures > MAAS_RDMA_TRIES)
			maas_rdma_client_broken(rdma, maas_rdma_client_number(rdma));
		return;
	}
	maas_lock_take(&rdma->lock);
	fail_todo(rdma, id, error);
	maas_lock_release(&rdma->lock);
	maas_rdma_client_wake(rdma);
}

/* A few at a time: each may take long, and meanwhile others come to their end. What passes is one
 * failure for all of them. */
static void serve(struct worker *worker)
{
	struct maas_rdma_client *rdma = worker->rdma;
	struct maas_rdma_client_ask asks[MAAS_RDMA_ASKS];
	const struct maas_rdma_client_ask *passing = NULL;
	uint32_t count;

	maas_lock_take(&rdma->lock);
	count = post_todo(rdma, asks);
	maas_lock_release(&rdma->lock);
	maas_rdma_client_wake(rdma);
	if (!count)
		return;
	maas_rdma_client_asks_run(asks, count, step_deadline(rdma));
	for (uint32_t i = 0; i < count; i++) {
		int error = asks[i].task.error;

		if (error && may_pass(error)) {
			passing = &asks[i];
		} else if (error) {
			maas_error_set("%s", asks[i].task.words);
			key_failed(worker, &asks[i].id, error);
		}
	}
	if (passing)
		key_failed(worker, &passing->id, passing->task.error);
	else
		worker->failures = 0;
}

static void work(struct worker *worker)
{
	struct maas_rdma_client *rdma = worker->rdma;

	if (atomic_load(&rdma->link) == MAAS_LINK_BROKEN)
		maas_rdma_client_disconnect(rdma);
	if (atomic_load(&rdma->lost))
		fail_lost(rdma);
	else if (!is_wanted(rdma) || maas_clock_ms() < worker->not_before_ms)
		return;
	else if (maas_rdma_client_up(rdma))
		serve(worker);
	else
		reconnect(worker);
}

/* ---- the thread */

static void sleep_a_while(struct worker *worker)
{
	struct maas_rdma_client *rdma = worker->rdma;
	struct pollfd fds[] = {
		{.fd = rdma->wake_fd, .events = POLLIN},
		{.fd = rdma->conn.events ? rdma->conn.events->fd : -1, .events = POLLIN},
	};
	uint64_t now_ms = maas_clock_ms();
	uint64_t until_ms;
	eventfd_t ignored;

	/*
	 * The pair next_ms, deadlines. The thread stores "wake me for any", then looks at the
	 * deadlines, with `lock`; who begins an operation stores its deadline and looks at
	 * `next_ms`, with `lock`, too, and wakes the thread for one that is sooner. All else that
	 * the thread is woken for writes wake_fd without a look: it stays readable until it is read
	 * below, and all is looked at again then.
	 */
	atomic_store(&rdma->next_ms, UINT64_MAX);
	until_ms = first_deadline(rdma);
	if (until_ms > now_ms + TICK_MS)
		until_ms = now_ms + TICK_MS;
	if (is_wanted(rdma) && worker->not_before_ms < until_ms)
		until_ms = worker->not_before_ms;
	atomic_store(&rdma->next_ms, until_ms);
	if (until_ms > now_ms)
		poll(fds, MAAS_ARRAY_SIZE(fds), (int)(until_ms - now_ms));
	if (fds[0].revents)
		eventfd_read(rdma->wake_fd, &ignored);
}

static void *run(void *arg)
{
	struct worker worker = {.rdma = arg};
	struct maas_rdma_client *rdma = arg;

	while (!atomic_load(&rdma->stop)) {
		maas_rdma_client_events(rdma);
		maas_rdma_client_expire(rdma);
		maas_rdma_client_end_late(rdma);
		work(&worker);
		sleep_a_while(&worker);
	}
	return NULL;
}

int maas_rdma_client_thread_start(struct maas_rdma_client *rdma)
{
	int r = maas_thread_start(&rdma->thread, run, rdma);

	if (r)
		return maas_fail(r, "no thread for RDMA: %s", strerror(-r));
	rdma->running = true;
	return 0;
}

void maas_rdma_client_thread_stop(struct maas_rdma_client *rdma)
{
	atomic_store(&rdma->stop, true);
	maas_rdma_client_thread_wake(rdma);
	if (rdma->running)
		pthread_join(rdma->thread, NULL);
	rdma->running = false;
}
