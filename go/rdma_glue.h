/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What Go cannot do itself: take maas_error() on the thread of the call, and pass numbers as
 * pointers.
 */
#ifndef MAAS_RDMA_GLUE_H
#define MAAS_RDMA_GLUE_H

#include <maas.h>
#include <stdlib.h>
#include <string.h>

#define GLUE_ENDS 32 /* completions taken at once */

/* The end of a submitted operation. */
struct glue_end {
	uintptr_t op;
	int status;
	char error[MAAS_ERROR_BYTES];
};

/* Defined in rdma_lost.go. */
extern void maasGoSessionLost(uintptr_t arg, int error);

static inline int glue_fail(int r, char *ret_error)
{
	if (r < 0)
		strncpy(ret_error, maas_error(), MAAS_ERROR_BYTES - 1);
	return r;
}

static inline void glue_session_lost(void *arg, int error)
{
	maasGoSessionLost((uintptr_t)arg, error);
}

/* The number goes into a copy: no number in Go's memory may look like a pointer. */
static inline int glue_open(const struct maas_options *options, uintptr_t lost_arg,
			    struct maas **ret_maas, char *ret_error)
{
	struct maas_options copy = *options;

	copy.session_lost = glue_session_lost;
	copy.session_lost_arg = (void *)lost_arg;
	return glue_fail(maas_open(&copy, ret_maas), ret_error);
}

static inline int glue_session_get(struct maas *maas, struct maas_session *ret_session)
{
	return maas_session_get(maas, ret_session);
}

static inline int glue_alloc(struct maas *maas, uint64_t size_bytes, uint32_t count,
			     const struct maas_alloc_options *options,
			     struct maas_allocation *ret_allocations, char *ret_error)
{
	return glue_fail(maas_alloc_many(maas, size_bytes, count, options, ret_allocations),
			 ret_error);
}

static inline int glue_free(struct maas *maas, const char **ids, uint32_t count, bool *ret_missing,
			    char *ret_error)
{
	return glue_fail(maas_free_many(maas, (const char *const *)ids, count, ret_missing),
			 ret_error);
}

static inline int glue_submit(struct maas *maas, const struct maas_range *ranges, uint32_t count,
			      uint32_t timeout_ms, uintptr_t op, bool write, char *ret_error)
{
	int r;

	if (write)
		r = maas_submit_write(maas, ranges, count, timeout_ms, (void *)op);
	else
		r = maas_submit_read(maas, ranges, count, timeout_ms, (void *)op);
	return glue_fail(r, ret_error);
}

/* Waits for the first of the operations under way. */
static inline int glue_poll(struct maas *maas, struct glue_end *ret_ends, char *ret_error)
{
	struct maas_completion completions[GLUE_ENDS];
	int n = maas_poll(maas, completions, GLUE_ENDS, -1);

	for (int i = 0; i < n; i++) {
		ret_ends[i].op = (uintptr_t)completions[i].user;
		ret_ends[i].status = completions[i].status;
		memcpy(ret_ends[i].error, completions[i].error, MAAS_ERROR_BYTES);
	}
	return glue_fail(n, ret_error);
}

static inline int glue_register(struct maas *maas, void *base, size_t len,
				struct maas_buffer **ret_buffer, char *ret_error)
{
	return glue_fail(maas_buffer_register(maas, base, len, ret_buffer), ret_error);
}

static inline int glue_unregister(struct maas *maas, struct maas_buffer *buffer, char *ret_error)
{
	return glue_fail(maas_buffer_unregister(maas, buffer), ret_error);
}

#endif
