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

WRAPS(int, posix_memalign, void **ret_block, size_t align, size_t len);
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

/* A call that returns a block, with its arguments in parentheses: with types, and without. A block
 * that `old` was before is counted already. */
#define ALLOCATES(type, name, old, typed, args)                                                    \
	type __real_##name typed;                                                                  \
	type __wrap_##name typed;                                                                  \
	type __wrap_##name typed                                                                   \
	{                                                                                          \
		bool is_new = !(old);                                                              \
		void *block = is_due() ? out_of_memory() : __real_##name args;                     \
                                                                                                   \
		return is_new ? counted(block) : block;                                            \
	}

ALLOCATES(void *, malloc, NULL, (size_t len), (len))
ALLOCATES(void *, calloc, NULL, (size_t count, size_t len), (count, len))
ALLOCATES(void *, realloc, old, (void *old, size_t len), (old, len))
ALLOCATES(void *, reallocarray, old, (void *old, size_t count, size_t len), (old, count, len))
ALLOCATES(void *, aligned_alloc, NULL, (size_t align, size_t len), (align, len))
ALLOCATES(char *, strdup, NULL, (const char *text), (text))
ALLOCATES(char *, strndup, NULL, (const char *text, size_t len), (text, len))

int __wrap_posix_memalign(void **ret_block, size_t align, size_t len)
{
	int error = is_due() ? ENOMEM : __real_posix_memalign(ret_block, align, len);

	if (!error)
		counted(*ret_block);
	return error;
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
