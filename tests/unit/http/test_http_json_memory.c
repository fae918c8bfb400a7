/* SPDX-License-Identifier: Apache-2.0 */
/* What a JSON body costs: less than eight times its size and 1 MiB, whatever its shape. */
#include "http/parse.h"
#include "tests/unit/unit.h"

#define PIECE "{\"id\":\"x\",\"offset\":0,\"length\":1}"

static void walk_ids(const char *text, size_t len)
{
	struct maas_http_element element;
	struct maas_http_fault fault;
	struct maas_http_list list;
	char id[MAAS_SLAB_ID_TEXT];
	int r = maas_http_ids_open(&list, text, len, &fault);

	while (!r && maas_http_ids_next(&list, id, &element, &fault) == 1)
		;
}

static struct {
	size_t now;
	size_t most;
} heap;

static void *count_malloc(size_t size)
{
	size_t *at = malloc(size + 16);

	if (!at)
		return NULL;
	*at = size;
	/* About what malloc itself adds to a piece. */
	heap.now += size + 16;
	if (heap.now > heap.most)
		heap.most = heap.now;
	return (char *)at + 16;
}

static void count_free(void *at)
{
	size_t *start = (void *)((char *)at - 16);

	if (!at)
		return;
	heap.now -= *start + 16;
	free(start);
}

/* `unit` over and over, between `before` and `after`, to `len` bytes; freed by the caller. */
static char *fill(const char *before, const char *unit, const char *after, size_t len)
{
	size_t unit_len = strlen(unit);
	size_t after_len = strlen(after);
	char *text = malloc(len + 1);
	size_t used;

	assert_non_null(text);
	used = (size_t)snprintf(text, len + 1, "%s", before);
	for (; used + unit_len + after_len <= len; used += unit_len)
		snprintf(text + used, len + 1 - used, "%s", unit);
	/* The last comma separates nothing. */
	memset(text + used - 1, ' ', len - used + 1);
	snprintf(text + len - after_len, after_len + 1, "%s", after);
	return text;
}

static void expect_cheap(const char *before, const char *unit, const char *after, size_t len)
{
	char *text = fill(before, unit, after, len);
	struct maas_http_pieces pieces = {0};
	struct maas_http_allocate_body allocate;
	struct maas_http_fault fault;

	heap.now = 0;
	heap.most = 0;
	walk_ids(text, len);
	if (!maas_http_json_pieces(text, len, &pieces, &fault)) {
		heap.most += pieces.count * sizeof(*pieces.at);
		free(pieces.at);
	}
	if (len <= 8192)
		(void)!maas_http_json_allocate(text, len, &allocate, &fault);
	/* The body itself lies in a buffer of at most twice its length. */
	if (2 * len + heap.most > 8 * len + (1 << 20))
		fail_msg("%zu bytes of %s%s: %zu bytes", len, before, unit, heap.most);
	free(text);
}

TEST(json__memory_of_any_shape)
{
	static const struct {
		const char *before, *unit, *after;
	} shapes[] = {
		{"{\"ids\":[", "[],", "]}"},	       {"{\"ids\":[", "{},", "]}"},
		{"{\"ids\":[", "\"\",", "]}"},	       {"{\"ids\":[", "\"\\u0061\",", "]}"},
		{"{\"ids\":[{", "\"\":0,", "}]}"},     {"{\"ids\":[", "{\"\":{}},", "]}"},
		{"{\"ids\":[[", "0,", "]]}"},	       {"{\"ids\":[", "[[[[[[[[", "]}"},
		{"{\"ranges\":[", "{},", "]}"},	       {"{\"ranges\":[", PIECE ",", "]}"},
		{"{\"ranges\":[{", "\"\":{},", "}]}"}, {"{", "\"a\":0,", "}"},
		{"{\"size_bytes\":[", "{},", "]}"},    {"[", "{},", "]"},
	};
	static const size_t lens[] = {64, 4096, 8192, 300000, 4 << 20};

	json_set_alloc_funcs(count_malloc, count_free);
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(shapes); i++)
		for (size_t j = 0; j < MAAS_ARRAY_SIZE(lens); j++)
			expect_cheap(shapes[i].before, shapes[i].unit, shapes[i].after, lens[j]);
	json_set_alloc_funcs(malloc, free);
}

TEST_MAIN(NULL, NULL)
