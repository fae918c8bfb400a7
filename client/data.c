/* SPDX-License-Identifier: Apache-2.0 */
/* The calls that move bytes, now or later, of any transport. */
#include "client/transport.h"

/* ---- calls that wait */

int maas_readv(struct maas *maas, const struct maas_range *ranges, uint32_t count)
{
	return maas->transport->run(maas, ranges, count, true);
}

int maas_writev(struct maas *maas, const struct maas_range *ranges, uint32_t count)
{
	return maas->transport->run(maas, ranges, count, false);
}

int maas_read(struct maas *maas, const char *id, uint64_t offset, void *buf, size_t len)
{
	struct maas_range range = {.id = id, .offset = offset, .buf = buf, .len = len};

	return len ? maas->transport->run(maas, &range, 1, true) : maas_enter(maas);
}

int maas_write(struct maas *maas, const char *id, uint64_t offset, const void *buf, size_t len)
{
	/* The cast drops const: a write only reads. */
	struct maas_range range = {
		.id = id, .offset = offset, .buf = (void *)(uintptr_t)buf, .len = len};

	return len ? maas->transport->run(maas, &range, 1, false) : maas_enter(maas);
}

/* ---- submitted ones */

static int submit(struct maas *maas, const struct maas_range *ranges, uint32_t count,
		  uint32_t timeout_ms, void *user, bool read)
{
	if (!timeout_ms)
		timeout_ms = maas->options.timeout_ms;
	return maas->transport->submit(maas, ranges, count, timeout_ms, user, read);
}

int maas_submit_read(struct maas *maas, const struct maas_range *ranges, uint32_t count,
		     uint32_t timeout_ms, void *user)
{
	return submit(maas, ranges, count, timeout_ms, user, true);
}

int maas_submit_write(struct maas *maas, const struct maas_range *ranges, uint32_t count,
		      uint32_t timeout_ms, void *user)
{
	return submit(maas, ranges, count, timeout_ms, user, false);
}
