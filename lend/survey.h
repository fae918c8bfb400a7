/* SPDX-License-Identifier: Apache-2.0 */
/*
 * survey: who holds what, for people: the largest owners, and what ends first. However much is
 * lent, a survey looks at each owner and each session once, and at no more leases than
 * MAAS_LEND_SURVEY_LEASES; and it does so in steps, so that nobody waits for it. What changes
 * meanwhile may be seen as it was before or as it is afterwards.
 */
#ifndef MAAS_LEND_SURVEY_H
#define MAAS_LEND_SURVEY_H

#include "lend/lend.h"

#define MAAS_LEND_SURVEY_TOP	  16
#define MAAS_LEND_SURVEY_WITHIN_S 4095 /* leases that end later are not looked at */
#define MAAS_LEND_SURVEY_LEASES	  16384

struct maas_lend_survey_owner {
	char name[MAAS_NAME_BYTES];
	uint64_t allocations;
	uint64_t bytes; /* of slabs, those that are being freed included */
};

struct maas_lend_survey_session {
	struct maas_lend_session_info info; /* without its id: whoever has that is its owner */
	struct maas_lend_session_ref ref;
	bool connected; /* for RDMA */
};

enum maas_lend_survey_stage {
	MAAS_LEND_SURVEY_OWNERS,
	MAAS_LEND_SURVEY_SESSIONS,
	MAAS_LEND_SURVEY_ENDING, /* leases */
	MAAS_LEND_SURVEY_DONE,
};

/* What the caller may see, as in maas_lend_page_next() and maas_lend_session_get(). */
struct maas_lend_survey {
	const struct maas_lend_caller *caller; /* borrowed until the end */
	enum maas_lend_survey_stage stage;
	uint32_t cursor;
	uint32_t start_s;   /* on the lease clock, when it began to look at leases */
	uint32_t looked_at; /* leases */
	bool whole;	    /* no lease was passed over */
	/* all that there are */
	uint64_t owners_total;
	uint64_t sessions_total;
	uint64_t leases_total; /* of all callers */
	/* how many are here */
	uint32_t num_owners;
	uint32_t num_sessions;
	uint32_t num_leases;
	struct maas_lend_survey_owner owners[MAAS_LEND_SURVEY_TOP]; /* the largest, descending */
	struct maas_lend_survey_session sessions[MAAS_LEND_SURVEY_TOP]; /* by their end */
	struct maas_lend_allocation leases[MAAS_LEND_SURVEY_TOP];	/* by their end */
};

void maas_lend_survey_start(struct maas_lend_survey *survey, const struct maas_lend_caller *caller);
/* Goes on for one hold of lend's lock, which is short. False at the survey's end. */
MAAS_MUST_CHECK bool maas_lend_survey_next(struct maas_lend *lend, struct maas_lend_survey *survey);

#endif
