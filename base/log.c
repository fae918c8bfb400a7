/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/base.h"

#define LINE_BYTES   1024
#define BUFFER_BYTES 65536

static const char *const level_names[] = {"error", "warn", "info", "debug"};
static _Atomic int max_level = MAAS_LOG_INFO;

static struct {
	pthread_mutex_t lock;
	/* guarded by lock */
	int fd;
	char *path; /* NULL: stderr */
	size_t used;
	time_t stamp_of;
	char stamp[32]; /* the text of stamp_of: made once a second, not once a line */
	char buffer[BUFFER_BYTES];
} out = {.lock = PTHREAD_MUTEX_INITIALIZER, .fd = STDERR_FILENO};

void maas_log_set_level(enum maas_log_level level)
{
	atomic_store_explicit(&max_level, (int)level, memory_order_relaxed);
}

bool maas_log_enabled(enum maas_log_level level)
{
	return (int)level <= atomic_load_explicit(&max_level, memory_order_relaxed);
}

int maas_log_level_parse(const char *text, enum maas_log_level *ret_level)
{
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(level_names); i++)
		if (!strcmp(text, level_names[i])) {
			*ret_level = (enum maas_log_level)i;
			return 0;
		}
	return -EINVAL;
}

/* Nothing can report a log that cannot be written: the lines are dropped, the program goes on. */
static void write_out(void)
{
	size_t done = 0;

	while (done < out.used) {
		ssize_t n = write(out.fd, out.buffer + done, out.used - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		done += (size_t)n;
	}
	out.used = 0;
}

static int open_path(const char *path)
{
	int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);

	return fd < 0 ? -errno : fd;
}

static void replace_fd(int fd)
{
	write_out();
	if (out.path)
		close(out.fd);
	out.fd = fd;
}

int maas_log_open(const char *path)
{
	char *copy = NULL;
	int fd = STDERR_FILENO;

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
	pthread_mutex_lock(&out.lock);
	replace_fd(fd);
	free(out.path);
	out.path = copy;
	pthread_mutex_unlock(&out.lock);
	return 0;
}

int maas_log_reopen(void)
{
	int fd = 0;

	pthread_mutex_lock(&out.lock);
	if (out.path) {
		fd = open_path(out.path);
		if (fd >= 0)
			replace_fd(fd);
	}
	pthread_mutex_unlock(&out.lock);
	return fd < 0 ? fd : 0;
}

void maas_log_flush(void)
{
	pthread_mutex_lock(&out.lock);
	write_out();
	pthread_mutex_unlock(&out.lock);
}

/* A client's bytes end up in lines: one event must stay one line, whatever they hold. */
static void escape_controls(char *text, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
			text[i] = '?';
}

static void append_line(const char *level, const char *text, size_t len)
{
	time_t now = time(NULL);
	int head;

	if (now != out.stamp_of) {
		struct tm tm;

		gmtime_r(&now, &tm);
		strftime(out.stamp, sizeof(out.stamp), "%Y-%m-%dT%H:%M:%SZ", &tm);
		out.stamp_of = now;
	}
	if (sizeof(out.buffer) - out.used < LINE_BYTES + 64)
		write_out();
	head = snprintf(out.buffer + out.used, 64, "%s %s ", out.stamp, level);
	out.used += (size_t)head;
	memcpy(out.buffer + out.used, text, len);
	out.used += len;
	out.buffer[out.used++] = '\n';
}

void maas_log(enum maas_log_level level, const char *fmt, ...)
{
	char text[LINE_BYTES];
	va_list args;
	int len;

	if (!maas_log_enabled(level))
		return;
	va_start(args, fmt);
	len = vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	if (len < 0)
		return;
	if ((size_t)len >= sizeof(text))
		len = (int)sizeof(text) - 1;
	escape_controls(text, (size_t)len);
	pthread_mutex_lock(&out.lock);
	append_line(level_names[level], text, (size_t)len);
	if (level <= MAAS_LOG_WARN)
		write_out();
	pthread_mutex_unlock(&out.lock);
}
