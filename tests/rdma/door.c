/* SPDX-License-Identifier: Apache-2.0 */
/* Who gets in: tickets, private data, and connections that are never finished. */
#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#include "tests/rdma/one_host.h"
#include "tests/rdma/scenario.h"

#define SLAB 4096

static void refused(const struct raw_session *session, const void *hello, uint8_t len,
		    uint16_t reason, const char *what)
{
	struct raw_link link;

	require_equal(raw_connect_with(&link, session, hello, len, SLAB), -ECONNREFUSED, what);
	require_equal(link.reason, reason, what);
}

/* The one that lives goes on whatever the others try. */
static struct borrower alive;
static struct raw_key key;

static void begin(const char *keys)
{
	server_start(keys, "");
	borrower_open(&alive, SLAB);
	borrower_alloc(&alive, SLAB, &key);
	must_fill(&alive.link, &key, 0x11);
}

static void check_alive(void)
{
	must_hold(&alive.link, &key, 0x11, "the bytes of who is connected");
}

void door_tickets(const char *keys)
{
	struct raw_session session;
	struct raw_session older;
	struct raw_link link;

	begin(keys);
	must_refuse_ticket(&alive.session, "a ticket that was used");

	require_equal(raw_session_open(alive.http, "", 60, &older), 200, "POST /sessions");
	session = older;
	require_equal(raw_session_ticket(alive.http, &session), 200, "a new ticket");
	must_refuse_ticket(&older, "a ticket that is stale");
	require_equal(raw_connect(&link, &session, SLAB), 0, "the new ticket");
	raw_close(&link);
	must_refuse_ticket(&session, "the new ticket again");

	require_equal(raw_session_ticket(alive.http, &session), 200, "another ticket");
	require_equal(raw_session_end(alive.http, &session), 200, "the session's end");
	must_refuse_ticket(&session, "a ticket of a session that ended");

	require_equal(raw_session_open(alive.http, "", 1, &session), 200, "POST /sessions");
	sleep_ms(3500);
	must_refuse_ticket(&session, "a ticket of a lease that lapsed");
	check_alive();
	borrower_end(&alive);
}

void door_garbage(const char *keys)
{
	uint64_t random = maas_test_seed();
	uint64_t count = count_device_garbage();
	struct maas_wire_connect hello;
	struct raw_session session;

	begin(keys);
	require_equal(raw_session_open(alive.http, "", 60, &session), 200, "POST /sessions");
	require_equal(raw_hello(&session, &hello), 0, "ticket's text");

	refused(&session, NULL, 0, MAAS_WIRE_VERSION_UNKNOWN, "no private data");
	refused(&session, &hello, 5, MAAS_WIRE_VERSION_UNKNOWN, "private data cut off");
	refused(&session, &hello, sizeof(hello) - 8, MAAS_WIRE_TICKET_UNKNOWN, "half a ticket");
	hello.magic ^= 1;
	refused(&session, &hello, sizeof(hello), MAAS_WIRE_VERSION_UNKNOWN, "another magic");
	hello.magic ^= 1;
	hello.version = htons(MAAS_WIRE_VERSION + 1);
	refused(&session, &hello, sizeof(hello), MAAS_WIRE_VERSION_UNKNOWN, "another version");
	for (uint64_t i = 0; i < count; i++) {
		uint64_t words[7];
		uint8_t len = (uint8_t)test_random_below(&random, sizeof(words) + 1);
		struct raw_link link;

		for (size_t w = 0; w < MAAS_ARRAY_SIZE(words); w++)
			words[w] = test_random(&random);
		if (i % 2) { /* as far as the ticket all is well */
			hello.version = htons(MAAS_WIRE_VERSION);
			memcpy(words, &hello, offsetof(struct maas_wire_connect, ticket));
		}
		require_equal(raw_connect_with(&link, &session, words, len, SLAB), -ECONNREFUSED,
			      "garbage");
		require(link.reason, "refused without a reason");
	}
	check_alive();
	note("%llu refused", (unsigned long long)count + 5);
	borrower_end(&alive);
}

/* Clients that ask and never say that they have the answer. */
void door_halfway(const char *keys)
{
	enum { MAX = 64 };
	uint64_t rounds = count_device_halfway() / MAX;
	static struct raw_link links[MAX];
	struct resources before;
	struct raw_session session;

	device_open();
	begin(keys);
	resources_get(&before);
	for (uint64_t round = 0; round < rounds; round++) {
		for (size_t i = 0; i < MAX; i++) {
			require_equal(raw_session_open(alive.http, "", 2, &session), 200,
				      "POST /sessions");
			require_equal(raw_connect_halfway(&links[i], &session), 0, "halfway");
		}
		check_alive();
		for (size_t i = round % 2; i < MAX;
		     i += 2) /* some leave, some stay and say nothing */
			raw_close(&links[i]);
		server_await("maas_sessions", 1, 8000);
		for (size_t i = 0; i < MAX; i++)
			raw_close(&links[i]);
	}
	resources_await(&before, 10000);
	check_alive();
	borrower_reconnect(&alive);
	borrower_end(&alive);
}
