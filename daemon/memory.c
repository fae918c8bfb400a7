/* SPDX-License-Identifier: Apache-2.0 */
/* Whether the pool fits: the machine, its control group, the file system of --memory-file. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/internal.h"

#define PROC	      "/proc/self"
#define MIB	      (UINT64_C(1) << 20)
#define PROCESS_BYTES (32u << 20) /* that the server takes beside the pool and its table, about */

/* What is asked for, and what is said about it. */
struct fit {
	const struct maasd_options *options;
	struct maas_slab_room room;
	char pool[MAAS_SIZE_TEXT];
	char *error;
	int warnings;
	int r; /* of the first finding that does not let the server start */
};

static uint64_t physical_bytes(void)
{
	long pages = sysconf(_SC_PHYS_PAGES);
	long page_bytes = sysconf(_SC_PAGESIZE);

	return pages < 0 || page_bytes < 0 ? 0 : (uint64_t)pages * (uint64_t)page_bytes;
}

/* What the kernel could give without killing anybody; UINT64_MAX: unknown. */
static uint64_t available_bytes(void)
{
	FILE *file = fopen("/proc/meminfo", "re");
	uint64_t sum = 0;
	bool told = false;
	char line[128];

	while (file && fgets(line, sizeof(line), file)) {
		bool available = !strncmp(line, "MemAvailable:", 13);

		if (available || !strncmp(line, "SwapFree:", 9))
			sum += strtoull(strchr(line, ':') + 1, NULL, 10) * 1024; /* KiB */
		told = told || available;
	}
	if (file)
		fclose(file);
	return told ? sum : UINT64_MAX;
}

/* With --prealloc a reason not to start, else a warning. */
MAAS_PRINTF(3, 4) static void find(struct fit *fit, int r, const char *fmt, ...)
{
	char text[MAASD_OPTIONS_ERROR - 16];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	if (!fit->options->prealloc) {
		log_warn("%s", text);
		fit->warnings++;
	} else if (!fit->r) {
		snprintf(fit->error, MAASD_OPTIONS_ERROR, "--prealloc: %s", text);
		fit->r = r;
	}
}

/* A disk's file can be larger than memory: it is slow then, not impossible. */
static void check_machine(struct fit *fit)
{
	uint64_t physical = physical_bytes();
	char text[MAAS_SIZE_TEXT];

	if (!physical || fit->options->max_pool_bytes <= physical)
		return;
	maas_size_human(physical, text);
	if (fit->room.disk) {
		log_warn("--max-pool-size %s is more than this machine's memory, %s: a full pool "
			 "would be read from disk and written to it all the time",
			 fit->pool, text);
		fit->warnings++;
	} else {
		find(fit, -ENOMEM,
		     "--max-pool-size %s is more than this machine's memory, %s: a full pool "
		     "would swap, or be killed",
		     fit->pool, text);
	}
}

static bool fits_into(uint64_t limit, const struct maas_slab_room *room)
{
	return room->need_bytes + PROCESS_BYTES < limit;
}

/* The largest pool that fits into `limit`, in whole MiB; 0: none does. */
static uint64_t find_largest(const struct maasd_options *options, uint64_t limit)
{
	struct maas_slab_options slab = maasd_serve_slab_options(options, true);
	uint64_t fits = 0;
	uint64_t above = limit / MIB * MIB;

	while (above > fits + MIB) {
		struct maas_slab_room room;

		slab.max_bytes = (fits + above) / 2 / MIB * MIB;
		if (!maas_slab_room(&slab, NULL, &room) && fits_into(limit, &room))
			fits = slab.max_bytes;
		else
			above = slab.max_bytes;
	}
	return fits;
}

/* Huge pages and a disk's cache do not count. */
static void check_cgroup(struct fit *fit)
{
	char lower[MAAS_SIZE_TEXT + 32] = "";
	char text[MAAS_SIZE_TEXT];
	uint64_t limit;
	uint64_t largest;

	if (fit->room.disk || fit->room.huge || maas_cgroup_memory(PROC, &limit) ||
	    fits_into(limit, &fit->room))
		return;
	largest = find_largest(fit->options, limit);
	if (largest) {
		maas_size_format(largest, text);
		snprintf(lower, sizeof(lower), ", or lower --max-pool-size to %s", text);
	}
	find(fit, -ENOMEM,
	     "--max-pool-size %s does not fit into the cgroup's limit of memory, %s: a full pool "
	     "would swap, or be killed; raise MemoryMax= or the container's limit%s",
	     fit->pool, maas_size_human(limit, text), lower);
}

static void check_file_system(struct fit *fit)
{
	const struct maas_slab_room *room = &fit->room;
	char need[MAAS_SIZE_TEXT];
	char has[MAAS_SIZE_TEXT];

	if (room->need_bytes <= room->room_bytes)
		return;
	maas_size_human(room->need_bytes, need);
	if (room->need_bytes > room->total_bytes)
		find(fit, -ENOSPC,
		     "--memory-file %.150s: its file system has %s, less than the %s of the pool "
		     "with its table; make it larger (mount -o remount,size=SIZE), or lower "
		     "--max-pool-size",
		     fit->options->memory_file, maas_size_human(room->total_bytes, has), need);
	else
		find(fit, -ENOSPC,
		     "--memory-file %.150s: its file system has room for %s, and the pool with its "
		     "table takes %s when it is full; free some of it, make it larger (mount -o "
		     "remount,size=SIZE), or lower --max-pool-size",
		     fit->options->memory_file, maas_size_human(room->room_bytes, has), need);
}

static void check_available(struct fit *fit)
{
	const struct maas_slab_room *room = &fit->room;
	uint64_t more_bytes =
		room->need_bytes > room->held_bytes ? room->need_bytes - room->held_bytes : 0;
	char text[MAAS_SIZE_TEXT];

	if (!fit->options->prealloc || room->disk || room->huge || more_bytes <= available_bytes())
		return;
	log_warn("--prealloc: this machine has only %s of memory and swap to spare: something may "
		 "be killed",
		 maas_size_human(available_bytes(), text));
	fit->warnings++;
}

int maasd_memory_refuse_open(const struct maasd_options *options, char error[MAASD_OPTIONS_ERROR])
{
	snprintf(error, MAASD_OPTIONS_ERROR,
		 "--memory-file %.200s was last used with --auth-file, and without it everybody "
		 "could read what is in it; give --auth-file, or say --insecure-open",
		 options->memory_file);
	return -EACCES;
}

int maasd_memory_look(const struct maasd_options *options, char error[MAASD_OPTIONS_ERROR])
{
	const struct maas_slab_options slab = maasd_serve_slab_options(options, true);
	struct maas_slab_mark mark;
	int r;

	if (!options->memory_file)
		return 0;
	r = maas_slab_look(&slab, &mark, error);
	if (r || options->auth_file || options->insecure_open || !maas_lend_had_principals(&mark))
		return r;
	return maasd_memory_refuse_open(options, error);
}

int maasd_memory_room(const struct maasd_options *options, char error[MAASD_OPTIONS_ERROR],
		      struct maas_slab_room *ret_room)
{
	const struct maas_slab_options slab = maasd_serve_slab_options(options, true);
	char reason[MAAS_SLAB_ERROR] = "";
	int r = maas_slab_room(&slab, reason, ret_room);

	if (r)
		snprintf(error, MAASD_OPTIONS_ERROR, "the pool cannot be made: %s",
			 *reason ? reason : strerror(-r));
	return r;
}

int maasd_memory_check(const struct maasd_options *options, char error[MAASD_OPTIONS_ERROR])
{
	struct fit fit = {.options = options, .error = error};
	int r = maasd_memory_room(options, error, &fit.room);

	if (r)
		return r;
	maas_size_format(options->max_pool_bytes, fit.pool);
	check_machine(&fit);
	check_cgroup(&fit);
	check_file_system(&fit);
	if (fit.r)
		return fit.r;
	check_available(&fit);
	return fit.warnings;
}

static void print_room(struct maas_buf *out, const struct maasd_options *options)
{
	const struct maas_slab_options slab = maasd_serve_slab_options(options, true);
	struct maas_slab_room room;
	char text[MAAS_SIZE_TEXT];

	if (!options->memory_file || maas_slab_room(&slab, NULL, &room))
		return;
	maas_buf_printf(out, "memory file and table = %s\n",
			maas_size_human(room.need_bytes, text));
	maas_buf_printf(out, "memory file's room = %s\n",
			room.room_bytes == UINT64_MAX ? "no limit known"
						      : maas_size_human(room.room_bytes, text));
}

void maasd_memory_print(const struct maasd_options *options, struct maas_buf *out)
{
	char text[MAAS_SIZE_TEXT];
	uint64_t limit;
	int r;

	maas_buf_printf(out, "machine memory = %s\n", maas_size_human(physical_bytes(), text));
	r = maas_cgroup_memory(PROC, &limit);
	maas_buf_printf(out, "cgroup memory limit = %s\n",
			!r	       ? maas_size_human(limit, text)
			: r == -ENOENT ? "none"
				       : "cannot tell");
	print_room(out, options);
}
