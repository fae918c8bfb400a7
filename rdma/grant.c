/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of grants. keyed[slot] is the head of a slab's chain: any thread sees there whether a
 * slab has keys, so that the free of a slab without keys is not held up. For that, a grant is
 * published before the slab is asked whether it lives, and a free ends the slab's life before it
 * looks for keys.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "rdma/internal.h"

#define SPARE 4096

int maas_rdma_grants_open(struct maas_rdma *rdma)
{
	void *map = mmap(NULL, rdma->area.num_slots * sizeof(*rdma->keyed), PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (map == MAP_FAILED)
		return -errno;
	rdma->keyed = map;
	return 0;
}

void maas_rdma_grants_close(struct maas_rdma *rdma)
{
	while (rdma->spare) {
		struct maas_rdma_grant *next = rdma->spare->next;

		free(rdma->spare);
		rdma->spare = next;
	}
	if (rdma->keyed)
		munmap(rdma->keyed, rdma->area.num_slots * sizeof(*rdma->keyed));
	rdma->keyed = NULL;
}

/* ---- the chain of a slab */

static inline struct maas_rdma_grant *first(const struct maas_rdma *rdma, struct maas_slab_ref ref)
{
	struct maas_rdma_grant *grant =
		ref.slot < rdma->area.num_slots ? atomic_load(&rdma->keyed[ref.slot]) : NULL;

	return grant && grant->ref.generation == ref.generation ? grant : NULL;
}

static inline struct maas_rdma_grant *find(const struct maas_rdma_conn *conn,
					   struct maas_slab_ref ref)
{
	struct maas_rdma_grant *grant = first(conn->rdma, ref);

	while (grant && grant->conn != conn)
		grant = grant->next;
	return grant;
}

struct maas_rdma_grant *maas_rdma_grant_first(struct maas_rdma *rdma, struct maas_slab_ref ref)
{
	return first(rdma, ref);
}

struct maas_rdma_grant *maas_rdma_grant_find(const struct maas_rdma_conn *conn,
					     struct maas_slab_ref ref)
{
	return find(conn, ref);
}

static void link_grant(struct maas_rdma *rdma, struct maas_rdma_grant *grant)
{
	LIST_INSERT_HEAD(&grant->conn->grants, grant, link);
	grant->next = atomic_load(&rdma->keyed[grant->ref.slot]);
	grant->prev = NULL;
	if (grant->next)
		grant->next->prev = grant;
	atomic_store(&rdma->keyed[grant->ref.slot], grant);
	maas_rdma_count(&rdma->num_grants);
}

static void unlink_grant(struct maas_rdma_grant *grant)
{
	struct maas_rdma *rdma = grant->rdma;

	LIST_REMOVE(grant, link);
	if (grant->next)
		grant->next->prev = grant->prev;
	if (grant->prev)
		grant->prev->next = grant->next;
	else
		atomic_store(&rdma->keyed[grant->ref.slot], grant->next);
	maas_lend_key_discharge(rdma->lend, grant->conn->session);
	maas_rdma_uncount(&rdma->num_grants);
}

static struct maas_rdma_grant *add_spare(struct maas_rdma *rdma)
{
	struct maas_rdma_grant *grant = calloc(1, sizeof(*grant));

	if (!grant)
		return NULL;
	grant->rdma = rdma;
	STAILQ_INIT(&grant->made);
	STAILQ_INIT(&grant->dead);
	return grant;
}

/* Some are kept for the next grants: getting a page from the kernel again costs more than a window
 * does. A spare one has no key, and nobody waits for it; the work in it holds a verbs request, of
 * which each use sets the fields that count. */
static struct maas_rdma_grant *take_spare(struct maas_rdma *rdma)
{
	struct maas_rdma_grant *grant = rdma->spare;

	if (!grant)
		return add_spare(rdma);
	rdma->spare = grant->next;
	rdma->num_spare--;
	return grant;
}

static void free_grant(struct maas_rdma_grant *grant)
{
	struct maas_rdma *rdma = grant->rdma;

	if (rdma->num_spare >= SPARE) {
		free(grant);
		return;
	}
	grant->next = rdma->spare;
	rdma->spare = grant;
	rdma->num_spare++;
}

MAAS_COLD static void tell_others(struct maas_rdma_grant *grant, int status)
{
	maas_rdma_tasks_run(maas_rdma_tasks_take(&grant->made), status);
}

/* The key is made, or cannot be. The asker comes last: it may kill the key if another one was
 * refused. */
static inline void tell_asker(struct maas_rdma_grant *grant, int status)
{
	struct maas_rdma_asker *asker;

	if (!STAILQ_EMPTY(&grant->made))
		tell_others(grant, status);
	asker = grant->asker;
	grant->asker = NULL;
	if (asker)
		asker->made(asker, grant->index, status ? NULL : grant, status);
}

/* It has no key, or a dead one. Who waits is told, and may ask for the next grant. */
static void drop(struct maas_rdma_grant *grant, int made_status)
{
	unlink_grant(grant);
	tell_asker(grant, made_status);
	maas_rdma_tasks_run(maas_rdma_tasks_take(&grant->dead), 0);
	if (grant->registering)
		grant->conn = NULL; /* freed when its task comes */
	else
		free_grant(grant);
}

/* ---- making and killing */

/*
 * Reading the clock takes a good part of the time of a bind, and in some machines of a
 * registration. So a key's time begins at the last reading of this turn, ...
 */
static uint64_t begin_ns(struct maas_rdma *rdma)
{
	if (!rdma->turn_ns)
		rdma->turn_ns = maas_clock_ns();
	return rdma->turn_ns;
}

/* ... and ends when its completions were taken (window), or now: then the next one begins. */
static uint64_t end_ns(struct maas_rdma *rdma)
{
	if (rdma->keys != MAAS_RDMA_KEYS_WINDOW)
		rdma->turn_ns = 0;
	return begin_ns(rdma);
}

static void make(const struct maas_rdma *rdma, struct maas_rdma_grant *grant)
{
	if (rdma->keys == MAAS_RDMA_KEYS_WINDOW)
		maas_rdma_window_bind(grant);
	else
		maas_rdma_region_make(grant);
}

static void registered(struct maas_rdma_task *task, int status)
{
	struct maas_rdma_grant *grant = MAAS_CONTAINER_OF(task, struct maas_rdma_grant, work.task);

	(void)status; /* make() asks again, and hears how it went */
	grant->registering = false;
	if (!grant->conn)
		free_grant(grant);
	else if (!maas_rdma_conn_usable(grant->conn))
		maas_rdma_grant_made(grant, -ENOTCONN);
	else
		make(grant->rdma, grant);
}

void maas_rdma_grant_await_extent(struct maas_rdma_grant *grant)
{
	int r;

	grant->work.task.run = registered;
	grant->registering = true;
	r = maas_rdma_extent_await(grant->rdma->extents, grant->offset, &grant->work.task);
	if (r) {
		grant->registering = false;
		maas_rdma_grant_made(grant, r);
	}
}

/* The end of its connection, which takes turns, comes to it before those that nobody waits for. */
MAAS_COLD static void put_first(struct maas_rdma_grant *grant)
{
	LIST_REMOVE(grant, link);
	LIST_INSERT_HEAD(&grant->conn->grants, grant, link);
}

/* There may be a key, which dies with the connection. */
MAAS_COLD static void set_broken(struct maas_rdma_grant *grant)
{
	grant->state = MAAS_RDMA_GRANT_BROKEN;
	if (!STAILQ_EMPTY(&grant->dead))
		put_first(grant);
}

static void kill(struct maas_rdma_grant *grant)
{
	if (!maas_rdma_conn_usable(grant->conn)) {
		set_broken(grant);
		return;
	}
	grant->state = MAAS_RDMA_GRANT_REVOKING;
	grant->started_ns = begin_ns(grant->rdma);
	if (grant->rdma->keys == MAAS_RDMA_KEYS_WINDOW)
		maas_rdma_window_kill(grant);
	else
		maas_rdma_region_kill(grant);
}

void maas_rdma_grant_made(struct maas_rdma_grant *grant, int status)
{
	if (status && !grant->window && !grant->mr) {
		drop(grant, status);
		return;
	}
	if (status) {
		set_broken(grant);
		tell_asker(grant, -ENOTCONN);
		return;
	}
	maas_rdma_time(&grant->rdma->figures.bind, end_ns(grant->rdma) - grant->started_ns);
	if (grant->state == MAAS_RDMA_GRANT_DOOMED) {
		kill(grant); /* who waits hears of it when the key is dead */
		return;
	}
	grant->state = MAAS_RDMA_GRANT_LIVE;
	tell_asker(grant, 0);
}

void maas_rdma_grant_killed(struct maas_rdma_grant *grant, int status)
{
	if (status) {
		set_broken(grant);
		return;
	}
	maas_rdma_time(&grant->rdma->figures.revoke, end_ns(grant->rdma) - grant->started_ns);
	drop(grant, -ENOENT);
}

/* Errors: -ENOENT, -EDQUOT, -ENOSR, -ENOMEM. */
static inline int new_grant(struct maas_rdma_conn *conn, struct maas_rdma_asker *asker,
			    struct maas_slab_ref ref)
{
	struct maas_rdma *rdma = conn->rdma;
	struct maas_rdma_grant *grant;
	struct maas_slab_info info;
	int r;

	if (ref.slot >= rdma->area.num_slots)
		return -ENOENT;
	if (rdma->num_grants >= rdma->options.max_grants)
		return -EDQUOT;
	r = maas_lend_key_charge(rdma->lend, conn->session);
	if (r)
		return r;
	grant = take_spare(rdma);
	if (!grant) {
		maas_lend_key_discharge(rdma->lend, conn->session);
		return -ENOMEM;
	}
	grant->conn = conn;
	grant->ref = ref;
	grant->access = asker->access;
	grant->state = MAAS_RDMA_GRANT_BINDING;
	link_grant(rdma, grant);
	r = maas_slab_get(rdma->options.slab, ref, &info);
	if (r) {
		drop(grant, r);
		return r;
	}
	grant->offset = info.offset;
	grant->len_bytes = info.size_bytes;
	grant->started_ns = begin_ns(rdma);
	grant->asker = asker;
	grant->asker_number = asker->number;
	grant->index = asker->asked++;
	asker->pending++;
	make(rdma, grant);
	return 0;
}

/* There is a grant already. Errors: of maas_rdma_grants_ask(). */
MAAS_COLD static int ask_again(struct maas_rdma_grant *grant, struct maas_rdma_asker *asker)
{
	if (grant->state == MAAS_RDMA_GRANT_BROKEN)
		return -ENOTCONN;
	if (grant->state == MAAS_RDMA_GRANT_REVOKING || grant->state == MAAS_RDMA_GRANT_DOOMED)
		return -ENOENT;
	if (grant->access != asker->access)
		return -EEXIST;
	if (grant->state == MAAS_RDMA_GRANT_BINDING)
		return -EINPROGRESS;
	asker->pending++;
	asker->made(asker, asker->asked++, grant, 0);
	return 0;
}

int maas_rdma_grants_ask(struct maas_rdma_conn *conn, struct maas_rdma_asker *asker, uint32_t until)
{
	int r = 0;

	while (!r && !asker->status && asker->asked < until &&
	       conn->rdma->turn_bytes < MAAS_RDMA_STEP_BYTES) {
		struct maas_slab_ref ref = asker->refs[asker->asked];
		struct maas_rdma_grant *grant = find(conn, ref);

		r = grant ? ask_again(grant, asker) : new_grant(conn, asker, ref);
	}
	return r;
}

/* ---- the end of a connection */

static bool end_grant(struct maas_rdma_grant *grant)
{
	bool dead = true;

	if (grant->window)
		dead = maas_rdma_window_destroy(grant);
	else if (grant->mr)
		dead = maas_rdma_region_destroy(grant);
	if (dead) {
		drop(grant, -ENOTCONN);
		return true;
	}
	grant->state = MAAS_RDMA_GRANT_BROKEN;
	tell_asker(grant, -ENOTCONN);
	maas_rdma_tasks_run(maas_rdma_tasks_take(&grant->dead), -EIO);
	return false;
}

void maas_rdma_grant_kill(struct maas_rdma_grant *grant, struct maas_rdma_task *task)
{
	if (task)
		STAILQ_INSERT_TAIL(&grant->dead, task, link);
	if (grant->conn->quiet)
		(void)end_grant(grant); /* before its turn: it may be one of many */
	else if (grant->state == MAAS_RDMA_GRANT_LIVE)
		kill(grant);
	else if (grant->registering && maas_rdma_conn_usable(grant->conn))
		drop(grant, -ENOENT); /* there is no key yet, and to pin an extent may take long */
	else if (grant->state == MAAS_RDMA_GRANT_BINDING)
		grant->state = MAAS_RDMA_GRANT_DOOMED;
	else if (grant->state == MAAS_RDMA_GRANT_BROKEN && task)
		put_first(grant);
}

/* All grants of the connection were tried: those that would not go are its grants again. */
MAAS_COLD static void retry_stuck(struct maas_rdma_conn *conn)
{
	conn->grants = conn->stuck;
	LIST_FIRST(&conn->grants)->link.le_prev = &LIST_FIRST(&conn->grants);
	LIST_INIT(&conn->stuck);
}

int maas_rdma_grants_end(struct maas_rdma_conn *conn)
{
	struct maas_rdma_grant *grant;
	struct maas_rdma_grant *next;
	unsigned int tried = 0;

	conn->quiet = false; /* so that the tasks of one grant drop no other grant */
	/* One at least, whatever others have taken of this turn. */
	for (grant = LIST_FIRST(&conn->grants);
	     grant && tried < MAAS_RDMA_STEP &&
	     (!tried || conn->rdma->turn_bytes < MAAS_RDMA_STEP_BYTES);
	     grant = next) {
		next = LIST_NEXT(grant, link);
		tried++;
		if (end_grant(grant))
			continue;
		LIST_REMOVE(grant, link);
		LIST_INSERT_HEAD(&conn->stuck, grant, link);
	}
	conn->quiet = true;
	if (!LIST_EMPTY(&conn->grants))
		return -EAGAIN;
	if (LIST_EMPTY(&conn->stuck))
		return maas_rdma_windows_free(conn);
	retry_stuck(conn);
	return -EBUSY;
}

void maas_rdma_grants_abandon(struct maas_rdma_conn *conn)
{
	struct maas_rdma_grant *grant;

	conn->quiet = false;
	/* What is stuck was told all of this when it was tried. Who waits for a new key comes
	 * first: a batch that fails asks for the end of its other keys. */
	LIST_FOREACH (grant, &conn->grants, link)
		tell_asker(grant, -ENOTCONN);
	LIST_FOREACH (grant, &conn->grants, link)
		maas_rdma_tasks_run(maas_rdma_tasks_take(&grant->dead), -EIO);
}
