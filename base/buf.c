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

extern inline void maas_buf_add(struct maas_buf *buf, const void *data, size_t len);
extern inline void maas_buf_str(struct maas_buf *buf, const char *text);

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

/* Two digits a step: a division takes longer than the rest of it. */
void maas_buf_u64(struct maas_buf *buf, uint64_t value)
{
	static const char pairs[] = "00010203040506070809101112131415161718192021222324"
				    "25262728293031323334353637383940414243444546474849"
				    "50515253545556575859606162636465666768697071727374"
				    "75767778798081828384858687888990919293949596979899";
	char digits[20];
	size_t at = sizeof(digits);

	while (value >= 100) {
		at -= 2;
		memcpy(digits + at, pairs + value % 100 * 2, 2);
		value /= 100;
	}
	if (value >= 10) {
		at -= 2;
		memcpy(digits + at, pairs + value * 2, 2);
	} else {
		digits[--at] = (char)('0' + value);
	}
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

/* What stands in a JSON string as it is, up to what does not. */
static size_t plain_len(const char *text)
{
	const char *at = text;

	while (*at) {
		size_t len = maas_utf8_len(at);

		if (!len || (unsigned char)*at < 0x20 || *at == '"' || *at == '\\' || *at == 0x7f)
			break;
		at += len;
	}
	return (size_t)(at - text);
}

void maas_buf_json(struct maas_buf *buf, const char *text)
{
	maas_buf_add(buf, "\"", 1);
	while (*text) {
		size_t len = plain_len(text);

		maas_buf_add(buf, text, len);
		text += len;
		if (!*text)
			break;
		if (maas_utf8_len(text))
			add_escaped(buf, (unsigned char)*text);
		else
			maas_buf_str(buf, "\xef\xbf\xbd");
		text++;
	}
	maas_buf_add(buf, "\"", 1);
}
