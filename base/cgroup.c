/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The limit of memory that control groups set, of either version, or of both side by side.
 *
 * /proc/self/cgroup says in which group this process is ("0::PATH", or "N:memory:PATH" in version
 * 1), /proc/self/mountinfo where the hierarchy can be seen, and from which of its groups downwards:
 * in a container often only from the container's own (cgroups(7), proc_pid_mountinfo(5)). What
 * groups above that set is told by version 1 alone, in memory.stat.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"

#define PATH_BYTES 4096
#define NO_LIMIT   (UINT64_C(1) << 62) /* version 1 has a huge number for "none" */

/* One version's hierarchy that has to do with memory. */
struct hierarchy {
	const char *type;	/* of its file system */
	const char *option;	/* that its mount has, in version 1; NULL: version 2 */
	const char *file;	/* that holds a group's limit */
	char group[PATH_BYTES]; /* this process's; empty: none */
};

struct mount {
	char *root; /* the group that is at `point` */
	char *point;
};

/* ---- /proc/self/cgroup */

/* Whether the list "cpu,memory" has this word. */
static bool has_word(const char *list, size_t len, const char *word)
{
	size_t word_len = strlen(word);

	for (size_t at = 0; at < len;) {
		size_t end = at + strcspn(list + at, ",");

		if (end > len)
			end = len;
		if (end - at == word_len && !memcmp(list + at, word, word_len))
			return true;
		at = end + 1;
	}
	return false;
}

static void find_groups(const char *proc, struct hierarchy *v1, struct hierarchy *v2)
{
	char line[PATH_BYTES + 256];
	char path[PATH_BYTES];
	FILE *file;

	snprintf(path, sizeof(path), "%s/cgroup", proc);
	file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file)) {
		char *list = strchr(line, ':');
		char *group = list ? strchr(list + 1, ':') : NULL;

		if (!group)
			continue;
		line[strcspn(line, "\n")] = '\0';
		if (!strncmp(line, "0::", 3))
			snprintf(v2->group, sizeof(v2->group), "%s", group + 1);
		else if (has_word(list + 1, (size_t)(group - list - 1), "memory"))
			snprintf(v1->group, sizeof(v1->group), "%s", group + 1);
	}
	if (file)
		fclose(file);
}

/* ---- /proc/self/mountinfo */

/* In place: "\040" is a blank. */
static void unescape(char *text)
{
	char *to = text;

	for (; *text; text++) {
		if (text[0] == '\\' && text[1] >= '0' && text[1] <= '3' && text[2] && text[3]) {
			*to++ = (char)((text[1] - '0') << 6 | (text[2] - '0') << 3 |
				       (text[3] - '0'));
			text += 3;
		} else {
			*to++ = *text;
		}
	}
	*to = '\0';
}

/* "ID PARENT MAJOR:MINOR ROOT POINT OPTIONS [TAG…] - TYPE SOURCE OPTIONS"; changes `line`. */
static bool is_mount_of(char *line, const struct hierarchy *hierarchy, struct mount *ret_mount)
{
	char *fields[5];
	char *save = NULL;
	char *tail = strstr(line, " - ");
	const char *type;
	const char *options;

	if (!tail)
		return false;
	*tail = '\0';
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(fields); i++) {
		fields[i] = strtok_r(i ? NULL : line, " ", &save);
		if (!fields[i])
			return false;
	}
	type = strtok_r(tail + 3, " \n", &save);
	if (!type || strcmp(type, hierarchy->type) != 0 || !strtok_r(NULL, " \n", &save))
		return false;
	options = strtok_r(NULL, " \n", &save);
	if (hierarchy->option &&
	    (!options || !has_word(options, strlen(options), hierarchy->option)))
		return false;
	unescape(fields[3]);
	unescape(fields[4]);
	*ret_mount = (struct mount){.root = fields[3], .point = fields[4]};
	return true;
}

/* Where the group is seen. -1: not below this mount. */
static int locate(const struct mount *mount, const char *group, char path[PATH_BYTES])
{
	size_t root_len = strcmp(mount->root, "/") != 0 ? strlen(mount->root) : 0;

	if (strncmp(group, mount->root, root_len) != 0 ||
	    (group[root_len] && group[root_len] != '/'))
		return -1;
	group += root_len;
	if (!strcmp(group, "/"))
		group = "";
	if (snprintf(path, PATH_BYTES, "%s%s", mount->point, group) >= PATH_BYTES)
		return -1;
	return access(path, F_OK);
}

/* ---- limits */

/* False: there is no such file. */
static bool read_limit(const char *group, const char *file_name, uint64_t *ret_bytes)
{
	char path[PATH_BYTES + 64];
	char text[32] = "";
	unsigned long long bytes;
	char *end;
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", group, file_name);
	file = fopen(path, "re");
	if (!file)
		return false;
	if (!fgets(text, sizeof(text), file))
		text[0] = '\0';
	fclose(file);
	bytes = strtoull(text, &end, 10);
	*ret_bytes = end == text || bytes >= NO_LIMIT ? UINT64_MAX : bytes; /* "max" is none */
	return true;
}

/* Version 1 says in memory.stat what limit comes of all groups above, be they mounted here or not.
 */
static uint64_t read_hierarchical(const char *group)
{
	static const char key[] = "hierarchical_memory_limit ";
	char path[PATH_BYTES + 64];
	char line[128];
	unsigned long long least = NO_LIMIT;
	FILE *file;

	snprintf(path, sizeof(path), "%s/memory.stat", group);
	file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file))
		if (!strncmp(line, key, sizeof(key) - 1))
			least = strtoull(line + sizeof(key) - 1, NULL, 10);
	if (file)
		fclose(file);
	return least >= NO_LIMIT ? UINT64_MAX : least;
}

/* The root of all has no limit of its own, but says that it controls memory. */
static bool is_unlimited_root(const struct mount *mount)
{
	char path[PATH_BYTES + 64];
	char text[512] = "";
	FILE *file;

	snprintf(path, sizeof(path), "%s/cgroup.controllers", mount->point);
	file = strcmp(mount->root, "/") != 0 ? NULL : fopen(path, "re");
	if (!file)
		return false;
	if (!fgets(text, sizeof(text), file))
		text[0] = '\0';
	fclose(file);
	for (char *at = text; (at = strpbrk(at, " \n")); at++)
		*at = ',';
	return has_word(text, strlen(text), "memory");
}

/* The smallest limit from the group up to the mount. False: cannot tell. */
static bool find_least(const struct mount *mount, const struct hierarchy *hierarchy,
		       char path[PATH_BYTES], uint64_t *ret_least)
{
	size_t point_len = strlen(mount->point);
	bool told = false;

	*ret_least = hierarchy->option ? read_hierarchical(path) : UINT64_MAX;
	for (;;) {
		uint64_t bytes;

		if (read_limit(path, hierarchy->file, &bytes)) {
			told = true;
			if (bytes < *ret_least)
				*ret_least = bytes;
		}
		if (strlen(path) <= point_len)
			break;
		*strrchr(path, '/') = '\0';
	}
	return told || is_unlimited_root(mount);
}

/* As find_least(), wherever the hierarchy is mounted. */
static bool look(const char *proc, const struct hierarchy *hierarchy, uint64_t *ret_least)
{
	char line[2 * PATH_BYTES];
	char path[PATH_BYTES];
	struct mount mount;
	bool told = false;
	FILE *file;

	if (!hierarchy->group[0])
		return false;
	snprintf(path, sizeof(path), "%s/mountinfo", proc);
	file = fopen(path, "re");
	while (file && !told && fgets(line, sizeof(line), file))
		if (is_mount_of(line, hierarchy, &mount) && !locate(&mount, hierarchy->group, path))
			told = find_least(&mount, hierarchy, path, ret_least);
	if (file)
		fclose(file);
	return told;
}

int maas_cgroup_memory(const char *proc, uint64_t *ret_bytes)
{
	struct hierarchy v1 = {
		.type = "cgroup", .option = "memory", .file = "memory.limit_in_bytes"};
	struct hierarchy v2 = {.type = "cgroup2", .file = "memory.max"};
	uint64_t least = UINT64_MAX;
	uint64_t other = UINT64_MAX;
	bool told;

	find_groups(proc, &v1, &v2);
	told = look(proc, &v1, &least);
	if (look(proc, &v2, &other)) {
		told = true;
		if (other < least)
			least = other;
	}
	if (!told)
		return -ENODATA;
	if (least == UINT64_MAX)
		return -ENOENT;
	*ret_bytes = least;
	return 0;
}
