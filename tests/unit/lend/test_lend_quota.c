/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Quotas: never one over, whoever asks at the same time, back to nothing after every kind of end,
 * and as another table of principals says.
 */
#include "tests/unit/lend/lend_auth.h"

#define THREADS 100
#define LIMIT	50

static void set_up(void)
{
	fixture_setup();
	use("a uid=1 owner=a,team/* max-allocations=50 max-sessions=2 max-owners=3 "
	    "max-bytes=50KiB\n"
	    "b uid=2 owner=team/b,b max-allocations=5\n");
}

static void tear_down(void)
{
	table_end();
	fixture_teardown();
}

static uint64_t used(const char *name, enum maas_auth_quota quota)
{
	struct maas_lend_usage usage;

	assert_true(maas_lend_usage(f.lend, name, &usage));
	return usage.used[quota];
}

static int allocate(const char *name, const char *owner, uint64_t size, uint32_t count,
		    struct maas_lend_allocation *ret)
{
	struct maas_lend_caller as = caller(name);
	const struct maas_lend_alloc_request request = {
		.size_bytes = size, .count = count, .owner = owner, .caller = &as};
	struct maas_slab_ref refs[LIMIT + 1];

	return maas_lend_allocate(f.lend, &request, refs, ret);
}

static void *allocate_one(void *arg)
{
	struct maas_lend_allocation ignored;

	if (!allocate("a", NULL, 64, 1, &ignored))
		atomic_fetch_add((_Atomic int *)arg, 1);
	return NULL;
}

TEST(allocations__a_hundred_threads_at_the_limit)
{
	_Atomic int got = 0;

	threads_run(THREADS, allocate_one, &got, 0);
	assert_int_equal(got, LIMIT);
	assert_int_equal(used("a", MAAS_AUTH_ALLOCATIONS), LIMIT);
	assert_int_equal(used("a", MAAS_AUTH_BYTES), LIMIT * 64);
	assert_int_equal(used("a", MAAS_AUTH_OWNERS), 1);
}

TEST(batch__is_charged_before_its_first_slab_and_whole)
{
	struct maas_lend_allocation a;

	assert_int_equal(allocate("a", NULL, 64, LIMIT + 1, &a), -ENOSR);
	assert_int_equal(used("a", MAAS_AUTH_ALLOCATIONS), 0);
	assert_int_equal(allocate("a", NULL, 64, LIMIT, &a), 0);
	assert_int_equal(allocate("a", NULL, 64, 1, &a), -ENOSR);
	assert_int_equal(allocate("b", NULL, 64, 1, &a), 0); /* another's room is its own */
}

TEST(bytes__are_of_slabs)
{
	struct maas_lend_allocation a;

	assert_int_equal(allocate("a", NULL, 65, 49, &a), 0); /* in slabs of 1 KiB */
	assert_int_equal(used("a", MAAS_AUTH_BYTES), 49 << 10);
	assert_int_equal(allocate("a", NULL, 1025, 1, &a), -ENOSR);
	assert_int_equal(allocate("a", NULL, 1024, 1, &a), 0);
}

/* A table that allows fewer names than there are leaves those that are there usable. */
TEST(owners__over_the_quota_the_known_ones_go_on)
{
	struct maas_lend_allocation x;

	assert_int_equal(allocate("a", "team/1", 64, 1, &x), 0);
	assert_int_equal(allocate("a", "team/2", 64, 1, &x), 0);
	use("a uid=1 owner=a,team/* max-owners=1\n");
	assert_int_equal(allocate("a", "team/2", 64, 1, &x), 0);
	assert_int_equal(allocate("a", "team/3", 64, 1, &x), -ENOSR);
}

TEST(owners__one_principal_does_not_take_anothers)
{
	struct maas_lend_caller as_a = caller("a");
	struct maas_lend_allocation a, x;

	assert_int_equal(allocate("a", "team/1", 64, 1, &a), 0);
	assert_int_equal(allocate("a", "team/2", 64, 1, &x), 0);
	assert_int_equal(allocate("a", "team/3", 64, 1, &x), 0);
	assert_int_equal(allocate("a", "team/4", 64, 1, &x), -ENOSR);
	assert_int_equal(allocate("a", "team/3", 64, 1, &x), 0); /* known */
	assert_int_equal(maas_lend_free(f.lend, &as_a, a.id, NULL, NULL), 0);
	assert_int_equal(allocate("a", "team/4", 64, 1, &x), 0);
	assert_int_equal(allocate("b", "b", 64, 1, &x), 0);
}

/* Two lines share an owner: the first one pays, whoever allocates. */
TEST(payer__is_the_first_line)
{
	struct maas_lend_allocation x;

	assert_int_equal(allocate("b", "team/b", 64, 10, &x), 0);
	assert_int_equal(used("a", MAAS_AUTH_ALLOCATIONS), 10);
	assert_int_equal(used("b", MAAS_AUTH_ALLOCATIONS), 0);
	assert_int_equal(allocate("b", "b", 64, 6, &x), -ENOSR);
}

TEST(end__gives_back_whatever_its_kind)
{
	struct maas_lend_caller a = caller("a");
	struct maas_lend_alloc_request request = {.size_bytes = 64, .count = 1, .caller = &a};
	struct maas_lend_session_info info;
	struct maas_lend_allocation first;
	struct maas_slab_ref ref;

	assert_int_equal(allocate("a", NULL, 64, 1, &first), 0);
	assert_int_equal(maas_lend_free(f.lend, &a, first.id, NULL, NULL), 0);
	assert_int_equal(allocate("a", NULL, 1 << 20, 1, &first), -ENOSR); /* nor is that charged */
	request.lifetime = MAAS_LEND_LIFETIME_TTL;
	request.ttl_s = 1;
	assert_int_equal(maas_lend_allocate(f.lend, &request, &ref, &first), 0);
	assert_int_equal(maas_lend_session_open(f.lend, &a, "a", 60, false, NULL, &info), 0);
	request = (struct maas_lend_alloc_request){.size_bytes = 64,
						   .count = 1,
						   .caller = &a,
						   .lifetime = MAAS_LEND_LIFETIME_SESSION,
						   .session = info.id};
	assert_int_equal(maas_lend_allocate(f.lend, &request, &ref, &first), 0);
	assert_int_equal(used("a", MAAS_AUTH_ALLOCATIONS), 2);
	assert_int_equal(used("a", MAAS_AUTH_SESSIONS), 1);
	pass_ms(3000);
	assert_int_equal(maas_lend_session_end(f.lend, &a, info.id, NULL, NULL), 0);
	assert_int_equal(used("a", MAAS_AUTH_ALLOCATIONS), 0);
	assert_int_equal(used("a", MAAS_AUTH_BYTES), 0);
	assert_int_equal(used("a", MAAS_AUTH_OWNERS), 0);
	assert_int_equal(used("a", MAAS_AUTH_SESSIONS), 0);
}

TEST(sessions__have_their_limit)
{
	struct maas_lend_caller a = caller("a"), b = caller("b");
	struct maas_lend_session_info info;

	assert_int_equal(maas_lend_session_open(f.lend, &a, "a", 60, false, NULL, &info), 0);
	assert_int_equal(maas_lend_session_open(f.lend, &a, "a", 60, false, NULL, &info), 0);
	assert_int_equal(maas_lend_session_open(f.lend, &a, "a", 60, false, NULL, &info), -ENOSR);
	assert_int_equal(maas_lend_session_open(f.lend, &b, "b", 60, false, NULL, &info), 0);
	assert_int_equal(maas_lend_session_end(f.lend, &b, info.id, NULL, NULL), 0);
	assert_int_equal(maas_lend_session_open(f.lend, &a, "a", 60, false, NULL, &info), -ENOSR);
}

static _Atomic int keys_got;

static void *charge_one(void *session)
{
	if (!maas_lend_key_charge(f.lend, *(struct maas_lend_session_ref *)session))
		keys_got++;
	return NULL;
}

/* What rdma/ does for each key; what a session has at its end counts no more. */
TEST(keys__a_hundred_threads_at_the_limit)
{
	struct maas_lend_session_ref ref = {0, 1}, other = {0, 2};
	struct maas_lend_session_info info;
	struct maas_lend_caller a;

	use("a uid=1 owner=a max-grants=50\n");
	a = caller("a");
	keys_got = 0;
	assert_int_equal(maas_lend_session_open(f.lend, &a, "a", 60, false, NULL, &info), 0);
	threads_run(THREADS, charge_one, &ref, 0);
	assert_int_equal(keys_got, LIMIT);
	assert_int_equal(used("a", MAAS_AUTH_GRANTS), LIMIT);
	/* Of no session that is there: whoever ended it has given back what it had. */
	assert_int_equal(maas_lend_key_charge(f.lend, other), 0);
	maas_lend_key_discharge(f.lend, other);
	assert_int_equal(used("a", MAAS_AUTH_GRANTS), LIMIT);
	maas_lend_key_discharge(f.lend, ref);
	assert_int_equal(used("a", MAAS_AUTH_GRANTS), LIMIT - 1);
	assert_int_equal(maas_lend_session_end(f.lend, &a, info.id, NULL, NULL), 0);
	assert_int_equal(used("a", MAAS_AUTH_GRANTS), 0);
	maas_lend_key_discharge(f.lend, ref);
	assert_int_equal(used("a", MAAS_AUTH_GRANTS), 0);
}

/* ---- connections */

static struct maas_lend_connection connections[THREADS];
static _Atomic unsigned int next_connection, entered;

static void *enter_one(void *as)
{
	if (!maas_lend_connection_enter(f.lend, as, &connections[next_connection++]))
		entered++;
	return NULL;
}

TEST(connections__a_hundred_threads_at_the_limit)
{
	struct maas_lend_caller a, b;

	use("a uid=1 owner=a max-connections=50\nb uid=2 owner=b max-connections=0\n");
	a = caller("a");
	b = caller("b");
	memset(connections, 0, sizeof(connections));
	next_connection = entered = 0;
	threads_run(THREADS, enter_one, &a, 0);
	assert_int_equal(entered, LIMIT);
	assert_int_equal(used("a", MAAS_AUTH_CONNECTIONS), LIMIT);
	for (int i = 0; i < THREADS; i++) /* another's, that may have none */
		assert_int_equal(maas_lend_connection_enter(f.lend, &b, &connections[i]), -ENOSR);
	assert_int_equal(used("a", MAAS_AUTH_CONNECTIONS), 0);
	assert_int_equal(used("b", MAAS_AUTH_CONNECTIONS), 0);
}

/* Those that are open stay, those of a principal that is gone count no more, and again if it comes
 * back. */
TEST(connections__of_another_table)
{
	struct maas_lend_connection mine[2] = {0}, theirs = {0};
	struct maas_lend_caller a, b;

	use("a uid=1 owner=a\nb uid=2 owner=b\n");
	a = caller("a");
	b = caller("b");
	for (int i = 0; i < 2; i++)
		assert_int_equal(maas_lend_connection_enter(f.lend, &a, &mine[i]), 0);
	assert_int_equal(maas_lend_connection_enter(f.lend, &b, &theirs), 0);
	use("a uid=1 owner=a max-connections=1\n");
	assert_int_equal(used("a", MAAS_AUTH_CONNECTIONS), 2);
	a = caller("a");
	assert_int_equal(maas_lend_connection_enter(f.lend, &a, &mine[0]), 0);
	maas_lend_connection_leave(f.lend, &mine[0]);
	assert_int_equal(maas_lend_connection_enter(f.lend, &a, &mine[0]), -ENOSR);
	use("b uid=2 owner=b\na uid=1 owner=a\n");
	assert_int_equal(used("b", MAAS_AUTH_CONNECTIONS), 1);
	maas_lend_connection_leave(f.lend, &theirs);
	maas_lend_connection_leave(f.lend, &mine[1]);
	assert_int_equal(used("a", MAAS_AUTH_CONNECTIONS), 0);
	assert_int_equal(used("b", MAAS_AUTH_CONNECTIONS), 0);
}

/* ---- request ids */

/* Whether the request is known: then it gives what it gave. */
static bool request(const char *name, unsigned int number, uint32_t count,
		    struct maas_slab_ref *ref)
{
	struct maas_lend_caller as = caller(name);
	struct maas_slab_ref refs[3], before = *ref;
	struct maas_lend_allocation ignored;
	char id[16];
	const struct maas_lend_alloc_request asked = {
		.size_bytes = 64, .count = count, .request_id = id, .caller = &as};

	snprintf(id, sizeof(id), "%u", number);
	assert_int_equal(maas_lend_allocate(f.lend, &asked, refs, &ignored), 0);
	*ref = refs[0];
	return before.slot == ref->slot && before.generation == ref->generation;
}

static const char lines[] = "a uid=1 owner=a max-request-ids=10\nb uid=2 owner=b\n";

TEST(request_ids__one_principal_does_not_push_out_anothers)
{
	struct maas_slab_ref of_a[25] = {0}, of_b = {0};

	use(lines);
	assert_false(request("b", 0, 1, &of_b));
	for (unsigned int i = 0; i < 25; i++)
		assert_false(request("a", i, i % 2 ? 1 : 3, &of_a[i]));
	assert_int_equal(used("a", MAAS_AUTH_REQUEST_IDS), 10);
	assert_int_equal(used("b", MAAS_AUTH_REQUEST_IDS), 1);
	assert_true(request("b", 0, 1, &of_b));
	for (unsigned int i = 15; i < 25; i++)
		assert_true(request("a", i, i % 2 ? 1 : 3, &of_a[i]));
	assert_false(request("a", 14, 3, &of_a[14])); /* its own oldest */
	pass_ms(MAAS_LEND_REQUEST_S * UINT64_C(1000) + 1000);
	assert_int_equal(used("a", MAAS_AUTH_REQUEST_IDS), 0);
	assert_int_equal(used("b", MAAS_AUTH_REQUEST_IDS), 0);
}

TEST(request_ids__of_another_table)
{
	struct maas_slab_ref of_a[5] = {0}, of_b = {0};

	use(lines);
	assert_false(request("b", 0, 1, &of_b));
	for (unsigned int i = 0; i < 5; i++)
		assert_false(request("a", i, 3, &of_a[i]));
	use("new uid=9 owner=new\nb uid=2 owner=b\na uid=1 owner=a max-request-ids=2\n");
	assert_true(request("b", 0, 1, &of_b));
	assert_true(request("a", 0, 3, &of_a[0])); /* over the quota, until there is a new one */
	assert_false(request("a", 5, 1, &of_a[0]));
	assert_int_equal(used("a", MAAS_AUTH_REQUEST_IDS), 2);
	assert_true(request("a", 4, 3, &of_a[4]));
	use("b uid=2 owner=b\n");
	assert_int_equal(lend_stats().request_ids, 1);
	use(lines);
	assert_false(request("a", 4, 3, &of_a[4]));
	assert_true(request("b", 0, 1, &of_b));
}

TEST(table__another_one_counts_anew)
{
	struct maas_lend_caller a;
	struct maas_lend_allocation first, x;

	assert_int_equal(allocate("a", "team/b", 64, 1, &first), 0);
	use("b uid=2 owner=team/b max-allocations=1\na uid=1 owner=a,team/*\n");
	assert_int_equal(used("a", MAAS_AUTH_ALLOCATIONS), 0);
	assert_int_equal(used("b", MAAS_AUTH_ALLOCATIONS), 1);
	assert_int_equal(allocate("b", "team/b", 64, 1, &x), -ENOSR);
	/* Over the quota: what is there stays, nothing new comes. */
	use("b uid=2 owner=team/b max-allocations=0\na uid=1 owner=a,team/*\n");
	assert_int_equal(used("b", MAAS_AUTH_ALLOCATIONS), 1);
	assert_int_equal(allocate("b", "team/b", 64, 1, &x), -ENOSR);
	a = caller("a");
	assert_int_equal(maas_lend_free(f.lend, &a, first.id, NULL, NULL), 0);
	assert_int_equal(used("b", MAAS_AUTH_ALLOCATIONS), 0);
}

/* ---- another table beside calls of principals that lose and get rights by it */

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

TEST_MAIN(set_up, tear_down)
