/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The buffers that the caller registered, each with a count of the operations that use it. Any
 * thread; `buffer_lock` guards the list. Over RDMA a buffer is pinned as well.
 */
#include <errno.h>
#include <stdlib.h>

#include "client/transport.h"

/* Holds the lock. The registered buffer that holds all of these bytes, or NULL. */
static struct maas_buffer *find(struct maas *maas, const void *at, size_t len)
{
	uintptr_t base = (uintptr_t)at;
	struct maas_buffer *buffer;

	LIST_FOREACH (buffer, &maas->buffers, link) {
		if (base >= buffer->base && base - buffer->base < buffer->len &&
		    len <= buffer->len - (base - buffer->base))
			return buffer;
	}
	return NULL;
}

static bool overlaps(struct maas *maas, uintptr_t base, size_t len)
{
	struct maas_buffer *buffer;

	LIST_FOREACH (buffer, &maas->buffers, link) {
		if (base < buffer->base + buffer->len && buffer->base < base + len)
			return true;
	}
	return false;
}

int maas_buffer_register(struct maas *maas, void *base, size_t len, struct maas_buffer **ret_buffer)
{
	struct maas_buffer *buffer;
	int r = maas_enter(maas);

	if (r)
		return r;
	if (!base || !len || len > UINTPTR_MAX - (uintptr_t)base)
		return maas_fail(-EINVAL, "a buffer has an address and at least one byte");
	buffer = calloc(1, sizeof(*buffer));
	if (!buffer)
		return maas_fail(-ENOMEM, "out of memory");
	buffer->base = (uintptr_t)base;
	buffer->len = len;
	pthread_mutex_lock(&maas->buffer_lock);
	if (overlaps(maas, buffer->base, len))
		r = maas_fail(-EEXIST, "the buffer overlaps one that is registered");
	else if (maas->transport->keys)
		r = maas->transport->pin(maas, buffer);
	if (!r)
		LIST_INSERT_HEAD(&maas->buffers, buffer, link);
	pthread_mutex_unlock(&maas->buffer_lock);
	if (r)
		free(buffer);
	else
		*ret_buffer = buffer;
	return r;
}

int maas_buffer_unregister(struct maas *maas, struct maas_buffer *buffer)
{
	struct maas_buffer *at;
	int r = maas_enter(maas);

	if (r)
		return r;
	pthread_mutex_lock(&maas->buffer_lock);
	LIST_FOREACH (at, &maas->buffers, link) {
		if (at == buffer)
			break;
	}
	if (!at)
		r = maas_fail(-ENOENT, "the buffer is not registered with this handle");
	else if (at->users || (maas->transport->keys && maas->transport->unpin(maas, at)))
		r = maas_fail(-EBUSY, "an operation under way uses the buffer");
	else
		LIST_REMOVE(at, link);
	pthread_mutex_unlock(&maas->buffer_lock);
	if (!r)
		free(at);
	return r;
}

struct maas_buffer *maas_buffer_get(struct maas *maas, const void *at, size_t len)
{
	struct maas_buffer *buffer;

	pthread_mutex_lock(&maas->buffer_lock);
	buffer = find(maas, at, len);
	if (buffer)
		buffer->users++;
	pthread_mutex_unlock(&maas->buffer_lock);
	return buffer;
}

void maas_buffer_put(struct maas *maas, struct maas_buffer *buffer)
{
	if (!buffer)
		return;
	pthread_mutex_lock(&maas->buffer_lock);
	buffer->users--;
	pthread_mutex_unlock(&maas->buffer_lock);
}
