/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two principals on two hosts: by HTTP and by RDMA, one tries all that could open the other's
 * allocation, session, name, ticket and key. It knows all of the other's ids, and its key.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/rdma/agent.h"

#define SLAB	4096
#define VICTIM	0x56
#define HOSTILE 0xbd

void principal_make(const char *name, struct principal *ret_principal)
{
	char hash[MAAS_AUTH_HASH];
	FILE *file = fopen(name, "w");

	require(maas_auth_token_make(ret_principal->token) == 0, "no random bytes");
	maas_auth_token_hash(ret_principal->token, strlen(ret_principal->token), hash);
	require(file && !chmod(name, 0600) && fprintf(file, "%s\n", ret_principal->token) > 0 &&
			!fclose(file),
		"%s: %s", name, strerror(errno));
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

/* ---- by HTTP */

/* $V and $S are the victim's allocation and session, $O and $T the thief's own. */
static const struct {
	int status;
	const char *method;
	const char *path;
	const char *body;
} attempts[] = {
	{404, "GET", "/allocate/$V", NULL},
	{404, "GET", "/allocate/$V/data", NULL},
	{404, "POST", "/data/read", "{'ranges':[{'id':'$V','offset':0,'length':1}]}"},
	{404, "POST", "/allocate/$V/renew", "{'ttl_seconds':60}"},
	{404, "DELETE", "/allocate/$V", NULL},
	{404, "POST", "/allocate/$V/grant", "{'session':'$T','access':'r'}"},
	{404, "POST", "/allocate/$V/grant", "{'session':'$S','access':'rw'}"},
	{404, "DELETE", "/allocate/$V/grant/$S", NULL},
	{404, "POST", "/allocate/$O/grant", "{'session':'$S','access':'rw'}"},
	{404, "POST", "/allocate", "{'size_bytes':1,'session':'$S'}"},
	{404, "POST", "/sessions/$S/ticket", NULL},
	{404, "POST", "/sessions/$S/renew", NULL},
	{404, "DELETE", "/sessions/$S", NULL},
	{403, "POST", "/sessions", "{'name':'victim'}"},
	{403, "POST", "/sessions", "{'name':'victim','exclusive':true}"},
	{403, "POST", "/allocate", "{'size_bytes':1,'owner':'victim'}"},
};

static void expand(const char *text, struct maas_buf *buf)
{
	for (; *text; text++) {
		if (*text == '$') {
			text++;
			maas_buf_str(buf, *text == 'V'	 ? key.id
					  : *text == 'S' ? victim.session.id
					  : *text == 'O' ? own.id
							 : thief.session.id);
		} else {
			maas_buf_add(buf, *text == '\'' ? "\"" : text, 1);
		}
	}
	maas_buf_add(buf, "", 1);
	require(!buf->error, "out of memory");
}

static void try_http(void)
{
	char path[96];

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(attempts); i++) {
		struct maas_buf at = {0}, text = {0};
		json_t *body = NULL;
		int status;

		expand(attempts[i].path, &at);
		if (attempts[i].body) {
			expand(attempts[i].body, &text);
			body = json_loads(text.data, 0, NULL);
			require(body, "no JSON: %s", text.data);
		}
		status = raw_call(thief.http, attempts[i].method, at.data, body, NULL);
		require(status == attempts[i].status, "%s %s %s: %d %s", attempts[i].method,
			at.data, text.data ? text.data : "", status, raw_error(thief.http));
		maas_buf_fini(&at);
		maas_buf_fini(&text);
	}
	snprintf(path, sizeof(path), "/allocate/%s/data", key.id);
	require_equal(raw_put(thief.http, path, path, sizeof(path)), 404, "PUT …/data");
	require_equal(raw_free_many(thief.http, &key, 1), -EPROTO, "POST /free frees none");
	check_victim();
}

/* ---- by RDMA */

/* A refusal ends the connection, so that each attempt is the first of its own. */
static void try_key(void)
{
	static const enum ibv_wr_opcode opcodes[] = {IBV_WR_RDMA_READ, IBV_WR_RDMA_WRITE};

	for (size_t i = 0; i < 2 * MAAS_ARRAY_SIZE(opcodes); i++) {
		memset(thief.link.bytes, HOSTILE, SLAB);
		must_run(&thief.link, opcodes[i / 2], 0, i % 2 ? SLAB : 1, key.addr, key.rkey,
			 IBV_WC_REM_ACCESS_ERR);
		require_bytes(thief.link.bytes, HOSTILE, SLAB, "what the refused read brought");
		borrower_reconnect(&thief);
		check_victim();
	}
	borrower_grant(&thief, own.id, "rw", &own);
}

static void ticket_refused(const struct raw_session *session, const char *what)
{
	struct raw_link link;

	require_equal(raw_connect(&link, session, SLAB), -ECONNREFUSED, what);
	require_equal(link.reason, MAAS_WIRE_TICKET_UNKNOWN, what);
}

static void try_tickets(void)
{
	struct raw_session guessed = thief.session;

	ticket_refused(&victim.session, "the victim's ticket, which was used");
	require_equal(raw_session_ticket(thief.http, &guessed), 200, "a new ticket");
	guessed.ticket[0] = guessed.ticket[0] == '0' ? '1' : '0';
	ticket_refused(&guessed, "a ticket with another letter");
	check_victim();
}

/* A ticket is worth no more than its principal: it outlives its line as little as the rest. */
static void remove_thief(const struct principal *stays)
{
	struct raw_session unused = thief.session;
	uint64_t removed_ms;

	require_equal(raw_session_ticket(thief.http, &unused), 200, "a new ticket");
	agent_ask(NULL, "principals %s", stays->line);
	removed_ms = maas_clock_ms();
	while (raw_run(&thief.link, IBV_WR_RDMA_WRITE, 0, 1, own.addr, own.rkey) == IBV_WC_SUCCESS)
		require(maas_clock_ms() - removed_ms <= 1000, "a write a second after its right");
	ticket_refused(&unused, "the ticket of a principal that is gone");
	require_equal(raw_call(thief.http, "GET", "/whoami", NULL, NULL), 401, "its token");
	check_victim();
}

void run_strangers(const char *keys)
{
	struct principal principals[2];

	principal_make("victim", &principals[0]);
	principal_make("thief", &principals[1]);
	agent_start_with(keys, "%s%s", principals[0].line, principals[1].line);
	borrower_open_as(&victim, principals[0].token, "victim", SLAB);
	borrower_open_as(&thief, principals[1].token, "thief", SLAB);
	borrower_alloc(&victim, SLAB, &key);
	borrower_alloc(&thief, SLAB, &own);
	must_fill(&victim.link, &key, VICTIM);

	try_http();
	try_key();
	try_tickets();
	must_fill(&thief.link, &own, HOSTILE);
	remove_thief(&principals[0]);
	borrower_close(&thief);
	borrower_end(&victim);
	agent_ask(NULL, "stop");
}
