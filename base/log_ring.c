/* SPDX-License-Identifier: Apache-2.0 */
/* The buffer between those who log and the log. */
#include <assert.h>
#include <string.h>

#include "base/log_ring.h"

/* Where `len` bytes in one piece may go, or NULL. */
static char *find_room(struct maas_log_ring *ring, size_t len)
{
	if (!ring->end && MAAS_LOG_RING_BYTES - ring->to < len) {
		if (ring->from <= len)
			return NULL;
		ring->end = ring->to;
		ring->to = 0;
	}
	/* Never filled to the last byte: `from` and `to` are the same in an empty one only. */
	if (ring->end && ring->from - ring->to <= len)
		return NULL;
	return ring->data + ring->to;
}

static void refresh_stamp(struct maas_log_ring *ring)
{
	time_t now = time(NULL);
	struct tm tm;

	if (now == ring->stamp_of)
		return;
	gmtime_r(&now, &tm);
	strftime(ring->stamp, sizeof(ring->stamp), "%Y-%m-%dT%H:%M:%SZ ", &tm);
	ring->stamp_of = now;
}

bool maas_log_ring_add(struct maas_log_ring *ring, const char *level, const char *text, size_t len)
{
	size_t level_len = strlen(level);
	size_t stamp_len = 0;
	char *start;
	char *at;

	if (level_len) {
		refresh_stamp(ring);
		stamp_len = strlen(ring->stamp);
	}
	start = find_room(ring, stamp_len + level_len + len + 2);
	if (!start)
		return false;
	at = start;
	if (level_len) {
		at = mempcpy(at, ring->stamp, stamp_len);
		at = mempcpy(at, level, level_len);
		*at++ = ' ';
	}
	at = mempcpy(at, text, len);
	*at++ = '\n';
	len = (size_t)(at - start);
	ring->to += len;
	ring->added += len;
	return true;
}

size_t maas_log_ring_piece(const struct maas_log_ring *ring, const char **ret_data)
{
	size_t len = (ring->end ? ring->end : ring->to) - ring->from;
	const char *last;

	*ret_data = ring->data + ring->from;
	if (len <= MAAS_LOG_RING_PIECE)
		return len;
	last = memrchr(*ret_data, '\n', MAAS_LOG_RING_PIECE);
	return last ? (size_t)(last - *ret_data) + 1 : MAAS_LOG_RING_PIECE;
}

uint64_t maas_log_ring_consume(struct maas_log_ring *ring, size_t len)
{
	const char *data = ring->data + ring->from;
	const char *end = data + len;
	uint64_t lines = 0;

	while (data < end && (data = memchr(data, '\n', (size_t)(end - data)))) {
		data++;
		lines++;
	}
	ring->taken += len;
	ring->from += len;
	if (ring->taken == ring->added)
		ring->from = ring->to = ring->end = 0;
	else if (ring->from == ring->end)
		ring->from = ring->end = 0;
	return lines;
}

/* In steps of a fixed length, which the compiler makes a few wide instructions of. */
void maas_log_escape(char text[MAAS_LOG_TEXT_BYTES], size_t len)
{
	enum { STEP = 32 };

	static_assert(MAAS_LOG_TEXT_BYTES % STEP == 0, "the last step ends within the text");
	memset(text + len, 0, -len % STEP);
	for (size_t at = 0; at < len; at += STEP)
		for (size_t i = at; i < at + STEP; i++) {
			unsigned char c = (unsigned char)text[i];

			text[i] = (char)(c < 0x20 || c == 0x7f ? '?' : c);
		}
}
