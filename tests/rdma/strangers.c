/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two principals on two hosts: by RDMA, one tries all that could open the other's memory. It knows
 * the other's key and ticket. What it could try by HTTP is in tests/unit/http/test_http_foreign.c.
 */
#include <string.h>

#include "tests/rdma/agent.h"

#define SLAB   4096
#define VICTIM 0x56

void principal_make(const char *name, struct principal *ret_principal)
{
	char hash[MAAS_AUTH_HASH];

	require(maas_auth_token_make(ret_principal->token) == 0, "no random bytes");
	maas_auth_token_hash(ret_principal->token, strlen(ret_principal->token), hash);
	write_file(name, ret_principal->token);
	snprintf(ret_principal->line, sizeof(ret_principal->line), "%s token=%s owner=%s\n", name,
		 hash, name);
}

static struct borrower victim, thief;
static struct raw_key key, own; /* the victim's, the thief's */

static void check_victim(void)
{
	must_hold(&victim.link, &key, VICTIM, "the victim's bytes");
	must_hold_http(victim.http, &key, VICTIM, "the victim's bytes");
}

static void try_key(void)
{
	static const enum ibv_wr_opcode opcodes[] = {IBV_WR_RDMA_READ, IBV_WR_RDMA_WRITE};

	for (size_t i = 0; i < 2 * MAAS_ARRAY_SIZE(opcodes); i++) {
		must_refuse(&thief.link, opcodes[i / 2], i % 2 ? SLAB : 1, key.addr, key.rkey);
		borrower_reconnect(&thief);
		check_victim();
	}
	borrower_grant(&thief, own.id, "rw", &own);
}

static void try_tickets(void)
{
	struct raw_session guessed = thief.session;

	must_refuse_ticket(&victim.session, "the victim's ticket, which was used");
	require_equal(raw_session_ticket(thief.http, &guessed), 200, "a new ticket");
	guessed.ticket[0] = guessed.ticket[0] == '0' ? '1' : '0';
	must_refuse_ticket(&guessed, "a ticket with another letter");
	check_victim();
}

/* A ticket is worth no more than its principal: it outlives its line as little as the rest. */
static void remove_thief(const struct principal *stays)
{
	struct raw_session unused = thief.session;

	require_equal(raw_session_ticket(thief.http, &unused), 200, "a new ticket");
	agent_ask(NULL, "principals %s", stays->line);
	require_soon(raw_run(&thief.link, IBV_WR_RDMA_WRITE, 0, 1, own.addr, own.rkey) !=
			     IBV_WC_SUCCESS,
		     1000, "a write a second after its right");
	must_refuse_ticket(&unused, "the ticket of a principal that is gone");
	require_equal(raw_call(thief.http, "GET", NULL, "/whoami"), 401, "its token");
	check_victim();
}

void run_strangers(const char *keys)
{
	struct principal principals[2];

	principal_make("victim", &principals[0]);
	principal_make("thief", &principals[1]);
	agent_ask(NULL, "principals %s%s", principals[0].line, principals[1].line);
	agent_start_known(keys);
	borrower_open_as(&victim, principals[0].token, "victim", SLAB);
	borrower_open_as(&thief, principals[1].token, "thief", SLAB);
	borrower_alloc(&victim, SLAB, &key);
	borrower_alloc(&thief, SLAB, &own);
	must_fill(&victim.link, &key, VICTIM);

	try_key();
	try_tickets();
	must_fill(&thief.link, &own, FOREIGN);
	remove_thief(&principals[0]);
	borrower_close(&thief);
	borrower_end(&victim);
	agent_ask(NULL, "stop");
}
