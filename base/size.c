/* SPDX-License-Identifier: Apache-2.0 */
/* Byte counts as people write them. No state: any thread. */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/base.h"

static const char units[] = "KMGTP";

/* The shift of a unit such as "", "b", "k", "kb" or "KiB"; -EINVAL for anything else. */
static int unit_shift(const char *unit)
{
	const char *found;

	if (!*unit || !strcasecmp(unit, "b"))
		return 0;
	found = strchr(units, toupper((unsigned char)unit[0]));
	if (!found || !(!unit[1] || !strcasecmp(unit + 1, "b") || !strcasecmp(unit + 1, "ib")))
		return -EINVAL;
	return (int)(found - units + 1) * 10;
}

int maas_size_parse(const char *text, uint64_t *ret_bytes)
{
	char *end;
	uintmax_t value;
	int shift;

	if (!isdigit((unsigned char)text[0]))
		return -EINVAL;
	errno = 0;
	value = strtoumax(text, &end, 10);
	if (errno == ERANGE)
		return -ERANGE;
	shift = unit_shift(end);
	if (shift < 0)
		return shift;
	if (value > (uintmax_t)INT64_MAX >> shift)
		return -ERANGE;
	*ret_bytes = (uint64_t)value << shift;
	return 0;
}

char *maas_size_format(uint64_t bytes, char text[MAAS_SIZE_TEXT])
{
	int unit = -1;

	while (bytes && bytes % 1024 == 0 && unit + 1 < (int)strlen(units)) {
		bytes /= 1024;
		unit++;
	}
	if (unit < 0)
		snprintf(text, MAAS_SIZE_TEXT, "%" PRIu64 "B", bytes);
	else
		snprintf(text, MAAS_SIZE_TEXT, "%" PRIu64 "%ciB", bytes, units[unit]);
	return text;
}

char *maas_size_round(double bytes, char text[MAAS_SIZE_TEXT])
{
	static const char *const names[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
	size_t unit = 0;

	/* Not "1024.0 KiB": that is how 1023.95 is rounded. */
	while (bytes >= (unit ? 1023.95 : 1024) && unit + 1 < MAAS_ARRAY_SIZE(names)) {
		bytes /= 1024;
		unit++;
	}
	if (bytes >= 0 && bytes < 1024 && bytes == (double)(int)bytes)
		snprintf(text, MAAS_SIZE_TEXT, "%d %s", (int)bytes, names[unit]);
	else
		snprintf(text, MAAS_SIZE_TEXT, "%.1f %s", bytes, names[unit]);
	return text;
}

char *maas_size_human(uint64_t bytes, char text[MAAS_SIZE_TEXT])
{
	char exact[MAAS_SIZE_TEXT];
	size_t digits;

	maas_size_round((double)bytes, text);
	maas_size_format(bytes, exact);
	digits = strspn(exact, "0123456789");
	if (strncmp(text, exact, digits) != 0 || text[digits] != ' ')
		snprintf(text + strlen(text), MAAS_SIZE_TEXT - strlen(text), " (%.*s %s)",
			 (int)digits, exact, exact + digits);
	return text;
}
