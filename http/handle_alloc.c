/* SPDX-License-Identifier: Apache-2.0 */
/* POST /allocate. */
#include <errno.h>
#include <stdlib.h>

#include "http/internal.h"

#define KEY_BYTES   112 /* of a key as JSON, at most */
#define ENTRY_BYTES 320 /* of an allocation with its key, as it is and in an answer, about */

static int fail_too_large(struct maas_http_conn *conn, uint64_t size_bytes)
{
	uint64_t largest = maas_http_slab_bytes(conn->http, UINT64_MAX);

	return maas_http_fail(conn, -EFBIG,
			      "%llu bytes do not fit the largest slab class, %llu bytes; ask for "
			      "less, or start maasd with a larger class in --slab-sizes",
			      (unsigned long long)size_bytes, (unsigned long long)largest);
}

/* The pool may have room where the memory behind it has none. */
static int fail_no_space(struct maas_http_conn *conn, const struct maas_slab_stats *stats,
			 unsigned long long count, uint64_t size_bytes)
{
	return maas_http_fail(
		conn, -ENOSPC,
		"no room for %llu x %llu bytes: %s has no more memory for the pool, which got %llu "
		"of its %llu bytes; free some of what is lent, or %s",
		count, (unsigned long long)size_bytes,
		stats->has_file ? "the file system of --memory-file" : "the server's machine",
		(unsigned long long)stats->backed_bytes, (unsigned long long)stats->max_bytes,
		stats->has_file ? "make that file system larger (a tmpfs: mount -o "
				  "remount,size=SIZE)"
				: "give the machine, or the server's cgroup, more memory");
}

static int fail_exhausted(struct maas_http_conn *conn, const struct maas_http_allocate_body *body)
{
	struct maas_slab_stats stats;
	unsigned long long count = body->count ? body->count : 1;

	maas_slab_stats(conn->http->options.slab, &stats);
	if (stats.short_of_space)
		return fail_no_space(conn, &stats, count, body->size_bytes);
	return maas_http_fail(
		conn, -ENOSPC,
		"no room for %llu x %llu bytes: %llu of the pool's %llu bytes are not "
		"lent, in pieces of other sizes or too few; free some, or start maasd "
		"with a larger --max-pool-size",
		count, (unsigned long long)body->size_bytes,
		(unsigned long long)(stats.max_bytes - stats.live_bytes),
		(unsigned long long)stats.max_bytes);
}

void maas_http_count_failure(struct maas_http_conn *conn, int error)
{
	static const struct {
		int error;
		enum maas_http_failure reason;
	} reasons[] = {
		{-EFBIG, MAAS_HTTP_FAIL_TOO_LARGE},
		{-ENOSPC, MAAS_HTTP_FAIL_POOL_EXHAUSTED},
		{-ESRCH, MAAS_HTTP_FAIL_UNKNOWN_SESSION},
		{-ENOTCONN, MAAS_HTTP_FAIL_NOT_CONNECTED},
		{-EDQUOT, MAAS_HTTP_FAIL_GRANTS_EXHAUSTED},
		{-EMLINK, MAAS_HTTP_FAIL_DEVICE_LIMIT},
		{-ENOSR, MAAS_HTTP_FAIL_QUOTA_EXHAUSTED},
	};
	enum maas_http_failure reason = MAAS_HTTP_FAIL_OTHER;

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(reasons); i++)
		if (reasons[i].error == error)
			reason = reasons[i].reason;
	atomic_fetch_add_explicit(&conn->http->metrics.failures[reason], 1, memory_order_relaxed);
}

static int fail_quota(struct maas_http_conn *conn, const struct maas_http_allocate_body *body,
		      const struct maas_lend_refusal *refusal)
{
	const char *word = maas_auth_quota_word(refusal->quota);

	if (!*refusal->principal) {
		maas_http_blame(conn, refusal->quota, NULL);
		return maas_http_fail(
			conn, -ENOSR,
			"%s of whoever pays for the owner %s is reached: the first line of "
			"--auth-file whose owner= has that name; free some of it, or take another "
			"owner",
			word, *body->owner ? body->owner : conn->caller.lend.principal->name);
	}
	maas_http_blame(conn, refusal->quota, refusal->principal);
	return maas_http_fail(
		conn, -ENOSR,
		"%s of the principal %s is reached: it uses %llu of %llu, and this is "
		"%llu more; free some, or give it more in --auth-file",
		word, refusal->principal, (unsigned long long)refusal->used,
		(unsigned long long)refusal->max, (unsigned long long)refusal->more);
}

static int fail_allocate(struct maas_http_conn *conn, int error,
			 const struct maas_http_allocate_body *body,
			 const struct maas_lend_refusal *refusal)
{
	maas_http_count_failure(conn, error);
	if (error == -EFBIG)
		return fail_too_large(conn, body->size_bytes);
	if (error == -ENOSPC)
		return fail_exhausted(conn, body);
	if (error == -EACCES)
		return maas_http_fail(conn, error,
				      "this principal may not allocate %s%s: its line in "
				      "--auth-file would need owner=",
				      *body->owner ? "for the owner " : "at all", body->owner);
	/* Without a refusal of the memory it is the keys. */
	if (error == -ENOSR && refusal->more)
		return fail_quota(conn, body, refusal);
	if (error == -EUSERS)
		return maas_http_fail(conn, error,
				      "%d different owners hold memory; use fewer names",
				      MAAS_LEND_MAX_OWNERS);
	return maas_http_fail_key(conn, error);
}

/* What follows the id, up to the key: the same for every allocation of a batch. */
static void write_tail(struct maas_buf *out, const struct maas_lend_allocation *allocation)
{
	maas_buf_str(out, "\",\"size_bytes\":");
	maas_buf_u64(out, allocation->size_bytes);
	maas_buf_str(out, ",\"actual_size_bytes\":");
	maas_buf_u64(out, allocation->actual_size_bytes);
	maas_buf_str(out, ",\"size_mb\":");
	maas_http_write_mib(out, allocation->size_bytes);
	maas_buf_str(out, ",\"age_seconds\":");
	maas_buf_u64(out, allocation->age_s);
}

void maas_http_write_allocation(struct maas_buf *out, const struct maas_lend_allocation *allocation)
{
	maas_buf_str(out, "{\"id\":\"");
	maas_buf_str(out, allocation->id);
	write_tail(out, allocation);
}

/* What an allocation's request and lend have made; `keys` NULL: without keys. */
struct answer {
	const struct maas_http_allocate_body *body;
	const struct maas_lend_allocation *first;
	const struct maas_slab_ref *refs;
	const struct maas_lend_key *keys;
	uint32_t count;
};

/* The owner, where the request named none and the caller's principal is it: once, also for a batch.
 */
static void write_owner(struct maas_buf *out, const struct answer *answer)
{
	if (*answer->body->owner || !*answer->first->owner)
		return;
	maas_buf_str(out, ",\"owner\":");
	maas_buf_json(out, answer->first->owner);
}

/* The rest of an allocation, from its key on. */
static void write_key(struct maas_buf *out, const struct answer *answer, uint32_t i)
{
	if (answer->keys) {
		maas_buf_str(out, ",\"rdma\":");
		maas_http_write_key(out, &answer->keys[i]);
	} else if (*answer->body->session) {
		maas_buf_str(out, ",\"rdma\":null");
	}
	maas_buf_str(out, "}");
}

static void write_batch(struct maas_http_conn *conn, const struct answer *answer)
{
	struct maas_buf tail = {0};
	size_t key_bytes = answer->keys ? KEY_BYTES : 16;

	write_tail(&tail, answer->first);
	maas_buf_str(&conn->out, "{\"allocations\":[");
	maas_buf_reserve(&conn->out,
			 answer->count * (tail.len + MAAS_SLAB_ID_TEXT + 16 + key_bytes));
	for (uint32_t i = 0; i < answer->count; i++) {
		char id[MAAS_SLAB_ID_TEXT];

		maas_lend_id(conn->http->options.lend, answer->refs[i], id);
		maas_buf_str(&conn->out, i ? ",{\"id\":\"" : "{\"id\":\"");
		maas_buf_add(&conn->out, id, MAAS_SLAB_ID_TEXT - 1);
		maas_buf_add(&conn->out, tail.data, tail.len);
		write_key(&conn->out, answer, i);
	}
	maas_buf_str(&conn->out, "]");
	write_owner(&conn->out, answer);
	maas_buf_str(&conn->out, "}\n");
	if (tail.error)
		conn->out.error = tail.error;
	maas_buf_fini(&tail);
}

static int reply(struct maas_http_conn *conn, const struct answer *answer)
{
	if (answer->body->count) {
		write_batch(conn, answer);
		return maas_http_reply(conn, MHD_HTTP_OK);
	}
	maas_http_write_allocation(&conn->out, answer->first);
	write_owner(&conn->out, answer);
	write_key(&conn->out, answer, 0);
	maas_buf_str(&conn->out, "\n");
	return maas_http_reply(conn, MHD_HTTP_OK);
}

/* Allocates without a pending reply. -EAGAIN: that would wait for another request with its id. */
static int allocate_now(struct maas_http_conn *conn, const struct maas_http_allocate_body *body,
			const struct maas_lend_alloc_request *request)
{
	struct maas_lend_alloc_request asked = *request;
	struct maas_lend_refusal refusal = {0};
	struct maas_lend_allocation first;
	struct maas_slab_ref one;
	struct maas_slab_ref *refs = &one;
	int r;

	if (request->count > 1)
		refs = malloc(request->count * sizeof(*refs));
	if (!refs)
		return maas_http_fail(conn, -ENOMEM, NULL);
	asked.refusal = &refusal;
	r = maas_lend_allocate(conn->http->options.lend, &asked, refs, &first);
	if (!r)
		r = reply(conn, &(struct answer){body, &first, refs, NULL, request->count});
	else if (r != -EAGAIN)
		r = fail_allocate(conn, r, body, &refusal);
	if (refs != &one)
		free(refs);
	return r;
}

int maas_http_allocate_resume(struct maas_http_conn *conn)
{
	const struct maas_http_pending *pending = conn->req.pending;
	int status = maas_http_wait_status(conn);

	if (status)
		return fail_allocate(conn, status, &pending->body, &pending->refusal);
	return reply(conn, &(struct answer){&pending->body, &pending->first, pending->refs,
					    pending->keyed ? pending->keys : NULL, pending->count});
}

static int allocate(struct maas_http_pending *pending)
{
	struct maas_lend *lend = pending->conn->http->options.lend;

	if (!pending->keyed)
		return maas_lend_allocate(lend, &pending->request, pending->refs, &pending->first);
	return maas_lend_allocate_granted(lend, &pending->request, pending->body.access,
					  pending->refs, &pending->first, pending->keys,
					  maas_http_pending_done, pending);
}

/* In a thread for heavy requests it may wait, for memory or for a request with the same id. */
static int run_heavy(struct maas_http_pending *pending)
{
	pending->request.nowait = false;
	return maas_http_heavy_run(pending, allocate);
}

static int allocate_pending(struct maas_http_conn *conn, const struct maas_http_allocate_body *body,
			    const struct maas_lend_alloc_request *request, bool keyed, bool heavy)
{
	struct maas_http_pending *pending = maas_http_pending_new(conn, request->count);
	int r;

	if (!pending)
		return maas_http_fail(conn, -ENOMEM, NULL);
	pending->body = *body;
	pending->request = *request;
	pending->request.refusal = &pending->refusal;
	/* Its strings are those of the body that stays. */
	if (request->caller) {
		pending->caller = *request->caller;
		(void)maas_auth_ref(pending->caller.auth);
		pending->request.caller = &pending->caller;
	}
	pending->request.session = request->session ? pending->body.session : NULL;
	pending->request.owner = request->owner ? pending->body.owner : NULL;
	pending->request.request_id = request->request_id ? pending->body.request_id : NULL;
	pending->keyed = keyed;
	if (!keyed || heavy)
		return run_heavy(pending);
	maas_http_pending_begin(pending);
	r = allocate(pending);
	if (r != -EAGAIN)
		return maas_http_pending_wait(pending, r);
	maas_http_pending_done(pending, 0);
	return run_heavy(pending);
}

/* By what it takes, or by the extent that has to be made for it. */
static bool is_heavy(const struct maas_http *http, uint64_t size_bytes, uint32_t count)
{
	return maas_http_slab_bytes(http, size_bytes) * count >= MAAS_HTTP_HEAVY_BYTES ||
	       (http->extent_bytes >= MAAS_HTTP_HEAVY_BYTES &&
		maas_slab_must_grow(http->options.slab, size_bytes, count));
}

/* POST /allocate */
int maas_http_allocate(struct maas_http_conn *conn)
{
	struct maas_http_allocate_body body;
	struct maas_http_fault fault;
	struct maas_lend_alloc_request request;
	bool keyed;
	bool heavy;
	int r;

	r = maas_http_json_allocate(conn->in.data, conn->in.len, &body, &fault);
	if (r) {
		maas_http_count_failure(conn, r);
		return maas_http_fail_fault(conn, r, &fault);
	}
	request = (struct maas_lend_alloc_request){
		.caller = maas_http_caller(conn),
		.size_bytes = body.size_bytes,
		.count = body.count ? (uint32_t)body.count : 1,
		.lifetime = body.lifetime,
		.ttl_s = (uint32_t)body.ttl_s,
		.session = *body.session ? body.session : NULL,
		.owner = *body.owner ? body.owner : NULL,
		.request_id = *body.request_id ? body.request_id : NULL,
		.nowait = true,
	};
	if (maas_http_hold(conn, (uint64_t)request.count * ENTRY_BYTES))
		return fail_allocate(conn, -EBUSY, &body, NULL);
	keyed = conn->http->has_keys && *body.session && body.access != MAAS_LEND_ACCESS_NONE;
	heavy = is_heavy(conn->http, body.size_bytes, request.count);
	if (!keyed && !heavy) {
		r = allocate_now(conn, &body, &request);
		if (r != -EAGAIN)
			return r;
	}
	return allocate_pending(conn, &body, &request, keyed, heavy);
}
