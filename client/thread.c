/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "client/internal.h"

/* A page that the kernel clears in a child, so that the pid in it is nobody else's. NULL: there is
 * no such page. */
static _Atomic pid_t *process_page;
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
		process_page = page;
}

pid_t maas_process(void)
{
	pid_t pid;

	pthread_once(&process_once, make_process_page);
	if (!process_page)
		return getpid();
	pid = atomic_load_explicit(process_page, memory_order_relaxed);
	if (!pid) {
		pid = getpid();
		atomic_store_explicit(process_page, pid, memory_order_relaxed);
	}
	return pid;
}

int maas_enter(const struct maas *maas)
{
	maas_error_clear();
	if (maas->pid != maas_process())
		return maas_fail(-ECHILD, "this handle belongs to the process that forked");
	return 0;
}

int maas_cond_init(pthread_cond_t *cond)
{
	pthread_condattr_t attr;
	int error;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	error = pthread_cond_init(cond, &attr);
	pthread_condattr_destroy(&attr);
	return -error;
}

bool maas_cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *lock, uint64_t ms)
{
	struct timespec until = {.tv_sec = (time_t)(ms / 1000),
				 .tv_nsec = (long)(ms % 1000) * 1000000L};

	return pthread_cond_timedwait(cond, lock, &until) != ETIMEDOUT;
}

int maas_thread_start(pthread_t *ret_thread, void *(*run)(void *), void *arg)
{
	sigset_t all;
	sigset_t old;
	int error;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	error = pthread_create(ret_thread, NULL, run, arg);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return -error;
}
