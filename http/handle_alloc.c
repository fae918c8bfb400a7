/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "http/internal.h"

#define GRANT_BYTES 112 /* of a key as JSON, at most */
#define ENTRY_BYTES 320 /* of an allocation with its key in a loan and an answer, about */

static int fail_too_large(struct maas_http_conn *conn, uint64_t size_bytes)
{
	uint64_t largest = maas_http_slab_bytes(conn->http, UINT64_MAX);

	return maas_http_fail(conn, -EFBIG,
			      "%llu bytes do not fit the largest slab class, %llu bytes; ask for "
			      "less, or start maasd with a larger class in --slab-sizes",
			      (unsigned long long)size_bytes, (unsigned long long)largest);
}

/* The pool may not be at its end, only what it lies in. */
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

static int fail_exhausted(struct maas_http_conn *conn, const struct maas_http_allocate *body)
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

static void count_failure(struct maas_http_conn *conn, int error)
{
	static const struct {
		int error;
		enum maas_http_failure reason;
	} reasons[] = {
		{-EFBIG, MAAS_FAIL_TOO_LARGE},	       {-ENOSPC, MAAS_FAIL_POOL_EXHAUSTED},
		{-ESRCH, MAAS_FAIL_UNKNOWN_SESSION},   {-ENOTCONN, MAAS_FAIL_NOT_CONNECTED},
		{-EDQUOT, MAAS_FAIL_GRANTS_EXHAUSTED}, {-EMLINK, MAAS_FAIL_DEVICE_LIMIT},
	};
	enum maas_http_failure reason = MAAS_FAIL_OTHER;

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(reasons); i++)
		if (reasons[i].error == error)
			reason = reasons[i].reason;
	atomic_fetch_add_explicit(&conn->http->metrics.failures[reason], 1, memory_order_relaxed);
}

static int fail_allocate(struct maas_http_conn *conn, int error,
			 const struct maas_http_allocate *body)
{
	count_failure(conn, error);
	if (error == -EFBIG)
		return fail_too_large(conn, body->size_bytes);
	if (error == -ENOSPC)
		return fail_exhausted(conn, body);
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

static void write_end(struct maas_buf *out, const struct maas_http_loan *loan, uint32_t i)
{
	if (loan->keyed) {
		maas_buf_str(out, ",\"rdma\":");
		maas_http_write_grant(out, &loan->grants[i]);
	} else if (*loan->body.session) {
		maas_buf_str(out, ",\"rdma\":null");
	}
	maas_buf_str(out, "}");
}

static void write_batch(struct maas_http_conn *conn, const struct maas_http_loan *loan)
{
	struct maas_buf tail = {0};
	size_t key_bytes = loan->keyed ? GRANT_BYTES : 16;

	write_tail(&tail, &loan->first);
	maas_buf_str(&conn->out, "{\"allocations\":[");
	maas_buf_reserve(&conn->out, loan->count * (tail.len + MAAS_SLAB_ID_TEXT + 16 + key_bytes));
	for (uint32_t i = 0; i < loan->count; i++) {
		char id[MAAS_SLAB_ID_TEXT];

		maas_lend_id(conn->http->options.lend, loan->refs[i], id);
		maas_buf_str(&conn->out, i ? ",{\"id\":\"" : "{\"id\":\"");
		maas_buf_add(&conn->out, id, MAAS_SLAB_ID_TEXT - 1);
		maas_buf_add(&conn->out, tail.data, tail.len);
		write_end(&conn->out, loan, i);
	}
	maas_buf_str(&conn->out, "]}\n");
	if (tail.error)
		conn->out.error = tail.error;
	maas_buf_fini(&tail);
}

static int reply(struct maas_http_conn *conn, const struct maas_http_loan *loan)
{
	if (loan->body.count) {
		write_batch(conn, loan);
		return maas_http_reply(conn, MHD_HTTP_OK);
	}
	maas_http_write_allocation(&conn->out, &loan->first);
	write_end(&conn->out, loan, 0);
	maas_buf_str(&conn->out, "\n");
	return maas_http_reply(conn, MHD_HTTP_OK);
}

int maas_http_allocate_end(struct maas_http_conn *conn)
{
	const struct maas_http_loan *loan = conn->req.loan;
	int status = maas_http_wait_status(conn);

	return status ? fail_allocate(conn, status, &loan->body) : reply(conn, loan);
}

static int allocate(struct maas_http_loan *loan)
{
	return maas_lend_allocate(loan->conn->http->options.lend, &loan->request, loan->refs,
				  &loan->first);
}

static int allocate_keyed(struct maas_http_loan *loan)
{
	int r = maas_lend_allocate_granted(loan->conn->http->options.lend, &loan->request,
					   loan->body.access, loan->refs, &loan->first,
					   loan->grants, maas_http_loan_done, loan);

	return r ? r : -EINPROGRESS;
}

/* Whether so much memory is asked for that to get and to zero it takes long. */
static bool is_heavy(const struct maas_http_loan *loan)
{
	return maas_http_slab_bytes(loan->conn->http, loan->request.size_bytes) * loan->count >=
	       MAAS_HTTP_HEAVY_BYTES;
}

/* There it may wait, for memory or for a request with the same id. */
static int run_heavy(struct maas_http_loan *loan)
{
	loan->request.nowait = false;
	return maas_http_heavy_run(loan, loan->keyed ? allocate_keyed : allocate);
}

static int start(struct maas_http_conn *conn, struct maas_http_loan *loan)
{
	int r;

	if (is_heavy(loan))
		return run_heavy(loan);
	if (loan->keyed) {
		maas_http_loan_begin(loan);
		r = allocate_keyed(loan);
		if (r != -EAGAIN)
			return maas_http_loan_wait(loan, r);
		maas_http_loan_done(loan, 0);
		return run_heavy(loan);
	}
	r = allocate(loan);
	if (r == -EAGAIN)
		return run_heavy(loan);
	return r ? fail_allocate(conn, r, &loan->body) : reply(conn, loan);
}

/* POST /allocate */
int maas_http_allocate(struct maas_http_conn *conn)
{
	struct maas_http_allocate body;
	struct maas_http_fault fault;
	struct maas_http_loan *loan;
	uint32_t count;
	int r;

	r = maas_http_json_allocate(conn->in.data, conn->in.len, &body, &fault);
	if (r) {
		count_failure(conn, r);
		return maas_http_fail_fault(conn, r, &fault);
	}
	count = body.count ? (uint32_t)body.count : 1;
	if (maas_http_hold(conn, (uint64_t)count * ENTRY_BYTES))
		return fail_allocate(conn, -EBUSY, &body);
	loan = maas_http_loan_new(conn, count);
	if (!loan)
		return maas_http_fail(conn, -ENOMEM, NULL);
	loan->body = body;
	loan->request = (struct maas_lend_alloc_request){
		.size_bytes = body.size_bytes,
		.count = count,
		.lifetime = body.lifetime,
		.ttl_s = (uint32_t)body.ttl_s,
		.session = *body.session ? loan->body.session : NULL,
		.owner = *body.owner ? loan->body.owner : NULL,
		.request_id = *body.request_id ? loan->body.request_id : NULL,
		.nowait = true,
	};
	loan->keyed = conn->http->has_keys && *body.session && body.access != MAAS_LEND_ACCESS_NONE;
	return start(conn, loan);
}
