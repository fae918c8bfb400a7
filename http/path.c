/* SPDX-License-Identifier: Apache-2.0 */
/* Paths: what %XX stands for, and what of a path may be shown in the log. No state: any thread. */
#include <string.h>

#include "http/parse.h"

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The byte that `text` stands for when that is %XX, else -1. */
static int unescaped(const char *text)
{
	int high;
	int low;

	if (text[0] != '%')
		return -1;
	high = hex(text[1]);
	low = high < 0 ? -1 : hex(text[2]);
	return low < 0 ? -1 : high << 4 | low;
}

size_t maas_http_unescape(char *text)
{
	const char *start = text;
	char *to = strchrnul(text, '%');

	/* Most texts have none. */
	for (text = to; *text;) {
		int byte = unescaped(text);

		if (byte >= 0x20 && byte != 0x7f) {
			*to++ = (char)byte;
			text += 3;
		} else {
			*to++ = *text++;
		}
	}
	*to = '\0';
	return (size_t)(to - start);
}

static const bool is_hex[256] = {
	['0' ... '9'] = true,
	['A' ... 'F'] = true,
	['a' ... 'f'] = true,
};

/* 8-4-4-4-12 hexadecimal digits, and then the end or another part. */
static bool is_id(const char *text)
{
	static const unsigned char runs[] = {8, 4, 4, 4, 12};

	for (size_t run = 0; run < MAAS_ARRAY_SIZE(runs); run++) {
		if (run && *text++ != '-')
			return false;
		for (const char *end = text + runs[run]; text < end; text++)
			if (!is_hex[(unsigned char)*text])
				return false;
	}
	return !*text || *text == '/';
}

void maas_http_path_text(const char *path, char *ret_text, size_t size)
{
	static const char digits[] = "0123456789ABCDEF";
	const char *end = ret_text + size - 3;
	const char *start = path;
	char *to = ret_text;

	for (; *path && to < end; path++) {
		unsigned char byte = (unsigned char)*path;

		if (byte == '-' && path - start >= 8 && is_id(path - 8)) {
			/* The rest of the id, of which the first eight digits are written. */
			to = mempcpy(to, "...", 3);
			path += 36 - 8 - 1;
		} else if (byte > 0x20 && byte < 0x7f) {
			*to++ = *path;
		} else {
			*to++ = '%';
			*to++ = digits[byte >> 4];
			*to++ = digits[byte & 15];
		}
	}
	*to = '\0';
}
