/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of `maas prometheus` share: what an owner has at the server. */
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

/* What lies at the server under one owner's name. */
struct holding {
	struct kept kinds[REMOTEFILE_KINDS]; /* [0]: allocations that belong to no file */
	struct kept all;
	uint64_t foreign; /* allocations with a header of another version */
	uint64_t epoch;	  /* the highest of all writers */
	enum remotefile_log log;
	bool has_head_begin;
	int64_t head_begin_ms;
	uint32_t blocks;	 /* whole ones */
	uint32_t partial_blocks; /* not whole, or with a wrong manifest */
	int64_t blocks_begin_ms; /* of the oldest whole block */
	int64_t blocks_end_ms;	 /* of the newest whole block */
	uint64_t newest_age_s;	 /* of the newest allocation */
};

/* Whether a Prometheus keeps something under the name. */
static inline bool holding_any(const struct holding *holding)
{
	return holding->all.files || holding->foreign;
}

/* Finds out what `owner` has. Returns an exit code. */
MAAS_MUST_CHECK int prometheus_look(struct cmd_context *context, const char *owner,
				    struct holding *ret_holding);

/* Calls `each` for each owner of memory, by name. Returns an exit code: the first from `each` that
 * is not CMD_OK. */
MAAS_MUST_CHECK int prometheus_owners(struct cmd_context *context,
				      int (*each)(void *arg, const char *owner), void *arg);

#endif
