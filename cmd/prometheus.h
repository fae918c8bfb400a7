/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of `maas prometheus` share: what a Prometheus has at the server, and who it is. */
#ifndef MAAS_CMD_PROMETHEUS_H
#define MAAS_CMD_PROMETHEUS_H

#include "cmd/cmd.h"
#include "cmd/remotefile.h"

struct kept {
	uint64_t files;
	uint64_t allocations;
	uint64_t stored_bytes;
	uint64_t lent_bytes;
};

/* What lies at the server under an owner's name. */
struct holding {
	struct kept kinds[REMOTEFILE_KINDS]; /* [0]: allocations that are of no file */
	struct kept all;
	uint64_t foreign; /* allocations whose header another version wrote */
	uint64_t epoch;	  /* the highest */
	enum remotefile_log log;
	bool has_head_begin;
	int64_t head_begin_ms;
	uint32_t blocks;	 /* whole ones */
	uint32_t partial_blocks; /* and those that are not, or whose manifest makes no sense */
	int64_t blocks_begin_ms; /* of the oldest whole one … */
	int64_t blocks_end_ms;	 /* … and of the newest */
	uint64_t newest_age_s;	 /* since memory was taken last */
};

/* Whether a Prometheus keeps something there. */
static inline bool holding_any(const struct holding *holding)
{
	return holding->all.files || holding->foreign;
}

/* Looks at what `owner` has. Returns an exit code. */
MAAS_MUST_CHECK int prometheus_look(struct cmd_context *context, const char *owner,
				    struct holding *ret_holding);

/* Calls `each` for each owner of memory, in the order of their names. Returns an exit code, the
 * first of `each` that is not CMD_OK. */
MAAS_MUST_CHECK int prometheus_owners(struct cmd_context *context,
				      int (*each)(void *arg, const char *owner), void *arg);

#endif
