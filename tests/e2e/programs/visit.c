/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls every function of libmaas that moves or describes memory, in a session, as a program that
 * was built with another version of the library does. Written for maas.h of 0.1.0: leave it as it
 * is.
 */
#include <err.h>
#include <maas.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#define COUNT 3u
#define BYTES ((size_t)100000)

#define MUST(call)                                                                                 \
	do {                                                                                       \
		if ((call) < 0)                                                                    \
			errx(1, "%s: %s", #call, maas_error());                                    \
	} while (0)
#define HOLDS(condition)                                                                           \
	do {                                                                                       \
		if (!(condition))                                                                  \
			errx(1, "not so: %s", #condition);                                         \
	} while (0)

static char out[COUNT][BYTES], in[COUNT][BYTES];

static void fill(void)
{
	for (size_t i = 0; i < COUNT; i++)
		for (size_t j = 0; j < BYTES; j++)
			out[i][j] = (char)(i * 7 + j * 13 + j / 251);
	memset(in, 0, sizeof(in));
}

static void take_one(struct maas *maas)
{
	struct maas_completion completion;
	struct pollfd ready = {.fd = maas_event_fd(maas), .events = POLLIN};

	HOLDS(poll(&ready, 1, 30000) == 1);
	HOLDS(maas_poll(maas, &completion, 1, 30000) == 1);
	if (completion.status)
		errx(1, "an operation: %s", completion.error);
	HOLDS(completion.user == out);
}

static void move_bytes(struct maas *maas, const struct maas_allocation *memory)
{
	struct maas_range write[COUNT], read[COUNT];
	struct maas_buffer *buffer;

	for (unsigned int i = 0; i < COUNT; i++) {
		write[i] = (struct maas_range){.id = memory[i].id, .buf = out[i], .len = BYTES};
		read[i] = (struct maas_range){.id = memory[i].id, .buf = in[i], .len = BYTES};
	}
	fill();
	MUST(maas_writev(maas, write, COUNT));
	MUST(maas_readv(maas, read, COUNT));
	HOLDS(memcmp(in, out, sizeof(in)) == 0);

	MUST(maas_write(maas, memory[1].id, 50, "hello", 5));
	MUST(maas_read(maas, memory[1].id, 50, in[1], 5));
	HOLDS(memcmp(in[1], "hello", 5) == 0);

	fill();
	MUST(maas_buffer_register(maas, in, sizeof(in), &buffer));
	MUST(maas_submit_write(maas, write, COUNT, 0, out));
	take_one(maas);
	MUST(maas_submit_read(maas, read, COUNT, 0, out));
	take_one(maas);
	MUST(maas_buffer_unregister(maas, buffer));
	HOLDS(memcmp(in, out, sizeof(in)) == 0);
}

/* What the server says of memory with a lease, and of the list of an owner. */
static void look(struct maas *maas)
{
	struct maas_alloc_options options = {
		.size = sizeof(options), .ttl_seconds = 60, .owner = "lister"};
	struct maas_allocation one, page[2];
	char cursor[MAAS_ID_BYTES] = "";
	char *text;
	int listed = 0;

	for (int i = 0; i < 5; i++)
		MUST(maas_alloc(maas, 1000, &options, &one));
	HOLDS(one.size_bytes == 1000 && one.lifetime == MAAS_LIFETIME_TTL && one.ttl_seconds == 60);
	MUST(maas_renew(maas, one.id, 90, &one));
	HOLDS(one.ttl_seconds == 90);
	MUST(maas_describe(maas, one.id, &one));
	HOLDS(strcmp(one.owner, "lister") == 0);
	do {
		int n = maas_list(maas, "lister", cursor, page, 2);

		MUST(n);
		for (int i = 0; i < n; i++)
			MUST(maas_free(maas, page[i].id));
		listed += n;
	} while (*cursor);
	HOLDS(listed == 5);
	HOLDS(maas_describe(maas, one.id, &one) < 0 && *maas_error());
	MUST(maas_get(maas, "/stats", &text, NULL));
	HOLDS(strstr(text, "active_allocations"));
	free(text);
}

int main(int argc, char **argv)
{
	struct maas_options options = {.size = sizeof(options),
				       .ttl_seconds = 20,
				       .session_name = "visitor",
				       .session_exclusive = true};
	struct maas_alloc_options bound = {.size = sizeof(bound),
					   .lifetime = MAAS_LIFETIME_SESSION};
	struct maas_allocation memory[COUNT];
	struct maas_session session;
	const char *ids[COUNT];
	bool missing[COUNT];
	struct maas *maas;

	options.transport = argc > 1 && strcmp(argv[1], "rdma") == 0 ? MAAS_TRANSPORT_RDMA
								     : MAAS_TRANSPORT_HTTP;
	MUST(maas_open(&options, &maas));
	HOLDS(maas_transport(maas) == options.transport);
	MUST(maas_reopen(maas));
	MUST(maas_session_get(maas, &session));
	HOLDS(session.state == MAAS_SESSION_LIVE && session.lease_ms > 10000);
	MUST(maas_alloc_many(maas, BYTES, COUNT, &bound, memory));
	move_bytes(maas, memory);
	look(maas);
	for (unsigned int i = 0; i < COUNT; i++)
		ids[i] = memory[i].id;
	HOLDS(maas_free_many(maas, ids, COUNT - 1, missing) == COUNT - 1 && !missing[0] &&
	      !missing[1]);
	maas_close(maas); /* which frees the last one */
	return 0;
}
