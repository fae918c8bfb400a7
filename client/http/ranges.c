/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests for bytes: one range is GET or PUT of the allocation's data, several are one POST of all
 * of them.
 */
#include "client/http/internal.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PREFIX_BYTES 4 /* of POST /data/write: the length of its JSON, little-endian */

static int check_ranges(const struct maas_range *ranges, uint32_t count, uint64_t *ret_len)
{
	uint64_t len = 0;

	for (uint32_t i = 0; i < count; i++) {
		const struct maas_range *range = &ranges[i];
		int r = maas_check_id(range->id);

		if (r)
			return r;
		if (!range->len || !range->buf)
			return maas_fail(-EINVAL, "range %u has no bytes", i);
		if (range->offset > INT64_MAX || range->len > INT64_MAX - range->offset ||
		    range->len > INT64_MAX - len)
			return maas_fail(-ERANGE, "range %u ends beyond 2^63", i);
		len += range->len;
	}
	*ret_len = len;
	return 0;
}

static void write_ranges(struct maas_buf *out, const struct maas_range *ranges, uint32_t count)
{
	maas_buf_str(out, "{\"ranges\":[");
	for (uint32_t i = 0; i < count; i++)
		maas_buf_printf(out, "%s{\"id\":\"%s\",\"offset\":%llu,\"length\":%zu}",
				i ? "," : "", ranges[i].id, (unsigned long long)ranges[i].offset,
				ranges[i].len);
	maas_buf_str(out, "]}");
}

static void ask_to_read(struct maas_request *request, const struct maas_range *ranges,
			uint32_t count, uint64_t len)
{
	if (count == 1) {
		maas_request_init(request, "GET", "/allocate/%s/data", ranges->id);
		snprintf(request->range, sizeof(request->range), "%llu-%llu",
			 (unsigned long long)ranges->offset,
			 (unsigned long long)(ranges->offset + ranges->len - 1));
	} else {
		maas_request_init(request, "POST", "/data/read");
		request->json = true;
		write_ranges(&request->head, ranges, count);
	}
	request->in = ranges;
	request->num_in = count;
	request->in_len = len;
}

static int ask_to_write(struct maas_request *request, const struct maas_range *ranges,
			uint32_t count, uint64_t len)
{
	if (count == 1) {
		maas_request_init(request, "PUT", "/allocate/%s/data", ranges->id);
		snprintf(request->content_range, sizeof(request->content_range),
			 "Content-Range: bytes %llu-%llu/*", (unsigned long long)ranges->offset,
			 (unsigned long long)(ranges->offset + ranges->len - 1));
	} else {
		size_t json_len;

		maas_request_init(request, "POST", "/data/write");
		maas_buf_add(&request->head, "\0\0\0", PREFIX_BYTES);
		write_ranges(&request->head, ranges, count);
		if (request->head.error) {
			maas_request_fini(request);
			return maas_fail(-ENOMEM, "out of memory");
		}
		json_len = request->head.len - PREFIX_BYTES;
		for (int i = 0; i < PREFIX_BYTES; i++)
			request->head.data[i] = (char)(json_len >> (8 * i) & 0xff);
	}
	request->out = ranges;
	request->num_out = count;
	request->out_len = len;
	return 0;
}

int maas_http_client_request(struct maas_request *request, const struct maas_range *ranges,
			     uint32_t count, bool read)
{
	uint64_t len;
	int r = check_ranges(ranges, count, &len);

	if (r)
		return r;
	if (!read)
		return ask_to_write(request, ranges, count, len);
	ask_to_read(request, ranges, count, len);
	return 0;
}

struct span {
	uint64_t first;
	uint64_t last;
	uint64_t total;
};

/* "bytes 0-9/100" */
static bool parse_span(const char *text, struct span *ret_span)
{
	unsigned long long value[3] = {0};
	const char *before[] = {"bytes ", "-", "/"};

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(before); i++) {
		size_t len = strlen(before[i]);
		char *end;

		if (strncmp(text, before[i], len) != 0 || !isdigit((unsigned char)text[len]))
			return false;
		value[i] = strtoull(text + len, &end, 10);
		text = end;
	}
	*ret_span = (struct span){value[0], value[1], value[2]};
	return !*text;
}

/* By HTTP's rules a server leaves out bytes behind the end instead of failing. */
static int check_span(const struct maas_request *request)
{
	const struct maas_range *range = request->in;
	uint64_t last = range->offset + range->len - 1;
	struct span span;

	if (!parse_span(request->span, &span) || span.first != range->offset || span.last > last ||
	    (span.last < last && span.last + 1 != span.total))
		return maas_fail(-EPROTO, "the server sent the range \"%s\" where %s was asked for",
				 request->span, request->range);
	if (span.last < last)
		return maas_fail(-ERANGE, "the range lies outside of the allocation's %llu bytes",
				 (unsigned long long)span.total);
	return 0;
}

int maas_http_client_check(const struct maas_request *request)
{
	int r = *request->range ? check_span(request) : 0;

	if (r || request->received == request->in_len)
		return r;
	return maas_fail(-EPROTO, "the server sent %llu of %llu bytes",
			 (unsigned long long)request->received,
			 (unsigned long long)request->in_len);
}
