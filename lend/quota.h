/* SPDX-License-Identifier: Apache-2.0 */
/*
 * quota: what principals use, and how much more they may. An owner's memory is charged to the first
 * line of the table whose owner= has its name, whoever allocates. Under lend's lock.
 */
#ifndef MAAS_LEND_QUOTA_H
#define MAAS_LEND_QUOTA_H

#include "lend/lend.h"

struct maas_lend_session;

struct maas_lend_quotas {
	uint64_t unowned;	       /* allocations without an owner, of the kept memory */
	uint64_t *owner_bytes;	       /* of slabs, by owner; those that are being freed count */
	uint32_t *payers;	       /* by owner: its principal, from 1; 0: nobody */
	struct maas_lend_usage *usage; /* by principal of the table; NULL without one */
	LIST_HEAD(, maas_lend_connection) connections; /* those that count */
};

/* Errors: -ENOMEM. */
MAAS_MUST_CHECK int maas_lend_quotas_init(struct maas_lend_quotas *quotas);
void maas_lend_quotas_fini(struct maas_lend_quotas *quotas);

/* Notes memory that is there already, before there is a table. */
void maas_lend_quota_keep(struct maas_lend *lend, uint32_t owner, uint64_t bytes);
/*
 * Charges `count` allocations of `bytes` in all, with the owner's name if it is new. 0 is no owner
 * and free. Errors: -ENOSR that is more than the quota of `ret_refusal`, -EUSERS too many names.
 */
MAAS_MUST_CHECK int maas_lend_charge(struct maas_lend *lend, const char *name, uint32_t count,
				     uint64_t bytes, struct maas_lend_refusal *ret_refusal,
				     uint32_t *ret_owner);
/* Tells the caller what it may know of it. Threading: any. */
void maas_lend_tell_refusal(const struct maas_lend_caller *caller,
			    const struct maas_lend_refusal *refusal,
			    struct maas_lend_refusal *ret_refusal);
void maas_lend_discharge(struct maas_lend *lend, uint32_t owner, uint32_t count, uint64_t bytes);

/* Errors: -ENOSR. */
MAAS_MUST_CHECK int maas_lend_charge_session(struct maas_lend *lend,
					     const struct maas_lend_caller *caller);
void maas_lend_discharge_session(struct maas_lend *lend, const struct maas_lend_session *session);

/* For another table: a draft without the lock, and then all counted anew under it. NULL: out of
 * memory. */
struct maas_lend_draft;
struct maas_lend_draft *maas_lend_quotas_draft(struct maas_lend *lend,
					       const struct maas_auth *table);
void maas_lend_quotas_count(struct maas_lend *lend, const struct maas_auth *table,
			    struct maas_lend_draft *draft);
void maas_lend_quotas_draft_free(struct maas_lend_draft *draft);

#endif
