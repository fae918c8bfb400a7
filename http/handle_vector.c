/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many ranges in one request. Ranges of one allocation that follow each other share a transfer, and
 * nothing is sent or written before all of them are known to be good. They are read in steps,
 * between which the thread serves others.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "http/internal.h"

#define PREFIX_BYTES 4
#define BLOCK_BYTES  (256u << 10) /* of an answer, copied at once */
#define STEP_RANGES  16		  /* that are read before a look at the clock */

struct maas_http_vector {
	struct maas_http_pieces pieces;
	bool all; /* of them are read */
	struct maas_lend_transfer *transfers;
	uint32_t started;  /* transfers that have begun … */
	uint32_t good;	   /* … for so many ranges */
	uint32_t current;  /* the range that is being read or written … */
	uint64_t piece_at; /* … how far … */
	uint32_t transfer; /* … and in which transfer */
	/* /data/write: length, JSON, bytes */
	unsigned int prefix_len;
	uint32_t json_len;
	uint32_t json_at; /* of it, how much has come */
	bool again;	  /* its last byte comes once more */
	struct maas_http_conn *conn;
};

static void end_transfers(struct maas_http_conn *conn, struct maas_http_vector *vector)
{
	maas_http_transfers_end(conn, vector->transfers, vector->started);
	vector->started = 0;
}

/* True when piece `i` is of the same allocation as the one before it. */
static bool same_allocation(const struct maas_http_pieces *pieces, uint32_t i)
{
	return i && !strcmp(pieces->at[i].id, pieces->at[i - 1].id);
}

static uint32_t count_transfers(const struct maas_http_pieces *pieces)
{
	uint32_t count = 1;

	for (uint32_t i = 1; i < pieces->count; i++)
		count += !same_allocation(pieces, i);
	return count;
}

static void next_piece(struct maas_http_vector *vector)
{
	vector->piece_at = 0;
	if (++vector->current < vector->pieces.count)
		vector->transfer += !same_allocation(&vector->pieces, vector->current);
}

void maas_http_vector_free(struct maas_http_conn *conn, struct maas_http_vector *vector)
{
	if (!vector)
		return;
	end_transfers(conn, vector);
	free(vector->transfers);
	free(vector->pieces.at);
	free(vector);
}

static int start_piece(struct maas_http_conn *conn, uint32_t i)
{
	struct maas_http_vector *vector = conn->req.vector;
	const struct maas_http_piece *piece = &vector->pieces.at[i];
	struct maas_lend_transfer *transfer = &vector->transfers[vector->started];
	int r = 0;

	if (same_allocation(&vector->pieces, i))
		transfer--;
	else
		r = maas_http_transfer_begin(conn, piece->id, transfer);
	if (r == -ENOENT)
		return maas_http_fail(conn, r, "ranges[%u]: no allocation with the id \"%s\"", i,
				      piece->id);
	if (r)
		return maas_http_fail(conn, r, NULL);
	vector->started = (uint32_t)(transfer - vector->transfers) + 1;
	if (piece->offset > transfer->size_bytes ||
	    piece->len > transfer->size_bytes - piece->offset)
		return maas_http_error(conn, MHD_HTTP_RANGE_NOT_SATISFIABLE, "bad_range",
				       "ranges[%u] lies outside of the allocation's %llu bytes", i,
				       (unsigned long long)transfer->size_bytes);
	return 0;
}

static int make_transfers(struct maas_http_conn *conn)
{
	struct maas_http_vector *vector = conn->req.vector;
	uint32_t count = count_transfers(&vector->pieces);
	int r;

	r = maas_http_hold(conn, count * sizeof(*vector->transfers));
	if (r)
		return maas_http_fail(conn, r, NULL);
	vector->transfers = calloc(count, sizeof(*vector->transfers));
	return vector->transfers ? 0 : maas_http_fail(conn, -ENOMEM, NULL);
}

/* conn->in is there; start_some() reads its ranges. Each of these returns as a handler does. */
static int start(struct maas_http_conn *conn)
{
	struct maas_http_pieces *pieces = &conn->req.vector->pieces;
	struct maas_http_fault fault;
	int r;

	r = maas_http_pieces_open(pieces, conn->in.data, conn->in.len, &fault);
	if (r)
		return maas_http_fail_fault(conn, r, &fault);
	/* All of it at once: of requests that go on in turns, some are to come to their end. */
	r = maas_http_hold(conn, pieces->room * sizeof(*pieces->at));
	return r ? maas_http_fail(conn, r, NULL) : 0;
}

static int read_some(struct maas_http_conn *conn)
{
	struct maas_http_vector *vector = conn->req.vector;
	struct maas_http_fault fault;
	int r;

	r = maas_http_pieces_read(&vector->pieces, STEP_RANGES, &fault);
	if (r < 0)
		return maas_http_fail_fault(conn, r, &fault);
	vector->all = !r;
	if (!vector->all)
		return 0;
	maas_http_give_back(conn, conn->in.len);
	maas_buf_fini(&conn->in);
	return make_transfers(conn);
}

static int begin_some(struct maas_http_conn *conn)
{
	struct maas_http_vector *vector = conn->req.vector;
	int r = 0;

	for (int i = 0; !r && i < STEP_RANGES && vector->good < vector->pieces.count; i++) {
		r = start_piece(conn, vector->good);
		vector->good += !r;
	}
	return r;
}

/* True when all ranges are known to be good, and their transfers have begun. */
static bool is_started(const struct maas_http_vector *vector)
{
	return vector->all && vector->good == vector->pieces.count;
}

/* One turn: reads ranges; when all are known, begins their transfers. */
static int start_some(struct maas_http_conn *conn)
{
	struct maas_http_vector *vector = conn->req.vector;
	uint64_t start_ns = maas_clock_ns();
	int r;

	do
		r = vector->all ? begin_some(conn) : read_some(conn);
	while (!r && !is_started(vector) && !maas_http_turn_over(start_ns));
	return r;
}

/* ---- POST /data/read */

static ssize_t copy_pieces(void *cls, uint64_t pos, char *to, size_t max)
{
	struct maas_http_vector *vector = cls;
	size_t done = 0;

	(void)pos; /* each byte is asked for once, in order */
	/* The block before has been sent. */
	maas_http_deadline_block(vector->conn, max);
	while (done < max && vector->current < vector->pieces.count) {
		const struct maas_http_piece *piece = &vector->pieces.at[vector->current];
		const uint8_t *from = vector->transfers[vector->transfer].bytes + piece->offset;
		uint64_t n = piece->len - vector->piece_at;

		if (n > max - done)
			n = max - done;
		memcpy(to + done, from + vector->piece_at, n);
		done += n;
		vector->piece_at += n;
		if (vector->piece_at == piece->len)
			next_piece(vector);
	}
	return done ? (ssize_t)done : MHD_CONTENT_READER_END_OF_STREAM;
}

/*
 * The bytes are copied: the library's answer from an array of addresses sends no more than IOV_MAX
 * of them, and ends the whole process where the array does not fit into the connection's memory.
 */
static int reply_ranges(struct maas_http_conn *conn)
{
	struct maas_http_vector *vector = conn->req.vector;
	uint64_t total = vector->pieces.total;
	uint64_t block_bytes = total < BLOCK_BYTES ? total : BLOCK_BYTES;
	struct MHD_Response *response;

	if (maas_http_hold(conn, block_bytes))
		return maas_http_fail(conn, -EBUSY, NULL);
	response = MHD_create_response_from_callback(total, block_bytes, copy_pieces, vector, NULL);
	return maas_http_reply_response(conn, MHD_HTTP_OK, response, "application/octet-stream",
					total);
}

int maas_http_data_read_resume(struct maas_http_conn *conn)
{
	int r = start_some(conn);

	if (r)
		return r;
	return is_started(conn->req.vector) ? reply_ranges(conn) : maas_http_yield(conn);
}

int maas_http_data_read(struct maas_http_conn *conn)
{
	struct maas_http_vector *vector = calloc(1, sizeof(*vector));
	int r;

	conn->req.vector = vector;
	if (!vector)
		return maas_http_fail(conn, -ENOMEM, NULL);
	vector->conn = conn;
	r = start(conn);
	return r ? r : maas_http_data_read_resume(conn);
}

/* ---- POST /data/write */

/* A length that no ranges of this server can add up to is refused before anything is read. */
int maas_http_data_write_begin(struct maas_http_conn *conn)
{
	const struct maas_http *http = conn->http;
	uint64_t max = PREFIX_BYTES + http->options.max_body_bytes +
		       MAAS_HTTP_MAX_RANGES * maas_http_slab_bytes(http, UINT64_MAX);

	if (conn->req.content_length > max)
		return maas_http_error(conn, MHD_HTTP_CONTENT_TOO_LARGE, "body_too_large",
				       "the body has %llu bytes; %d ranges of this server's "
				       "slabs and their JSON come to %llu at most",
				       (unsigned long long)conn->req.content_length,
				       MAAS_HTTP_MAX_RANGES, (unsigned long long)max);
	/* So far no more than the length of the JSON may come; what it allows is known later. */
	maas_http_deadline_body(conn, PREFIX_BYTES);
	conn->req.vector = calloc(1, sizeof(*conn->req.vector));
	return conn->req.vector ? 0 : maas_http_fail(conn, -ENOMEM, NULL);
}

static int fail_frame(struct maas_http_conn *conn, const char *what)
{
	return maas_http_error(conn, MHD_HTTP_BAD_REQUEST, "bad_frame",
			       "%s; the body is a 4-byte little-endian length, that many bytes of "
			       "JSON {\"ranges\":[...]}, then the ranges' bytes in order",
			       what);
}

/* Each take_… uses a part of the `len` bytes at `data` and moves `used` past it. */
static int take_prefix(struct maas_http_conn *conn, const uint8_t *data, size_t len, size_t *used)
{
	struct maas_http_vector *vector = conn->req.vector;
	size_t max = conn->http->options.max_body_bytes;

	while (vector->prefix_len < PREFIX_BYTES && *used < len)
		vector->json_len |= (uint32_t)data[(*used)++] << (8 * vector->prefix_len++);
	if (vector->prefix_len < PREFIX_BYTES)
		return 0;
	if (vector->json_len > max)
		return maas_http_error(conn, MHD_HTTP_CONTENT_TOO_LARGE, "body_too_large",
				       "the JSON has %u bytes; this server reads at most %zu "
				       "(--max-body-size)",
				       vector->json_len, max);
	if (!vector->json_len)
		return fail_frame(conn, "the JSON is empty");
	maas_http_deadline_body(conn, PREFIX_BYTES + vector->json_len);
	return 0;
}

/* True while the JSON is there, and ranges of it are left to be read. */
static bool is_reading(const struct maas_http_vector *vector)
{
	return vector->json_len && vector->json_at == vector->json_len && !is_started(vector);
}

static int take_ranges(struct maas_http_conn *conn)
{
	struct maas_http_vector *vector = conn->req.vector;
	struct maas_http_request *req = &conn->req;
	uint64_t total;
	int r;

	r = start_some(conn);
	if (r || is_reading(vector))
		return r;
	/* The ranges are known; the bytes may take their time. */
	total = PREFIX_BYTES + vector->json_len + vector->pieces.total;
	if (!req->chunked && total != req->content_length)
		return fail_frame(conn, "the ranges' lengths do not add up to the body's length");
	maas_http_deadline_body(conn, total);
	return 0;
}

static int take_json(struct maas_http_conn *conn, const uint8_t *data, size_t len, size_t *used)
{
	struct maas_http_vector *vector = conn->req.vector;
	size_t want = vector->json_len - vector->json_at;
	int r;

	if (want > len - *used)
		want = len - *used;
	r = maas_http_hold(conn, want);
	if (r)
		return maas_http_fail(conn, r, NULL);
	maas_buf_add(&conn->in, data + *used, want);
	*used += want;
	vector->json_at += (uint32_t)want;
	if (conn->in.error)
		return maas_http_fail(conn, conn->in.error, NULL);
	if (vector->json_at < vector->json_len)
		return 0;
	r = start(conn);
	return r ? r : take_ranges(conn);
}

static int take_bytes(struct maas_http_conn *conn, const uint8_t *data, size_t len, size_t *used)
{
	struct maas_http_vector *vector = conn->req.vector;
	const struct maas_http_piece *piece = &vector->pieces.at[vector->current];
	const struct maas_lend_transfer *transfer = &vector->transfers[vector->transfer];
	uint64_t n = len - *used;

	if (vector->current == vector->pieces.count)
		return fail_frame(conn, "there are more bytes than the ranges hold; those were "
					"written");
	if (n > piece->len - vector->piece_at)
		n = piece->len - vector->piece_at;
	if (!maas_lend_transfer_alive(conn->http->options.lend, transfer)) {
		end_transfers(conn, vector);
		return maas_http_fail(conn, -ENOENT,
				      "the allocation of ranges[%u] was freed while it was "
				      "written; the ranges before it were written",
				      vector->current);
	}
	memcpy(transfer->bytes + piece->offset + vector->piece_at, data + *used, n);
	*used += n;
	vector->piece_at += n;
	if (vector->piece_at == piece->len)
		next_piece(vector);
	return 0;
}

/*
 * While ranges are left to be read, the last byte of their JSON is left, too: the library calls
 * again for bytes, and not without.
 */
static int leave(struct maas_http_conn *conn, size_t bytes, size_t *ret_left)
{
	int r = maas_http_yield(conn);

	conn->req.vector->again = !r;
	*ret_left = r ? 0 : bytes + 1;
	return r;
}

int maas_http_data_write_bytes(struct maas_http_conn *conn, const uint8_t *data, size_t len,
			       size_t *ret_left)
{
	struct maas_http_vector *vector = conn->req.vector;
	size_t used = vector->again ? 1 : 0;
	int r = 0;

	if (vector->again)
		r = take_ranges(conn);
	vector->again = false;
	while (!r && used < len && !is_reading(vector)) {
		if (vector->prefix_len < PREFIX_BYTES)
			r = take_prefix(conn, data, len, &used);
		else if (vector->json_at < vector->json_len)
			r = take_json(conn, data, len, &used);
		else
			r = take_bytes(conn, data, len, &used);
	}
	return !r && is_reading(vector) ? leave(conn, len - used, ret_left) : r;
}

int maas_http_data_write_finish(struct maas_http_conn *conn)
{
	const struct maas_http_vector *vector = conn->req.vector;

	if (!is_started(vector) || vector->current < vector->pieces.count)
		return fail_frame(conn, "the body ended early; the ranges that came in full were "
					"written");
	return maas_http_reply_empty(conn);
}
