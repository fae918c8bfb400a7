/* SPDX-License-Identifier: Apache-2.0 */
/* Paths: what %XX stands for, and what of a path may be shown in the log. No state: any thread. */
#include <ctype.h>
#include <string.h>

#include "http/parse.h"

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)tolower((unsigned char)c);
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
	char *to = text;

	while (*text) {
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

/* 8-4-4-4-12 hexadecimal digits, and then the end or another part. */
static bool is_id(const char *text)
{
	for (int i = 0; i < 36; i++)
		if (i == 8 || i == 13 || i == 18 || i == 23 ? text[i] != '-' : hex(text[i]) < 0)
			return false;
	return !text[36] || text[36] == '/';
}

void maas_http_path_text(const char *path, char *ret_text, size_t size)
{
	static const char digits[] = "0123456789ABCDEF";
	const char *start = path;
	size_t used = 0;

	for (; *path && used + 3 < size; path++) {
		unsigned char byte = (unsigned char)*path;

		if (byte == '-' && path - start >= 8 && is_id(path - 8)) {
			/* The rest of the id, of which the first eight digits are written. */
			memcpy(ret_text + used, "...", 3);
			used += 3;
			path += 36 - 8 - 1;
			continue;
		}
		if (byte > 0x20 && byte < 0x7f) {
			ret_text[used++] = *path;
			continue;
		}
		ret_text[used++] = '%';
		ret_text[used++] = digits[byte >> 4];
		ret_text[used++] = digits[byte & 15];
	}
	ret_text[used] = '\0';
}
