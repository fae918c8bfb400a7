/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A request on its way: sets up a curl handle for it, feeds and takes its bytes in curl's
 * callbacks, and reads the outcome. The thread that drives the curl handle has the transfer; no
 * lock.
 */
#include <errno.h>
#include <string.h>
#include <strings.h>

#include "client/internal.h"

#define CURL_TOO_LARGE ((CURLcode)100) /* CURLE_TOO_LARGE, which older headers lack */

#define BUFFER_BYTES   (512L << 10)

/* ---- curl's callbacks */

static size_t send_some(char *to, size_t size, size_t count, void *arg)
{
	struct maas_client_transfer *transfer = arg;
	const struct maas_request *request = transfer->request;
	size_t room = size * count;
	size_t n = request->head.len - transfer->head_at;

	if (n) {
		n = n < room ? n : room;
		memcpy(to, request->head.data + transfer->head_at, n);
		transfer->head_at += n;
		return n;
	}
	while (n < room && transfer->out_index < request->num_out) {
		const struct maas_range *range = &request->out[transfer->out_index];
		size_t part = range->len - transfer->out_at;

		part = part < room - n ? part : room - n;
		memcpy(to + n, (const char *)range->buf + transfer->out_at, part);
		n += part;
		transfer->out_at += part;
		if (transfer->out_at == range->len) {
			transfer->out_index++;
			transfer->out_at = 0;
		}
	}
	return n;
}

/* curl sends a body again from its start when a kept connection turns out to be closed. */
static int rewind_body(void *arg, curl_off_t offset, int origin)
{
	struct maas_client_transfer *transfer = arg;

	if (offset || origin != SEEK_SET)
		return CURL_SEEKFUNC_CANTSEEK;
	transfer->head_at = 0;
	transfer->out_index = 0;
	transfer->out_at = 0;
	return CURL_SEEKFUNC_OK;
}

static void scatter(struct maas_client_transfer *transfer, const char *data, size_t len)
{
	struct maas_request *request = transfer->request;

	while (len && transfer->in_index < request->num_in) {
		const struct maas_range *range = &request->in[transfer->in_index];
		size_t part = range->len - transfer->in_at;

		part = part < len ? part : len;
		memcpy((char *)range->buf + transfer->in_at, data, part);
		data += part;
		len -= part;
		request->received += part;
		transfer->in_at += part;
		if (transfer->in_at == range->len) {
			transfer->in_index++;
			transfer->in_at = 0;
		}
	}
	if (len)
		transfer->fault = -EPROTO;
}

/* The status of success. */
static long status_due(const struct maas_request *request)
{
	return *request->range ? 206 : 200;
}

static size_t text_limit(const struct maas_request *request)
{
	bool small = request->status != status_due(request) || !request->max_text;

	return small ? MAAS_SMALL_ANSWER : request->max_text;
}

static size_t take_some(char *data, size_t size, size_t count, void *arg)
{
	struct maas_client_transfer *transfer = arg;
	struct maas_request *request = transfer->request;
	size_t len = size * count;

	curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &request->status);
	if (request->num_in && request->status == status_due(request)) {
		scatter(transfer, data, len);
	} else if (len > text_limit(request) - request->text.len) {
		transfer->fault = -EFBIG;
	} else {
		maas_buf_add(&request->text, data, len);
		transfer->fault = request->text.error;
	}
	return transfer->fault ? 0 : len;
}

/* Copies the value of the header `line` when it has that name. */
static void take_value(const char *line, size_t len, const char *name, char *to, size_t size)
{
	size_t at = strlen(name);

	if (len <= at || strncasecmp(line, name, at) != 0 || line[at] != ':')
		return;
	for (at++; at < len && (line[at] == ' ' || line[at] == '\t');)
		at++;
	while (len > at && strchr(" \t\r\n", line[len - 1]))
		len--;
	snprintf(to, size, "%.*s", (int)(len - at), line + at);
}

static size_t take_header(char *line, size_t size, size_t count, void *arg)
{
	struct maas_client_transfer *transfer = arg;
	struct maas_request *request = transfer->request;
	size_t len = size * count;

	transfer->head_bytes += len;
	if (transfer->head_bytes > MAAS_HEAD_ANSWER) {
		transfer->fault = -EMSGSIZE;
		return 0;
	}
	if (len > 5 && memcmp(line, "HTTP/", 5) == 0) /* a 100 may have come before it */
		request->span[0] = transfer->location[0] = '\0';
	take_value(line, len, "Content-Range", request->span, sizeof(request->span));
	take_value(line, len, "Location", transfer->location, sizeof(transfer->location));
	return len;
}

/* Curl calls this before each sending, and it sends by itself once more what it sent on a kept
 * connection that turns out to be closed. */
#if LIBCURL_VERSION_NUM >= 0x075000
static int count_sending(void *arg, char *from, char *to, int from_port, int to_port)
{
	struct maas_client_transfer *transfer = arg;

	(void)from;
	(void)to;
	(void)from_port;
	(void)to_port;
	transfer->request->sent++;
	return CURL_PREREQFUNC_OK;
}
#endif

/* ---- begin */

static int add_header(struct maas_client_transfer *transfer, const char *text)
{
	struct curl_slist *headers = curl_slist_append(transfer->headers, text);

	if (!headers)
		return -ENOMEM;
	transfer->headers = headers;
	return 0;
}

static int set_body(struct maas_client_transfer *transfer)
{
	struct maas_request *request = transfer->request;
	curl_off_t len = (curl_off_t)(request->head.len + request->out_len);
	CURL *easy = transfer->easy;

	curl_easy_setopt(easy, CURLOPT_POST, 1L);
	curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, len);
	if (request->num_out) {
		curl_easy_setopt(easy, CURLOPT_READFUNCTION, send_some);
		curl_easy_setopt(easy, CURLOPT_READDATA, transfer);
		curl_easy_setopt(easy, CURLOPT_SEEKFUNCTION, rewind_body);
		curl_easy_setopt(easy, CURLOPT_SEEKDATA, transfer);
		curl_easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE, BUFFER_BYTES);
	} else {
		curl_easy_setopt(easy, CURLOPT_POSTFIELDS,
				 request->head.len ? request->head.data : "");
	}
	if (*request->content_range && add_header(transfer, request->content_range))
		return -ENOMEM;
	if (add_header(transfer, "Expect:"))
		return -ENOMEM;
	return add_header(transfer, request->json ? "Content-Type: application/json"
						  : "Content-Type: application/octet-stream");
}

/* `path` at the server that the handle was opened for, and nowhere else. */
static int set_url(struct maas_client_transfer *transfer, const char *path, size_t len)
{
	struct maas_buf url = {0};
	int r = 0;

	maas_buf_str(&url, transfer->maas->url.base);
	maas_buf_add(&url, path, len);
	maas_buf_add(&url, "", 1);
	if (url.error || curl_easy_setopt(transfer->easy, CURLOPT_URL, url.data))
		r = -ENOMEM;
	maas_buf_fini(&url);
	return r;
}

/* The name in the URL is the certificate's. */
static int set_host(struct maas_client_transfer *transfer)
{
	const struct maas_url *url = &transfer->maas->url;

	if (curl_easy_setopt(transfer->easy, CURLOPT_CONNECT_TO, url->connect_to))
		return -ENOMEM;
	return add_header(transfer, url->host_header);
}

static int set_request(struct maas_client_transfer *transfer)
{
	struct maas_request *request = transfer->request;
	CURL *easy = transfer->easy;
	int r = request->path.error || request->head.error ? -ENOMEM : 0;

	if (!r)
		r = set_url(transfer, request->path.data, request->path.len);
	if (!r && transfer->maas->url.connect_to)
		r = set_host(transfer);
	if (!r && transfer->maas->url.unix_path &&
	    curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, transfer->maas->url.unix_path))
		r = -ENOMEM;
	if (!r && strcmp(request->method, "GET") != 0 && strcmp(request->method, "DELETE") != 0)
		r = set_body(transfer);
	if (!r && *request->range && curl_easy_setopt(easy, CURLOPT_RANGE, request->range))
		r = -ENOMEM;
	/* After the body's options, which would set a method of their own. */
	if (!r && strcmp(request->method, "GET") != 0 && strcmp(request->method, "POST") != 0 &&
	    curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request->method))
		r = -ENOMEM;
	return r;
}

/* Requests go to the server of the URL alone, so the token does, too. */
static int set_token(struct maas_client_transfer *transfer)
{
	char header[MAAS_TOKEN_HEADER];
	int r = 0;

	if (maas_token_header(&transfer->maas->token, header, &transfer->request->reading))
		r = add_header(transfer, header);
	explicit_bzero(header, sizeof(header));
	return r;
}

static int set_files(struct maas_client_transfer *transfer)
{
	transfer->files = maas_tls_get(&transfer->maas->tls);
	if (!transfer->files)
		return 0;
	transfer->request->files = transfer->files->number;
	return maas_tls_set(transfer->files, transfer->easy);
}

/* A request that must not be sent twice unnoticed: an older curl gets a new connection for it, on
 * which it sends once. */
static void set_count(struct maas_client_transfer *transfer)
{
	struct maas_request *request = transfer->request;
	bool fresh = request->once;

#if LIBCURL_VERSION_NUM >= 0x075000
	curl_easy_setopt(transfer->easy, CURLOPT_PREREQFUNCTION, count_sending);
	curl_easy_setopt(transfer->easy, CURLOPT_PREREQDATA, transfer);
#else
	request->sent++;
	fresh = fresh || request->counted;
#endif
	curl_easy_setopt(transfer->easy, CURLOPT_FRESH_CONNECT, fresh ? 1L : 0L);
}

void maas_client_quick_exit(CURL *easy)
{
#if LIBCURL_VERSION_NUM >= 0x075700
	curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
#else
	(void)easy;
#endif
}

/* Forbids what curl would do by itself. */
static void set_bounds(CURL *easy, bool tls)
{
#if LIBCURL_VERSION_NUM >= 0x075500
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, tls ? "https" : "http");
	curl_easy_setopt(easy, CURLOPT_REDIR_PROTOCOLS_STR, tls ? "https" : "http");
#else
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS, tls ? CURLPROTO_HTTPS : CURLPROTO_HTTP);
	curl_easy_setopt(easy, CURLOPT_REDIR_PROTOCOLS, tls ? CURLPROTO_HTTPS : CURLPROTO_HTTP);
#endif
	curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2); /* or later */
	curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	maas_client_quick_exit(easy);
	curl_easy_setopt(easy, CURLOPT_PROXY, ""); /* memory is not fetched through a proxy */
}

void maas_client_transfer_drop(struct maas_client_transfer *transfer)
{
	curl_slist_free_all(transfer->headers);
	transfer->headers = NULL;
	maas_tls_put(&transfer->maas->tls, transfer->files);
	transfer->files = NULL;
}

int maas_client_transfer_begin(struct maas_client_transfer *transfer, CURL *easy, struct maas *maas,
			       struct maas_request *request, uint32_t timeout_ms)
{
	int r;

	*transfer = (struct maas_client_transfer){
		.request = request,
		.maas = maas,
		.easy = easy,
		.timeout_ms = timeout_ms,
		.deadline_ms = maas_clock_ms() + timeout_ms,
	};
	request->text.len = 0;
	request->span[0] = '\0';
	request->received = 0;
	request->status = 0;
	request->mute = false;
	request->tries++;
	curl_easy_reset(easy);
	set_bounds(easy, maas->url.tls);
	curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)timeout_ms);
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)maas->options.connect_timeout_ms);
	curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, BUFFER_BYTES);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_some);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, transfer);
	curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, take_header);
	curl_easy_setopt(easy, CURLOPT_HEADERDATA, transfer);
	curl_easy_setopt(easy, CURLOPT_PRIVATE, transfer);
	set_count(transfer);
	r = set_request(transfer);
	if (!r)
		r = set_token(transfer);
	if (!r)
		r = set_files(transfer);
	if (!r && curl_easy_setopt(easy, CURLOPT_HTTPHEADER, transfer->headers))
		r = -ENOMEM;
	if (r) {
		maas_client_transfer_drop(transfer);
		maas_error_set("out of memory");
	}
	return r;
}

/* ---- end */

bool maas_client_transfer_follow(struct maas_client_transfer *transfer)
{
	struct maas_request *request = transfer->request;
	struct maas_buf path = {0};
	uint64_t now_ms = maas_clock_ms();
	long left_ms = transfer->deadline_ms > now_ms ? (long)(transfer->deadline_ms - now_ms) : 1;
	char *to = NULL;
	bool same;

	curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &request->status);
	curl_easy_getinfo(transfer->easy, CURLINFO_REDIRECT_URL, &to);
	if (request->status != 307 || !request->follow || !to)
		return false;
	same = maas_url_same(&transfer->maas->url, to, &path) &&
	       !set_url(transfer, path.data, path.len) &&
	       !curl_easy_setopt(transfer->easy, CURLOPT_TIMEOUT_MS, left_ms);
	maas_buf_fini(&path);
	if (!same)
		return false;
	transfer->followed = true;
	transfer->head_bytes = 0;
	request->text.len = 0;
	return true;
}

static int fail_redirected(const struct maas_client_transfer *transfer)
{
	long status = transfer->request->status;

	if (transfer->followed)
		return maas_fail(-EPROTO, "%s redirects twice, now to \"%s\" (status %ld)",
				 transfer->maas->url.text, transfer->location, status);
	if (status == 307 && transfer->request->follow)
		return maas_fail(-EPROTO,
				 "%s redirects to another server, which was not asked: "
				 "\"%s\"",
				 transfer->maas->url.text, transfer->location);
	return maas_fail(-EPROTO,
			 "%s redirects to \"%s\" (status %ld): only an allocation "
			 "follows a 307",
			 transfer->maas->url.text, transfer->location, status);
}

/* The sentence for an answer that a callback refused. */
static int fail_taken(const struct maas_client_transfer *transfer)
{
	const struct maas_request *request = transfer->request;
	const char *url = transfer->maas->url.text;

	switch (transfer->fault) {
	case -EPROTO:
		return maas_fail(-EPROTO, "%s sent more bytes than were asked for", url);
	case -EMSGSIZE:
		return maas_fail(-EPROTO, "the head of %s's answer is longer than %zu bytes", url,
				 MAAS_HEAD_ANSWER);
	case -EFBIG:
		if (request->status >= 400)
			return maas_fail_status(request->status, "", 0);
		return maas_fail(-EPROTO, "%s's answer is longer than the %zu bytes it can have",
				 url, text_limit(request));
	default:
		return maas_fail(transfer->fault, "out of memory");
	}
}

/* Whether the server was there and had not a word to say: it may speak TLS where the URL says that
 * it does not, or the reverse. */
static bool is_mute(const struct maas_client_transfer *transfer, CURLcode code)
{
	double shaken = 0;

	if (transfer->head_bytes)
		return false;
	switch (code) {
	case CURLE_SEND_ERROR:
	case CURLE_RECV_ERROR:
	case CURLE_GOT_NOTHING:
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_UNSUPPORTED_PROTOCOL: /* curl's result for bytes that are not HTTP */
		return true;
	case CURLE_OPERATION_TIMEDOUT:
		curl_easy_getinfo(transfer->easy, CURLINFO_APPCONNECT_TIME, &shaken);
		return transfer->maas->url.tls && shaken == 0;
	default:
		return false;
	}
}

int maas_client_transfer_end(struct maas_client_transfer *transfer, CURLcode code)
{
	struct maas_request *request = transfer->request;

	curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &request->status);
	request->mute = is_mute(transfer, code);
	maas_client_transfer_drop(transfer);
	/* Curl's result for a header line of 100 KiB, before 8.6 and since. */
	if ((code == CURLE_OUT_OF_MEMORY || code == CURL_TOO_LARGE) && transfer->head_bytes)
		transfer->fault = -EMSGSIZE;
	if (transfer->fault)
		return fail_taken(transfer);
	if (code)
		return maas_fail_curl(transfer->maas, transfer->easy, code, transfer->timeout_ms,
				      request->mute);
	if (request->status == status_due(request))
		return 0;
	if (request->status >= 300 && request->status < 400)
		return fail_redirected(transfer);
	if (request->status >= 400)
		return maas_fail_status(request->status, request->text.data, request->text.len);
	if (request->status == 200 && *request->range)
		return maas_fail(-EPROTO, "the server sent all bytes where some were asked for");
	return maas_fail(-EPROTO, "%s answered with status %ld where %ld was due; is it maasd?",
			 transfer->maas->url.text, request->status, status_due(request));
}
