/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "client/rdma_internal.h"

#define DEFAULT_TTL_S 30
#define NAPS	      3

/* ---- life */

static int make_fds(struct maas_verbs *verbs)
{
	verbs->kick_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	verbs->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	verbs->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (verbs->kick_fd < 0 || verbs->wake_fd < 0 || verbs->epoll_fd < 0)
		return maas_fail(-errno, "no event file descriptor: %s", strerror(errno));
	return 0;
}

static void close_fd(int fd)
{
	if (fd >= 0)
		close(fd);
}

static void verbs_free(struct maas *maas)
{
	struct maas_verbs *verbs = maas->verbs;
	uint32_t used;

	if (!verbs)
		return;
	used = atomic_load(&verbs->ops_used);
	for (uint32_t i = 0; i < used; i++)
		if (verbs->ops[i].ranges != verbs->ops[i].few)
			free(verbs->ops[i].ranges);
	maas_verbs_device_fini(&verbs->device);
	maas_verbs_grants_fini(&verbs->grants);
	free(verbs->regions.sorted);
	free(verbs->wrs);
	free(verbs->sges);
	free(verbs->ops);
	close_fd(verbs->epoll_fd);
	close_fd(verbs->wake_fd);
	close_fd(verbs->kick_fd);
	sem_destroy(&verbs->waits);
	pthread_cond_destroy(&verbs->changed);
	pthread_mutex_destroy(&verbs->take_lock);
	pthread_mutex_destroy(&verbs->wait_lock);
	pthread_mutex_destroy(&verbs->lock);
	free(verbs);
	maas->verbs = NULL;
}

static int verbs_new(struct maas *maas)
{
	struct maas_verbs *verbs = calloc(1, sizeof(*verbs));
	int r = -ENOMEM;

	if (!verbs)
		return maas_fail(r, "out of memory");
	maas->verbs = verbs;
	verbs->maas = maas;
	verbs->kick_fd = -1;
	verbs->wake_fd = -1;
	verbs->epoll_fd = -1;
	TAILQ_INIT(&verbs->waiting);
	TAILQ_INIT(&verbs->todo);
	if (maas_cond_init(&verbs->changed)) {
		free(verbs);
		maas->verbs = NULL;
		return maas_fail(r, "out of memory");
	}
	pthread_mutex_init(&verbs->lock, NULL);
	pthread_mutex_init(&verbs->wait_lock, NULL);
	pthread_mutex_init(&verbs->take_lock, NULL);
	sem_init(&verbs->waits, 0, MAAS_VERBS_WAITS);
	verbs->num_ops = maas->options.max_submitted + MAAS_VERBS_WAITS;
	verbs->ops = calloc(verbs->num_ops, sizeof(*verbs->ops));
	r = verbs->ops ? make_fds(verbs) : maas_fail(-ENOMEM, "out of memory");
	if (r)
		verbs_free(maas);
	return r;
}

static void verbs_stop(struct maas *maas)
{
	struct maas_verbs *verbs = maas->verbs;

	maas_verbs_thread_stop(verbs);
	maas_verbs_disconnect(verbs);
	for (uint32_t i = 0; i < atomic_load(&verbs->ops_used); i++)
		maas_verbs_op_release(verbs, &verbs->ops[i]);
}

/* Errors: -ENODEV no RDMA device here leads to the server, -EOPNOTSUPP the server has none, -ENOMEM
 * with the limit of locked memory, -ECONNREFUSED, -EHOSTUNREACH, -ETIMEDOUT, -EACCES, -EPROTO,
 * -ENOBUFS, -ESHUTDOWN, and those of the session. */
static int verbs_start(struct maas *maas)
{
	uint32_t ttl_seconds = maas->options.ttl_seconds;
	char words[MAAS_ERROR_BYTES];
	int r;

	r = maas_verbs_look();
	if (r)
		return r;
	if (!ttl_seconds)
		maas->options.ttl_seconds = DEFAULT_TTL_S;
	r = verbs_new(maas);
	if (r)
		goto err_ttl;
	r = maas_verbs_connect(maas->verbs, maas_clock_ms() + maas->options.connect_timeout_ms);
	if (!r)
		r = maas_verbs_thread_start(maas->verbs);
	if (r)
		goto err_stop;
	return 0;

err_stop:
	snprintf(words, sizeof(words), "%s", maas_error());
	verbs_stop(maas);
	maas_keeper_forget(maas);
	maas_error_set("%s", words);
	verbs_free(maas);
err_ttl:
	maas->options.ttl_seconds = ttl_seconds;
	return r;
}

/* ---- the session */

static void session_lost(struct maas *maas)
{
	struct maas_verbs *verbs = maas->verbs;

	pthread_mutex_lock(&verbs->lock);
	atomic_store(&verbs->lost, true);
	maas_verbs_break(verbs);
	pthread_mutex_unlock(&verbs->lock);
	maas_verbs_thread_wake(verbs);
	maas_verbs_wake(verbs);
}

static void session_renewed(struct maas *maas)
{
	atomic_store(&maas->verbs->lost, false);
}

/* ---- the connection */

uint32_t maas_verbs_number(struct maas_verbs *verbs)
{
	uint32_t number;

	pthread_mutex_lock(&verbs->lock);
	number = maas_verbs_up(verbs) ? verbs->conn.number : 0;
	pthread_mutex_unlock(&verbs->lock);
	return number;
}

void maas_verbs_broken(struct maas_verbs *verbs, uint32_t number)
{
	pthread_mutex_lock(&verbs->lock);
	if (verbs->conn.number == number)
		maas_verbs_break(verbs);
	pthread_mutex_unlock(&verbs->lock);
}

static int fail_connect(struct maas_verbs *verbs)
{
	int r;

	pthread_mutex_lock(&verbs->lock);
	r = verbs->connect_error ? verbs->connect_error : -ETIMEDOUT;
	maas_error_set("%s",
		       *verbs->connect_words ? verbs->connect_words : "no RDMA connection in time");
	pthread_mutex_unlock(&verbs->lock);
	return r;
}

static int verbs_need(struct maas *maas)
{
	struct maas_verbs *verbs = maas->verbs;
	uint64_t until_ms = maas_clock_ms() + maas->options.timeout_ms;
	uint32_t given_up = atomic_load(&verbs->num_given_up);
	bool more = true;

	if (maas_verbs_up(verbs))
		return 0;
	atomic_fetch_add(&verbs->needs, 1);
	maas_verbs_thread_wake(verbs);
	pthread_mutex_lock(&verbs->wait_lock);
	atomic_fetch_add(&verbs->waits_here, 1);
	while (more && !maas_verbs_up(verbs) && !atomic_load(&verbs->lost) &&
	       given_up == atomic_load(&verbs->num_given_up))
		more = maas_cond_wait_until(&verbs->changed, &verbs->wait_lock, until_ms);
	atomic_fetch_sub(&verbs->waits_here, 1);
	pthread_mutex_unlock(&verbs->wait_lock);
	atomic_fetch_sub(&verbs->needs, 1);
	if (maas_verbs_up(verbs))
		return 0;
	if (atomic_load(&verbs->lost))
		return maas_fail(-EKEYREVOKED, "the session is lost, and what it owned; open a new "
					       "one with maas_reopen()");
	return fail_connect(verbs);
}

/* The server knows of a new connection a moment after the client does; of one that broke, before.
 */
static int verbs_call(struct maas *maas, struct maas_request *request)
{
	struct timespec pause = {.tv_nsec = 5000000};
	uint32_t number;
	int r;

	for (unsigned int tries = 0;; tries++) {
		r = verbs_need(maas);
		if (r)
			return r;
		number = maas_verbs_number(maas->verbs);
		r = maas_call(maas, request, 0);
		if (r != -ENOTCONN || tries > NAPS)
			return r;
		if (tries == NAPS)
			maas_verbs_broken(maas->verbs, number);
		nanosleep(&pause, NULL);
		pause.tv_nsec *= 4;
		maas_buf_fini(&request->text);
	}
}

const struct maas_transport maas_transport_rdma = {
	.type = MAAS_TRANSPORT_RDMA,
	.probe = maas_verbs_look,
	.start = verbs_start,
	.stop = verbs_stop,
	.free = verbs_free,
	.run = maas_verbs_run,
	.submit = maas_verbs_submit,
	.poll = maas_verbs_poll,
	.event_fd = maas_verbs_event_fd,
	.keys = true,
	.call = verbs_call,
	.add_key = maas_verbs_add_grant,
	.drop_key = maas_verbs_drop_grant,
	.pin = maas_verbs_pin,
	.unpin = maas_verbs_unpin,
	.connect = verbs_need,
	.session_lost = session_lost,
	.session_renewed = session_renewed,
};
