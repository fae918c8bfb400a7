/* SPDX-License-Identifier: Apache-2.0 */
/* Surveys, in steps under lend's lock. The few that are shown are kept in order as they are found.
 */
#include <string.h>

#include "lend/internal.h"
#include "lend/survey.h"

static_assert(MAAS_LEND_SURVEY_WITHIN_S < MAAS_LEND_LEASE_ROUND_S, "all of them are on the wheel");

void maas_lend_survey_start(struct maas_lend_survey *survey, const struct maas_lend_caller *caller)
{
	memset(survey, 0, sizeof(*survey));
	survey->caller = caller;
	survey->whole = true;
}

/* Goes on with the next stage. */
static void end_stage(struct maas_lend_survey *survey)
{
	survey->stage++;
	survey->cursor = 0;
}

/* ---- owners */

static void add_owner(const struct maas_lend *lend, struct maas_lend_survey *survey, uint32_t index)
{
	struct maas_lend_survey_owner *owners = survey->owners;
	uint64_t bytes = lend->quotas.owner_bytes[index];
	uint32_t at = survey->num_owners;

	survey->owners_total++;
	if (at < MAAS_LEND_SURVEY_TOP)
		survey->num_owners++;
	else if (bytes <= owners[--at].bytes)
		return;
	for (; at && owners[at - 1].bytes < bytes; at--)
		owners[at] = owners[at - 1];
	memcpy(owners[at].name, maas_lend_owner_name(&lend->owners, index), MAAS_NAME_BYTES);
	owners[at].allocations = maas_lend_owner_live(&lend->owners, index);
	owners[at].bytes = bytes;
}

static void look_at_owners(struct maas_lend *lend, struct maas_lend_survey *survey)
{
	uint32_t used = lend->owners.table->used;

	for (int i = 0; i < MAAS_LEND_STEP; i++) {
		uint32_t index = ++survey->cursor; /* [0] is none */

		if (index >= used) {
			end_stage(survey);
			return;
		}
		if (maas_lend_owner_live(&lend->owners, index) &&
		    !maas_lend_may(lend, survey->caller, maas_lend_owner_name(&lend->owners, index),
				   MAAS_AUTH_READ))
			add_owner(lend, survey, index);
	}
}

/* ---- sessions */

/* By its id, or by its name as in maas_lend_session_named(). */
static bool is_shown(struct maas_lend *lend, const struct maas_lend_survey *survey,
		     const struct maas_lend_session *session)
{
	return maas_lend_may_session(lend, survey->caller, session, true) ||
	       (*session->name &&
		!maas_lend_may(lend, survey->caller, session->name, MAAS_AUTH_READ));
}

static void add_session(const struct maas_lend_session *session, struct maas_lend_survey *survey)
{
	struct maas_lend_survey_session *sessions = survey->sessions;
	struct maas_lend_session_info info;
	uint32_t at = survey->num_sessions;

	survey->sessions_total++;
	maas_lend_session_describe(session, false, &info);
	if (at < MAAS_LEND_SURVEY_TOP)
		survey->num_sessions++;
	else if (info.lease_s >= sessions[--at].info.lease_s)
		return;
	for (; at && sessions[at - 1].info.lease_s > info.lease_s; at--)
		sessions[at] = sessions[at - 1];
	info.id[0] = '\0';
	sessions[at] = (struct maas_lend_survey_session){
		.info = info,
		.ref = {maas_lend_session_index(session), session->generation},
	};
}

static void look_at_sessions(struct maas_lend *lend, struct maas_lend_survey *survey)
{
	for (int i = 0; i < MAAS_LEND_STEP; i++) {
		const struct maas_lend_session *session;

		if (survey->cursor >= lend->sessions.used) {
			end_stage(survey);
			return;
		}
		session = &lend->sessions.records[survey->cursor++];
		if (session->state == MAAS_LEND_SESSION_LIVE && is_shown(lend, survey, session))
			add_session(session, survey);
	}
}

/* No lock held. */
static void look_at_connections(struct maas_lend *lend, struct maas_lend_survey *survey)
{
	for (uint32_t i = 0; lend->keys && i < survey->num_sessions; i++)
		survey->sessions[i].connected =
			lend->keys->connected(lend->keys_ctx, survey->sessions[i].ref);
}

/* ---- leases */

static void add_lease(struct maas_lend *lend, struct maas_lend_survey *survey,
		      struct maas_slab_ref ref)
{
	struct maas_slab_info info;

	if (!maas_lend_find_slab(lend, survey->caller, ref, MAAS_AUTH_READ, &info))
		maas_lend_describe(lend, &info, &survey->leases[survey->num_leases++]);
}

/* Some of what ends in that second; returns how many it has looked at. */
static uint32_t look_at_second(struct maas_lend *lend, struct maas_lend_survey *survey,
			       uint32_t second)
{
	uint32_t list = maas_lend_lease_list(second, second);
	struct maas_slab_ref ref;
	uint32_t deadline_s;
	uint32_t count = 0;
	bool is_there = maas_lend_lease_first(&lend->leases, list, &ref, &deadline_s);

	for (; is_there && survey->num_leases < MAAS_LEND_SURVEY_TOP; count++) {
		if (count == MAAS_LEND_STEP) {
			survey->whole = false;
			break;
		}
		add_lease(lend, survey, ref);
		is_there = maas_lend_lease_next(&lend->leases, list, &ref, &deadline_s);
	}
	return count;
}

static void look_at_leases(struct maas_lend *lend, struct maas_lend_survey *survey)
{
	uint32_t count = 0;

	if (!survey->cursor)
		survey->start_s = (uint32_t)(lend->lease_ms / 1000);
	survey->leases_total = lend->leases.timed;
	for (int i = 0; i < MAAS_LEND_STEP && count < MAAS_LEND_STEP; i++) {
		if (survey->cursor == MAAS_LEND_SURVEY_WITHIN_S ||
		    survey->num_leases == MAAS_LEND_SURVEY_TOP) {
			end_stage(survey);
			return;
		}
		count += look_at_second(lend, survey, survey->start_s + ++survey->cursor);
	}
	survey->looked_at += count;
	if (survey->looked_at >= MAAS_LEND_SURVEY_LEASES) {
		survey->whole = false;
		end_stage(survey);
	}
}

bool maas_lend_survey_next(struct maas_lend *lend, struct maas_lend_survey *survey)
{
	pthread_mutex_lock(&lend->lock);
	if (survey->stage == MAAS_LEND_SURVEY_OWNERS)
		look_at_owners(lend, survey);
	else if (survey->stage == MAAS_LEND_SURVEY_SESSIONS)
		look_at_sessions(lend, survey);
	else if (survey->stage == MAAS_LEND_SURVEY_ENDING)
		look_at_leases(lend, survey);
	pthread_mutex_unlock(&lend->lock);
	if (survey->stage < MAAS_LEND_SURVEY_DONE)
		return true;
	look_at_connections(lend, survey);
	return false;
}
