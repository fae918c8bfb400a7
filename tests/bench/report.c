/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/bench/report.h"

#include <assert.h>
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static int compare_doubles(const void *a, const void *b)
{
	const double *x = a;
	const double *y = b;

	return (*x > *y) - (*x < *y);
}

static void sort(const double *values, unsigned int num_values, double sorted[BENCH_MAX_PAIRS])
{
	assert(num_values > 0 && num_values <= BENCH_MAX_PAIRS);
	memcpy(sorted, values, num_values * sizeof(sorted[0]));
	qsort(sorted, num_values, sizeof(sorted[0]), compare_doubles);
}

double bench_median(const double *values, unsigned int num_values)
{
	double sorted[BENCH_MAX_PAIRS];

	sort(values, num_values, sorted);
	return (sorted[(num_values - 1) / 2] + sorted[num_values / 2]) / 2;
}

int bench_row_add(struct bench_row *row, double ours, double baseline, double again)
{
	if (!isfinite(ours) || !isfinite(baseline) || !isfinite(again) || ours < 0 ||
	    baseline <= 0 || again <= 0) {
		log_err("impossible figure case=\"%s\" ours=%g baseline=%g again=%g", row->name,
			ours, baseline, again);
		return -ERANGE;
	}
	if (row->pairs == BENCH_MAX_PAIRS)
		return -ENOSPC;
	row->ours[row->pairs] = ours;
	row->baseline[row->pairs] = baseline;
	row->again[row->pairs] = again;
	row->pairs++;
	return 0;
}

void bench_row_summary(const struct bench_row *row, struct bench_summary *ret_summary)
{
	struct bench_summary s;
	double off[BENCH_MAX_PAIRS];

	s.ours = bench_median(row->ours, row->pairs);
	s.baseline = bench_median(row->baseline, row->pairs);
	s.ratio = s.ours / s.baseline;
	s.aa = bench_median(row->again, row->pairs) / s.baseline;
	for (unsigned int i = 0; i < row->pairs; i++)
		off[i] = fabs(row->again[i] / row->baseline[i] - 1);
	s.noise = bench_median(off, row->pairs);
	s.ok = isnan(row->bar) ||
	       (row->bar_is == BENCH_BAR_MAX ? s.ratio <= row->bar : s.ratio >= row->bar);
	*ret_summary = s;
}

/* JSON has no NaN: a row without a bar says null. */
static json_t *row_json(const struct bench_row *row)
{
	bool has_bar = !isnan(row->bar);
	struct bench_summary s;

	bench_row_summary(row, &s);
	return json_pack("{s:s, s:s, s:f, s:f, s:s, s:f, s:f, s:f, s:I, s:o, s:o, s:o}", "case",
			 row->name, "unit", row->unit, "ours", s.ours, "baseline", s.baseline,
			 "baseline_name", row->baseline_name, "ratio", s.ratio, "noise", s.noise,
			 "aa", s.aa, "pairs", (json_int_t)row->pairs, "bar",
			 has_bar ? json_real(row->bar) : json_null(), "bar_is",
			 !has_bar ? json_null()
				  : json_string(row->bar_is == BENCH_BAR_MAX ? "max" : "min"),
			 "ok", has_bar ? json_boolean(s.ok) : json_null());
}

int bench_report_write(const char *path, const char *area, const struct bench_row *rows,
		       unsigned int num_rows)
{
	json_t *list = json_array();
	json_t *report;
	int ret = 0;

	for (unsigned int i = 0; i < num_rows; i++)
		ret |= json_array_append_new(list, row_json(&rows[i]));
	report = json_pack("{s:s, s:o}", "area", area, "rows", list);
	if (!report || ret)
		ret = -ENOMEM;
	else if (json_dump_file(report, path, JSON_INDENT(1) | JSON_REAL_PRECISION(6)))
		ret = -EIO;
	json_decref(report);
	return ret;
}
