/* SPDX-License-Identifier: Apache-2.0 */
/* GET /metrics and /stats. */
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tests/unit/http/http_fixture.h"

static const struct http_answer *fetch(void)
{
	return http_expect("GET /metrics", NULL, 200,
			   "\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r");
}

/* The value of a series, -1 when it is not there. */
static double value_of(const struct http_answer *a, const char *series)
{
	const char *line = http_text("\n%s ", http_quoted(series));
	const char *at = strstr(a->body, line);

	return at ? strtod(at + strlen(line), NULL) : -1;
}

/* The lines of `series` are there as they stand. */
static void expect_series(const struct http_answer *a, const char *series)
{
	char *rest = strdupa(http_quoted(series));

	for (char *line; (line = strsep(&rest, "\n"));)
		http_expect_parts(a->body, http_text("\n%s\n", line));
}

/* To count them takes one. */
TEST(metrics__all_descriptors_are_in_use)
{
	int next;
	struct rlimit limit;
	struct rlimit none;

	fetch();
	next = dup(STDIN_FILENO);
	close(next);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	none = (struct rlimit){(rlim_t)next, limit.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	assert_int_equal(value_of(fetch(), "process_open_fds"), next);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static void some_traffic(void)
{
	const char *id = http_allocate(100);

	http_free(id);
	http_expect_error(http_text("DELETE /allocate/%s", id), NULL, 404, "not_found");
	http_expect_error("POST /allocate", "{'size_bytes':99999999}", 413, "too_large");
	http_expect_error("POST /allocate", "{'size_bytes':''}", 400, "bad_field");
	http_expect_error("GET /a/path/nobody/has", NULL, 404, "no_such_path");
	http_expect_error("PATCH /health", NULL, 405, "method_not_allowed");
	http_allocate(100);
}

TEST(metrics__count)
{
	static const char series[] =
		"maas_active_allocations 1\n"
		"maas_allocations_total 2\n"
		"maas_frees_total 1\n"
		"maas_allocation_failures_total{reason='too_large'} 1\n"
		"maas_allocation_failures_total{reason='other'} 1\n"
		"maas_allocation_failures_total{reason='pool_exhausted'} 0\n"
		"maas_allocation_size_bytes{slab_size='1024'} 1024\n"
		"maas_allocation_size_bytes{slab_size='4194304'} 0\n"
		"maas_pool_size_bytes{slab_size='1024'} 4194304\n"
		"maas_pool_slabs{slab_size='1024',state='used'} 1\n"
		"maas_pool_slabs{slab_size='4194304',state='free'} 0\n"
		"maas_sessions 0\n"
		"maas_quarantined_bytes 0\n"
		"maas_http_requests_total{method='POST',route='/allocate',code='200'} 2\n"
		"maas_http_requests_total{method='POST',route='/allocate',code='413'} 1\n"
		"maas_http_requests_total{method='POST',route='/allocate',code='401'} 0\n"
		"maas_http_requests_total{method='POST',route='/allocate',code='503'} 0\n"
		"maas_http_requests_total{method='DELETE',route='/allocate/{id}',code='404'} 1\n"
		"maas_http_requests_total{method='GET',route='other',code='404'} 1\n"
		"maas_http_requests_total{method='other',route='/health',code='405'} 1\n"
		"maas_http_request_duration_seconds_count 8\n"
		"maas_http_request_duration_seconds_bucket{le='+Inf'} 8\n"
		"maas_http_active_requests 1\n" /* the one that asks */
		"maas_http_connections 1\n"
		"maas_http_max_connections 4096";
	const struct http_answer *a;

	some_traffic();
	a = fetch();
	expect_series(a, series);
	assert_null(strstr(a->body, http_quoted("route='/allocate',code='404'")));
	assert_null(strstr(a->body, http_quoted("route='/free'")));
	assert_non_null(strstr(a->body, "\nmaas_build_info{version=\""));
	assert_true(value_of(a, "process_resident_memory_bytes") > 1e6);
	assert_true(value_of(a, "process_open_fds") > 5);
	assert_true(value_of(a, "process_cpu_seconds_total") >= 0);
	assert_true(value_of(a, "process_start_time_seconds") > 1.5e9);
	assert_true(value_of(a, "maas_arena_created_seconds") ==
		    (double)maas_slab_created_s(server.slab));
	assert_true(value_of(a, "maas_arena_created_seconds") > 1.5e9);
}

/* A rule that reads these need not know which servers have RDMA. */
TEST(metrics__without_keys)
{
	static const char series[] = "maas_rdma_up 0\n"
				     "maas_rdma_isolated 0\n"
				     "maas_rdma_queue_pairs{state='connecting'} 0\n"
				     "maas_rdma_queue_pairs{state='connected'} 0\n"
				     "maas_rdma_queue_pairs{state='ending'} 0\n"
				     "maas_rdma_grants 0\n"
				     "maas_rdma_registered_bytes 0\n"
				     "maas_rdma_key_seconds_bucket{op='bind',le='+Inf'} 0\n"
				     "maas_rdma_key_seconds_count{op='revoke'} 0";
	const struct http_answer *a = fetch();

	expect_series(a, series);
	assert_null(strstr(a->body, "\nmaas_rdma_errors_total{"));
	assert_null(strstr(a->body, "\nmaas_rdma_rejects_total{"));
}

static void set_key_stats(void)
{
	struct maas_lend_key_stats stats = {
		.state = "active",
		.connecting = 1,
		.connected = 2,
		.ending = 3,
		.registered_bytes = 4096,
		.wanted_bytes = 8192,
		.bind = {.buckets = {5, 6}, .sum_ns = 1500000000},
		.revoke = {.buckets = {[MAAS_LEND_KEY_BUCKETS] = 9}, .sum_ns = 18000000000},
		.errors = {{"REM_ACCESS_ERR", 4}, {"RETRY_EXC_ERR", 0}},
		.rejects = {{"ticket", 7}},
	};

	fake_keys_set(&keys, stats, stats);
}

TEST(metrics__keys)
{
	static const char series[] = "maas_rdma_up 1\n"
				     "maas_rdma_isolated 0\n"
				     "maas_rdma_queue_pairs{state='connecting'} 1\n"
				     "maas_rdma_queue_pairs{state='connected'} 2\n"
				     "maas_rdma_queue_pairs{state='ending'} 3\n"
				     "maas_rdma_grants 0\n"
				     "maas_rdma_registered_bytes 4096\n"
				     "maas_rdma_wanted_bytes 8192\n"
				     "maas_rdma_key_seconds_bucket{op='bind',le='+Inf'} 11\n"
				     "maas_rdma_key_seconds_sum{op='bind'} 1.500000000\n"
				     "maas_rdma_key_seconds_count{op='bind'} 11\n"
				     "maas_rdma_key_seconds_bucket{op='revoke',le='+Inf'} 9\n"
				     "maas_rdma_key_seconds_count{op='revoke'} 9\n"
				     "maas_rdma_errors_total{status='REM_ACCESS_ERR'} 4\n"
				     "maas_rdma_errors_total{status='RETRY_EXC_ERR'} 0\n"
				     "maas_rdma_rejects_total{reason='ticket'} 7";
	const struct http_answer *a;

	http_setup_keys();
	set_key_stats();
	a = fetch();
	expect_series(a, series);
	assert_true(value_of(a, http_text("maas_rdma_key_seconds_bucket{op='bind',le='%g'}",
					  (double)maas_lend_key_bounds_ns[0] / 1e9)) == 5);
	assert_true(value_of(a, http_text("maas_rdma_key_seconds_bucket{op='bind',le='%g'}",
					  (double)maas_lend_key_bounds_ns[1] / 1e9)) == 11);
	fake_keys_set(&keys, stats.state, "failed");
	assert_true(value_of(fetch(), "maas_rdma_up") == 0);
}

/* Whether `promtool check metrics` finds nothing; what it says goes to http_said. */
static bool promtool_accepts(const char *text, size_t len)
{
	int input = memfd_create("metrics", 0);
	const char *command = http_text("promtool check metrics 2>&1 </dev/fd/%d", input);
	FILE *promtool;
	size_t words;

	assert_int_equal(write(input, text, len), len);
	promtool = popen(command, "r"); /* NOLINT(cert-env33-c): a number is all that varies */
	assert_non_null(promtool);
	words = fread(http_said, 1, sizeof(http_said) - 1, promtool);
	http_said[words] = '\0';
	close(input);
	return !pclose(promtool) && !words;
}

static void expect_promtool_finds_nothing(void)
{
	const struct http_answer *a;

	some_traffic();
	a = fetch();
	if (!promtool_accepts(a->body, a->len))
		fail_msg("promtool: %s", http_said);
}

TEST(metrics__promtool_finds_nothing)
{
	static const char wrong[] = "# TYPE maas_up counter\nmaas_up 1\n";

	assert_false(promtool_accepts(wrong, strlen(wrong)));
	expect_promtool_finds_nothing();
	http_setup_keys();
	set_key_stats();
	expect_promtool_finds_nothing();
}

/* Neither 10,000 allocations nor many different wrong paths make the text longer. */
TEST(metrics__size_does_not_grow)
{
	const struct http_answer *before, *after;

	http_expect_error("GET /nowhere", NULL, 404, "no_such_path");
	http_json("POST /allocate", "{'size_bytes':1,'count':1}", 200);
	fetch();
	before = fetch();
	http_json("POST /allocate", "{'size_bytes':1,'count':9999}", 200);
	for (int i = 0; i < 100; i++)
		http_expect_error(http_text("GET /nowhere/%d", i), NULL, 404, "no_such_path");
	after = fetch();
	assert_in_range(after->len, before->len - 200, before->len + 200);
}

TEST_MAIN(http_setup, http_teardown)
