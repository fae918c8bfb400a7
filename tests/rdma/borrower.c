/* SPDX-License-Identifier: Apache-2.0 */
/* A client that borrows over a raw link; most scenarios begin with one. */
#include <errno.h>
#include <string.h>

#include "tests/rdma/scenario.h"

static void open_borrower(struct borrower *borrower, const char *token, const char *name,
			  unsigned int ttl_s, size_t buffer_bytes)
{
	*borrower = (struct borrower){.http = raw_http_new(server.url)};
	borrower->http->token = token;
	require_equal(raw_session_open(borrower->http, name, ttl_s, &borrower->session), 200,
		      "POST /sessions");
	require_equal(raw_connect(&borrower->link, &borrower->session, buffer_bytes), 0,
		      "connecting");
}

void borrower_open(struct borrower *borrower, size_t buffer_bytes)
{
	open_borrower(borrower, NULL, "", LEASE_S, buffer_bytes);
}

void borrower_open_for(struct borrower *borrower, unsigned int ttl_s, size_t buffer_bytes)
{
	open_borrower(borrower, NULL, "", ttl_s, buffer_bytes);
}

void borrower_open_as(struct borrower *borrower, const char *token, const char *name,
		      size_t buffer_bytes)
{
	open_borrower(borrower, token, name, LEASE_S, buffer_bytes);
}

void borrower_reconnect(struct borrower *borrower)
{
	size_t len = borrower->link.len;
	int err;

	raw_close(&borrower->link);
	require_equal(raw_session_ticket(borrower->http, &borrower->session), 200, "a new ticket");
	err = raw_connect(&borrower->link, &borrower->session, len);
	require(!err, "reconnecting: %s, reason %u", strerror(-err), borrower->link.reason);
}

void borrower_close(struct borrower *borrower)
{
	raw_close(&borrower->link);
	raw_http_free(borrower->http);
}

void borrower_end(struct borrower *borrower)
{
	require_equal(raw_session_end(borrower->http, &borrower->session), 200, "session's end");
	borrower_close(borrower);
}

static void check_key(const struct borrower *borrower, const struct raw_key *key, int status,
		      const char *call)
{
	require(status == 200, "%s: %d %s", call, status, raw_error(borrower->http));
	require(key->rkey && key->len, "no key came");
	require_equal(key->connection, borrower->link.connection, "connection of the key");
}

static void alloc(struct borrower *borrower, size_t size_bytes, const char *lifetime,
		  struct raw_key *ret_key)
{
	int status =
		raw_alloc(borrower->http, &borrower->session, size_bytes, lifetime, NULL, ret_key);

	check_key(borrower, ret_key, status, "POST /allocate");
	require_equal(ret_key->len, size_bytes, "length of the key");
}

void borrower_alloc(struct borrower *borrower, size_t size_bytes, struct raw_key *ret_key)
{
	alloc(borrower, size_bytes, NULL, ret_key);
}

void borrower_alloc_owned(struct borrower *borrower, size_t size_bytes, struct raw_key *ret_key)
{
	alloc(borrower, size_bytes, "session", ret_key);
}

void borrower_free(struct borrower *borrower, const struct raw_key *key)
{
	require_equal(raw_free(borrower->http, key->id), 200, "DELETE /allocate/ID");
}

void borrower_grant(struct borrower *borrower, const char *id, const char *access,
		    struct raw_key *ret_key)
{
	int status = raw_grant(borrower->http, id, &borrower->session, access, ret_key);

	check_key(borrower, ret_key, status, "POST /allocate/ID/grant");
}

void must_refuse_ticket(const struct raw_session *session, const char *what)
{
	struct raw_link link;

	require_equal(raw_connect(&link, session, 1), -ECONNREFUSED, what);
	require_equal(link.reason, MAAS_WIRE_TICKET_UNKNOWN, what);
}

static void must_be(const uint8_t *bytes, uint8_t value, size_t len, const char *what)
{
	for (size_t i = 0; i < len; i++)
		require(bytes[i] == value, "%s: byte %zu of %zu is 0x%02x, not 0x%02x", what, i,
			len, bytes[i], value);
}

static void run(const char *what, struct raw_link *link, enum ibv_wr_opcode opcode,
		const struct raw_key *key, int want)
{
	int got = raw_run(link, opcode, 0, key->len, key->addr, key->rkey);

	require(got == want, "%s: %s of %zu bytes at %#llx: %s, not %s", what,
		opcode == IBV_WR_RDMA_READ ? "read" : "write", (size_t)key->len,
		(unsigned long long)key->addr,
		got < 0 ? strerror(-got) : ibv_wc_status_str((enum ibv_wc_status)got),
		ibv_wc_status_str((enum ibv_wc_status)want));
}

void must_move(const char *what, struct raw_link *link, enum ibv_wr_opcode opcode,
	       const struct raw_key *key)
{
	run(what, link, opcode, key, IBV_WC_SUCCESS);
}

void must_refuse_at(const char *what, struct raw_link *link, enum ibv_wr_opcode opcode, size_t len,
		    uint64_t addr, uint32_t rkey)
{
	const struct raw_key key = {.len = len, .addr = addr, .rkey = rkey};

	memset(link->bytes, FOREIGN, link->len);
	run(what, link, opcode, &key, IBV_WC_REM_ACCESS_ERR);
	must_be(link->bytes, FOREIGN, link->len, what);
}

/* The part of an allocation that begins at `at`, as large as the link's buffer. */
static struct raw_key piece(const struct raw_link *link, const struct raw_key *key, uint64_t at)
{
	struct raw_key part = *key;

	part.addr += at;
	part.len = key->len - at < link->len ? key->len - at : link->len;
	return part;
}

void must_hold(struct raw_link *link, const struct raw_key *key, uint8_t value, const char *what)
{
	for (uint64_t at = 0; at < key->len; at += link->len) {
		struct raw_key part = piece(link, key, at);

		memset(link->bytes, ~value, part.len);
		must_move(what, link, IBV_WR_RDMA_READ, &part);
		must_be(link->bytes, value, part.len, what);
	}
}

void must_fill_at(const char *what, struct raw_link *link, const struct raw_key *key, uint8_t value)
{
	memset(link->bytes, value, link->len);
	for (uint64_t at = 0; at < key->len; at += link->len) {
		struct raw_key part = piece(link, key, at);

		must_move(what, link, IBV_WR_RDMA_WRITE, &part);
	}
}

void must_hold_http(struct raw_http *http, const struct raw_key *key, uint8_t value,
		    const char *what)
{
	require_equal(raw_call(http, "GET", NULL, "/allocate/%s/data", key->id), 200, "GET …/data");
	require_equal(http->reply.len, key->len, "bytes over HTTP");
	must_be((const uint8_t *)http->reply.data, value, key->len, what);
}
