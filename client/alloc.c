/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Allocations are asked for here: one or many, in one request with a request id, so that a request
 * that is sent again gives the same answer. Over RDMA the answer has the keys, too. Any thread; no
 * lock.
 */
#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "client/transport.h"

#define REQUEST_ID_BYTES 33

static const char *const lifetime_names[] = {
	[MAAS_LIFETIME_DEFAULT] = NULL,
	[MAAS_LIFETIME_DELETE] = "delete",
	[MAAS_LIFETIME_TTL] = "ttl",
	[MAAS_LIFETIME_SESSION] = "session",
};

static int copy_options(const struct maas *maas, const struct maas_alloc_options *from,
			struct maas_alloc_options *ret_options)
{
	struct maas_alloc_options options;
	int r = maas_copy_options(from, &options, sizeof(options));

	if (r)
		return r;
	if (!options.owner)
		options.owner = maas->owner;
	if (options.owner && !maas_name_valid(options.owner))
		return maas_fail(-EINVAL,
				 "\"%s\" cannot name an owner: 1 to 63 characters of "
				 "A-Z a-z 0-9 . _ : / @ -",
				 options.owner);
	if ((unsigned int)options.lifetime >= MAAS_ARRAY_SIZE(lifetime_names))
		return maas_fail(-EINVAL, "options.lifetime is none of the four");
	if (options.lifetime == MAAS_LIFETIME_DEFAULT)
		options.lifetime = options.ttl_seconds ? MAAS_LIFETIME_TTL : MAAS_LIFETIME_DELETE;
	if ((options.lifetime == MAAS_LIFETIME_TTL) != (options.ttl_seconds != 0))
		return maas_fail(-EINVAL, "ttl_seconds goes with MAAS_LIFETIME_TTL");
	*ret_options = options;
	return 0;
}

/* 128 random bits: the same answer for a retry, another for every call. */
static int make_request_id(char text[REQUEST_ID_BYTES])
{
	unsigned char bytes[16];

	if (getrandom(bytes, sizeof(bytes), 0) != sizeof(bytes))
		return maas_fail(-EIO, "no random bytes for a request id");
	for (size_t i = 0; i < sizeof(bytes); i++)
		snprintf(text + 2 * i, 3, "%02x", bytes[i]);
	return 0;
}

/* Over RDMA every allocation comes with the session's key to it; over HTTP a session is for its
 * lifetime alone, and no connection must be asked for. "": none is needed. */
static int need_session(struct maas *maas, const struct maas_alloc_options *options,
			uint64_t deadline_ms, char session[MAAS_ID_BYTES])
{
	*session = '\0';
	if (!maas->transport->keys && options->lifetime != MAAS_LIFETIME_SESSION)
		return 0;
	return maas_client_session_need(maas, deadline_ms, session);
}

/* The request's body. `count` 0: for a single allocation, which has a form of its own. */
static int write_body(const struct maas *maas, uint64_t size_bytes, uint32_t count,
		      const struct maas_alloc_options *options, const char *session,
		      struct maas_buf *out)
{
	char request_id[REQUEST_ID_BYTES];
	int r;

	maas_buf_printf(out, "{\"size_bytes\":%llu,\"lifetime\":\"%s\"",
			(unsigned long long)size_bytes, lifetime_names[options->lifetime]);
	if (count)
		maas_buf_printf(out, ",\"count\":%u", count);
	if (options->ttl_seconds)
		maas_buf_printf(out, ",\"ttl_seconds\":%u", options->ttl_seconds);
	if (options->owner)
		maas_buf_printf(out, ",\"owner\":\"%s\"", options->owner);
	if (*session)
		maas_buf_printf(out, ",\"session\":\"%s\",\"access\":\"%s\"", session,
				maas->transport->keys ? "rw" : "none");
	r = options->request_id ? 0 : make_request_id(request_id);
	if (r)
		return r;
	maas_buf_str(out, ",\"request_id\":");
	maas_buf_json(out, options->request_id ? options->request_id : request_id);
	maas_buf_str(out, "}");
	return 0;
}

/* The members that the answer does not repeat are taken from the request. */
static void add_asked(const struct maas_alloc_options *options, struct maas_allocation *allocation)
{
	allocation->lifetime = options->lifetime;
	allocation->ttl_seconds = options->ttl_seconds;
	allocation->lease_seconds = options->ttl_seconds;
}

struct asked {
	struct maas *maas;
	uint64_t size_bytes;
	uint32_t count;
	const struct maas_alloc_options *options;
	struct maas_allocation *allocations;
};

static int read_one(void *arg, size_t index, const json_t *answer)
{
	const struct asked *asked = arg;
	const struct maas_transport *transport = asked->maas->transport;
	struct maas_allocation *at = &asked->allocations[index];
	int r;

	if (index == asked->count)
		return maas_fail(-EPROTO, "allocations asked for: %u; the answer has more",
				 asked->count);
	r = maas_json_allocation(answer, at);
	if (r)
		return r;
	if (at->size_bytes != asked->size_bytes)
		return maas_fail(-EPROTO, "bytes asked for: %llu; the answer has %llu",
				 (unsigned long long)asked->size_bytes,
				 (unsigned long long)at->size_bytes);
	add_asked(asked->options, at);
	if (transport->keys)
		transport->add_key(asked->maas, at->id, json_object_get(answer, "rdma"));
	return 0;
}

/* The owner that was asked for, or that the server says there is: once, also for many. */
static void set_owner(const struct asked *asked, const json_t *answer)
{
	const char *owner = asked->options->owner;

	if (!owner)
		owner = json_string_value(json_object_get(answer, "owner"));
	for (uint32_t i = 0; owner && maas_name_valid(owner) && i < asked->count; i++)
		snprintf(asked->allocations[i].owner, MAAS_OWNER_BYTES, "%s", owner);
}

static int read_single(struct asked *asked, const struct maas_buf *text)
{
	json_t *answer;
	int r = maas_json_parse(text, &answer);

	if (r)
		return r;
	r = read_one(asked, 0, answer);
	if (!r)
		set_owner(asked, answer);
	json_decref(answer);
	return r;
}

static int read_many(struct asked *asked, const struct maas_buf *text)
{
	json_t *rest;
	int count = maas_json_list(text, "allocations", read_one, asked, &rest);

	if (count < 0)
		return count;
	set_owner(asked, rest);
	json_decref(rest);
	if ((uint32_t)count != asked->count)
		return maas_fail(-EPROTO, "allocations asked for: %u; the answer has %d",
				 asked->count, count);
	return 0;
}

static int allocate(struct maas *maas, uint64_t size_bytes, uint32_t count,
		    const struct maas_alloc_options *options,
		    struct maas_allocation *ret_allocations)
{
	struct asked asked = {maas, size_bytes, count ? count : 1, options, ret_allocations};
	uint64_t deadline_ms = maas_deadline_ms(maas);
	char session[MAAS_ID_BYTES];
	struct maas_request request;
	int r;

	maas_request_init(&request, "POST", "/allocate");
	request.json = true;
	request.follow = true;
	request.max_text = MAAS_SMALL_ANSWER + count * MAAS_ENTRY_ANSWER;
	r = need_session(maas, options, deadline_ms, session);
	if (!r)
		r = write_body(maas, size_bytes, count, options, session, &request.head);
	if (!r)
		r = maas->transport->keys ? maas->transport->call(maas, &request, deadline_ms)
					  : maas_call(maas, &request, deadline_ms);
	/* The server's word. What RDMA says so of itself may be of a session before. */
	if (r == -EKEYREVOKED && request.status == 404)
		maas_client_session_unknown(maas, session);
	if (!r)
		r = count ? read_many(&asked, &request.text) : read_single(&asked, &request.text);
	maas_request_fini(&request);
	return r;
}

int maas_alloc(struct maas *maas, uint64_t size_bytes, const struct maas_alloc_options *options,
	       struct maas_allocation *ret_allocation)
{
	struct maas_allocation allocation;
	struct maas_alloc_options copy;
	int r = maas_enter(maas);

	if (!r)
		r = copy_options(maas, options, &copy);
	if (!r)
		r = allocate(maas, size_bytes, 0, &copy, &allocation);
	if (!r)
		*ret_allocation = allocation;
	return r;
}

int maas_alloc_many(struct maas *maas, uint64_t size_bytes, uint32_t count,
		    const struct maas_alloc_options *options,
		    struct maas_allocation *ret_allocations)
{
	struct maas_alloc_options copy;
	int r = maas_enter(maas);

	if (!r && (!count || count > MAAS_MAX_BATCH))
		r = maas_fail(-EINVAL, "1 to %d allocations in one call", MAAS_MAX_BATCH);
	if (!r)
		r = copy_options(maas, options, &copy);
	return r ? r : allocate(maas, size_bytes, count, &copy, ret_allocations);
}
