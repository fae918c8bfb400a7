/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guard against writes of the process before. Its lock on the file ends with its last thread,
 * and so do its own writes; but what a NIC writes through its queue pairs goes on until the kernel
 * has destroyed them, which may be later.
 *
 * A table says which process signed it, and whether a device may write for that process. Then:
 *
 *     no device                                             nothing to wait for
 *     a device, and the process is to be seen in /proc      until it is gone
 *     a device, and it is not (another pid namespace, as
 *     in a container that was started anew), or a table
 *     of a version that does not say                        WAIT_MS from the lock on
 *
 * No lock: nobody else knows the pool yet.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "slab/internal.h"

#define WAIT_MS 10000
#define NAP_NS	50000000L

/* The inode of the first pid namespace, which is the same everywhere. */
#define INIT_PID_NS 0xeffffffcu

struct process {
	uint64_t start; /* in clock ticks since the host's; 0: there is no such process */
	bool ended;	/* and waits for its parent only: its files are closed */
};

static struct process look_up(const char *pid)
{
	struct process process = {0};
	const char *field[22] = {0}; /* by its number in proc(5), less one */
	char path[32];
	char text[512];
	const char *at;
	ssize_t len;
	int fd;

	snprintf(path, sizeof(path), "/proc/%s/stat", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return process;
	len = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[len > 0 ? len : 0] = '\0';
	at = strrchr(text, ')'); /* its name may hold anything */
	for (size_t i = 2; at && i < MAAS_ARRAY_SIZE(field); i++) {
		at = strchr(at + 1, ' ');
		field[i] = at ? at + 1 : NULL;
	}
	if (!at)
		return process;
	process.start = strtoull(field[21], NULL, 10);
	/* A leader is a zombie before its other threads, which still hold the files. */
	process.ended = strchr("ZX", *field[2]) && strtol(field[19], NULL, 10) <= 1;
	return process;
}

static bool is_there(const struct maas_slab_slot_header *header)
{
	struct process process;
	char pid[16];

	snprintf(pid, sizeof(pid), "%d", header->pid);
	process = look_up(pid);
	return process.start && process.start == header->pid_start && !process.ended;
}

/* The inode of a namespace of this process; 0: unknown. */
static uint64_t namespace(const char *path)
{
	struct stat st;

	return stat(path, &st) < 0 ? 0 : st.st_ino;
}

static uint64_t pid_namespace(void)
{
	return namespace("/proc/self/ns/pid");
}

/* The inode of a namespace comes again when the namespace has ended: what a container that is
 * started anew gets is likely the number of the one before. Its process 1 is another one. */
static bool pid_namespace_is_ours(const struct maas_slab_slot_guard *guard)
{
	return guard->pid_ns && guard->pid_ns == pid_namespace() &&
	       (guard->pid_ns == INIT_PID_NS ||
		(guard->init_start && guard->init_start == look_up("1").start));
}

static uint64_t time_namespace(void)
{
	return namespace("/proc/self/ns/time");
}

/* /proc may be another namespace's: then it shows this process under another number. */
static bool proc_is_ours(void)
{
	char text[16] = "";

	return readlink("/proc/self", text, sizeof(text) - 1) > 0 &&
	       strtol(text, NULL, 10) == getpid();
}

static bool can_look_up(const struct maas_slab_slot_guard *guard)
{
	return pid_namespace_is_ours(guard) && guard->pid_start &&
	       guard->time_ns == time_namespace() && proc_is_ours();
}

static void announce(const struct maas_slab_slot_header *header, bool listed)
{
	if (listed)
		log_info("memory file: waiting for the end of process %d, which lent it before",
			 header->pid);
	else
		log_info("memory file: waiting %d s for what a NIC may still write: the process "
			 "that lent it before cannot be looked up from here",
			 WAIT_MS / 1000);
	maas_log_flush();
}

int maas_slab_guard_wait(const struct maas_slab_slot_header *header,
			 const struct maas_slab_options *options, char *error)
{
	const struct timespec pause = {.tv_nsec = NAP_NS};
	const struct maas_slab_slot_guard *guard = &header->guard;
	uint64_t end_ms = maas_clock_ms() + WAIT_MS;
	bool known = guard->pid == header->pid && guard->pid_start == header->pid_start;
	bool listed = known && can_look_up(guard);
	bool announced = false;

	if (header->pid <= 0 || (known && guard->writers == MAAS_SLAB_WRITERS_NONE))
		return 0;
	if (listed && header->pid == getpid())
		return 0; /* its number is ours: it is gone, or this process closed the pool */
	for (;;) {
		bool there = is_there(header);
		int r;

		listed = listed || there;
		if (!there && (listed || maas_clock_ms() >= end_ms))
			return 0;
		if (maas_clock_ms() >= end_ms)
			return maas_slab_refuse(error, -EBUSY,
						"--memory-file: process %d, which lent it before, "
						"is still ending; try again when it is gone",
						header->pid);
		r = maas_slab_tick(options, 0, 0);
		if (r)
			return r;
		if (!announced)
			announce(header, listed);
		announced = true;
		nanosleep(&pause, NULL);
	}
}

void maas_slab_guard_sign(struct maas_slab_slot_header *header)
{
	header->pid = getpid();
	header->pid_start = look_up("self").start;
	header->guard = (struct maas_slab_slot_guard){
		.pid_ns = pid_namespace(),
		.time_ns = time_namespace(),
		.pid_start = header->pid_start,
		.pid = header->pid,
		.writers = MAAS_SLAB_WRITERS_NONE,
		.init_start = look_up("1").start,
	};
}

void maas_slab_set_remote(struct maas_slab *slab, bool remote)
{
	slab->header->guard.writers = remote ? MAAS_SLAB_WRITERS_DEVICE : MAAS_SLAB_WRITERS_NONE;
	/* Before anything lets a device reach the bytes. */
	atomic_thread_fence(memory_order_seq_cst);
}
