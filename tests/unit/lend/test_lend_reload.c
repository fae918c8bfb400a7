/* SPDX-License-Identifier: Apache-2.0 */
/* Another table of principals, beside calls of principals that lose and get rights by it. */
#include "tests/unit/lend/lend_auth.h"

#define CALLERS 4
#define TABLES	200

static _Atomic bool done;

/* Finds its principal as http does, and makes each call as often as it can. */
static void *call_on(void *arg)
{
	struct maas_lend_connection connection = {0};
	static _Atomic unsigned int last_id;
	const char *const *name = arg;
	char id[16];

	while (!done) {
		struct maas_lend_caller as = {0};
		struct maas_lend_alloc_request request = {
			.size_bytes = 64, .count = 1, .request_id = id, .caller = &as};
		struct maas_lend_session_info info;
		struct maas_lend_allocation a;
		struct maas_slab_ref ref;
		int r;

		as.auth = maas_lend_auth(f.lend, &as.epoch);
		as.principal = maas_auth_by_name(as.auth, *name);
		if (!as.principal)
			goto next;
		snprintf(id, sizeof(id), "%u", last_id++);
		r = maas_lend_connection_enter(f.lend, &as, &connection);
		CHECK(!r || r == -ENOSR);
		r = maas_lend_allocate(f.lend, &request, &ref, &a);
		CHECK(!r || r == -EACCES || r == -ENOSR);
		if (!r) {
			r = maas_lend_get(f.lend, &as, a.id, &a);
			CHECK(!r || r == -ENOENT);
			r = maas_lend_free(f.lend, &as, a.id, NULL, NULL);
			CHECK(!r || r == -ENOENT || r == -EINPROGRESS);
		}
		r = maas_lend_session_open(f.lend, &as, "", 60, false, NULL, &info);
		if (!r) {
			r = maas_lend_session_end(f.lend, &as, info.id, NULL, NULL);
			CHECK(!r || r == -ENOENT || r == -EINPROGRESS);
		}
next:
		maas_auth_unref(as.auth);
	}
	maas_lend_connection_leave(f.lend, &connection);
	return NULL;
}

static void tear_down(void)
{
	table_end();
	fixture_teardown();
}

TEST(reload__beside_calls)
{
	const char *names[CALLERS] = {"a", "b", "a", "c"};
	pthread_t threads[CALLERS];
	struct maas_lend_usage usage;
	struct maas_lend_stats stats;

	use("a uid=1 owner=a\nb uid=2 owner=b\n");
	done = false;
	threads_start(threads, CALLERS, call_on, names, sizeof(*names));
	for (int i = 0; i < TABLES; i++) {
		nap();
		use(i % 2 ? "a uid=1 owner=a max-request-ids=9\nb uid=2 owner=b "
			    "max-allocations=0 max-connections=0\n"
			  : "c uid=3 owner=c\na uid=1 owner=a read=b max-connections=1\n");
	}
	use("a uid=1 owner=a,b,c\n");
	done = true;
	threads_join(threads, CALLERS);
	/* What a principal left that was gone is the next one's; sessions of such ones ended. */
	assert_true(maas_lend_usage(f.lend, "a", &usage));
	maas_lend_stats(f.lend, &stats);
	assert_int_equal(stats.sessions, 0);
	assert_int_equal(usage.used[MAAS_AUTH_SESSIONS], 0);
	assert_int_equal(usage.used[MAAS_AUTH_CONNECTIONS], 0);
	assert_int_equal(usage.used[MAAS_AUTH_ALLOCATIONS], live_slabs());
}

TEST_MAIN(fixture_setup, tear_down)
