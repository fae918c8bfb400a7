/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sessions by name. A bucket's list holds one session of each name, its first; the others of that
 * name stand in a ring with it, so that a name costs one step however many sessions bear it. A
 * session without a name is in no list.
 */
#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "lend/internal.h"

int maas_lend_session_names_init(struct maas_lend_session_names *names, uint32_t max_sessions)
{
	randombytes_buf(names->key, sizeof(names->key));
	names->num_buckets = 64;
	while (names->num_buckets < max_sessions)
		names->num_buckets *= 2;
	names->buckets = calloc(names->num_buckets, sizeof(*names->buckets));
	return names->buckets ? 0 : -ENOMEM;
}

void maas_lend_session_names_fini(struct maas_lend_session_names *names)
{
	free(names->buckets);
}

/* Keyed, because clients choose the names. */
static struct maas_lend_session_list *bucket_of(struct maas_lend_session_names *names,
						const char *name)
{
	uint64_t hash;

	crypto_shorthash((unsigned char *)&hash, (const unsigned char *)name, strlen(name),
			 names->key);
	return &names->buckets[hash & (names->num_buckets - 1)];
}

struct maas_lend_session *maas_lend_session_name_find(struct maas_lend_session_names *names,
						      const char *name, uint64_t *steps)
{
	struct maas_lend_session *session;

	if (!*name)
		return NULL;
	LIST_FOREACH (session, bucket_of(names, name), link) {
		++*steps;
		if (!strcmp(session->name, name))
			break;
	}
	return session;
}

void maas_lend_session_name_add(struct maas_lend_session_names *names,
				struct maas_lend_session *session, struct maas_lend_session *first)
{
	session->next = session;
	session->prev = session;
	if (!*session->name)
		return;
	if (!first) {
		session->listed = true;
		LIST_INSERT_HEAD(bucket_of(names, session->name), session, link);
		return;
	}
	session->next = first->next;
	session->prev = first;
	first->next->prev = session;
	first->next = session;
}

void maas_lend_session_name_remove(struct maas_lend_session *session)
{
	struct maas_lend_session *next = session->next;

	if (session->listed && next != session) {
		next->listed = true;
		LIST_INSERT_AFTER(session, next, link);
	}
	if (session->listed)
		LIST_REMOVE(session, link);
	session->listed = false;
	next->prev = session->prev;
	session->prev->next = next;
}
