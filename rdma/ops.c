/* SPDX-License-Identifier: Apache-2.0 */
/* The table of key operations that lend calls; those on grants are request.c's. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "rdma/internal.h"

/* ---- what goes to the thread */

static struct maas_rdma_session_task *session_task_of(struct maas_rdma_task *task)
{
	return MAAS_CONTAINER_OF(task, struct maas_rdma_session_task, task);
}

/* Once it is told, the task may be used for the next session of that index. */
static void session_ended(struct maas_rdma_task *task, int status)
{
	const struct maas_rdma_session_task *end = session_task_of(task);

	end->done(end->arg, status);
}

static void run_end(struct maas_rdma_task *task, int status)
{
	const struct maas_rdma_session_task *end = session_task_of(task);
	struct maas_rdma_conn *conn = maas_rdma_conn_find(end->rdma, end->session);

	if (!conn) {
		session_ended(task, status);
		return;
	}
	if (conn->successor)
		maas_rdma_conn_end(conn->successor, "the session ends");
	task->run = session_ended;
	STAILQ_INSERT_TAIL(&conn->enders, task, link);
	maas_rdma_conn_end(conn, "the session ends");
}

static void run_probe(struct maas_rdma_task *task, int status)
{
	struct maas_rdma_session_task *probe = session_task_of(task);
	struct maas_rdma_conn *conn = maas_rdma_conn_find(probe->rdma, probe->session);

	(void)status;
	if (conn)
		maas_rdma_conn_probe(conn);
	free(probe);
}

/* Always by way of the thread: a connection may be about to be made. */
static int end_session(void *ctx, struct maas_lend_session_ref session, maas_lend_key_done *done,
		       void *arg)
{
	struct maas_rdma *rdma = ctx;
	struct maas_rdma_session_task *end = &rdma->session_ends[session.index];

	*end = (struct maas_rdma_session_task){
		.task.run = run_end, .rdma = rdma, .session = session, .done = done, .arg = arg};
	return maas_rdma_send(rdma, &end->task);
}

static void probe(void *ctx, struct maas_lend_session_ref session)
{
	struct maas_rdma *rdma = ctx;
	struct maas_rdma_session_task *task;

	if (!atomic_load(&rdma->connected[session.index]))
		return;
	task = malloc(sizeof(*task));
	if (!task) {
		log_debug("rdma: no memory for a probe");
		return;
	}
	*task = (struct maas_rdma_session_task){
		.task.run = run_probe, .rdma = rdma, .session = session};
	if (maas_rdma_send(rdma, &task->task))
		free(task);
}

/* ---- what is answered at once */

static bool connected(void *ctx, struct maas_lend_session_ref session)
{
	struct maas_rdma *rdma = ctx;

	return session.index < rdma->options.max_sessions &&
	       atomic_load(&rdma->connected[session.index]) >> 32 == session.generation;
}

/* The address as a RoCE GID has it; false for other families. */
static bool gid_of(const struct sockaddr *local, union ibv_gid *ret_gid)
{
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)local;
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)(const void *)local;

	memset(ret_gid, 0, sizeof(*ret_gid));
	if (local && local->sa_family == AF_INET6) {
		memcpy(ret_gid->raw, &v6->sin6_addr, sizeof(v6->sin6_addr));
		return true;
	}
	ret_gid->raw[10] = 0xff;
	ret_gid->raw[11] = 0xff;
	if (local && local->sa_family == AF_INET)
		memcpy(ret_gid->raw + 12, &v4->sin_addr, sizeof(v4->sin_addr));
	return local && local->sa_family == AF_INET;
}

static bool address(void *ctx, const void *local, struct maas_lend_key_address *ret_address)
{
	struct maas_rdma *rdma = ctx;
	union ibv_gid came_to;
	union ibv_gid gid;

	memset(ret_address, 0, sizeof(*ret_address));
	ret_address->port = rdma->port;
	if (*rdma->addr) {
		memcpy(ret_address->addr, rdma->addr, sizeof(ret_address->addr));
		return true;
	}
	if (!maas_rdma_device_address(rdma->device, gid_of(local, &came_to) ? &came_to : NULL,
				      &gid))
		return false;
	maas_rdma_print_address(&gid, ret_address->addr);
	return true;
}

static void stats(void *ctx, struct maas_lend_key_stats *ret_stats)
{
	maas_rdma_stats(ctx, ret_stats);
}

const struct maas_lend_key_ops maas_rdma_key_ops = {
	.grant = maas_rdma_request_grant,
	.ungrant = maas_rdma_request_ungrant,
	.revoke = maas_rdma_request_revoke,
	.end_session = end_session,
	.probe = probe,
	.connected = connected,
	.address = address,
	.stats = stats,
};
