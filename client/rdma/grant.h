/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keys of allocations, by id: keys that came with an answer, and keys that were asked for. A
 * key is good on the connection that the key was made for, and on no other: the table has those of
 * the connection there is.
 */
#ifndef MAAS_CLIENT_RDMA_GRANT_H
#define MAAS_CLIENT_RDMA_GRANT_H

#include <string.h>

#include "client/internal.h"

/* An id, padded with zeros. All zeros: none. */
struct maas_rdma_client_id {
	union {
		char text[MAAS_ID_BYTES];
		uint64_t words[MAAS_ID_BYTES / 8];
	};
};

struct maas_rdma_client_grant {
	struct maas_rdma_client_id id;
	uint64_t addr;
	uint64_t len;	   /* that may be read and written */
	uint64_t read_len; /* of a key that only reads, whose `len` is 0; else 0 */
	uint32_t rkey;
};

/* Open addressing, at most half full. */
struct maas_rdma_client_grants {
	struct maas_rdma_client_grant *slots;
	const struct maas_rdma_client_grant *last; /* found; NULL: none */
	size_t num_slots;			   /* a power of 2, or 0 */
	size_t used;
};

/* Any thread. False: `text` is no id. */
MAAS_MUST_CHECK bool maas_rdma_client_id_set(struct maas_rdma_client_id *id, const char *text);

/* The rest holds `lock`. NULL: there is no key. Borrows: until the next change. */
MAAS_MUST_CHECK const struct maas_rdma_client_grant *
maas_rdma_client_grant_find(struct maas_rdma_client_grants *grants,
			    const struct maas_rdma_client_id *id);
void maas_rdma_client_grant_remove(struct maas_rdma_client_grants *grants,
				   const struct maas_rdma_client_id *id);
void maas_rdma_client_grants_fini(struct maas_rdma_client_grants *grants);

static inline bool maas_rdma_client_id_is(const struct maas_rdma_client_id *a,
					  const struct maas_rdma_client_id *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

#endif
