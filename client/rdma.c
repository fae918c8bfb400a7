/* SPDX-License-Identifier: Apache-2.0 */
#include "client/rdma.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "client/rdma_internal.h"

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

int maas_verbs_new(struct maas *maas, struct maas_verbs **ret_verbs)
{
	struct maas_verbs *verbs = calloc(1, sizeof(*verbs));
	int r = -ENOMEM;

	if (!verbs)
		return maas_fail(r, "out of memory");
	verbs->maas = maas;
	verbs->kick_fd = -1;
	verbs->wake_fd = -1;
	verbs->epoll_fd = -1;
	TAILQ_INIT(&verbs->waiting);
	TAILQ_INIT(&verbs->todo);
	if (maas_cond_init(&verbs->changed)) {
		free(verbs);
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
		maas_verbs_free(verbs);
	else
		*ret_verbs = verbs;
	return r;
}

int maas_verbs_start(struct maas_verbs *verbs)
{
	int r;

	r = maas_verbs_connect(verbs, maas_clock_ms() + verbs->maas->options.connect_timeout_ms);
	return r ? r : maas_verbs_thread_start(verbs);
}

void maas_verbs_stop(struct maas_verbs *verbs)
{
	if (!verbs)
		return;
	maas_verbs_thread_stop(verbs);
	maas_verbs_disconnect(verbs);
	for (uint32_t i = 0; i < atomic_load(&verbs->ops_used); i++)
		maas_verbs_op_release(verbs, &verbs->ops[i]);
}

void maas_verbs_free(struct maas_verbs *verbs)
{
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
}

/* ---- the session */

void maas_verbs_lost(struct maas_verbs *verbs)
{
	pthread_mutex_lock(&verbs->lock);
	atomic_store(&verbs->lost, true);
	maas_verbs_break(verbs);
	pthread_mutex_unlock(&verbs->lock);
	maas_verbs_thread_wake(verbs);
	maas_verbs_wake(verbs);
}

void maas_verbs_renewed(struct maas_verbs *verbs)
{
	atomic_store(&verbs->lost, false);
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

int maas_verbs_need(struct maas_verbs *verbs)
{
	uint64_t until_ms = maas_clock_ms() + verbs->maas->options.timeout_ms;
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
