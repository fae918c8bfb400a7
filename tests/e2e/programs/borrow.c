/* SPDX-License-Identifier: Apache-2.0 */
/* A C11 program with the installed header and library, as its author would write it. */
#include <maas.h>
#include <stdio.h>
#include <string.h>

static int fail(const char *what)
{
	fprintf(stderr, "borrow: %s: %s\n", what, maas_error());
	return 1;
}

static int borrow(struct maas *maas)
{
	struct maas_allocation memory;
	char text[6] = "";

	if (maas_alloc(maas, 4096, NULL, &memory))
		return fail("alloc");
	if (maas_write(maas, memory.id, 100, "hello", 5))
		return fail("write");
	if (maas_read(maas, memory.id, 100, text, 5))
		return fail("read");
	if (maas_free(maas, memory.id))
		return fail("free");
	printf("%s from %s\n", text, maas_url(maas));
	return strcmp(text, "hello") != 0;
}

int main(int argc, char **argv)
{
	struct maas_options options = {.size = sizeof(options), .timeout_ms = 5000};
	struct maas *maas;
	int status;

	if (argc > 1 && strcmp(argv[1], "rdma") == 0)
		options.transport = MAAS_TRANSPORT_RDMA;
	if (maas_open(&options, &maas))
		return fail("open");
	status = borrow(maas);
	maas_close(maas);
	return status;
}
