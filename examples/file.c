/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Puts a file into another host's memory over HTTP, reads it back from there and prints it.
 *
 *	cc -o file file.c $(pkg-config --cflags --libs libmaas)
 *	MAAS_URL=http://localhost:3000 ./file file.c | cmp - file.c
 *
 * A server with TLS: MAAS_URL=https://HOST:3000, and MAAS_CA_FILE, unless the machine knows its CA.
 * One that asks for a token: MAAS_TOKEN_FILE. The program is the same.
 *
 * A file of up to 10,000 MiB fits, if the server has slabs of 1 MiB or more, as it has by default:
 * the memory comes in pieces of 1 MiB, and one call allocates up to 10,000 of them. The memory
 * belongs to the session of this program: it goes back when the program ends, whether by
 * maas_close() or by a crash, after which the lease of the session runs out.
 */
#include <err.h>
#include <maas.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#define PIECE_BYTES (1 << 20)

static char buf[PIECE_BYTES];

/* Borrows one piece of memory for each MiB of the file, all or none. */
static struct maas_allocation *borrow(struct maas *maas, uint32_t count)
{
	struct maas_alloc_options options = {.size = sizeof(options),
					     .lifetime = MAAS_LIFETIME_SESSION};
	struct maas_allocation *pieces = calloc(count, sizeof(*pieces));

	if (!pieces)
		err(1, "calloc");
	if (maas_alloc_many(maas, PIECE_BYTES, count, &options, pieces))
		errx(1, "%s", maas_error());
	return pieces;
}

static void put(struct maas *maas, const struct maas_allocation *piece, FILE *file, size_t len)
{
	if (fread(buf, 1, len, file) != len)
		errx(1, "the file cannot be read, or became shorter");
	if (maas_write(maas, piece->id, 0, buf, len))
		errx(1, "%s", maas_error());
}

static void get(struct maas *maas, const struct maas_allocation *piece, size_t len)
{
	if (maas_read(maas, piece->id, 0, buf, len))
		errx(1, "%s", maas_error());
	if (fwrite(buf, 1, len, stdout) != len)
		err(1, "standard output");
}

int main(int argc, char **argv)
{
	/* Without .transport, RDMA carries the bytes where both hosts have it, else HTTP. */
	struct maas_options options = {
		.size = sizeof(options), .transport = MAAS_TRANSPORT_HTTP, .ttl_seconds = 30};
	struct maas_allocation *pieces;
	struct maas *maas;
	struct stat status;
	uint32_t count, i;
	size_t last;
	FILE *file;

	if (argc != 2)
		errx(2, "usage: file FILE");
	file = fopen(argv[1], "r");
	if (!file || fstat(fileno(file), &status))
		err(1, "%s", argv[1]);
	if (status.st_size < 1 || status.st_size > (off_t)MAAS_MAX_BATCH * PIECE_BYTES)
		errx(1, "%s: the file is empty, or larger than 10,000 MiB", argv[1]);
	count = (uint32_t)((status.st_size + PIECE_BYTES - 1) / PIECE_BYTES);
	last = (size_t)status.st_size - (size_t)(count - 1) * PIECE_BYTES;

	if (maas_open(&options, &maas))
		errx(1, "%s", maas_error());
	pieces = borrow(maas, count);
	for (i = 0; i < count; i++)
		put(maas, &pieces[i], file, i + 1 < count ? PIECE_BYTES : last);
	for (i = 0; i < count; i++)
		get(maas, &pieces[i], i + 1 < count ? PIECE_BYTES : last);
	maas_close(maas);
	free(pieces);
	fclose(file);
	if (fclose(stdout))
		err(1, "standard output");
	return 0;
}
