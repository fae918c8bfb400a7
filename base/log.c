/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log: lines go into a buffer of fixed size, and from there to a file or to stderr.
 *
 * The lock is never held over a write(2), so a log that takes nothing (a pipe that nobody reads, a
 * disk that hangs) does not stop those who log: the buffer fills, and what does not fit is dropped
 * and counted. From maas_log_start() on a thread of its own does the writing; without it, the
 * thread that logs something urgent does.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log_ring.h"
#include "base/thread.h"

#define WAKE_BYTES (16u << 10) /* so much is not kept for DELAY_MS */
#define DELAY_MS   100	       /* how long a line may wait for others to be written with it */
#define GIVE_UP_MS 1000	       /* how long those who end wait for the log */

static const char *const level_names[] = {"error", "warn", "info", "debug"};
static _Atomic int max_level = MAAS_LOG_INFO;
static _Atomic uint64_t dropped_lines;
static const char *_Atomic program;

static struct {
	pthread_mutex_t lock;
	/* guarded by lock */
	pthread_cond_t wake; /* the writer has something to do */
	pthread_cond_t done; /* something was written, or the writer ended */
	int fd;
	char *path;    /* NULL: stderr */
	bool threaded; /* a thread does the writing */
	bool writing;  /* somebody writes from the ring, without the lock */
	bool asleep;   /* the writer waits for a first line */
	bool urgent;   /* the writer is to write at once */
	bool reopen;
	bool stop;
	bool torn;	 /* what was written last ended within a line */
	bool broken;	 /* it ended so, and the rest of that line is lost */
	uint64_t unsaid; /* lines dropped that the log does not tell of yet */
	struct maas_log_ring ring;
} out = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.wake = PTHREAD_COND_INITIALIZER,
	.done = PTHREAD_COND_INITIALIZER,
	.fd = STDERR_FILENO,
};

void maas_log_set_level(enum maas_log_level level)
{
	atomic_store_explicit(&max_level, (int)level, memory_order_relaxed);
}

void maas_log_set_program(const char *name)
{
	atomic_store_explicit(&program, name, memory_order_relaxed);
}

bool maas_log_enabled(enum maas_log_level level)
{
	return (int)level <= atomic_load_explicit(&max_level, memory_order_relaxed);
}

uint64_t maas_log_dropped(void)
{
	return atomic_load_explicit(&dropped_lines, memory_order_relaxed);
}

/* ---- adding lines; the caller holds the lock */

static void drop(uint64_t lines)
{
	out.unsaid += lines;
	atomic_fetch_add_explicit(&dropped_lines, lines, memory_order_relaxed);
}

/* `level` is "" for a line without a head. */
static void add_line(const char *level, const char *text, size_t len)
{
	if (!maas_log_ring_add(&out.ring, level, text, len))
		drop(1);
}

/* Says how many lines are missing, in the place where they are missing. */
static void tell_dropped(void)
{
	char text[64];
	int len;

	if (!out.unsaid || !maas_log_enabled(MAAS_LOG_WARN))
		return;
	len = snprintf(text, sizeof(text), "log lines dropped count=%llu",
		       (unsigned long long)out.unsaid);
	if (maas_log_ring_add(&out.ring, level_names[MAAS_LOG_WARN], text, (size_t)len))
		out.unsaid = 0;
}

/* ---- writing; the caller holds the lock, which is free while the kernel works */

/* Returns how many bytes were written; -EAGAIN after DELAY_MS in which `fd` took none. Only a
 * descriptor of our own is ever non-blocking. */
static ssize_t write_some(int fd, const char *data, size_t len)
{
	struct pollfd poll_fd = {.fd = fd, .events = POLLOUT};
	ssize_t n;

	do
		n = write(fd, data, len);
	while (n < 0 && errno == EINTR);
	if (n > 0)
		return n;
	if (n == 0)
		return -EIO;
	if (errno == EAGAIN) {
		poll(&poll_fd, 1, DELAY_MS);
		return -EAGAIN;
	}
	return -errno;
}

/* The first `len` bytes will never be written. */
static void lose(size_t len)
{
	drop(maas_log_ring_consume(&out.ring, len));
	out.broken |= out.torn;
	out.torn = false;
}

/* Another destination does not begin with the rest of a line. */
static void lose_torn_line(void)
{
	const char *data;
	size_t len = maas_log_ring_piece(&out.ring, &data);

	if (out.torn)
		lose((size_t)((const char *)memchr(data, '\n', len) - data) + 1);
}

/* Writes what comes first, or a part of it. False: it took nothing for a while. */
static bool write_piece(void)
{
	bool mends = out.broken;
	const char *data;
	size_t len = maas_log_ring_piece(&out.ring, &data);
	int fd = out.fd;
	ssize_t n;

	pthread_mutex_unlock(&out.lock);
	n = mends ? write_some(fd, "\n", 1) : write_some(fd, data, len);
	pthread_mutex_lock(&out.lock);
	if (n == -EAGAIN)
		return false;
	if (n < 0) {
		lose(len);
	} else if (mends) {
		out.broken = false;
	} else {
		out.torn = data[n - 1] != '\n';
		maas_log_ring_consume(&out.ring, (size_t)n);
		tell_dropped();
	}
	return true;
}

/*
 * Writes the lines that were there when it began, at the end all lines. Where the log takes
 * nothing, it tries until it is asked for something else. One thread at a time: `writing` says that
 * it runs.
 */
static void drain(void)
{
	uint64_t goal;

	while (out.writing)
		pthread_cond_wait(&out.done, &out.lock);
	goal = out.ring.added;
	out.writing = true;
	while (out.ring.taken < goal || (out.stop && out.ring.taken < out.ring.added))
		if (!write_piece() && (out.reopen || out.stop))
			break;
	out.writing = false;
	pthread_cond_broadcast(&out.done);
}

/* A line was added. */
static void notice(bool urgent)
{
	uint64_t held = out.ring.added - out.ring.taken;

	if (!out.threaded) {
		if (urgent || held >= MAAS_LOG_RING_BYTES / 2)
			drain();
		return;
	}
	urgent = (urgent || held >= WAKE_BYTES) && !out.urgent;
	if (urgent)
		out.urgent = true;
	if (urgent || out.asleep) {
		out.asleep = false;
		pthread_cond_signal(&out.wake);
	}
}

/* The caller holds the lock. */
static void flush(void)
{
	uint64_t deadline_ms = maas_clock_ms() + GIVE_UP_MS;
	uint64_t goal = out.ring.added;

	if (out.ring.taken < goal)
		notice(true);
	while (out.ring.taken < goal && maas_cond_wait_until(&out.done, &out.lock, deadline_ms))
		;
}

void maas_log_flush(void)
{
	pthread_mutex_lock(&out.lock);
	flush();
	pthread_mutex_unlock(&out.lock);
}

/* ---- the file */

/* Never waits, not even for the reader of a FIFO: without a reader the FIFO is opened for both
 * directions, so that the lines wait in it. */
static int open_path(const char *path)
{
	const int flags = O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
	int fd = open(path, O_WRONLY | flags, 0640);

	if (fd < 0 && errno == ENXIO)
		fd = open(path, O_RDWR | flags, 0640);
	return fd < 0 ? -errno : fd;
}

/* Returns the old one, for the caller to close; -1 where that is stderr. */
static int replace_fd(int fd, char *path)
{
	int old = out.path ? out.fd : -1;

	while (out.writing)
		pthread_cond_wait(&out.done, &out.lock);
	lose_torn_line();
	out.fd = fd;
	out.path = path;
	return old;
}

int maas_log_check(const char *path)
{
	struct stat st;

	if (!stat(path, &st)) {
		if (S_ISDIR(st.st_mode))
			return -EISDIR;
		return faccessat(AT_FDCWD, path, W_OK, AT_EACCESS) ? -errno : 0;
	}
	return errno == ENOENT ? maas_dir_check(path) : -errno;
}

int maas_log_open(const char *path)
{
	char *copy = NULL;
	char *old_path;
	int fd = STDERR_FILENO;
	int old;

	if (path) {
		copy = strdup(path);
		if (!copy)
			return -ENOMEM;
		fd = open_path(path);
		if (fd < 0) {
			free(copy);
			return fd;
		}
	}
	maas_log_flush();
	pthread_mutex_lock(&out.lock);
	old_path = out.path;
	old = replace_fd(fd, copy);
	pthread_mutex_unlock(&out.lock);
	if (old >= 0)
		close(old);
	free(old_path);
	return 0;
}

/* Without the lock, because open(2) may take as long as write(2); nobody waits for it. */
static void reopen(void)
{
	int fd = open_path(out.path);
	int old;

	if (fd < 0) {
		log_err("log file cannot be opened anew, the old one stays error=%s",
			strerror(-fd));
		return;
	}
	pthread_mutex_lock(&out.lock);
	old = replace_fd(fd, out.path);
	drain(); /* makes room for the line below */
	pthread_mutex_unlock(&out.lock);
	close(old);
	log_info("log file opened anew");
}

void maas_log_reopen(void)
{
	bool here;

	pthread_mutex_lock(&out.lock);
	here = out.path && !out.threaded;
	if (out.path && out.threaded) {
		out.reopen = true;
		pthread_cond_signal(&out.wake);
	}
	pthread_mutex_unlock(&out.lock);
	if (here) {
		maas_log_flush();
		reopen();
	}
}

/* ---- the writer */

static void wait_for_lines(void)
{
	uint64_t deadline_ms;

	out.asleep = true;
	while (out.ring.added == out.ring.taken && !out.reopen && !out.stop)
		pthread_cond_wait(&out.wake, &out.lock);
	out.asleep = false;
	deadline_ms = maas_clock_ms() + DELAY_MS;
	while (!out.urgent && !out.reopen && !out.stop &&
	       maas_cond_wait_until(&out.wake, &out.lock, deadline_ms))
		;
	out.urgent = false;
}

static void *write_log(void *arg)
{
	(void)arg;
	pthread_mutex_lock(&out.lock);
	while (!out.stop) {
		wait_for_lines();
		drain();
		if (out.reopen) {
			out.reopen = false;
			pthread_mutex_unlock(&out.lock);
			reopen();
			pthread_mutex_lock(&out.lock);
			drain(); /* what was logged meanwhile; this may be the end */
		}
	}
	out.threaded = false;
	pthread_cond_broadcast(&out.done);
	pthread_mutex_unlock(&out.lock);
	return NULL;
}

int maas_log_start(void)
{
	pthread_attr_t attr;
	pthread_t thread;
	int r = 0;

	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_mutex_lock(&out.lock);
	out.stop = false;
	if (!out.threaded)
		r = pthread_create(&thread, &attr, write_log, NULL);
	if (!r)
		out.threaded = true;
	pthread_mutex_unlock(&out.lock);
	pthread_attr_destroy(&attr);
	return -r;
}

void maas_log_stop(void)
{
	uint64_t deadline_ms;

	maas_log_flush();
	deadline_ms = maas_clock_ms() + UINT64_C(3) * DELAY_MS;
	pthread_mutex_lock(&out.lock);
	if (out.threaded) {
		out.stop = true;
		pthread_cond_signal(&out.wake);
	}
	while (out.threaded && maas_cond_wait_until(&out.done, &out.lock, deadline_ms))
		;
	pthread_mutex_unlock(&out.lock);
}

/* ---- lines */

static size_t format(char text[MAAS_LOG_TEXT_BYTES], const char *name, const char *fmt,
		     va_list args) MAAS_PRINTF(3, 0);

/* `name` stands before it, unless it is NULL. */
static size_t format(char text[MAAS_LOG_TEXT_BYTES], const char *name, const char *fmt,
		     va_list args)
{
	int head = name ? snprintf(text, MAAS_LOG_TEXT_BYTES / 2, "%.64s: ", name) : 0;
	int len = vsnprintf(text + head, MAAS_LOG_TEXT_BYTES - (size_t)head, fmt, args);

	len = len < 0 ? head : head + len;
	return (size_t)len < MAAS_LOG_TEXT_BYTES ? (size_t)len : MAAS_LOG_TEXT_BYTES - 1;
}

static void log_line(enum maas_log_level level, const char *name, char text[MAAS_LOG_TEXT_BYTES],
		     size_t len)
{
	maas_log_escape(text, len);
	pthread_mutex_lock(&out.lock);
	add_line(name ? "" : level_names[level], text, len);
	notice(level <= MAAS_LOG_WARN);
	pthread_mutex_unlock(&out.lock);
}

void maas_log(enum maas_log_level level, const char *fmt, ...)
{
	const char *name = atomic_load_explicit(&program, memory_order_relaxed);
	char text[MAAS_LOG_TEXT_BYTES];
	va_list args;
	size_t len;

	if (!maas_log_enabled(level))
		return;
	va_start(args, fmt);
	len = format(text, name, fmt, args);
	va_end(args);
	log_line(level, name, text, len);
}

void maas_log_text(enum maas_log_level level, const char *text, size_t len)
{
	char copy[MAAS_LOG_TEXT_BYTES];

	if (!maas_log_enabled(level))
		return;
	len = len < MAAS_LOG_TEXT_BYTES ? len : MAAS_LOG_TEXT_BYTES - 1;
	memcpy(copy, text, len);
	log_line(level, NULL, copy, len);
}

void maas_log_say(const char *fmt, ...)
{
	struct pollfd poll_fd = {.fd = STDERR_FILENO, .events = POLLOUT};
	char text[MAAS_LOG_TEXT_BYTES];
	va_list args;
	size_t len;

	va_start(args, fmt);
	len = format(text, NULL, fmt, args);
	va_end(args);
	maas_log_escape(text, len);
	text[len++] = '\n';
	pthread_mutex_lock(&out.lock);
	if (!out.path)
		flush();
	pthread_mutex_unlock(&out.lock);
	if (poll(&poll_fd, 1, GIVE_UP_MS) == 1)
		write_some(STDERR_FILENO, text, len);
}
