/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_rdma: libmaas and maasd against perftest on the same device, and their keys against bare
 * verbs, with keys by windows and by regions side by side in each pair.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "tests/bench/bare_keys.h"
#include "tests/bench/key_maker.h"
#include "tests/bench/options.h"
#include "tests/bench/perftest.h"
#include "tests/bench/rdma_data.h"
#include "tests/bench/rdma_rows.h"

#define FEW	10
#define MANY	100000
#define MODES	2
#define SAMPLES (MODES + 2) /* ours in each mode, the baseline, the baseline again */

static const char *const modes[MODES] = {"window", "mr"};

struct bench {
	const struct bench_options *options;
	struct rdma_data *data[MODES]; /* beside FEW allocations */
	struct rdma_data *many[MODES];
	struct key_maker keys[MODES];
	struct key_maker many_keys[MODES];
};

/* The depth and how many messages are such that a run takes half a second on SoftRoCE in a VM. */
static const struct {
	uint64_t bytes;
	unsigned int depth;
	unsigned int messages;
	double bar;
	bool rates; /* with a row for operations per second, and one for CPU time */
} bandwidths[] = {
	{65536, 64, 400, 0.95, true},
	{1024, 64, 8000, RDMA_ROWS_BAND, true},
	{4096, 64, 4000, RDMA_ROWS_BAND, true},
	{1u << 20, 8, 24, RDMA_ROWS_BAND, false},
	{4u << 20, 4, 8, RDMA_ROWS_BAND, false},
};

#define BANDWIDTHS MAAS_ARRAY_SIZE(bandwidths)

static const uint64_t latencies[] = {64, 1024, 4096};

#define LATENCY_MESSAGES 500
#define FEWEST_MESSAGES	 5 /* that perftest takes */
#define PERFTEST_TRIES	 5

/* What perftest needs for itself, by operation and bandwidths[]. */
static double setup_cpu_ns[2][BANDWIDTHS];

static unsigned int messages(const struct bench *bench, unsigned int full)
{
	unsigned int count = bench->options->quick ? full / 10 : full;

	return count < FEWEST_MESSAGES ? FEWEST_MESSAGES : count;
}

static int run_perftest(const struct bench *bench, const struct rdma_data_job *job,
			struct perftest_result *ret_result)
{
	static const char *const programs[2][2] = {
		{"ib_read_lat", "ib_read_bw"},
		{"ib_write_lat", "ib_write_bw"},
	};
	const struct perftest test = {
		.program = programs[job->write][job->depth != 0],
		.device = rdma_data_device(bench->data[0]),
		.dir = bench->options->dir,
		.bytes = job->bytes,
		.depth = job->depth,
		.messages = job->messages,
	};

	int ret = 0;

	/* On a busy machine it now and then measures its own clock wrong: it says 0 or inf then. */
	for (unsigned int tries = 0; tries < PERFTEST_TRIES; tries++) {
		double figure;

		ret = perftest_run(&test, ret_result);
		figure = job->depth ? ret_result->mib_s : ret_result->p50_us;
		if (ret || (isfinite(figure) && figure > 0))
			break;
		log_warn("%s reports nothing, once more", test.program);
	}
	return ret;
}

/* Everybody once, and the baseline again; the next pair begins with another one. */
static int take_samples(struct bench *bench, const struct rdma_data_job *job, unsigned int pair,
			struct rdma_data_sample samples[SAMPLES])
{
	for (unsigned int i = 0; i < SAMPLES; i++) {
		static const unsigned char order[SAMPLES] = {0, 2, 1, 3};
		unsigned int who = order[(pair + i) % SAMPLES];
		struct perftest_result result;
		int ret;

		if (who < MODES) {
			ret = rdma_data_run(bench->data[who], job, &samples[who]);
		} else {
			ret = run_perftest(bench, job, &result);
			samples[who] = (struct rdma_data_sample){result.mib_s, result.p50_us,
								 result.p99_us, result.p999_us,
								 result.cpu_ns / job->messages};
		}
		if (ret)
			return ret;
	}
	return 0;
}

/* ---- bandwidth */

static int note_bandwidth(unsigned int mode, const struct rdma_data_job *job, unsigned int which,
			  const struct rdma_data_sample samples[SAMPLES])
{
	const double per_s = (double)(1u << 20) / (double)job->bytes;
	const double setup = setup_cpu_ns[job->write][which] / job->messages;
	struct rdma_note note = {
		.what = job->write ? "write" : "read",
		.bytes = job->bytes,
		.mode = modes[mode],
		.more = "",
		.unit = "MiB/s",
		.baseline_name = job->write ? "ib_write_bw" : "ib_read_bw",
		.bar = bandwidths[which].bar,
		.bar_is = BENCH_BAR_MIN,
		.ours = samples[mode].mib_s,
		.baseline = samples[MODES].mib_s,
		.again = samples[MODES + 1].mib_s,
	};
	int ret = rdma_rows_note(&note);

	if (ret || !bandwidths[which].rates)
		return ret;
	note.unit = "1/s";
	note.bar = BENCH_NO_BAR;
	note.ours *= per_s;
	note.baseline *= per_s;
	note.again *= per_s;
	ret = rdma_rows_note(&note);
	note.unit = "us of CPU";
	note.ours = samples[mode].cpu_ns / 1e3;
	note.baseline = (samples[MODES].cpu_ns - setup) / 1e3;
	note.again = (samples[MODES + 1].cpu_ns - setup) / 1e3;
	/* Next to its setup a short run of perftest may vanish: no figure then. */
	if (!ret && note.baseline > 0 && note.again > 0)
		ret = rdma_rows_note(&note);
	return ret;
}

static int take_bandwidths(struct bench *bench, unsigned int pair)
{
	for (unsigned int i = 0; i < 2 * BANDWIDTHS; i++) {
		unsigned int which = i % BANDWIDTHS;
		const struct rdma_data_job job = {
			.write = i < BANDWIDTHS,
			.bytes = bandwidths[which].bytes,
			.depth = bandwidths[which].depth,
			.messages = messages(bench, bandwidths[which].messages),
		};
		struct rdma_data_sample samples[SAMPLES];
		int ret = take_samples(bench, &job, pair + i, samples);

		for (unsigned int mode = 0; mode < MODES && !ret; mode++)
			ret = note_bandwidth(mode, &job, which, samples);
		if (ret)
			return ret;
	}
	return 0;
}

static int learn_setup(struct bench *bench)
{
	for (unsigned int i = 0; i < 2 * BANDWIDTHS; i++) {
		unsigned int which = i % BANDWIDTHS;
		const struct rdma_data_job job = {
			.write = i < BANDWIDTHS,
			.bytes = bandwidths[which].bytes,
			.depth = bandwidths[which].depth,
			.messages = FEWEST_MESSAGES,
		};
		struct perftest_result result;
		int ret;

		if (!bandwidths[which].rates)
			continue;
		ret = run_perftest(bench, &job, &result);
		if (ret)
			return ret;
		setup_cpu_ns[job.write][which] = result.cpu_ns;
	}
	return 0;
}

/* ---- latency */

static int note_latency(unsigned int mode, const struct rdma_data_job *job,
			const struct rdma_data_sample samples[SAMPLES])
{
	static const char *const more[] = {", p50", ", p99", ", p99.9"};
	const struct rdma_data_sample *s[] = {&samples[mode], &samples[MODES], &samples[MODES + 1]};
	struct rdma_note note = {
		.what = job->write ? "write" : "read",
		.bytes = job->bytes,
		.mode = modes[mode],
		.unit = "us",
		/* Its messages go to and fro, and it reports half of that. */
		.baseline_name = job->write ? "ib_write_lat, one way" : "ib_read_lat",
		.bar = BENCH_NO_BAR,
	};
	int ret = 0;

	for (unsigned int i = 0; i < MAAS_ARRAY_SIZE(more) && !ret; i++) {
		double values[3];

		for (unsigned int v = 0; v < 3; v++)
			values[v] = i == 0 ? s[v]->p50_us : i == 1 ? s[v]->p99_us : s[v]->p999_us;
		note.more = more[i];
		note.ours = values[0];
		note.baseline = values[1];
		note.again = values[2];
		ret = rdma_rows_note(&note);
	}
	return ret;
}

static int take_latencies(struct bench *bench, unsigned int pair)
{
	for (unsigned int i = 0; i < 2 * MAAS_ARRAY_SIZE(latencies); i++) {
		const struct rdma_data_job job = {
			.write = i < MAAS_ARRAY_SIZE(latencies),
			.bytes = latencies[i % MAAS_ARRAY_SIZE(latencies)],
			.messages = messages(bench, LATENCY_MESSAGES),
		};
		struct rdma_data_sample samples[SAMPLES];
		int ret = take_samples(bench, &job, pair + i, samples);

		for (unsigned int mode = 0; mode < MODES && !ret; mode++)
			ret = note_latency(mode, &job, samples);
		if (ret)
			return ret;
	}
	return 0;
}

/* ---- keys */

enum key_job {
	OURS_FEW,
	BARE,
	BARE_AGAIN,
	OURS_MANY,
	OURS_FEW_AGAIN,
	HTTP_FEW,
	HTTP_MANY,
	HTTP_FEW_AGAIN,
	KEY_JOBS,
};

static int take_key_sample(struct bench *bench, unsigned int mode, enum key_job job,
			   struct key_sample *ret)
{
	switch (job) {
	case BARE:
	case BARE_AGAIN:
		return key_maker_sample(&bench->keys[mode], true, ret);
	case OURS_MANY:
		return key_maker_sample(&bench->many_keys[mode], false, ret);
	case HTTP_FEW:
	case HTTP_FEW_AGAIN:
		return rdma_data_allocate(bench->data[mode], BARE_KEYS, &ret->wall_ns,
					  &ret->cpu_ns);
	case HTTP_MANY:
		return rdma_data_allocate(bench->many[mode], BARE_KEYS, &ret->wall_ns,
					  &ret->cpu_ns);
	default:
		return key_maker_sample(&bench->keys[mode], false, ret);
	}
}

static int note_keys(unsigned int mode, const struct key_sample samples[KEY_JOBS])
{
	static const struct {
		const char *what;
		const char *baseline_name; /* NULL: verbs, by mode */
		double bar;
		enum key_job ours;
		enum key_job baseline;
		enum key_job again;
	} comparisons[] = {
		{"1,000 keys in the server", NULL, 1.5, OURS_FEW, BARE, BARE_AGAIN},
		{"1,000 keys over HTTP", NULL, BENCH_NO_BAR, HTTP_FEW, BARE, BARE_AGAIN},
		{"1,000 keys in the server at 100,000 live", "the same at 10", 1.2, OURS_MANY,
		 OURS_FEW, OURS_FEW_AGAIN},
		{"1,000 keys over HTTP at 100,000 live", "the same at 10", 1.2, HTTP_MANY, HTTP_FEW,
		 HTTP_FEW_AGAIN},
	};
	int ret = 0;

	for (unsigned int i = 0; i < 2 * MAAS_ARRAY_SIZE(comparisons) && !ret; i++) {
		unsigned int c = i / 2;
		bool cpu = i % 2;
		const struct key_sample *s[] = {&samples[comparisons[c].ours],
						&samples[comparisons[c].baseline],
						&samples[comparisons[c].again]};
		struct rdma_note note = {
			.what = comparisons[c].what,
			.mode = modes[mode],
			.more = "",
			.unit = cpu ? "us of CPU each" : "us each",
			.baseline_name = comparisons[c].baseline_name,
			.bar = cpu ? BENCH_NO_BAR : comparisons[c].bar,
			.bar_is = BENCH_BAR_MAX,
			.ours = (cpu ? s[0]->cpu_ns : s[0]->wall_ns) / 1e3,
			.baseline = (cpu ? s[1]->cpu_ns : s[1]->wall_ns) / 1e3,
			.again = (cpu ? s[2]->cpu_ns : s[2]->wall_ns) / 1e3,
		};

		if (!note.baseline_name)
			note.baseline_name = mode == 0 ? "bare binds" : "bare registrations";
		ret = rdma_rows_note(&note);
	}
	return ret;
}

static int take_keys(struct bench *bench, unsigned int pair)
{
	int ret = 0;

	for (unsigned int mode = 0; mode < MODES && !ret; mode++) {
		struct key_sample samples[KEY_JOBS];

		for (unsigned int i = 0; i < KEY_JOBS && !ret; i++) {
			enum key_job job = (pair + i) % KEY_JOBS;

			ret = take_key_sample(bench, mode, job, &samples[job]);
		}
		if (!ret)
			ret = note_keys(mode, samples);
	}
	return ret;
}

/* ---- all of it */

static int open_all(struct bench *bench, const struct bench_options *options)
{
	int ret = 0;

	*bench = (struct bench){.options = options};
	for (unsigned int i = 0; i < 2 * MODES && !ret; i++) {
		bool many = i >= MODES;
		unsigned int mode = i % MODES;
		const struct rdma_data_options data = {
			.maasd = options->maasd,
			.dir = options->dir,
			.mode = modes[mode],
			.live = many ? MANY : FEW,
		};

		ret = key_maker_open(many ? &bench->many_keys[mode] : &bench->keys[mode],
				     options->keys, modes[mode], data.live);
		if (!ret)
			ret = rdma_data_open(&data, many ? &bench->many[mode] : &bench->data[mode]);
	}
	return ret ? ret : learn_setup(bench);
}

static int close_all(struct bench *bench)
{
	int ret = 0;

	for (unsigned int mode = 0; mode < MODES; mode++) {
		ret |= rdma_data_close(bench->data[mode]);
		ret |= rdma_data_close(bench->many[mode]);
		ret |= key_maker_close(&bench->keys[mode]);
		ret |= key_maker_close(&bench->many_keys[mode]);
	}
	return ret;
}

static int take_pair(struct bench *bench, unsigned int pair)
{
	int ret = take_bandwidths(bench, pair);

	if (!ret)
		ret = take_latencies(bench, pair);
	return ret ? ret : take_keys(bench, pair);
}

int main(int argc, char **argv)
{
	struct bench_options options;
	struct bench bench;
	int ret;

	if (bench_options_parse(argc, argv, &options) != 0)
		return 2;
	if (!options.maasd || !options.keys || !options.dir) {
		fprintf(stderr, "--maasd, --keys and --dir are needed\n");
		return 2;
	}
	ret = open_all(&bench, &options);
	for (unsigned int pair = 0; pair < options.pairs && !ret; pair++) {
		bench_progress("rdma", pair, options.pairs);
		ret = take_pair(&bench, pair);
	}
	if (close_all(&bench) || ret) {
		log_err("rdma: measuring failed error=%d", -ret);
		return EXIT_FAILURE;
	}
	bench_progress("rdma", options.pairs, options.pairs);
	return rdma_rows_write(options.out) ? EXIT_FAILURE : EXIT_SUCCESS;
}
