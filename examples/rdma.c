/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keeps 16 transfers under way at once over RDMA, and waits for all of them on one file descriptor,
 * as a program with an event loop does.
 *
 *	cc -o rdma rdma.c $(pkg-config --cflags --libs libmaas)
 *	MAAS_URL=http://OTHER-HOST:3000 ./rdma
 *
 * Each piece of a buffer is written to memory of its own, read back as soon as it is there, and
 * compared. Both hosts need an RDMA device: `maas doctor` says what is missing, and
 * `scripts/softroce shell` brings one for a try. With MAAS_TRANSPORT_AUTO instead of
 * MAAS_TRANSPORT_RDMA the same program runs over HTTP where there is none.
 */
#include <err.h>
#include <errno.h>
#include <maas.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PIECES	    16
#define PIECE_BYTES ((size_t)1 << 20)

struct piece {
	const char *id;
	char *out, *in; /* what is written, and what is read back */
	int read;	/* submitted: the next completion is that of the read */
};

/* Starts the piece's write, or its read; the completion brings the piece along. */
static void submit(struct maas *maas, struct piece *piece)
{
	struct maas_range range = {.id = piece->id, .len = PIECE_BYTES};
	int error;

	if (piece->read) {
		range.buf = piece->in;
		error = maas_submit_read(maas, &range, 1, 0, piece);
	} else {
		range.buf = piece->out;
		error = maas_submit_write(maas, &range, 1, 0, piece);
	}
	if (error)
		errx(1, "%s", maas_error());
}

/* Returns 1 when the piece is done, 0 when its read comes next. */
static int complete(struct maas *maas, const struct maas_completion *completion)
{
	struct piece *piece = completion->user;

	if (completion->status)
		errx(1, "%s", completion->error);
	if (!piece->read) {
		piece->read = 1;
		submit(maas, piece);
		return 0;
	}
	if (memcmp(piece->in, piece->out, PIECE_BYTES) != 0)
		errx(1, "%s: other bytes came back", piece->id);
	return 1;
}

/* The event loop: put the descriptors of your sockets and timers beside that of libmaas. */
static void loop(struct maas *maas)
{
	struct pollfd event = {.fd = maas_event_fd(maas), .events = POLLIN};
	struct maas_completion completions[PIECES];
	int done = 0, n, i;

	if (event.fd < 0)
		errx(1, "%s", maas_error());
	while (done < PIECES) {
		if (poll(&event, 1, -1) < 0 && errno != EINTR)
			err(1, "poll");
		n = maas_poll(maas, completions, PIECES, 0);
		if (n < 0)
			errx(1, "%s", maas_error());
		for (i = 0; i < n; i++)
			done += complete(maas, &completions[i]);
	}
}

int main(void)
{
	struct maas_options options = {
		.size = sizeof(options), .transport = MAAS_TRANSPORT_RDMA, .ttl_seconds = 30};
	struct maas_alloc_options lent = {.size = sizeof(lent), .lifetime = MAAS_LIFETIME_SESSION};
	struct maas_allocation memory[PIECES];
	struct piece pieces[PIECES];
	struct maas_buffer *buffer;
	struct maas *maas;
	char *bytes;
	int i;

	if (maas_open(&options, &maas) || maas_alloc_many(maas, PIECE_BYTES, PIECES, &lent, memory))
		errx(1, "%s", maas_error());
	/* Registered once, the buffer is pinned: the device reads and writes it without a copy. */
	bytes = malloc(PIECE_BYTES * PIECES * 2);
	if (!bytes)
		err(1, "malloc");
	if (maas_buffer_register(maas, bytes, PIECE_BYTES * PIECES * 2, &buffer))
		errx(1, "%s", maas_error());

	for (i = 0; i < PIECES; i++) {
		pieces[i] = (struct piece){.id = memory[i].id,
					   .out = bytes + PIECE_BYTES * (size_t)(2 * i),
					   .in = bytes + PIECE_BYTES * (size_t)(2 * i + 1)};
		memset(pieces[i].out, 'A' + i, PIECE_BYTES);
		submit(maas, &pieces[i]);
	}
	loop(maas);
	printf("%zu MiB went to %s and back\n", PIECE_BYTES * PIECES >> 20, maas_url(maas));

	if (maas_buffer_unregister(maas, buffer))
		errx(1, "%s", maas_error());
	maas_close(maas); /* gives the memory back, too: it was lent to the session */
	free(bytes);
	return 0;
}
