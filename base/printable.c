/* SPDX-License-Identifier: Apache-2.0 */
/* Text of somebody else, made fit for a terminal or for one line of a log. */
#include <string.h>

#include "base/base.h"

/* What a terminal would obey, hide or turn around, and what could pass for the end of a line. */
static bool is_printable(uint32_t c)
{
	if (c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0xad)
		return false;
	if (c < 0x61c)
		return true;
	return c != 0x61c && c != 0x180e && !(c >= 0x200b && c <= 0x200f) &&
	       !(c >= 0x2028 && c <= 0x202e) && !(c >= 0x2060 && c <= 0x206f) && c != 0xfeff &&
	       !(c >= 0xfff0 && c <= 0xfffb) && (c & 0xfffe) != 0xfffe &&
	       !(c >= 0xe0000 && c <= 0xe0fff);
}

static uint32_t decode(const unsigned char *s, size_t len)
{
	uint32_t c = len == 1 ? s[0] : s[0] & (0xffu >> (len + 1));

	for (size_t i = 1; i < len; i++)
		c = c << 6 | (s[i] & 0x3f);
	return c;
}

size_t maas_printable(char *to, size_t size, const char *text)
{
	static const char digits[] = "0123456789abcdef";
	const unsigned char *s = (const unsigned char *)text;
	size_t used = 0;

	while (*s) {
		size_t len = maas_utf8_len((const char *)s);
		bool plain = len && is_printable(decode(s, len));
		size_t out = plain ? len : 4 * (len ? len : 1);

		if (used + out >= size)
			break;
		if (plain)
			memcpy(to + used, s, len);
		for (size_t i = 0; !plain && i < out; i += 4) {
			to[used + i] = '\\';
			to[used + i + 1] = 'x';
			to[used + i + 2] = digits[s[i / 4] >> 4];
			to[used + i + 3] = digits[s[i / 4] & 0xf];
		}
		used += out;
		s += len ? len : 1;
	}
	to[used] = '\0';
	return used;
}
