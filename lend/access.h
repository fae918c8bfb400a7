/* SPDX-License-Identifier: Apache-2.0 */
/* access: what a caller may do, by the table of principals of this moment. Under lend's lock. */
#ifndef MAAS_LEND_ACCESS_H
#define MAAS_LEND_ACCESS_H

#include <stdatomic.h>

#include "lend/lend.h"

struct maas_lend_session;

struct maas_lend_principals {
	struct maas_auth *table; /* guarded by lend's lock, as the next two are */
	bool expected;		 /* without a table nobody may anything, not everybody everything */
	uint64_t epoch;		 /* of the table */
	_Atomic uint64_t shown;	 /* the same, for maas_lend_auth_epoch() */
	_Atomic bool is_there;	 /* whether there is a table, for whoever does not take the lock */
};

struct maas_lend_change;

/* Why what began for the principal of that name, by that proof, has to end; NULL: it goes on.
 * Threading: any. */
const char *maas_lend_lost(const struct maas_lend_change *change, const char *name, uint64_t proof);

/* Lock held, all of these. */

/* Whether the caller may: 0, -EACCES it may read only, -ENOENT to it there is no such owner. */
MAAS_MUST_CHECK int maas_lend_may(struct maas_lend *lend, const struct maas_lend_caller *caller,
				  const char *owner, enum maas_auth_access access);
/* The same of a slab, by its owner. */
MAAS_MUST_CHECK int maas_lend_may_slab(struct maas_lend *lend,
				       const struct maas_lend_caller *caller,
				       const struct maas_slab_info *info,
				       enum maas_auth_access access);
/* The slab, if it is there for the caller. Errors: -ENOENT, -EACCES. */
MAAS_MUST_CHECK int maas_lend_find_slab(struct maas_lend *lend,
					const struct maas_lend_caller *caller,
					struct maas_slab_ref ref, enum maas_auth_access access,
					struct maas_slab_info *ret_info);
/* Whether the session is the caller's, or, with `or_admin`, the caller an admin. */
bool maas_lend_may_session(struct maas_lend *lend, const struct maas_lend_caller *caller,
			   const struct maas_lend_session *session, bool or_admin);
/* Whether the principal of the session may have a key of that access. */
bool maas_lend_session_may_slab(struct maas_lend *lend, const struct maas_lend_session *session,
				const struct maas_slab_info *info, enum maas_auth_access access);
/* Whether the caller may open a session of that name; "": of none. */
bool maas_lend_may_open(struct maas_lend *lend, const struct maas_lend_caller *caller,
			const char *name);
/*
 * The owner of what the caller allocates: `owner` where it says one, else the caller's own name; ""
 * where nobody asks who the caller is. Errors: -EACCES it may not have that owner, or may not
 * allocate at all.
 */
MAAS_MUST_CHECK int maas_lend_may_allocate(struct maas_lend *lend,
					   const struct maas_lend_caller *caller, const char *owner,
					   char ret_owner[MAAS_NAME_BYTES]);

#endif
