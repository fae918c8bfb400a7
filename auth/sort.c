/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Puts a table's names and proofs in the order in which they are looked for, and finds what stands
 * there twice: each proof is of one principal. While the table is made.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "auth/internal.h"

/* ---- names */

static int compare_names(const void *a, const void *b, void *auth)
{
	const struct maas_auth_principal *all = ((struct maas_auth *)auth)->principals;

	return strcmp(all[*(const uint32_t *)a].name, all[*(const uint32_t *)b].name);
}

static int sort_names(struct maas_auth *auth, struct maas_auth_twice *ret_twice)
{
	uint32_t count = auth->num_principals;
	uint32_t *at;

	at = calloc(count, sizeof(*at));
	if (!at)
		return -ENOMEM;
	auth->by_name = at;
	for (uint32_t i = 0; i < count; i++)
		at[i] = i;
	qsort_r(at, count, sizeof(*at), compare_names, auth);
	for (uint32_t i = 1; i < count; i++)
		if (!compare_names(&at[i - 1], &at[i], auth)) {
			*ret_twice = (struct maas_auth_twice){at[i - 1], at[i], "name"};
			return -EEXIST;
		}
	return 0;
}

/* ---- proofs */

/* Sorts, and returns the index of the second of two that are the same, or 0. */
static size_t sort(void *array, uint32_t count, size_t size,
		   int (*compare)(const void *a, const void *b))
{
	const char *at = array;

	if (count)
		qsort(array, count, size, compare);
	for (size_t i = 1; i < count; i++)
		if (!compare(at + (i - 1) * size, at + i * size))
			return i;
	return 0;
}

static int sort_proofs(struct maas_auth *auth, struct maas_auth_twice *ret_twice)
{
	struct maas_auth_twice twice = {0};
	size_t i;

	i = sort(auth->tokens, auth->num_tokens, sizeof(*auth->tokens), maas_auth_compare_tokens);
	if (i)
		twice = (struct maas_auth_twice){auth->tokens[i - 1].principal,
						 auth->tokens[i].principal, "token"};
	i = sort(auth->peers, auth->num_peers, sizeof(*auth->peers), maas_auth_compare_peers);
	if (i)
		twice = (struct maas_auth_twice){auth->peers[i - 1].principal,
						 auth->peers[i].principal,
						 auth->peers[i].group ? "gid" : "uid"};
	i = sort(auth->certs, auth->num_certs, sizeof(*auth->certs), maas_auth_compare_certs);
	if (i)
		twice = (struct maas_auth_twice){auth->certs[i - 1].principal,
						 auth->certs[i].principal, "certificate's name"};
	if (!twice.what)
		return 0;
	*ret_twice = twice;
	return -EEXIST;
}

int maas_auth_sort(struct maas_auth *auth, struct maas_auth_twice *ret_twice)
{
	int r = sort_names(auth, ret_twice);

	return r ? r : sort_proofs(auth, ret_twice);
}
