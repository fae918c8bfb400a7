/* SPDX-License-Identifier: Apache-2.0 */
/* What a Prometheus keeps at the server: reads the headers of its allocations, and joins the
 * files. */
#include <errno.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/prometheus.h"

#define PAGE	    250		/* allocations whose headers come in one request */
#define MAX_EXTENTS (1u << 18)	/* of one owner: 1 TiB, and 28 MB here */
#define MAX_OWNERS  65536u	/* as many as a server has */
#define MAX_FILE    (64u << 20) /* bytes: a manifest with tombstones of millions of series */

struct look {
	struct cmd_context *context;
	const char *owner;
	struct holding *holding;
	struct remotefile_extent *extents;
	uint32_t count;
	uint32_t room;
	struct maas_allocation page[PAGE];
	uint8_t headers[PAGE][REMOTEFILE_HEADER_BYTES];
};

static int fail_memory(void)
{
	fputs("maas: out of memory\n", stderr);
	return CMD_FAILED;
}

/* ---- extents */

/* One allocation that was freed since it was listed makes the whole request fail; find it by
 * halves. */
static int read_headers(struct look *look, uint32_t from, uint32_t count)
{
	struct maas_range ranges[PAGE];
	uint32_t half = count / 2;
	int error;

	for (uint32_t i = 0; i < count; i++)
		ranges[i] = (struct maas_range){look->page[from + i].id, 0, look->headers[from + i],
						REMOTEFILE_HEADER_BYTES};
	error = count ? maas_readv(look->context->maas, ranges, count) : 0;
	if (error != -ENOENT)
		return error;
	if (count == 1) {
		memset(look->headers[from], 0, REMOTEFILE_HEADER_BYTES);
		return 0;
	}
	error = read_headers(look, from, half);
	return error ? error : read_headers(look, from + half, count - half);
}

static struct remotefile_extent *next_extent(struct look *look)
{
	uint32_t room = look->room ? 2 * look->room : PAGE;
	struct remotefile_extent *extents = look->extents;

	if (look->count == look->room) {
		extents = reallocarray(extents, room, sizeof(*extents));
		if (!extents)
			return NULL;
		look->extents = extents;
		look->room = room;
	}
	return &extents[look->count];
}

static int take(struct look *look, const struct maas_allocation *allocation, const uint8_t *bytes)
{
	struct remotefile_extent *extent = next_extent(look);
	int r;

	if (!extent)
		return fail_memory();
	r = remotefile_decode(bytes, allocation->size_bytes, &extent->header);
	look->holding->foreign += r == -EPROTONOSUPPORT;
	if (r)
		return CMD_OK;
	if (look->count == MAX_EXTENTS) {
		fprintf(stderr,
			"maas: %s has more than %u allocations: too many for this command\n",
			look->owner, MAX_EXTENTS);
		return CMD_FAILED;
	}
	memcpy(extent->id, allocation->id, sizeof(extent->id));
	extent->lent_bytes = allocation->actual_size_bytes;
	look->count++;
	return CMD_OK;
}

/* Counts all allocations, and moves those that can be extents to the front of the page. Returns the
 * number of these. */
static uint32_t sort_out(struct look *look, int count)
{
	struct holding *holding = look->holding;
	uint32_t kept = 0;

	for (int i = 0; i < count; i++) {
		const struct maas_allocation *allocation = &look->page[i];

		holding->all.allocations++;
		holding->all.lent_bytes += allocation->actual_size_bytes;
		if (allocation->age_seconds < holding->newest_age_s)
			holding->newest_age_s = allocation->age_seconds;
		if (allocation->size_bytes > REMOTEFILE_HEADER_BYTES &&
		    allocation->size_bytes <= REMOTEFILE_MAX_EXTENT)
			look->page[kept++] = *allocation;
	}
	return kept;
}

static int read_extents(struct look *look)
{
	char cursor[MAAS_ID_BYTES] = "";

	do {
		int count = maas_list(look->context->maas, look->owner, cursor, look->page, PAGE);
		uint32_t kept;
		int error;

		if (count < 0)
			return cmd_fail(look->context, count, "cannot list");
		kept = sort_out(look, count);
		error = read_headers(look, 0, kept);
		if (error)
			return cmd_fail(look->context, error, "cannot read");
		for (uint32_t i = 0; i < kept; i++) {
			int status = take(look, &look->page[i], look->headers[i]);

			if (status)
				return status;
		}
	} while (*cursor);
	return CMD_OK;
}

/* ---- blocks */

/* Reads a whole file. NULL if it is gone, has become another file, or is too long. */
static char *read_file(struct look *look, const struct remotefile *file)
{
	char *text;
	size_t at = 0;

	if (file->stored_bytes > MAX_FILE)
		return NULL;
	text = malloc(file->stored_bytes + 1);
	for (uint32_t i = 0; text && i < file->extents; i++) {
		const struct remotefile_extent *extent = &look->extents[file->first + i];
		size_t len = extent->header.length;

		if (maas_read(look->context->maas, extent->id, REMOTEFILE_HEADER_BYTES, text + at,
			      len) ||
		    remotefile_crc(0, text + at, len) != extent->header.crc) {
			free(text);
			return NULL;
		}
		at += len;
	}
	return text;
}

static bool read_block(struct look *look, const struct remotefile *files, uint32_t count,
		       struct remotefile_block *ret_block)
{
	const struct remotefile *manifest = remotefile_manifest(files, count);
	char *text = manifest ? read_file(look, manifest) : NULL;
	int r = -ENODATA;

	if (text)
		r = remotefile_read_manifest(text, manifest->stored_bytes, files, count, ret_block);
	free(text);
	return !r;
}

static void add_blocks(struct look *look, const struct remotefile *files, uint32_t count)
{
	struct holding *holding = look->holding;
	uint32_t at = 0;
	uint32_t len;

	for (; (len = remotefile_next_block(files, count, &at)) > 0; at += len) {
		struct remotefile_block block;

		if (!read_block(look, files + at, len, &block)) {
			holding->partial_blocks++;
			continue;
		}
		if (!holding->blocks || block.min_ms < holding->blocks_begin_ms)
			holding->blocks_begin_ms = block.min_ms;
		if (!holding->blocks || block.max_ms > holding->blocks_end_ms)
			holding->blocks_end_ms = block.max_ms;
		holding->blocks++;
	}
}

/* ---- the whole */

static void add_file(struct holding *holding, const struct remotefile *file)
{
	struct kept *kept = &holding->kinds[file->kind < REMOTEFILE_KINDS ? file->kind : 0];

	kept->files++;
	kept->allocations += file->extents;
	kept->stored_bytes += file->stored_bytes;
	kept->lent_bytes += file->lent_bytes;
	if (file->epoch > holding->epoch)
		holding->epoch = file->epoch;
}

static void add_rest(struct holding *holding)
{
	struct kept *other = &holding->kinds[0];
	struct kept *all = &holding->all;
	uint64_t allocations = 0;
	uint64_t lent_bytes = 0;

	for (unsigned int i = 0; i < REMOTEFILE_KINDS; i++) {
		all->files += holding->kinds[i].files;
		all->stored_bytes += holding->kinds[i].stored_bytes;
		allocations += holding->kinds[i].allocations;
		lent_bytes += holding->kinds[i].lent_bytes;
	}
	other->allocations += all->allocations - allocations;
	other->lent_bytes += all->lent_bytes - lent_bytes;
}

static int put_together(struct look *look)
{
	struct holding *holding = look->holding;
	struct remotefile *files = calloc(look->count + 1, sizeof(*files));
	uint32_t count;

	if (!files)
		return fail_memory();
	count = remotefile_find(look->extents, look->count, files);
	for (uint32_t i = 0; i < count; i++)
		add_file(holding, &files[i]);
	add_rest(holding);
	holding->log = remotefile_log_state(files, count);
	holding->has_head_begin = remotefile_head_begin(files, count, &holding->head_begin_ms);
	add_blocks(look, files, count);
	free(files);
	return CMD_OK;
}

int prometheus_look(struct cmd_context *context, const char *owner, struct holding *ret_holding)
{
	struct look *look = calloc(1, sizeof(*look));
	int status;

	if (!look)
		return fail_memory();
	*ret_holding = (struct holding){.newest_age_s = UINT64_MAX};
	look->context = context;
	look->owner = owner;
	look->holding = ret_holding;
	status = read_extents(look);
	if (!status)
		status = put_together(look);
	free(look->extents);
	free(look);
	return status;
}

/* ---- owners */

struct owners {
	void *tree;
	uint32_t count;
	int (*each)(void *arg, const char *owner);
	void *arg;
	int status;
};

static int compare_owners(const void *a, const void *b)
{
	return strcmp(a, b);
}

static int add_owner(struct owners *owners, const char *name)
{
	char *copy;

	if (!*name || tfind(name, &owners->tree, compare_owners))
		return CMD_OK;
	if (owners->count++ == MAX_OWNERS) {
		fputs("maas: the server names more owners than it can have: is that a maasd?\n",
		      stderr);
		return CMD_FAILED;
	}
	copy = strdup(name);
	if (copy && tsearch(copy, &owners->tree, compare_owners))
		return CMD_OK;
	free(copy);
	return fail_memory();
}

static int list_owners(struct cmd_context *context, struct owners *owners)
{
	struct maas_allocation *page = calloc(PAGE, sizeof(*page));
	char cursor[MAAS_ID_BYTES] = "";
	int count = page ? 0 : -ENOMEM;
	int status = CMD_OK;

	while (count >= 0 && !status) {
		count = maas_list(context->maas, NULL, cursor, page, PAGE);
		for (int i = 0; i < count && !status; i++)
			status = add_owner(owners, page[i].owner);
		if (!*cursor)
			break;
	}
	free(page);
	return count < 0 ? cmd_fail(context, count, "cannot list") : status;
}

static void visit(const void *node, VISIT which, void *arg)
{
	struct owners *owners = arg;

	if ((which == postorder || which == leaf) && !owners->status)
		owners->status = owners->each(owners->arg, *(char *const *)node);
}

int prometheus_owners(struct cmd_context *context, int (*each)(void *arg, const char *owner),
		      void *arg)
{
	struct owners owners = {.each = each, .arg = arg};

	owners.status = list_owners(context, &owners);
	if (!owners.status)
		twalk_r(owners.tree, visit, &owners);
	tdestroy(owners.tree, free);
	return owners.status;
}
