/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Text that grows. A failure is kept in the buffer, so that its maker checks once, at the end.
 * Threads: a buffer belongs to one.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"

#define FIRST_CAP 512

void maas_buf_fini(struct maas_buf *buf)
{
	free(buf->data);
	*buf = (struct maas_buf){0};
}

char *maas_buf_reserve(struct maas_buf *buf, size_t len)
{
	size_t cap = buf->cap ? buf->cap : FIRST_CAP;
	char *data;

	if (buf->error)
		return NULL;
	if (len <= buf->cap - buf->len)
		return buf->data + buf->len;
	if (len > SIZE_MAX / 4 - buf->len) {
		buf->error = -ENOMEM;
		return NULL;
	}
	while (cap - buf->len < len)
		cap *= 2;
	data = realloc(buf->data, cap);
	if (!data) {
		buf->error = -ENOMEM;
		return NULL;
	}
	buf->data = data;
	buf->cap = cap;
	return data + buf->len;
}

void maas_buf_add(struct maas_buf *buf, const void *data, size_t len)
{
	char *at = maas_buf_reserve(buf, len);

	if (!at)
		return;
	if (len)
		memcpy(at, data, len);
	buf->len += len;
}

void maas_buf_str(struct maas_buf *buf, const char *text)
{
	maas_buf_add(buf, text, strlen(text));
}

void maas_buf_u64(struct maas_buf *buf, uint64_t value)
{
	char digits[20];
	size_t at = sizeof(digits);

	do {
		digits[--at] = (char)('0' + value % 10);
		value /= 10;
	} while (value);
	maas_buf_add(buf, digits + at, sizeof(digits) - at);
}

void maas_buf_printf(struct maas_buf *buf, const char *fmt, ...)
{
	va_list args;
	va_list again;
	int len;
	char *at;

	va_start(args, fmt);
	va_copy(again, args);
	len = vsnprintf(NULL, 0, fmt, args);
	va_end(args);
	if (len < 0)
		buf->error = -ENOMEM;
	else if ((at = maas_buf_reserve(buf, (size_t)len + 1))) {
		vsnprintf(at, (size_t)len + 1, fmt, again);
		buf->len += (size_t)len;
	}
	va_end(again);
}

size_t maas_utf8_len(const char *text)
{
	const unsigned char *s = (const unsigned char *)text;

	if (s[0] < 0x80)
		return 1;
	if (s[0] >= 0xc2 && s[0] <= 0xdf)
		return (s[1] & 0xc0) == 0x80 ? 2 : 0;
	if ((s[0] & 0xf0) == 0xe0) {
		if ((s[1] & 0xc0) != 0x80 || (s[2] & 0xc0) != 0x80)
			return 0;
		if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f))
			return 0;
		return 3;
	}
	if (s[0] >= 0xf0 && s[0] <= 0xf4) {
		if ((s[1] & 0xc0) != 0x80 || (s[2] & 0xc0) != 0x80 || (s[3] & 0xc0) != 0x80)
			return 0;
		if ((s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
			return 0;
		return 4;
	}
	return 0;
}

static void add_escaped(struct maas_buf *buf, unsigned char c)
{
	if (c == '"' || c == '\\')
		maas_buf_printf(buf, "\\%c", c);
	else if (c == '\n')
		maas_buf_str(buf, "\\n");
	else if (c == '\t')
		maas_buf_str(buf, "\\t");
	else
		maas_buf_printf(buf, "\\u%04x", c);
}

void maas_buf_json(struct maas_buf *buf, const char *text)
{
	const unsigned char *s = (const unsigned char *)text;

	maas_buf_add(buf, "\"", 1);
	while (*s) {
		size_t len = maas_utf8_len((const char *)s);

		if (!len) {
			maas_buf_str(buf, "\xef\xbf\xbd");
			s++;
		} else if (*s < 0x20 || *s == '"' || *s == '\\' || *s == 0x7f) {
			add_escaped(buf, *s++);
		} else {
			maas_buf_add(buf, s, len);
			s += len;
		}
	}
	maas_buf_add(buf, "\"", 1);
}
