/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base: what every other part stands on: errors, log, clock, text buffer, sizes, names, guesses,
 * the limit of memory. It knows nothing else of the project.
 *
 * Errors everywhere: 0 (or a count) on success, -errno on failure; errno itself is not set.
 */
#ifndef MAAS_BASE_BASE_H
#define MAAS_BASE_BASE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define MAAS_MUST_CHECK	      __attribute__((warn_unused_result))
#define MAAS_PRINTF(fmt, arg) __attribute__((format(printf, fmt, arg)))
/* Seldom called: kept out of the way of what is. */
#define MAAS_COLD __attribute__((cold, noinline))
/* In each caller, for a call would cost more than it does. */
#define MAAS_INLINE	   inline __attribute__((always_inline))
#define MAAS_ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
/* The struct whose member `member` lies at `pointer`. */
#define MAAS_CONTAINER_OF(pointer, type, member)                                                   \
	((type *)((char *)(pointer) - offsetof(type, member)))
/* The plural ending of a noun behind the number `n`: "%llu byte%s". */
#define MAAS_S(n) ((n) == 1 ? "" : "s")

/* ---- log: one line per event, `TIME level text key=value ...` */

enum maas_log_level {
	MAAS_LOG_ERR,
	MAAS_LOG_WARN,
	MAAS_LOG_INFO,
	MAAS_LOG_DEBUG,
};

/*
 * Sends the log to the file `path` (appended, created 0640), or to stderr when `path` is NULL.
 * Lines are buffered; errors and warnings are written out at once. Where there is no writer (see
 * maas_log_start()), the others are written by maas_log_flush(), or when there are many.
 * Threading: any thread, but not beside a writer. Errors: as open(2); the old destination then
 * stays.
 */
MAAS_MUST_CHECK int maas_log_open(const char *path);

/* Whether maas_log_open() would open `path`. Creates and writes nothing. Errors: as open(2). */
MAAS_MUST_CHECK int maas_log_check(const char *path);
/* Whether a name can be made or removed in the directory of `path`. Errors: as access(2). */
MAAS_MUST_CHECK int maas_dir_check(const char *path);

/*
 * Starts the writer, a thread that does all of the writing from now on, within a tenth of a second:
 * nobody else ever waits for the log again. Lines that find the buffer full, or that cannot be
 * written, are dropped and counted, and the log says how many once it works again. Signals must be
 * blocked. Errors: as pthread_create(3); without a writer all is as before.
 */
MAAS_MUST_CHECK int maas_log_start(void);
/* Flushes, and ends the writer. A writer that the log holds up for longer than a moment is left
 * behind. */
void maas_log_stop(void);

/* Opens the log file again under its name, after a rotation, and logs the outcome. Where there is a
 * writer, the writer does so, and this returns at once. */
void maas_log_reopen(void);

/* Writes buffered lines out; with a writer, waits for it for a second at most. Threading: any. */
void maas_log_flush(void);

/* Lines that were dropped since the start. */
uint64_t maas_log_dropped(void);

/*
 * Writes a line without time and level to stderr, for whoever started the program, wherever the log
 * goes. Where the log goes to stderr too, the line comes after all lines before it. Does not wait
 * for a reader. Threading: any thread.
 */
void maas_log_say(const char *fmt, ...) MAAS_PRINTF(1, 2);

/* From now on a line is `NAME: text`, for a command that a person runs. Borrows: `name`. */
void maas_log_set_program(const char *name);

/* Drops events less severe than `level` (default: MAAS_LOG_INFO). Threading: any thread. */
void maas_log_set_level(enum maas_log_level level);

/* True when an event of `level` would be logged; else its text need not be made. */
bool maas_log_enabled(enum maas_log_level level);

/* Logs one line; control characters in the text are escaped. Threading: any thread. */
void maas_log(enum maas_log_level level, const char *fmt, ...) MAAS_PRINTF(2, 3);

/* The same with a text that is made already; it is no line of maas_log_set_program(). */
void maas_log_text(enum maas_log_level level, const char *text, size_t len);

#define log_err(...)   maas_log(MAAS_LOG_ERR, __VA_ARGS__)
#define log_warn(...)  maas_log(MAAS_LOG_WARN, __VA_ARGS__)
#define log_info(...)  maas_log(MAAS_LOG_INFO, __VA_ARGS__)
#define log_debug(...) maas_log(MAAS_LOG_DEBUG, __VA_ARGS__)

/* ---- clock: CLOCK_MONOTONIC, never steps, stops while the host is suspended */

uint64_t maas_clock_ns(void);
uint64_t maas_clock_ms(void);

/* Wall-clock seconds since 1970, for people; no lifetime depends on them. */
uint64_t maas_clock_wall_s(void);

/* ---- buf: text that grows */

/*
 * A growing byte string. Appending never fails at the call: out of memory is remembered in `error`
 * (-ENOMEM), later appends do nothing, and the maker of the text checks once at its end.
 * `struct maas_buf b = {0}` is an empty one. Threading: owner thread only.
 */
struct maas_buf {
	char *data; /* not NUL-terminated; NULL while nothing was appended */
	size_t len; /* bytes */
	size_t cap;
	int error; /* 0 or -ENOMEM */
};

void maas_buf_fini(struct maas_buf *buf);
/* Makes room for `len` more bytes and returns where they go, or NULL. The caller adds what it used
 * to buf->len. */
char *maas_buf_reserve(struct maas_buf *buf, size_t len);
/* Both in the caller: most pieces are constants, whose length the compiler knows. */
inline void maas_buf_add(struct maas_buf *buf, const void *data, size_t len)
{
	char *at;

	if (!len)
		return;
	if (len <= buf->cap - buf->len && !buf->error)
		at = buf->data + buf->len;
	else
		at = maas_buf_reserve(buf, len);
	if (!at)
		return;
	memcpy(at, data, len);
	buf->len += len;
}

inline void maas_buf_str(struct maas_buf *buf, const char *text)
{
	maas_buf_add(buf, text, strlen(text));
}

void maas_buf_u64(struct maas_buf *buf, uint64_t value);
void maas_buf_printf(struct maas_buf *buf, const char *fmt, ...) MAAS_PRINTF(2, 3);
/* Appends `text` as a JSON string, quoted and escaped (RFC 8259); invalid UTF-8 becomes U+FFFD. */
void maas_buf_json(struct maas_buf *buf, const char *text);

/* ---- ratelimit: lines of the log that strangers can provoke as often as they like */

#define MAAS_RATELIMIT_LINES 5 /* of one kind, in a second */

/*
 * One kind of line. Of those beyond MAAS_RATELIMIT_LINES only the number is logged, once a second.
 * Storage: static, and never reused, because maas_ratelimit_flush() comes back to it.
 *
 *	static struct maas_ratelimit refused = MAAS_RATELIMIT(MAAS_LOG_WARN, "connections refused");
 *	log_limited(&refused, "connection refused remote=%s", remote);
 */
struct maas_ratelimit {
	const char *kind;
	enum maas_log_level level;
	/* guarded by a lock of ratelimit.c */
	bool listed;
	unsigned int lines; /* since then */
	uint64_t since_ms;
	uint64_t left_out;
	struct maas_ratelimit *next;
};

#define MAAS_RATELIMIT(log_level, kind_text) {.level = (log_level), .kind = (kind_text)}

/* True when the line may be logged; else it was counted. Threading: any thread. */
MAAS_MUST_CHECK bool maas_ratelimit_pass(struct maas_ratelimit *limit);

/* Logs how many lines were left out in seconds that are over. Called along with maas_log_flush(),
 * because whoever caused the lines may have gone. Threading: any thread. */
void maas_ratelimit_flush(void);

#define log_limited(limit, ...)                                                                    \
	do {                                                                                       \
		if (maas_ratelimit_pass(limit))                                                    \
			maas_log((limit)->level, __VA_ARGS__);                                     \
	} while (0)

/* ---- printable: somebody else's text on its way to a person */

/* The length of the valid UTF-8 sequence at `text` (RFC 3629), which is not at its NUL; or 0. */
size_t maas_utf8_len(const char *text);

/*
 * Copies `text` to `to` and ends it with a NUL. Each byte of a control character (ASCII's, C1's),
 * of a character that is invisible or turns the direction of writing around, and of what is not
 * UTF-8 becomes \xNN. `size` (at least 1) cuts between two characters; four times the text and its
 * NUL always suffice. Returns the length.
 */
size_t maas_printable(char *to, size_t size, const char *text);

/* ---- file: what a configuration consists of */

#define MAAS_FILE_ERROR 512 /* bytes of an error's text */

/*
 * First thing in main(): opens /dev/null where a standard descriptor is closed, or the next file
 * that is opened gets its number, and what is meant for people is written into it. `quiet`: what is
 * written there is lost without a word; else its use fails, as that of a closed one does.
 */
void maas_file_open_standard(bool quiet);

/*
 * Reads a regular file whole. It must be root's or this process's user's, and nobody else may write
 * it, nor, when it is a `secret`, read it: its group may. `error` then says what to do. The caller
 * frees `ret_text`. Threading: any. Errors: as open(2) and read(2); -EPERM, -EINVAL no regular
 * file, -EFBIG longer than `max_bytes`, -ENOMEM.
 */
MAAS_MUST_CHECK int maas_file_read(const char *path, size_t max_bytes, bool secret,
				   char error[MAAS_FILE_ERROR], struct maas_buf *ret_text);

/* ---- size: byte counts as people write them */

/*
 * "4096", "64KiB", "1GiB", "512k" (k, m, g, t and their KiB/KB forms are all powers of 1024, any
 * case) to bytes. Errors: -EINVAL for anything else, signs and fractions included; -ERANGE for
 * 2^63 and above.
 */
MAAS_MUST_CHECK int maas_size_parse(const char *text, uint64_t *ret_bytes);

/* Writes `bytes` in its largest exact unit, such as "512KiB" or "1000B", as options take it. */
#define MAAS_SIZE_TEXT 48
char *maas_size_format(uint64_t bytes, char text[MAAS_SIZE_TEXT]);
/* For people: "1.5 GiB", rounded; and "1 GiB", or "23.5 GiB (24684092 KiB)" where that is exact. */
char *maas_size_round(double bytes, char text[MAAS_SIZE_TEXT]);
char *maas_size_human(uint64_t bytes, char text[MAAS_SIZE_TEXT]);

/* ---- name: of an owner, a session or a principal */

#define MAAS_NAME_BYTES 64 /* of a name and its NUL */

/* True when `name` is 1 to 63 bytes of [A-Za-z0-9._:/@-]. */
bool maas_name_valid(const char *name);

/* ---- guess: what somebody meant who mistyped a name */

/*
 * Of `count` names in lower case, such as "max-pool-size", the index of the one that `word` most
 * likely stands for: at most a quarter of the letters of `word` are wrong, or it is the only name
 * that begins like `word` or has its words. NULL among the names is skipped; names have less than
 * 64 letters. Returns `count` when nothing is near enough.
 */
size_t maas_guess(const char *word, const char *const *names, size_t count);

/* ---- cgroup: the limit of memory, version 1 and 2 */

/*
 * The smallest limit of memory from this process's control group upwards, as far as it can be seen
 * from here; `proc` is "/proc/self". Errors: -ENOENT no limit is set, -ENODATA it cannot be found
 * out.
 */
MAAS_MUST_CHECK int maas_cgroup_memory(const char *proc, uint64_t *ret_bytes);

#endif
