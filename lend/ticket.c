/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tickets: what a client shows once, when it connects by RDMA, to say which session is its own.
 * Under lend's lock.
 */
#include <errno.h>
#include <sodium.h>
#include <string.h>

#include "lend/internal.h"

/*
 * A ticket is the session's index, so that it is found in one step, and 96 random bits. The index
 * is masked by a keyed hash of those: a ticket tells nothing.
 */
#define TICKET_INDEX 4

static uint32_t mask_index(const struct maas_lend_sessions *sessions, const unsigned char *ticket,
			   uint32_t index)
{
	uint64_t hash;

	crypto_shorthash((unsigned char *)&hash, ticket + TICKET_INDEX,
			 MAAS_LEND_TICKET_BYTES - TICKET_INDEX, sessions->ticket_key);
	return index ^ (uint32_t)hash;
}

void maas_lend_ticket_new(struct maas_lend_session *session)
{
	uint32_t index;

	randombytes_buf(session->ticket, sizeof(session->ticket));
	index = mask_index(&session->lend->sessions, session->ticket,
			   maas_lend_session_index(session));
	memcpy(session->ticket, &index, TICKET_INDEX);
	session->ticket_end_ms = session->lend->clock_ms() + MAAS_LEND_TICKET_MS;
}

/* Lock held. The live session with that ticket, which is void from then on, or NULL. */
static struct maas_lend_session *take_ticket(struct maas_lend_sessions *sessions,
					     const unsigned char *ticket)
{
	struct maas_lend_session *session;
	uint32_t index;

	memcpy(&index, ticket, TICKET_INDEX);
	index = mask_index(sessions, ticket, index);
	if (index >= sessions->used)
		return NULL;
	session = &sessions->records[index];
	session->lend->steps++;
	if (session->state != MAAS_LEND_SESSION_LIVE ||
	    session->lend->clock_ms() >= session->ticket_end_ms ||
	    sodium_memcmp(session->ticket, ticket, MAAS_LEND_TICKET_BYTES) != 0)
		return NULL;
	session->ticket_end_ms = 0;
	return session;
}

int maas_lend_ticket_redeem(struct maas_lend *lend, const char *ticket,
			    struct maas_lend_session_ref *ret_session)
{
	unsigned char bytes[MAAS_LEND_TICKET_BYTES];
	struct maas_lend_session *session;
	size_t len;

	if (sodium_hex2bin(bytes, sizeof(bytes), ticket, strlen(ticket), NULL, &len, NULL) ||
	    len != sizeof(bytes))
		return -ENOENT;
	pthread_mutex_lock(&lend->lock);
	session = take_ticket(&lend->sessions, bytes);
	if (session)
		*ret_session = (struct maas_lend_session_ref){maas_lend_session_index(session),
							      session->generation};
	pthread_mutex_unlock(&lend->lock);
	return session ? 0 : -ENOENT;
}
