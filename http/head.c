/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The head of a request: its header lines, held against the bytes that they came in.
 *
 * Where a body begins, and whether there is one, follows from the head; two programs that read one
 * head differently see different requests (request smuggling). libmicrohttpd 0.9.75 forgives much:
 * it takes "Content-Length : 9" for another header, folds a continued line into a header's name,
 * and ends the head at a line that begins with a colon. So each line that it reports must follow
 * upon the one before without a gap, and the last one must be followed by the empty line and
 * nothing else (RFC 9112, 2.2 and 5). The same holds for the words of the request's line: a NUL in
 * it would end one early. What is left over was read by somebody in another way: such a
 * request is answered, not carried out, and its connection closes.
 */
#include <errno.h>
#include <string.h>
#include <strings.h>

#include "http/internal.h"

#define VERSION_BYTES 8 /* "HTTP/1.1" */
#define TRIMS_VALUES  (MHD_VERSION >= 0x00097701)

static const char *const field_names[MAAS_HTTP_FIELDS] = {
	[MAAS_HTTP_FIELD_HOST] = "Host",
	[MAAS_HTTP_FIELD_ORIGIN] = "Origin",
	[MAAS_HTTP_FIELD_FETCH_SITE] = "Sec-Fetch-Site",
	[MAAS_HTTP_FIELD_FETCH_MODE] = "Sec-Fetch-Mode",
	[MAAS_HTTP_FIELD_CONTENT_LENGTH] = "Content-Length",
	[MAAS_HTTP_FIELD_TRANSFER_ENCODING] = "Transfer-Encoding",
	[MAAS_HTTP_FIELD_CONTENT_TYPE] = "Content-Type",
	[MAAS_HTTP_FIELD_RANGE] = "Range",
	[MAAS_HTTP_FIELD_IF_RANGE] = "If-Range",
	[MAAS_HTTP_FIELD_CONTENT_RANGE] = "Content-Range",
	[MAAS_HTTP_FIELD_AUTHORIZATION] = "Authorization",
};
static const unsigned char field_lens[MAAS_HTTP_FIELDS] = {4, 6, 14, 14, 14, 17, 12, 5, 8, 13, 13};

/* The bytes of a name (RFC 9110, 5.6.2), and those of a value: no control characters but the tab
 * (5.5). */
static const bool in_name[256] = {
	['!'] = true,	      ['#'] = true,	    ['$'] = true, ['%'] = true,
	['&'] = true,	      ['\''] = true,	    ['*'] = true, ['+'] = true,
	['-'] = true,	      ['.'] = true,	    ['^'] = true, ['_'] = true,
	['`'] = true,	      ['|'] = true,	    ['~'] = true, ['0' ... '9'] = true,
	['A' ... 'Z'] = true, ['a' ... 'z'] = true,
};
static const bool in_value[256] = {
	['\t'] = true,
	[' ' ... '~'] = true,
	[0x80 ... 0xff] = true,
};

static const char *end_of(const char *text, const bool allowed[256])
{
	while (allowed[(unsigned char)*text])
		text++;
	return text;
}

/* The walk through the lines. */
struct walk {
	struct maas_http_request *req;
	const char *at; /* behind what was read so far: the end of a line begins here */
	bool bad;
};

/*
 * CR LF, over which the library has put NULs; newer versions leave the blanks behind a value, and
 * put a NUL over the first of them. So a NUL that was sent in the place of a CR is not seen.
 */
static bool is_line_end(const char *from, const char *to)
{
	ptrdiff_t len = to - from;

	if (len < 2 || (len > 2 && !TRIMS_VALUES))
		return false;
	for (ptrdiff_t i = 0; i < len - 2; i++)
		if (from[i] != ' ' && from[i] != '\t' && (i || from[i]))
			return false;
	return (!to[-2] || to[-2] == '\r') && (!to[-1] || to[-1] == '\n');
}

/* The colon, now a NUL, and blanks. */
static bool is_colon(const char *from, const char *to)
{
	if (to <= from || (*from && *from != ':'))
		return false;
	while (++from < to)
		if (*from != ' ' && *from != '\t')
			return false;
	return true;
}

static void keep_field(struct maas_http_request *req, const char *name, size_t len,
		       const char *value)
{
	for (unsigned int i = 0; i < MAAS_HTTP_FIELDS; i++) {
		if (len != field_lens[i] || strcasecmp(name, field_names[i]) != 0)
			continue;
		req->repeated |= req->fields[i] ? 1u << i : 0;
		req->fields[i] = value;
		return;
	}
}

static enum MHD_Result take_line(void *cls, enum MHD_ValueKind kind, const char *name,
				 const char *value)
{
	struct walk *walk = cls;
	const char *name_end = end_of(name, in_name);
	const char *value_end = value ? end_of(value, in_value) : NULL;

	(void)kind;
	if (!value || name_end == name || *name_end || *value_end || !is_line_end(walk->at, name) ||
	    !is_colon(name_end, value)) {
		walk->bad = true;
		return MHD_NO;
	}
	walk->at = value_end;
	keep_field(walk->req, name, (size_t)(name_end - name), value);
	return MHD_YES;
}

bool maas_http_is_repeated(const struct maas_http_request *req, enum maas_http_field field)
{
	return req->repeated >> field & 1;
}

/* What comes behind such a head could be body or the next request: it is taken for neither. */
static void distrust(struct maas_http_request *req)
{
	req->has_body = true;
	req->close = true;
}

static int refuse(struct maas_http_conn *conn, unsigned int status, const char *code,
		  const char *what)
{
	distrust(&conn->req);
	return maas_http_error(conn, status, code, "%s", what);
}

static int read_length(struct maas_http_conn *conn)
{
	struct maas_http_request *req = &conn->req;
	const char *encoding = req->fields[MAAS_HTTP_FIELD_TRANSFER_ENCODING];
	const char *length = req->fields[MAAS_HTTP_FIELD_CONTENT_LENGTH];

	if (maas_http_is_repeated(req, MAAS_HTTP_FIELD_TRANSFER_ENCODING) ||
	    maas_http_is_repeated(req, MAAS_HTTP_FIELD_CONTENT_LENGTH) || (encoding && length))
		return refuse(conn, MHD_HTTP_BAD_REQUEST, "bad_length",
			      "there must be one Content-Length, or one Transfer-Encoding instead");
	if (encoding) {
		req->has_body = true;
		req->chunked = true;
		/* Trailers may follow, which the library reads as leniently as a head. */
		req->close = true;
		if (strcasecmp(encoding, "chunked") != 0)
			return refuse(conn, MHD_HTTP_BAD_REQUEST, "bad_encoding",
				      "the only Transfer-Encoding here is chunked");
		return 0;
	}
	if (length && maas_http_u63_parse(length, &req->content_length))
		return refuse(conn, MHD_HTTP_BAD_REQUEST, "bad_length",
			      "Content-Length must be a whole number below 2^63");
	req->has_body = req->content_length > 0;
	return 0;
}

static int check_fields(struct maas_http_conn *conn, const char *version)
{
	struct maas_http_request *req = &conn->req;

	/* RFC 9112, 3.2: a client that speaks HTTP/1.1 says which host it means, once. */
	if (maas_http_is_repeated(req, MAAS_HTTP_FIELD_HOST) ||
	    (!req->fields[MAAS_HTTP_FIELD_HOST] &&
	     strncmp(version, "HTTP/1.0", VERSION_BYTES) != 0))
		return refuse(conn, MHD_HTTP_BAD_REQUEST, "bad_host",
			      "there must be one Host header");
	if (maas_http_is_repeated(req, MAAS_HTTP_FIELD_RANGE) ||
	    maas_http_is_repeated(req, MAAS_HTTP_FIELD_CONTENT_RANGE))
		return refuse(conn, MHD_HTTP_BAD_REQUEST, "bad_range",
			      "there must be one Range or Content-Range header at most");
	return read_length(conn);
}

/* Whether method, target and version are a word each, with one byte between them: over that, and
 * over the NULs that were sent, the library has put NULs. */
static bool is_line(const struct maas_http_conn *conn, const char *method, const char *url,
		    const char *version)
{
	const char *method_end = end_of(method, in_name);

	return !*method_end && method_end + 1 == url && conn->target_end &&
	       conn->target_end + 1 == version;
}

int maas_http_head_read(struct maas_http_conn *conn, const char *method, const char *url,
			const char *version)
{
	const union MHD_ConnectionInfo *info;
	size_t max = conn->http->options.max_header_bytes;
	struct walk walk = {.req = &conn->req};
	size_t size;

	info = MHD_get_connection_info(conn->mhd, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
	size = info ? info->header_size : 0;
	if (!is_line(conn, method, url, version))
		return refuse(conn, MHD_HTTP_BAD_REQUEST, "bad_header",
			      "the request's line must be METHOD TARGET HTTP/1.1, with one blank "
			      "between them and no control characters (RFC 9112, 3)");
	walk.at = version + VERSION_BYTES;
	if (walk.at <= method || walk.at > method + size)
		walk.bad = true;
	else
		MHD_get_connection_values(conn->mhd, MHD_HEADER_KIND, take_line, &walk);
	/* The last line's end, and the empty line. */
	if (walk.bad || !is_line_end(walk.at, method + size - 2) ||
	    !is_line_end(method + size - 2, method + size))
		return refuse(conn, MHD_HTTP_BAD_REQUEST, "bad_header",
			      "each header must be one line NAME: VALUE that ends with CR LF, the "
			      "name a token, the value without control characters (RFC 9112, 5)");
	if (size <= max)
		return check_fields(conn, version);
	distrust(&conn->req); /* its fields are not looked at */
	return maas_http_error(conn, MHD_HTTP_REQUEST_HEADER_FIELDS_TOO_LARGE, "headers_too_large",
			       "the request's headers take %zu bytes; this server reads at most "
			       "%zu (--max-header-size)",
			       size, max);
}
