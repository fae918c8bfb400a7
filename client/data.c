/* SPDX-License-Identifier: Apache-2.0 */
/* The calls for bytes, of any transport. */
#include <errno.h>

#include "client/transport.h"

int maas_readv(struct maas *maas, const struct maas_range *ranges, uint32_t count)
{
	int r = maas_enter(maas);

	return r ? r : maas->transport->run(maas, ranges, count, true);
}

int maas_writev(struct maas *maas, const struct maas_range *ranges, uint32_t count)
{
	int r = maas_enter(maas);

	return r ? r : maas->transport->run(maas, ranges, count, false);
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

/* ---- submitted now, completed later */

int maas_submit_read(struct maas *maas, const struct maas_range *ranges, uint32_t count,
		     uint32_t timeout_ms, void *user)
{
	int r = maas_enter(maas);

	return r ? r : maas->transport->submit(maas, ranges, count, timeout_ms, user, true);
}

int maas_submit_write(struct maas *maas, const struct maas_range *ranges, uint32_t count,
		      uint32_t timeout_ms, void *user)
{
	int r = maas_enter(maas);

	return r ? r : maas->transport->submit(maas, ranges, count, timeout_ms, user, false);
}

int maas_poll(struct maas *maas, struct maas_completion *ret_completions, uint32_t max,
	      int timeout_ms)
{
	int r = maas_enter(maas);

	if (r)
		return r;
	if (!max || max > INT32_MAX || timeout_ms < -1)
		return maas_fail(-EINVAL, "maas_poll() takes at least one completion");
	return maas->transport->poll(maas, ret_completions, max, timeout_ms);
}

int maas_event_fd(struct maas *maas)
{
	int r = maas_enter(maas);

	return r ? r : maas->transport->event_fd(maas);
}
