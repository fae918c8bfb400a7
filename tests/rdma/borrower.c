/* SPDX-License-Identifier: Apache-2.0 */
/* A client that borrows over a raw link; most scenarios begin with one. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/rdma/scenario.h"

#define REFUSED 0xbd /* bytes that are to be seen nowhere */

static void begin(struct borrower *borrower, const char *token)
{
	memset(borrower, 0, sizeof(*borrower));
	borrower->http = raw_http_new(server.url);
	require(borrower->http && (!token || !raw_http_token(borrower->http, token)),
		"out of memory");
}

static void connect_as(struct borrower *borrower, const char *name, unsigned int ttl_s,
		       size_t buffer_bytes)
{
	require_equal(raw_session_open(borrower->http, name, ttl_s, &borrower->session), 200,
		      "POST /sessions");
	require_equal(raw_connect(&borrower->link, &borrower->session, buffer_bytes), 0,
		      "connecting");
}

void borrower_open(struct borrower *borrower, size_t buffer_bytes)
{
	borrower_open_for(borrower, LEASE_S, buffer_bytes);
}

void borrower_open_for(struct borrower *borrower, unsigned int ttl_s, size_t buffer_bytes)
{
	begin(borrower, NULL);
	connect_as(borrower, "", ttl_s, buffer_bytes);
}

void borrower_open_as(struct borrower *borrower, const char *token, const char *name,
		      size_t buffer_bytes)
{
	begin(borrower, token);
	connect_as(borrower, name, LEASE_S, buffer_bytes);
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
	borrower->http = NULL;
}

void borrower_end(struct borrower *borrower)
{
	require_equal(raw_session_end(borrower->http, &borrower->session), 200, "session's end");
	borrower_close(borrower);
}

static void check_key(const struct borrower *borrower, const struct raw_key *key)
{
	require(key->rkey && key->len, "no key came");
	require_equal(key->connection, borrower->link.connection, "connection of the key");
}

void borrower_alloc(struct borrower *borrower, size_t size_bytes, struct raw_key *ret_key)
{
	int status = raw_alloc(borrower->http, &borrower->session, size_bytes, NULL, NULL, ret_key);

	require(status == 200, "POST /allocate: %d %s", status, raw_error(borrower->http));
	require_equal(ret_key->len, size_bytes, "length of the key");
	check_key(borrower, ret_key);
}

void borrower_free(struct borrower *borrower, const struct raw_key *key)
{
	require_equal(raw_free(borrower->http, key->id), 200, "DELETE /allocate/ID");
}

void borrower_grant(struct borrower *borrower, const char *id, const char *access,
		    struct raw_key *ret_key)
{
	int status = raw_grant(borrower->http, id, &borrower->session, access, ret_key);

	require(status == 200, "POST /allocate/ID/grant: %d %s", status, raw_error(borrower->http));
	check_key(borrower, ret_key);
}

void must_refuse_ticket(const struct raw_session *session, const char *what)
{
	struct raw_link link;

	require_equal(raw_connect(&link, session, 1), -ECONNREFUSED, what);
	require_equal(link.reason, MAAS_WIRE_TICKET_UNKNOWN, what);
}

void must_run_at(const char *file, int line, struct raw_link *link, enum ibv_wr_opcode opcode,
		 size_t at, size_t len, uint64_t addr, uint32_t rkey, int want)
{
	int got = raw_run(link, opcode, at, len, addr, rkey);

	if (got != want)
		scenario_fail(file, line, "%s of %zu bytes at %#llx: %s, not %s",
			      opcode == IBV_WR_RDMA_READ ? "read" : "write", len,
			      (unsigned long long)addr,
			      got < 0 ? strerror(-got) : ibv_wc_status_str((enum ibv_wc_status)got),
			      ibv_wc_status_str((enum ibv_wc_status)want));
}

void must_refuse(struct raw_link *link, enum ibv_wr_opcode opcode, size_t len, uint64_t addr,
		 uint32_t rkey)
{
	memset(link->bytes, REFUSED, link->len);
	must_run(link, opcode, 0, len, addr, rkey, IBV_WC_REM_ACCESS_ERR);
	require_bytes(link->bytes, REFUSED, link->len, "what the refused read brought");
}

static size_t piece(const struct raw_link *link, uint64_t left)
{
	return left < link->len ? (size_t)left : link->len;
}

void must_hold(struct raw_link *link, const struct raw_key *key, uint8_t value, const char *what)
{
	for (uint64_t at = 0; at < key->len; at += link->len) {
		size_t len = piece(link, key->len - at);

		memset(link->bytes, ~value, len);
		must_run(link, IBV_WR_RDMA_READ, 0, len, key->addr + at, key->rkey, IBV_WC_SUCCESS);
		require_bytes(link->bytes, value, len, what);
	}
}

void must_fill(struct raw_link *link, const struct raw_key *key, uint8_t value)
{
	memset(link->bytes, value, piece(link, key->len));
	for (uint64_t at = 0; at < key->len; at += link->len)
		must_run(link, IBV_WR_RDMA_WRITE, 0, piece(link, key->len - at), key->addr + at,
			 key->rkey, IBV_WC_SUCCESS);
}

void must_hold_http(struct raw_http *http, const struct raw_key *key, uint8_t value,
		    const char *what)
{
	uint8_t *bytes = malloc(key->len);
	char path[96];
	size_t len = 0;

	require(bytes, "out of memory");
	snprintf(path, sizeof(path), "/allocate/%s/data", key->id);
	require_equal(raw_get(http, path, bytes, key->len, &len), 200, "GET …/data");
	require_equal(len, key->len, "bytes over HTTP");
	require_bytes(bytes, value, len, what);
	free(bytes);
}
