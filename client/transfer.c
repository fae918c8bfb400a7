/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "client/internal.h"

#define BUFFER_BYTES   (512L << 10)
#define MAX_TEXT_BYTES (64u << 20) /* a page of 10,000 allocations has 3 MB */

/* ---- curl's callbacks */

static size_t send_some(char *to, size_t size, size_t count, void *arg)
{
	struct maas_transfer *transfer = arg;
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
	struct maas_transfer *transfer = arg;

	if (offset || origin != SEEK_SET)
		return CURL_SEEKFUNC_CANTSEEK;
	transfer->head_at = 0;
	transfer->out_index = 0;
	transfer->out_at = 0;
	return CURL_SEEKFUNC_OK;
}

static void scatter(struct maas_transfer *transfer, const char *data, size_t len)
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

static size_t take_some(char *data, size_t size, size_t count, void *arg)
{
	struct maas_transfer *transfer = arg;
	struct maas_request *request = transfer->request;
	size_t len = size * count;
	long status = 0;

	curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
	if (request->num_in && status >= 200 && status < 300) {
		scatter(transfer, data, len);
	} else if (request->text.len + len > MAX_TEXT_BYTES) {
		transfer->fault = -EPROTO;
	} else {
		maas_buf_add(&request->text, data, len);
		transfer->fault = request->text.error;
	}
	return transfer->fault ? 0 : len;
}

/* ---- begin */

static int add_header(struct maas_transfer *transfer, const char *text)
{
	struct curl_slist *headers = curl_slist_append(transfer->headers, text);

	if (!headers)
		return -ENOMEM;
	transfer->headers = headers;
	return 0;
}

static int set_body(struct maas_transfer *transfer)
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

static int set_request(struct maas_transfer *transfer)
{
	struct maas_request *request = transfer->request;
	CURL *easy = transfer->easy;
	struct maas_buf url = {0};
	int r = 0;

	maas_buf_str(&url, transfer->url->base);
	maas_buf_add(&url, request->path.data, request->path.len);
	maas_buf_add(&url, "", 1);
	if (url.error || request->path.error || request->head.error ||
	    curl_easy_setopt(easy, CURLOPT_URL, url.data))
		r = -ENOMEM;
	maas_buf_fini(&url);
	if (!r && transfer->url->unix_path &&
	    curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, transfer->url->unix_path))
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

int maas_transfer_begin(struct maas_transfer *transfer, CURL *easy, const struct maas_url *url,
			struct maas_request *request, uint32_t timeout_ms,
			uint32_t connect_timeout_ms)
{
	int r;

	*transfer = (struct maas_transfer){
		.request = request, .url = url, .easy = easy, .timeout_ms = timeout_ms};
	request->text.len = 0;
	request->received = 0;
	request->status = 0;
	request->tries++;
	curl_easy_reset(easy);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_PROXY, ""); /* memory is not fetched through a proxy */
	curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)timeout_ms);
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)connect_timeout_ms);
	curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, BUFFER_BYTES);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_some);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, transfer);
	curl_easy_setopt(easy, CURLOPT_PRIVATE, transfer);
	curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, request->once ? 1L : 0L);
	r = set_request(transfer);
	if (!r && curl_easy_setopt(easy, CURLOPT_HTTPHEADER, transfer->headers))
		r = -ENOMEM;
	if (r) {
		curl_slist_free_all(transfer->headers);
		transfer->headers = NULL;
		maas_error_set("out of memory");
	}
	return r;
}

/* ---- end */

bool maas_transfer_follow(struct maas_transfer *transfer)
{
	struct maas_request *request = transfer->request;
	char *to = NULL;

	curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &request->status);
	if (request->status != 307 || !request->follow)
		return false;
	request->follow = false;
	curl_easy_getinfo(transfer->easy, CURLINFO_REDIRECT_URL, &to);
	if (!to || strncmp(to, "http://", 7) != 0)
		return false;
	curl_easy_setopt(transfer->easy, CURLOPT_UNIX_SOCKET_PATH, NULL);
	request->text.len = 0;
	return curl_easy_setopt(transfer->easy, CURLOPT_URL, to) == CURLE_OK;
}

int maas_transfer_end(struct maas_transfer *transfer, CURLcode code)
{
	struct maas_request *request = transfer->request;
	long os_error = 0;

	curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &request->status);
	curl_easy_getinfo(transfer->easy, CURLINFO_OS_ERRNO, &os_error);
	curl_slist_free_all(transfer->headers);
	transfer->headers = NULL;
	if (transfer->fault == -EPROTO)
		return maas_fail(-EPROTO, "%s sent more bytes than were asked for",
				 transfer->url->text);
	if (transfer->fault)
		return maas_fail(transfer->fault, "out of memory");
	if (code)
		return maas_fail_curl(transfer->url, code, os_error, transfer->timeout_ms);
	if (request->status < 200 || request->status > 299)
		return maas_fail_status(request->status, request->text.data, request->text.len);
	return 0;
}
