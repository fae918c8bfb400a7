/* SPDX-License-Identifier: Apache-2.0 */
/* Range and Content-Range (RFC 9110, 14). No state: any thread. */
#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

#include "http/parse.h"

/* Digits at `*text`, which moves past them; a number too large to hold is as large as can be. */
static bool take_digits(const char **text, uint64_t *ret_value)
{
	uint64_t value = 0;

	if (!isdigit((unsigned char)**text))
		return false;
	for (; isdigit((unsigned char)**text); (*text)++) {
		uint64_t digit = (uint64_t)(**text - '0');

		value = value > (UINT64_MAX - digit) / 10 ? UINT64_MAX : value * 10 + digit;
	}
	*ret_value = value;
	return true;
}

static void skip_blanks(const char **text)
{
	*text += strspn(*text, " \t");
}

int maas_http_u63_parse(const char *text, uint64_t *ret_value)
{
	uint64_t value;

	if (!take_digits(&text, &value) || *text)
		return -EINVAL;
	if (value > INT64_MAX)
		return -ERANGE;
	*ret_value = value;
	return 0;
}

/* One range of the list: 1, 0 when malformed, -ERANGE when it lies outside of `size` bytes. */
static int take_range(const char **text, uint64_t size, struct maas_http_range *ret_range)
{
	uint64_t first;
	uint64_t last = UINT64_MAX;

	if (**text == '-') {
		uint64_t suffix;

		++*text;
		if (!take_digits(text, &suffix))
			return 0;
		if (!suffix || !size)
			return -ERANGE;
		if (suffix > size)
			suffix = size;
		*ret_range = (struct maas_http_range){size - suffix, suffix};
		return 1;
	}
	if (!take_digits(text, &first) || *(*text)++ != '-')
		return 0;
	if (isdigit((unsigned char)**text) && !take_digits(text, &last))
		return 0;
	if (last < first)
		return 0;
	if (first >= size)
		return -ERANGE;
	if (last >= size)
		last = size - 1;
	*ret_range = (struct maas_http_range){first, last - first + 1};
	return 1;
}

int maas_http_range_parse(const char *text, uint64_t size, struct maas_http_range *ret_range)
{
	struct maas_http_range range = {0};
	int found = 0;

	if (strncasecmp(text, "bytes=", 6) != 0)
		return 0;
	text += 6;
	for (;;) {
		text += strspn(text, ", \t"); /* a list may have empty elements */
		if (!*text)
			break;
		if (found)
			return 0;
		found = take_range(&text, size, &range);
		if (!found)
			return 0;
		skip_blanks(&text);
		if (*text && *text != ',')
			return 0;
	}
	if (found == 1)
		*ret_range = range;
	return found;
}

int maas_http_content_range_parse(const char *text, struct maas_http_range *ret_range,
				  uint64_t *ret_total)
{
	uint64_t first;
	uint64_t last;
	uint64_t total = UINT64_MAX;

	if (strncasecmp(text, "bytes ", 6) != 0)
		return -EINVAL;
	text += 6;
	if (!take_digits(&text, &first) || *text++ != '-' || !take_digits(&text, &last) ||
	    *text++ != '/')
		return -EINVAL;
	if (*text == '*')
		text++;
	else if (!take_digits(&text, &total))
		return -EINVAL;
	if (*text || last < first || last >= INT64_MAX || last >= total)
		return -EINVAL;
	*ret_range = (struct maas_http_range){first, last - first + 1};
	*ret_total = total;
	return 0;
}
