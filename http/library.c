/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What libmicrohttpd asks and says besides requests: how text is unescaped, what it makes of a
 * request's line, its log. Two faults of it are kept from clients here.
 *
 * A query of a thousand arguments does not fit into the connection's memory, and then version
 * 0.9.75 forgets to go on: so longer queries are cut off before the library takes them apart.
 *
 * Where version 0.9.75 refuses a head itself, for its Content-Length, for want of a Host or of room
 * for its headers, it may send the head of its answer twice, or blame the Host. All that shows of
 * that is a line in its log, in the thread of the connection: there the connection gets an answer
 * of ours, after which nothing more can be sent.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "http/internal.h"

/* Of this thread: the connections whose request has a line, and not yet all its headers. */
static _Thread_local LIST_HEAD(, maas_http_conn) open_heads;

size_t maas_http_on_unescape(void *cls, struct MHD_Connection *mhd, char *text)
{
	(void)cls;
	(void)mhd;
	return maas_http_unescape(text);
}

void maas_http_head_opened(struct maas_http_conn *conn)
{
	if (conn->head_open)
		return;
	conn->head_open = true;
	LIST_INSERT_HEAD(&open_heads, conn, head_link);
}

void maas_http_head_closed(struct maas_http_conn *conn)
{
	if (!conn->head_open)
		return;
	conn->head_open = false;
	LIST_REMOVE(conn, head_link);
}

static bool has_many_arguments(const char *query)
{
	unsigned int count = 1;

	for (; query && *query; query++)
		count += *query == '&';
	return count > MAAS_HTTP_MAX_ARGUMENTS;
}

/* NULL where the target holds what ends one, or what no program agrees about: then the line can be
 * read in two ways. */
static const char *target_end(const char *line)
{
	while (line && (unsigned char)*line > ' ' && *line != 0x7f)
		line++;
	return line && !*line ? line : NULL;
}

void *maas_http_on_line(void *cls, const char *line, struct MHD_Connection *mhd)
{
	struct maas_http_conn *conn =
		MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
	char *query = line ? strchr(line, '?') : NULL;

	(void)cls;
	if (!conn)
		return NULL;
	maas_http_head_opened(conn);
	conn->target_end = target_end(line);
	conn->many_arguments = has_many_arguments(query);
	/* The library is about to cut the text up itself. */
	if (conn->many_arguments)
		query[1] = '\0';
	return NULL;
}

/* ---- the library's log */

/* Its words for every handshake that fails, whatever the reason. */
#define FAILED_HANDSHAKE "Error: received handshake message out of context"

#if MHD_VERSION < 0x00097701
#define TOO_LARGE                                                                                  \
	MHD_HTTP_REQUEST_HEADER_FIELDS_TOO_LARGE, "headers_too_large",                             \
		"the request has too many headers or cookies, or a cookie that is malformed"

static const struct {
	const char *begins; /* the library's words */
	unsigned int status;
	const char *code;
	const char *message;
} refusals[] = {
	{"Failed to parse `Content-Length'", MHD_HTTP_BAD_REQUEST, "bad_length",
	 "Content-Length must be a whole number below 2^63"},
	{"Too large value of 'Content-Length'", MHD_HTTP_CONTENT_TOO_LARGE, "body_too_large",
	 "Content-Length is larger than any body can be"},
	{"Received HTTP/1.1 request without `Host'", MHD_HTTP_BAD_REQUEST, "bad_host",
	 "there must be one Host header"},
	{"Not enough memory in pool to allocate header record", TOO_LARGE},
	{"Not enough memory in pool to parse cookies", TOO_LARGE},
};

static void answer_refused(const char *text)
{
	struct maas_http_conn *conn = LIST_FIRST(&open_heads);
	size_t i = 0;

	while (i < MAAS_ARRAY_SIZE(refusals) &&
	       strncmp(text, refusals[i].begins, strlen(refusals[i].begins)) != 0)
		i++;
	/* Where several heads are under way, the library does not say whose it was. */
	if (i == MAAS_ARRAY_SIZE(refusals) || !conn || LIST_NEXT(conn, head_link))
		return;
	conn->out.len = 0;
	maas_buf_printf(&conn->out, "{\"error\":{\"code\":\"%s\",\"message\":\"%s\"}}\n",
			refusals[i].code, refusals[i].message);
	maas_http_reply_by_hand(conn, refusals[i].status);
	shutdown(conn->fd, SHUT_WR);
}
#else
static void answer_refused(const char *text)
{
	(void)text;
}
#endif

void maas_http_on_library_log(void *cls, const char *fmt, va_list args)
{
	char text[256];

	(void)cls;
	vsnprintf(text, sizeof(text), fmt, args);
	text[strcspn(text, "\n")] = '\0';
	if (!strncmp(text, FAILED_HANDSHAKE, strlen(FAILED_HANDSHAKE)))
		maas_http_tls_failed();
	answer_refused(text);
	log_debug("libmicrohttpd: %s", text);
}
