/* SPDX-License-Identifier: Apache-2.0 */
/* session: a client's presence, by index and by name. Threading: under lend's lock. */
#ifndef MAAS_LEND_SESSION_H
#define MAAS_LEND_SESSION_H

#include "lend/free.h"

enum maas_lend_session_state {
	MAAS_LEND_SESSION_FREE,
	MAAS_LEND_SESSION_LIVE,
	MAAS_LEND_SESSION_ENDING, /* keeps its name until its keys are dead */
};

#define MAAS_LEND_TICKET_BYTES (MAAS_LEND_TICKET_TEXT / 2)
/* A ticket travels in clear over RDMA: who reads one late has nothing. */
#define MAAS_LEND_TICKET_MS 30000

struct maas_lend_session {
	struct maas_lend *lend;
	/* in its name's bucket, if `listed`, or among the free records */
	LIST_ENTRY(maas_lend_session) link;
	struct maas_lend_session *next; /* the ring of the sessions of its name */
	struct maas_lend_session *prev;
	char name[MAAS_NAME_BYTES];
	char from[MAAS_LEND_FROM_BYTES];
	char principal[MAAS_NAME_BYTES]; /* that opened it; "": there was no table */
	uint64_t proof;			 /* of it, by which it was opened or last used */
	unsigned char ticket[MAAS_LEND_TICKET_BYTES];
	uint32_t generation;
	uint32_t ttl_s;
	uint32_t created_s;
	uint64_t deadline_ms;	/* on the lease clock */
	uint64_t ticket_end_ms; /* of the clock; 0: the ticket is void */
	uint64_t allocations;
	uint32_t keys;	  /* charged to its principal */
	uint64_t pending; /* frees under way that its end waits for */
	maas_lend_free_done *done;
	void *arg;
	int status;
	enum maas_lend_session_state state;
	bool listed;
	bool exclusive;
	bool keys_told; /* its connection has ended, or that was not confirmed: … */
	bool keys_live; /* … perhaps; then it is to be ended again */
	bool queued;	/* in `queue` of the sessions */
	TAILQ_ENTRY(maas_lend_session) queue_link;
};

#define MAAS_LEND_MAX_SESSIONS (1u << 20)

LIST_HEAD(maas_lend_session_list, maas_lend_session);

struct maas_lend_session_names {
	unsigned char key[16];
	struct maas_lend_session_list *buckets;
	uint32_t num_buckets; /* a power of two */
};

/* Errors: -ENOMEM. */
MAAS_MUST_CHECK int maas_lend_session_names_init(struct maas_lend_session_names *names,
						 uint32_t max_sessions);
void maas_lend_session_names_fini(struct maas_lend_session_names *names);
/* The first session of that name, or NULL. Adds the steps that were taken to `steps`. */
struct maas_lend_session *maas_lend_session_name_find(struct maas_lend_session_names *names,
						      const char *name, uint64_t *steps);
/* Adds a session; `first` is what maas_lend_session_name_find() says of its name. */
void maas_lend_session_name_add(struct maas_lend_session_names *names,
				struct maas_lend_session *session, struct maas_lend_session *first);
void maas_lend_session_name_remove(struct maas_lend_session *session);

struct maas_lend_sessions {
	struct maas_slab_id_key id_key;
	unsigned char ticket_key[16];
	struct maas_lend_session *records;
	uint32_t max;
	uint32_t used; /* records ever used */
	uint32_t live;
	struct maas_lend_session_list free;
	/* Ends that housekeeping goes on with: it kills the keys, where they are not dead yet, and
	 * frees what the sessions own. */
	TAILQ_HEAD(, maas_lend_session) queue;
	struct maas_lend_session_names names;
};

/* Errors: -ENOMEM. */
MAAS_MUST_CHECK int maas_lend_sessions_init(struct maas_lend_sessions *sessions, uint32_t max);
void maas_lend_sessions_fini(struct maas_lend_sessions *sessions);
/* The live session of that index and generation, or NULL. */
struct maas_lend_session *maas_lend_session_find(struct maas_lend *lend, uint32_t index,
						 uint32_t generation);
struct maas_lend_session *maas_lend_session_by_id(struct maas_lend *lend, const char *id);
/* As that, where the session is the caller's (or, with `or_admin`, the caller an admin), else NULL.
 * What its principal proves now is what the session lives by: so it outlives the proof that it was
 * opened by. */
struct maas_lend_session *maas_lend_session_for(struct maas_lend *lend,
						const struct maas_lend_caller *caller,
						const char *id, bool or_admin);
uint32_t maas_lend_session_index(const struct maas_lend_session *session);
void maas_lend_session_describe(const struct maas_lend_session *session, bool with_ticket,
				struct maas_lend_session_info *ret_info);
/* Gives the session a ticket; the one before is void. */
void maas_lend_ticket_new(struct maas_lend_session *session);
/* Completes the session's end if nothing holds it up; true when it did. The callback is in `calls`
 * then. */
bool maas_lend_session_settle(struct maas_lend_session *session, struct maas_lend_calls *calls);
/* Ends the sessions of principals that lost rights, or their proof. No lock held. */
struct maas_lend_change;
void maas_lend_sessions_end_if(struct maas_lend *lend, const struct maas_lend_change *change);
/* Housekeeping: has the sessions end whose lease has lapsed; they are in `queue` then. No lock
 * held.
 */
void maas_lend_sessions_lapse(struct maas_lend *lend);
/* Housekeeping: goes on with the ends in `queue`, one step. False when there is nothing else to do,
 * or no memory to do it. No lock held. */
bool maas_lend_sessions_go_on(struct maas_lend *lend);

#endif
