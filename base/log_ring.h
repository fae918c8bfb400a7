/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to base/: lines on their way to the log, in a buffer of fixed size. Every line lies in
 * one piece; the writer takes them from the front, a write(2) at a time.
 *
 *     |      from ######## to             |      end == 0
 *     |### to         from ######## end   |
 *
 * Threading: under the log's lock. What maas_log_ring_piece() returned may be read without it until
 * the same thread calls maas_log_ring_consume(): adding touches other bytes.
 */
#ifndef MAAS_BASE_LOG_RING_H
#define MAAS_BASE_LOG_RING_H

#include <time.h>

#include "base/base.h"

#define MAAS_LOG_TEXT_BYTES 1024	 /* of one line, without its head */
#define MAAS_LOG_RING_BYTES (192u << 10) /* what a log that takes nothing may hold back */
#define MAAS_LOG_RING_PIECE (32u << 10)	 /* of one write(2): room comes back bit by bit */

struct maas_log_ring {
	uint64_t added; /* bytes, ever */
	uint64_t taken;
	size_t from, to, end;
	time_t stamp_of;
	char stamp[32]; /* the text of stamp_of: made once a second, not once a line */
	char data[MAAS_LOG_RING_BYTES];
};

/* Adds the line `TIME level text`, or with `level` "" the text alone. False: it does not fit. */
bool maas_log_ring_add(struct maas_log_ring *ring, const char *level, const char *text, size_t len);

/* The next bytes to write, which end with a line: 0 where there are none. */
size_t maas_log_ring_piece(const struct maas_log_ring *ring, const char **ret_data);
/* Gives up the first `len` bytes. Returns how many lines ended among them. */
uint64_t maas_log_ring_consume(struct maas_log_ring *ring, size_t len);

/* Replaces control characters. A client's bytes end up in lines: one event must stay one line,
 * whatever they hold. The bytes behind `len` are lost. */
void maas_log_escape(char text[MAAS_LOG_TEXT_BYTES], size_t len);

#endif
