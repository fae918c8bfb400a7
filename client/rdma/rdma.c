/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The RDMA transport's table and life, and what the session and allocations need from its
 * connection. Any thread; the members of struct maas_rdma_client say what guards them.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "client/rdma/internal.h"

#define DEFAULT_TTL_S 30
#define NAPS	      3

/* ---- life */

static int make_fds(struct maas_rdma_client *rdma)
{
	rdma->kick_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	rdma->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (rdma->kick_fd < 0 || rdma->wake_fd < 0)
		return maas_fail(-errno, "no event file descriptor: %s", strerror(errno));
	return 0;
}

static void close_fd(int fd)
{
	if (fd >= 0)
		close(fd);
}

static void free_rdma(struct maas *maas)
{
	struct maas_rdma_client *rdma = maas->rdma;
	uint32_t used;

	if (!rdma)
		return;
	used = atomic_load(&rdma->ops_used);
	for (uint32_t i = 0; i < used; i++)
		if (rdma->ops[i].ranges != rdma->ops[i].few)
			free(rdma->ops[i].ranges);
	maas_rdma_client_device_fini(&rdma->device);
	maas_rdma_client_grants_fini(&rdma->grants);
	free(rdma->regions.sorted);
	free(rdma->ops);
	close_fd(rdma->wake_fd);
	close_fd(rdma->kick_fd);
	pthread_cond_destroy(&rdma->changed);
	pthread_mutex_destroy(&rdma->wait_lock);
	free(rdma);
	maas->rdma = NULL;
}

static int new_rdma(struct maas *maas)
{
	struct maas_rdma_client *rdma = calloc(1, sizeof(*rdma));
	int r = -ENOMEM;

	if (!rdma)
		return maas_fail(r, "out of memory");
	maas->rdma = rdma;
	rdma->maas = maas;
	rdma->kick_fd = -1;
	rdma->wake_fd = -1;
	TAILQ_INIT(&rdma->waiting);
	TAILQ_INIT(&rdma->todo);
	pthread_cond_init(&rdma->changed, NULL);
	pthread_mutex_init(&rdma->wait_lock, NULL);
	rdma->num_ops = maas->options.max_submitted + MAAS_RDMA_WAITS;
	rdma->ops = calloc(rdma->num_ops, sizeof(*rdma->ops));
	r = rdma->ops ? make_fds(rdma) : maas_fail(-ENOMEM, "out of memory");
	if (r)
		free_rdma(maas);
	return r;
}

static void stop_rdma(struct maas *maas)
{
	struct maas_rdma_client *rdma = maas->rdma;

	maas_rdma_client_thread_stop(rdma);
	maas_rdma_client_disconnect(rdma);
	for (uint32_t i = 0; i < atomic_load(&rdma->ops_used); i++) {
		maas_rdma_client_op_release(rdma, &rdma->ops[i]);
		atomic_store(&rdma->ops[i].state, MAAS_OP_DONE);
	}
}

/* Errors: -ENODEV no RDMA device here leads to the server, -EOPNOTSUPP the server has none, -ENOMEM
 * with the limit of locked memory, -ECONNREFUSED, -EHOSTUNREACH, -ETIMEDOUT, -EACCES, -EPROTO,
 * -ENOBUFS, -ESHUTDOWN, and those of the session. */
static int start_rdma(struct maas *maas, uint64_t deadline_ms)
{
	uint32_t ttl_seconds = maas->options.ttl_seconds;
	char words[MAAS_ERROR_BYTES];
	int r;

	r = maas_rdma_client_look();
	if (r)
		return r;
	if (!ttl_seconds)
		maas->options.ttl_seconds = DEFAULT_TTL_S;
	r = new_rdma(maas);
	if (r)
		goto err_ttl;
	r = maas_rdma_client_connect(maas->rdma, deadline_ms, deadline_ms);
	if (!r)
		r = maas_rdma_client_thread_start(maas->rdma);
	if (!r)
		r = maas_queue_add_fd(&maas->queue, maas->rdma->device.channel->fd);
	if (r)
		goto err_stop;
	return 0;

err_stop:
	snprintf(words, sizeof(words), "%s", maas_error());
	stop_rdma(maas);
	maas_client_session_forget(maas);
	maas_error_set("%s", words);
	free_rdma(maas);
err_ttl:
	maas->options.ttl_seconds = ttl_seconds;
	return r;
}

/* ---- the session */

static void session_lost(struct maas *maas)
{
	struct maas_rdma_client *rdma = maas->rdma;

	maas_lock_take(&rdma->lock);
	atomic_store(&rdma->lost, true);
	maas_rdma_client_break(rdma);
	maas_lock_release(&rdma->lock);
	maas_rdma_client_thread_wake(rdma);
	maas_rdma_client_wake(rdma);
}

static void session_renewed(struct maas *maas)
{
	struct maas_rdma_client *rdma = maas->rdma;

	maas_lock_take(&rdma->lock);
	rdma->connect_error = 0;
	rdma->connect_words[0] = '\0';
	maas_lock_release(&rdma->lock);
	atomic_store(&rdma->lost, false);
}

static void wake_waiting(struct maas *maas)
{
	maas_rdma_client_wake(maas->rdma);
}

/* ---- the connection */

static int fail_connect(struct maas_rdma_client *rdma)
{
	int r;

	maas_lock_take(&rdma->lock);
	r = rdma->connect_error ? rdma->connect_error : -ETIMEDOUT;
	maas_error_set("%s",
		       *rdma->connect_words ? rdma->connect_words : "no RDMA connection in time");
	maas_lock_release(&rdma->lock);
	return r;
}

static int need_connection(struct maas *maas, uint64_t deadline_ms)
{
	struct maas_rdma_client *rdma = maas->rdma;
	uint32_t given_up = atomic_load(&rdma->num_given_up);
	bool more = true;

	if (maas_rdma_client_up(rdma))
		return 0;
	atomic_fetch_add(&rdma->needs, 1);
	maas_rdma_client_thread_wake(rdma);
	pthread_mutex_lock(&rdma->wait_lock);
	atomic_fetch_add(&rdma->waits_here, 1); /* pairs with what is looked at next (wait.c) */
	while (more && !maas_rdma_client_up(rdma) && !atomic_load(&rdma->lost) &&
	       given_up == atomic_load(&rdma->num_given_up))
		more = maas_cond_wait_until(&rdma->changed, &rdma->wait_lock, deadline_ms);
	atomic_fetch_sub(&rdma->waits_here, 1);
	pthread_mutex_unlock(&rdma->wait_lock);
	atomic_fetch_sub(&rdma->needs, 1);
	if (maas_rdma_client_up(rdma))
		return 0;
	if (atomic_load(&rdma->lost))
		return maas_client_session_fail_lost();
	return fail_connect(rdma);
}

/* The server learns of a new connection a moment after the client, of a broken one before. */
static int call_connected(struct maas *maas, struct maas_request *request, uint64_t deadline_ms)
{
	struct timespec pause = {.tv_nsec = 5000000};
	uint32_t number;
	int r;

	for (unsigned int tries = 0;; tries++) {
		r = need_connection(maas, deadline_ms);
		if (r)
			return r;
		number = maas_rdma_client_number(maas->rdma);
		r = maas_call(maas, request, deadline_ms);
		if (r != -ENOTCONN || tries > NAPS)
			return r;
		if (tries == NAPS)
			maas_rdma_client_broken(maas->rdma, number);
		nanosleep(&pause, NULL);
		pause.tv_nsec *= 4;
		maas_buf_fini(&request->text);
	}
}

const struct maas_transport maas_transport_rdma = {
	.type = MAAS_TRANSPORT_RDMA,
	.probe = maas_rdma_client_look,
	.start = start_rdma,
	.stop = stop_rdma,
	.free = free_rdma,
	.run = maas_rdma_client_run,
	.submit = maas_rdma_client_submit,
	.release = maas_rdma_client_release,
	.progress = maas_rdma_client_progress,
	.wait = maas_rdma_client_wait,
	.wake = wake_waiting,
	.keys = true,
	.call = call_connected,
	.add_key = maas_rdma_client_add_grant,
	.drop_key = maas_rdma_client_drop_grant,
	.pin = maas_rdma_client_pin,
	.unpin = maas_rdma_client_unpin,
	.connect = need_connection,
	.session_lost = session_lost,
	.session_renewed = session_renewed,
};
