/* SPDX-License-Identifier: Apache-2.0 */
/* The progress bar on stderr. Owner thread only. */
#include <string.h>
#include <unistd.h>

#include "cmd/cmd.h"

#define BAR_CELLS  30
#define REDRAW_MS  100
#define CLEAR_LINE "\r\033[K"

void cmd_progress_begin(struct cmd_progress *progress, const char *what, uint64_t total)
{
	*progress = (struct cmd_progress){
		.what = what,
		.total = total,
		.started_ms = maas_clock_ms(),
		.on = isatty(STDERR_FILENO),
	};
}

int cmd_progress_text(const struct cmd_progress *progress, uint64_t done, uint64_t elapsed_ms,
		      char *text, size_t len)
{
	static const char full[BAR_CELLS + 1] = "==============================";
	double rate = elapsed_ms ? (double)done * 1000 / (double)elapsed_ms : 0;
	char done_text[CMD_TEXT];
	char total_text[CMD_TEXT];
	char rate_text[CMD_TEXT];
	double share;
	int cells;

	maas_size_round((double)done, done_text);
	maas_size_round(rate, rate_text);
	if (!progress->total)
		return snprintf(text, len, "%s %s  %s/s", progress->what, done_text, rate_text);
	share = done < progress->total ? (double)done / (double)progress->total : 1;
	cells = (int)(share * BAR_CELLS);
	return snprintf(text, len, "%s %3d%% [%.*s%*s] %s of %s  %s/s", progress->what,
			(int)(share * 100), cells, full, BAR_CELLS - cells, "", done_text,
			maas_size_round((double)progress->total, total_text), rate_text);
}

void cmd_progress_update(struct cmd_progress *progress, uint64_t done)
{
	uint64_t now_ms;
	char text[160];

	if (!progress->on)
		return;
	now_ms = maas_clock_ms();
	if (now_ms - progress->drawn_ms < REDRAW_MS)
		return;
	progress->drawn_ms = now_ms;
	cmd_progress_text(progress, done, now_ms - progress->started_ms, text, sizeof(text));
	fprintf(stderr, CLEAR_LINE "%s", text);
}

void cmd_progress_end(struct cmd_progress *progress, uint64_t done)
{
	progress->drawn_ms = 0;
	cmd_progress_update(progress, done);
	if (progress->on)
		fputc('\n', stderr);
	progress->on = false;
}
