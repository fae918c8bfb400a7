/* SPDX-License-Identifier: Apache-2.0 */
/* The calls that move bytes, now or later, of any transport. */
#include <errno.h>

#include "client/transport.h"

static int check(const struct maas_access *access)
{
	if (access->count - 1 < MAAS_MAX_BATCH)
		return 0;
	return maas_fail(-EINVAL, "1 to %d ranges in one call", MAAS_MAX_BATCH);
}

/* ---- calls that wait */

static int run(struct maas *maas, struct maas_access *access)
{
	int r = maas_enter(maas);

	if (!r)
		r = check(access);
	if (r)
		return r;
	access->deadline_ms = maas_clock_ms() + maas->options.timeout_ms;
	return maas->transport->run(maas, access);
}

int maas_readv(struct maas *maas, const struct maas_range *ranges, uint32_t count)
{
	return run(maas, &(struct maas_access){.ranges = ranges, .count = count, .read = true});
}

int maas_writev(struct maas *maas, const struct maas_range *ranges, uint32_t count)
{
	return run(maas, &(struct maas_access){.ranges = ranges, .count = count});
}

int maas_read(struct maas *maas, const char *id, uint64_t offset, void *buf, size_t len)
{
	struct maas_range range = {.id = id, .offset = offset, .buf = buf, .len = len};

	return len ? maas_readv(maas, &range, 1) : maas_enter(maas);
}

int maas_write(struct maas *maas, const char *id, uint64_t offset, const void *buf, size_t len)
{
	/* The cast drops const: a write only reads. */
	struct maas_range range = {
		.id = id, .offset = offset, .buf = (void *)(uintptr_t)buf, .len = len};

	return len ? maas_writev(maas, &range, 1) : maas_enter(maas);
}

/* ---- submitted ones */

static int submit(struct maas *maas, struct maas_access *access, uint32_t timeout_ms)
{
	int r = maas_enter(maas);

	if (!r)
		r = check(access);
	if (r)
		return r;
	access->submitted = true;
	access->deadline_ms =
		maas_clock_ms() + (timeout_ms ? timeout_ms : maas->options.timeout_ms);
	r = maas->transport->submit(maas, access);
	if (!r)
		maas_error_clear(); /* an operation that failed at once says so by its completion */
	return r;
}

int maas_submit_read(struct maas *maas, const struct maas_range *ranges, uint32_t count,
		     uint32_t timeout_ms, void *user)
{
	struct maas_access access = {.ranges = ranges, .count = count, .read = true, .user = user};

	return submit(maas, &access, timeout_ms);
}

int maas_submit_write(struct maas *maas, const struct maas_range *ranges, uint32_t count,
		      uint32_t timeout_ms, void *user)
{
	struct maas_access access = {.ranges = ranges, .count = count, .user = user};

	return submit(maas, &access, timeout_ms);
}
