/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which process this is, however it was forked, and whether a handle is this process's. Any thread;
 * no lock.
 */
#include <errno.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <unistd.h>

#include "client/internal.h"

static _Atomic pid_t no_page;
/* A page that the kernel clears in a child, so that the pid in it is nobody else's. */
_Atomic pid_t *maas_process_page = &no_page;
static pthread_once_t process_once = PTHREAD_ONCE_INIT;

static void make_process_page(void)
{
	size_t bytes = (size_t)sysconf(_SC_PAGESIZE);
	void *page = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (page == MAP_FAILED)
		return;
	if (madvise(page, bytes, MADV_WIPEONFORK))
		munmap(page, bytes);
	else
		maas_process_page = page;
}

pid_t maas_process(void)
{
	pid_t pid;

	pthread_once(&process_once, make_process_page);
	pid = atomic_load_explicit(maas_process_page, memory_order_relaxed);
	if (!pid)
		pid = getpid();
	if (maas_process_page != &no_page)
		atomic_store_explicit(maas_process_page, pid, memory_order_relaxed);
	return pid;
}

int maas_fail_process(void)
{
	return maas_fail(-ECHILD, "this handle belongs to the process that forked");
}
