/* SPDX-License-Identifier: Apache-2.0 */
/* The wrapped requests for memory, and the count of them, in all threads. */
#include "tests/fake/fail_nth.h"

#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>

static atomic_long countdown;
static atomic_long blocks;
static atomic_long mapped_bytes;
static __thread bool spared;
static __thread unsigned long requests;

/* The linker's names of --wrap. NOLINTBEGIN */
#define WRAPS(type, name, ...)                                                                     \
	type __real_##name(__VA_ARGS__);                                                           \
	type __wrap_##name(__VA_ARGS__)

WRAPS(void *, malloc, size_t len);
WRAPS(void *, calloc, size_t count, size_t len);
WRAPS(void *, realloc, void *old, size_t len);
WRAPS(void *, reallocarray, void *old, size_t count, size_t len);
WRAPS(void *, aligned_alloc, size_t align, size_t len);
WRAPS(int, posix_memalign, void **ret_block, size_t align, size_t len);
WRAPS(char *, strdup, const char *text);
WRAPS(char *, strndup, const char *text, size_t len);
WRAPS(void, free, void *block);
WRAPS(void *, mmap, void *addr, size_t len, int prot, int flags, int fd, off_t offset);
WRAPS(int, munmap, void *addr, size_t len);

void fail_nth_arm(long nth)
{
	countdown = nth;
}

bool fail_nth_disarm(void)
{
	/* The request that fails is the one that takes the count to 0. */
	return atomic_exchange(&countdown, 0) == 0;
}

void fail_nth_spare(bool spare)
{
	spared = spare;
}

long fail_nth_blocks(void)
{
	return blocks;
}

long fail_nth_mapped_bytes(void)
{
	return mapped_bytes;
}

unsigned long fail_nth_requests(void)
{
	return requests;
}

static bool is_due(void)
{
	requests++;
	return !spared && countdown > 0 && atomic_fetch_sub(&countdown, 1) == 1;
}

static void *counted(void *block)
{
	if (block)
		blocks++;
	return block;
}

static void *out_of_memory(void)
{
	errno = ENOMEM;
	return NULL;
}

void *__wrap_malloc(size_t len)
{
	return is_due() ? out_of_memory() : counted(__real_malloc(len));
}

void *__wrap_calloc(size_t count, size_t len)
{
	return is_due() ? out_of_memory() : counted(__real_calloc(count, len));
}

void *__wrap_realloc(void *old, size_t len)
{
	void *block;

	if (is_due())
		return out_of_memory();
	block = __real_realloc(old, len);
	return old ? block : counted(block);
}

void *__wrap_reallocarray(void *old, size_t count, size_t len)
{
	void *block;

	if (is_due())
		return out_of_memory();
	block = __real_reallocarray(old, count, len);
	return old ? block : counted(block);
}

void *__wrap_aligned_alloc(size_t align, size_t len)
{
	return is_due() ? out_of_memory() : counted(__real_aligned_alloc(align, len));
}

int __wrap_posix_memalign(void **ret_block, size_t align, size_t len)
{
	int error = is_due() ? ENOMEM : __real_posix_memalign(ret_block, align, len);

	if (!error)
		counted(*ret_block);
	return error;
}

char *__wrap_strdup(const char *text)
{
	return is_due() ? out_of_memory() : counted(__real_strdup(text));
}

char *__wrap_strndup(const char *text, size_t len)
{
	return is_due() ? out_of_memory() : counted(__real_strndup(text, len));
}

void __wrap_free(void *block)
{
	if (block)
		blocks--;
	__real_free(block);
}

void *__wrap_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
	void *mapping;

	if (is_due()) {
		errno = ENOMEM;
		return MAP_FAILED;
	}
	mapping = __real_mmap(addr, len, prot, flags, fd, offset);
	if (mapping != MAP_FAILED && !(flags & MAP_FIXED))
		mapped_bytes += (long)len;
	return mapping;
}

int __wrap_munmap(void *addr, size_t len)
{
	int r = __real_munmap(addr, len);

	if (!r)
		mapped_bytes -= (long)len;
	return r;
}
/* NOLINTEND */
