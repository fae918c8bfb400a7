/* SPDX-License-Identifier: Apache-2.0 */
/* Holds memory over RDMA, and asks for it once more when it is told to: is the key still good? */
#include <maas.h>
#include <stdio.h>
#include <string.h>

int main(void)
{
	struct maas_options options = {.size = sizeof(options), .transport = MAAS_TRANSPORT_RDMA};
	struct maas_allocation memory;
	struct maas *maas;
	char text[64] = "";
	int error;

	if (maas_open(&options, &maas) || maas_alloc(maas, sizeof(text), NULL, &memory) ||
	    maas_write(maas, memory.id, 0, "mine", 5)) {
		fprintf(stderr, "hold: %s\n", maas_error());
		return 1;
	}
	printf("%s\n", memory.id);
	fflush(stdout);
	if (!fgets(text, sizeof(text), stdin))
		return 1;
	memset(text, 0, sizeof(text));
	error = maas_read(maas, memory.id, 0, text, sizeof(text));
	if (error)
		printf("refused: %s\n", maas_error());
	else
		printf("read: %s\n", text);
	maas_close(maas);
	return 0;
}
