/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/bench/rdma_rows.h"

#include <errno.h>
#include <string.h>

#define MAX_ROWS 128
#define NAME	 80

static struct bench_row rows[MAX_ROWS];
static char names[MAX_ROWS][NAME];
static bool by_noise[MAX_ROWS];
static unsigned int num_rows;

static void name_of(const struct rdma_note *note, char name[NAME])
{
	char size[24] = "";

	if (note->bytes >= 1u << 20)
		snprintf(size, sizeof(size), " %u MiB", (unsigned int)(note->bytes >> 20));
	else if (note->bytes >= 1u << 10)
		snprintf(size, sizeof(size), " %u KiB", (unsigned int)(note->bytes >> 10));
	else if (note->bytes)
		snprintf(size, sizeof(size), " %u B", (unsigned int)note->bytes);
	snprintf(name, NAME, "%s: %s%s%s", note->mode, note->what, size, note->more);
}

static struct bench_row *find_row(const struct rdma_note *note)
{
	struct bench_row *row;
	char name[NAME];

	name_of(note, name);
	for (unsigned int i = 0; i < num_rows; i++)
		if (!strcmp(names[i], name) && !strcmp(rows[i].unit, note->unit))
			return &rows[i];
	if (num_rows == MAX_ROWS)
		return NULL;
	row = &rows[num_rows];
	memcpy(names[num_rows], name, sizeof(name));
	row->name = names[num_rows];
	row->unit = note->unit;
	row->baseline_name = note->baseline_name;
	row->bar = note->bar;
	row->bar_is = note->bar_is;
	by_noise[num_rows++] = note->bar == RDMA_ROWS_BAND;
	return row;
}

int rdma_rows_note(const struct rdma_note *note)
{
	struct bench_row *row = find_row(note);

	return row ? bench_row_add(row, note->ours, note->baseline, note->again) : -ENOSPC;
}

int rdma_rows_write(const char *path)
{
	for (unsigned int i = 0; i < num_rows; i++) {
		struct bench_summary summary;

		if (!by_noise[i])
			continue;
		bench_row_summary(&rows[i], &summary);
		rows[i].bar = summary.noise < 1 ? 1 - summary.noise : 0.01;
	}
	return bench_report_write(path, "rdma", rows, num_rows);
}
