/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bytes of the file of principals. It holds no secrets in clear, but it says who may do what:
 * others may not read it, and nobody but its owner may write it. No state: any thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "auth/internal.h"

/* Whoever may write the file is an admin, and others may not even know the names. */
static int check_access(int fd, const char *path, char error[MAAS_AUTH_ERROR])
{
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	if (!S_ISREG(st.st_mode)) {
		snprintf(error, MAAS_AUTH_ERROR, "%s is not a regular file", path);
		return -EINVAL;
	}
	if (st.st_uid && st.st_uid != geteuid()) {
		snprintf(error, MAAS_AUTH_ERROR,
			 "%s belongs to the user %u, who could change it: chown it to root", path,
			 (unsigned int)st.st_uid);
		return -EPERM;
	}
	if (st.st_mode & (S_IWGRP | S_IRWXO)) {
		snprintf(error, MAAS_AUTH_ERROR,
			 "%s may be %s others (mode %03o): chmod 0640 it; in Kubernetes, give the "
			 "volume defaultMode: 0440",
			 path, st.st_mode & S_IROTH ? "read by" : "written by",
			 (unsigned int)(st.st_mode & 0777));
		return -EPERM;
	}
	return 0;
}

/* Reads to the end, whatever stat() said of the length. */
static int read_all(int fd, struct maas_buf *text)
{
	ssize_t len;

	do {
		char *to = maas_buf_reserve(text, 4096);

		if (!to)
			return text->error;
		len = read(fd, to, 4096);
		if (len < 0)
			return -errno;
		text->len += (size_t)len;
		if (text->len > MAAS_AUTH_MAX_FILE)
			return -EFBIG;
	} while (len);
	return 0;
}

int maas_auth_load(const char *path, char error[MAAS_AUTH_ERROR], struct maas_auth **ret_auth)
{
	struct maas_buf text = {0};
	int fd, r;

	*error = '\0';
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	r = fd < 0 ? -errno : check_access(fd, path, error);
	if (!r)
		r = read_all(fd, &text);
	if (fd >= 0)
		close(fd);
	if (!r)
		r = maas_auth_parse(text.data, text.len, error, ret_auth);
	if (r && !*error)
		snprintf(error, MAAS_AUTH_ERROR, "%s: %s", path, strerror(-r));
	maas_buf_fini(&text);
	return r;
}
