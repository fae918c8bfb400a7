/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files of the configuration that a running server reads again: at SIGHUP, and when they were
 * changed, because secrets of Kubernetes and of ACME clients send no signal. Files that are wrong
 * keep what was before. In the main thread.
 */
#include <errno.h>
#include <string.h>

#include "daemon/internal.h"

#define LOOK_MS	  10000 /* between two looks, … */
#define SETTLE_MS 2000	/* … and until what was being written is old enough */

/* By what a file is told from another: a new one has another inode, most often. */
static bool same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
	       a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
	       a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec &&
	       a->st_mode == b->st_mode && a->st_uid == b->st_uid;
}

/* One that is gone is another file, too. */
static struct stat status_of(const char *path)
{
	struct stat now = {0};

	return path && !stat(path, &now) ? now : (struct stat){0};
}

/* Before they are read: a change meanwhile is one more reading. */
static void remember(struct maasd_reload *reload)
{
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(reload->paths); i++)
		reload->seen[i] = status_of(reload->paths[i]);
}

int maasd_reload_first(struct maasd_reload *reload, char error[MAASD_OPTIONS_ERROR])
{
	remember(reload);
	return reload->read(reload->ctx, error);
}

static void read_again(struct maasd_reload *reload)
{
	char error[MAASD_OPTIONS_ERROR];
	int r;

	remember(reload);
	r = reload->read(reload->ctx, error);
	if (r)
		log_err("%s stay as they were: %s", reload->what, error);
	/* These pass, and the next look tries again. */
	if (r == -ENOMEM || r == -EMFILE || r == -ENFILE)
		memset(reload->seen, 0, sizeof(reload->seen));
	reload->failed = r;
}

/* Within the last second. A time of the future is no sign of it: a copy keeps the time that it had
 * on a machine whose clock is ahead, and is to count now. */
static bool is_being_written(const struct stat *status)
{
	uint64_t at_s = (uint64_t)status->st_mtim.tv_sec, now_s = maas_clock_wall_s();

	return status->st_ino && at_s + 1 >= now_s && at_s <= now_s + 1;
}

/* Whether there are other files now, and nobody is still writing them; sets `writing` if somebody
 * is. */
static bool has_changed(const struct maasd_reload *reload, bool *writing)
{
	bool changed = false;

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(reload->paths); i++) {
		struct stat now = status_of(reload->paths[i]);

		if (same_file(&now, &reload->seen[i]))
			continue;
		if (is_being_written(&now)) {
			*writing = true;
			return false;
		}
		changed = true;
	}
	return changed;
}

unsigned int maasd_reload(struct maasd_reload *const *reloads, size_t count, bool always,
			  struct maas_http *http)
{
	bool failed = false, tried = false, writing = false;

	for (size_t i = 0; i < count; i++) {
		struct maasd_reload *reload = reloads[i];

		if (reload->read && (always || has_changed(reload, &writing))) {
			read_again(reload);
			tried = true;
		}
		failed = failed || reload->failed;
	}
	if (tried)
		maas_http_reloaded(http, !failed);
	return writing ? SETTLE_MS : LOOK_MS;
}
