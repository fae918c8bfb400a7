/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files of the configuration: their bytes, and whether somebody else could change or read them. No
 * state: any thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/base.h"

#define STEP_BYTES 4096

void maas_file_open_standard(bool quiet)
{
	/* The number of the next file is the lowest that is free. */
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0)
			(void)!open("/dev/null", quiet ? O_RDWR : fd ? O_RDONLY : O_WRONLY);
}

/* Whoever may write the file decides for its owner. */
static int check_access(int fd, const char *path, bool secret, char error[MAAS_FILE_ERROR])
{
	mode_t forbidden = S_IWGRP | (secret ? S_IRWXO : S_IWOTH);
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	if (!S_ISREG(st.st_mode)) {
		snprintf(error, MAAS_FILE_ERROR, "%s is not a regular file", path);
		return -EINVAL;
	}
	if (st.st_uid && st.st_uid != geteuid()) {
		snprintf(error, MAAS_FILE_ERROR,
			 "%s belongs to the user %u, who could change it: chown it to root", path,
			 (unsigned int)st.st_uid);
		return -EPERM;
	}
	if (st.st_mode & forbidden) {
		snprintf(error, MAAS_FILE_ERROR,
			 "%s may be %s others (mode %03o): chmod %s it; in Kubernetes, give the "
			 "volume defaultMode: %s",
			 path, st.st_mode & forbidden & S_IROTH ? "read by" : "written by",
			 (unsigned int)(st.st_mode & 0777), secret ? "0640" : "0644",
			 secret ? "0440" : "0444");
		return -EPERM;
	}
	return 0;
}

/* Reads to the end, whatever stat() said of the length. */
static int read_all(int fd, size_t max_bytes, struct maas_buf *text)
{
	ssize_t len;

	do {
		char *to = maas_buf_reserve(text, STEP_BYTES);

		if (!to)
			return text->error;
		len = read(fd, to, STEP_BYTES);
		if (len < 0)
			return -errno;
		text->len += (size_t)len;
		if (text->len > max_bytes)
			return -EFBIG;
	} while (len);
	return 0;
}

int maas_file_read(const char *path, size_t max_bytes, bool secret, char error[MAAS_FILE_ERROR],
		   struct maas_buf *ret_text)
{
	struct maas_buf text = {0};
	int fd, r;

	*error = '\0';
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	r = fd < 0 ? -errno : check_access(fd, path, secret, error);
	if (!r)
		r = read_all(fd, max_bytes, &text);
	if (fd >= 0)
		close(fd);
	if (!r) {
		*ret_text = text;
		return 0;
	}
	if (!*error)
		snprintf(error, MAAS_FILE_ERROR, "%s: %s", path, strerror(-r));
	if (text.data)
		explicit_bzero(text.data, text.cap);
	maas_buf_fini(&text);
	return r;
}
