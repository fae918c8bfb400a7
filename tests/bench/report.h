/* SPDX-License-Identifier: Apache-2.0 */
/*
 * report: the rows of a benchmark. A row compares ours with a baseline over pairs of samples that
 * were taken in turn; a second sample of the baseline in each pair (A/A) shows the noise.
 *
 *     ratio  median of ours / median of the baseline
 *     aa     median of the baseline's second samples / median of its first ones
 *     noise  median over the pairs of how far second / first is from 1
 *
 * Threading: one thread.
 */
#ifndef MAAS_BENCH_REPORT_H
#define MAAS_BENCH_REPORT_H

#include <math.h>

#include "base/base.h"

#define BENCH_MAX_PAIRS 101

/* A row without a bar only informs. */
#define BENCH_NO_BAR ((double)NAN)

enum bench_bar_is {
	BENCH_BAR_MAX, /* the ratio may not be above the bar */
	BENCH_BAR_MIN, /* … below it */
};

struct bench_row {
	const char *name; /* what was done, as the "case" in the table */
	const char *unit; /* of ours and the baseline */
	const char *baseline_name;
	double bar;
	enum bench_bar_is bar_is;
	unsigned int pairs;
	double ours[BENCH_MAX_PAIRS];
	double baseline[BENCH_MAX_PAIRS];
	double again[BENCH_MAX_PAIRS];
};

struct bench_summary {
	double ours;
	double baseline;
	double ratio;
	double aa;
	double noise;
	bool ok; /* true without a bar */
};

/*
 * Notes one pair. Errors: -ERANGE when a figure is impossible (not finite, or not above 0; ours may
 * be 0), which is logged; -ENOSPC after BENCH_MAX_PAIRS.
 */
MAAS_MUST_CHECK int bench_row_add(struct bench_row *row, double ours, double baseline,
				  double again);

/* `row` has at least one pair. */
void bench_row_summary(const struct bench_row *row, struct bench_summary *ret_summary);

/* Writes {"area":…,"pairs":…,"rows":[…]} to the file `path`. Errors: -ENOMEM, -EIO. */
MAAS_MUST_CHECK int bench_report_write(const char *path, const char *area,
				       const struct bench_row *rows, unsigned int num_rows);

/* The median of `values`, 1 to BENCH_MAX_PAIRS of them. */
double bench_median(const double *values, unsigned int num_values);

#endif
