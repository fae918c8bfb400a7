/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks of a Prometheus (prometheus/blocks): their manifests, and whether all their files are
 * there. */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/remotefile.h"

#define VERSION	 1
#define MAX_TREE (256u << 10) /* bytes: a tree of JSON takes many times its text */

uint32_t remotefile_next_block(const struct remotefile *files, uint32_t count, uint32_t *at)
{
	uint32_t end;

	while (*at < count && files[*at].kind != REMOTEFILE_BLOCK)
		++*at;
	for (end = *at; end < count && files[end].kind == REMOTEFILE_BLOCK; end++)
		if (files[end].number != files[*at].number)
			break;
	return end - *at;
}

const struct remotefile *remotefile_manifest(const struct remotefile *files, uint32_t count)
{
	while (count--)
		if (files[count].finished && files[count].part >= REMOTEFILE_MANIFEST)
			return &files[count];
	return NULL;
}

/* ---- base64 (RFC 4648, 4), as encoding/json writes bytes */

static int sextet(char c)
{
	static const char alphabet[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const char *at = c ? strchr(alphabet, c) : NULL;

	return at ? (int)(at - alphabet) : -1;
}

/* Decodes four characters at a time; "=" is nothing. Returns the length, or SIZE_MAX. */
static size_t decode_base64(const char *text, size_t len, char *to)
{
	size_t out = 0;

	if (len % 4)
		return SIZE_MAX;
	for (size_t i = 0; i < len; i += 4) {
		size_t pad = i + 4 < len ? 0 : (size_t)(text[i + 3] == '=') + (text[i + 2] == '=');
		uint32_t bits = 0;

		for (size_t j = 0; j < 4; j++) {
			int value = j < 4 - pad ? sextet(text[i + j]) : 0;

			if (value < 0)
				return SIZE_MAX;
			bits = bits << 6 | (uint32_t)value;
		}
		for (size_t j = 0; j < 3 - pad; j++)
			to[out++] = (char)(bits >> (16 - 8 * j) & 0xff);
	}
	return out;
}

/* ---- the manifest */

/* Part i + 1 of the block is the i-th file of the list. */
static bool are_there(const json_t *list, const struct remotefile *files, uint32_t count)
{
	uint32_t at = 0;
	const json_t *file;
	size_t i;

	json_array_foreach(list, i, file)
	{
		json_int_t size = json_integer_value(json_object_get(file, "size"));

		while (at < count && files[at].part <= i)
			at++;
		if (at == count || files[at].part != i + 1 || !files[at].finished || size < 0 ||
		    files[at].stored_bytes != (uint64_t)size)
			return false;
	}
	return true;
}

static int read_times(const char *text, size_t len, struct remotefile_block *ret_block)
{
	json_t *meta = json_loadb(text, len, 0, NULL);
	const json_t *min = json_object_get(meta, "minTime");
	const json_t *max = json_object_get(meta, "maxTime");
	int r = json_is_integer(min) && json_is_integer(max) ? 0 : -EBADMSG;

	if (!r)
		*ret_block =
			(struct remotefile_block){json_integer_value(min), json_integer_value(max)};
	json_decref(meta);
	return r;
}

/* Copies meta.json out of the manifest. */
static int copy_meta(const json_t *manifest, char **ret_meta, size_t *ret_len)
{
	const json_t *meta = json_object_get(manifest, "meta");
	char *copy = malloc(json_string_length(meta) + 1);

	if (!copy)
		return -ENOMEM;
	*ret_len = decode_base64(json_is_string(meta) ? json_string_value(meta) : "",
				 json_string_length(meta), copy);
	if (*ret_len == SIZE_MAX) {
		free(copy);
		return -EBADMSG;
	}
	*ret_meta = copy;
	return 0;
}

/* Leaves the tombstones out, a string of base64 that is as long as the block has deletions. */
static json_t *load(const char *text, size_t len)
{
	static const char key[] = "\"tombstones\":\"";
	const char *found = memmem(text, len, key, sizeof(key) - 1);
	size_t head = found ? (size_t)(found - text) + sizeof(key) - 1 : len;
	const char *rest = memchr(text + head, '"', len - head);
	size_t tail = rest ? len - (size_t)(rest - text) : 0;
	json_t *manifest = NULL;
	char *copy = NULL;

	if (head + tail <= MAX_TREE)
		copy = malloc(head + tail + 1);
	if (copy) {
		memcpy(copy, text, head);
		memcpy(copy + head, text + len - tail, tail);
		manifest = json_loadb(copy, head + tail, 0, NULL);
	}
	free(copy);
	return manifest;
}

int remotefile_read_manifest(const char *text, size_t len, const struct remotefile *files,
			     uint32_t count, struct remotefile_block *ret_block)
{
	json_t *manifest = load(text, len);
	const json_t *list = json_object_get(manifest, "files");
	char *meta = NULL;
	size_t meta_len = 0;
	int r = 0;

	if (!json_is_array(list))
		r = -EBADMSG;
	else if (json_integer_value(json_object_get(manifest, "version")) != VERSION)
		r = -EPROTONOSUPPORT;
	else if (!are_there(list, files, count))
		r = -ENODATA;
	else
		r = copy_meta(manifest, &meta, &meta_len);
	/* Keep one tree at a time. */
	json_decref(manifest);
	if (!r)
		r = read_times(meta, meta_len, ret_block);
	free(meta);
	return r;
}
