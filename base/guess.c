/* SPDX-License-Identifier: Apache-2.0 */
/* Which option or command a mistyped word was meant to be. */
#include <string.h>

#include "base/base.h"

#define NAME_BYTES 64 /* of a name that can be meant, with its NUL */

static unsigned int min2(unsigned int a, unsigned int b)
{
	return a < b ? a : b;
}

/* How many letters must be added, left out, changed or swapped with the next to make one of the
 * other (Damerau and Levenshtein). Both are shorter than NAME_BYTES. */
static unsigned int distance(const char *a, const char *b)
{
	unsigned int d[NAME_BYTES][NAME_BYTES];
	size_t len_a = strlen(a);
	size_t len_b = strlen(b);

	for (size_t i = 0; i <= len_a; i++)
		for (size_t j = 0; j <= len_b; j++) {
			if (!i || !j) {
				d[i][j] = (unsigned int)(i + j);
				continue;
			}
			d[i][j] = min2(min2(d[i - 1][j], d[i][j - 1]) + 1,
				       d[i - 1][j - 1] + (a[i - 1] != b[j - 1]));
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				d[i][j] = min2(d[i][j], d[i - 2][j - 2] + 1);
		}
	return d[len_a][len_b];
}

/* `part` is some of the words of `name`, as "pool-size" is of "max-pool-size". */
static bool has_words(const char *name, const char *part)
{
	const char *at = strstr(name, part);
	size_t len = strlen(part);

	return at && (at == name || at[-1] == '-') && (!at[len] || at[len] == '-');
}

static bool begins(const char *text, const char *with)
{
	return !strncmp(text, with, strlen(with));
}

size_t maas_guess(const char *word, const char *const *names, size_t count)
{
	size_t len = strlen(word);
	unsigned int least = (unsigned int)(len + 3) / 4;
	unsigned int num_alike = 0;
	size_t nearest = count;
	size_t alike = count;

	if (!len || len >= NAME_BYTES)
		return count;
	for (size_t i = 0; i < count; i++) {
		unsigned int away;

		if (!names[i])
			continue;
		away = distance(word, names[i]);
		if (away < least || (away == least && nearest == count)) {
			least = away;
			nearest = i;
		}
		if (len > 1 && (has_words(names[i], word) || begins(names[i], word) ||
				begins(word, names[i]))) {
			num_alike++;
			alike = i;
		}
	}
	return nearest == count && num_alike == 1 ? alike : nearest;
}
