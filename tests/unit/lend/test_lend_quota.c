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

static int allocate(const char *name, const char *owner, uint64_t size, uint32_t count)
{
	return TRY_ALLOCATE(.size_bytes = size, .count = count, .owner = owner, .caller = BY(name));
}

/* Whatever room there is, it would not help; whoever may not allocate is told that first. */
TEST(bytes__too_large_for_every_slab_is_no_matter_of_quota)
{
	assert_int_equal(allocate("a", NULL, 65537, 1), -EFBIG);
	assert_int_equal(allocate("a", NULL, UINT64_MAX, MAAS_SLAB_MAX_BATCH), -EFBIG);
	assert_int_equal(allocate("a", NULL, 65536, 1), -ENOSR);
	assert_int_equal(allocate("b", "a", 65537, 1), -EACCES);
	expect_used("a", "");
}

static _Atomic int granted; /* of what a hundred threads asked for */

/* They all ask at the same time, and as many get it as may. */
static void ask_for(void *(*one)(void *), void *arg)
{
	granted = 0;
	threads_run(THREADS, one, arg, 0);
	assert_int_equal(granted, LIMIT);
}

static void *allocate_one(void *name)
{
	granted += !allocate(name, NULL, 64, 1);
	return NULL;
}

TEST(allocations__a_hundred_threads_at_the_limit)
{
	ask_for(allocate_one, (char[]){"a"});
	expect_used("a", "bytes 3200, allocations 50, owners 1");
}

TEST(batch__is_charged_before_its_first_slab_and_whole)
{
	assert_int_equal(allocate("a", NULL, 64, LIMIT + 1), -ENOSR);
	expect_used("a", "");
	assert_int_equal(allocate("a", NULL, 64, LIMIT), 0);
	assert_int_equal(allocate("a", NULL, 64, 1), -ENOSR);
	assert_int_equal(allocate("b", NULL, 64, 1), 0); /* another's room is its own */
}

TEST(bytes__are_of_slabs)
{
	assert_int_equal(allocate("a", NULL, 65, 49), 0); /* in slabs of 1 KiB */
	expect_used("a", "bytes 50176, allocations 49, owners 1");
	assert_int_equal(allocate("a", NULL, 1025, 1), -ENOSR);
	assert_int_equal(allocate("a", NULL, 1024, 1), 0);
}

/* A table that allows fewer names than there are leaves those that are there usable. */
TEST(owners__over_the_quota_the_known_ones_go_on)
{
	assert_int_equal(allocate("a", "team/1", 64, 1), 0);
	assert_int_equal(allocate("a", "team/2", 64, 1), 0);
	use("a uid=1 owner=a,team/* max-owners=1\n");
	assert_int_equal(allocate("a", "team/2", 64, 1), 0);
	assert_int_equal(allocate("a", "team/3", 64, 1), -ENOSR);
}

TEST(owners__one_principal_does_not_take_anothers)
{
	struct maas_lend_allocation first;

	assert_int_equal(allocate("a", "team/1", 64, 1), 0);
	first = given.first;
	assert_int_equal(allocate("a", "team/2", 64, 1), 0);
	assert_int_equal(allocate("a", "team/3", 64, 1), 0);
	assert_int_equal(allocate("a", "team/4", 64, 1), -ENOSR);
	assert_int_equal(allocate("a", "team/3", 64, 1), 0); /* known */
	assert_int_equal(free_by(BY("a"), &first), 0);
	assert_int_equal(allocate("a", "team/4", 64, 1), 0);
	assert_int_equal(allocate("b", "b", 64, 1), 0);
}

/* Two lines share an owner: the first one pays, whoever allocates. */
TEST(payer__is_the_first_line)
{
	assert_int_equal(allocate("b", "team/b", 64, 10), 0);
	expect_used("a", "bytes 640, allocations 10, owners 1");
	expect_used("b", "");
	assert_int_equal(allocate("b", "b", 64, 6), -ENOSR);
}

TEST(end__gives_back_whatever_its_kind)
{
	assert_int_equal(allocate("a", NULL, 64, 1), 0);
	assert_int_equal(free_by(BY("a"), &given.first), 0);
	assert_int_equal(allocate("a", NULL, 65536, 1), -ENOSR); /* nor is that charged */
	ALLOCATE(.size_bytes = 64, .caller = BY("a"), .lifetime = MAAS_LEND_LIFETIME_TTL,
		 .ttl_s = 1);
	assert_int_equal(open_by(BY("a"), "a"), 0);
	ALLOCATE(.size_bytes = 64, .caller = BY("a"), .lifetime = MAAS_LEND_LIFETIME_SESSION,
		 .session = session.id);
	expect_used("a", "bytes 128, allocations 2, sessions 1, owners 1");
	pass_ms(3000);
	assert_int_equal(maas_lend_session_end(f.lend, BY("a"), session.id, NULL, NULL), 0);
	expect_used("a", "");
}

/* Whoever has a ticket can make one that names another record. */
static void expect_no_neighbours(const char *ticket)
{
	static const char digits[] = "0123456789abcdef";
	long digit = strchr(digits, ticket[1]) - digits;
	char other[sizeof(session.ticket)];
	struct maas_lend_session_ref ref;

	memcpy(other, ticket, sizeof(other));
	for (long i = 1; i < 4; i++) {
		other[1] = digits[digit ^ i];
		assert_int_equal(maas_lend_ticket_redeem(f.lend, other, &ref), -ENOENT);
	}
}

TEST(sessions__have_their_limit)
{
	assert_int_equal(open_by(BY("a"), "a"), 0);
	assert_int_equal(open_by(BY("a"), "a"), 0);
	assert_int_equal(open_by(BY("a"), "a"), -ENOSR);
	expect_no_neighbours(session.ticket);
	pass_ms(1000); /* housekeeping comes by the record that was no session yet */
	assert_int_equal(open_by(BY("b"), "b"), 0);
	assert_int_equal(maas_lend_session_end(f.lend, BY("b"), session.id, NULL, NULL), 0);
	assert_int_equal(open_by(BY("a"), "a"), -ENOSR);
}

static void *charge_one(void *ref)
{
	granted += !maas_lend_key_charge(f.lend, *(struct maas_lend_session_ref *)ref);
	return NULL;
}

/* What rdma/ does for each key; what a session has at its end counts no more. */
TEST(keys__a_hundred_threads_at_the_limit)
{
	struct maas_lend_session_ref ref = {0, 1}, other = {0, 2};

	use("a uid=1 owner=a max-grants=50\n");
	assert_int_equal(open_by(BY("a"), "a"), 0);
	ask_for(charge_one, &ref);
	expect_used("a", "sessions 1, grants 50");
	/* Of no session that is there: whoever ended it has given back what it had. */
	assert_int_equal(maas_lend_key_charge(f.lend, other), 0);
	maas_lend_key_discharge(f.lend, other);
	expect_used("a", "sessions 1, grants 50");
	maas_lend_key_discharge(f.lend, ref);
	expect_used("a", "sessions 1, grants 49");
	assert_int_equal(maas_lend_session_end(f.lend, BY("a"), session.id, NULL, NULL), 0);
	expect_used("a", "");
	maas_lend_key_discharge(f.lend, ref);
	expect_used("a", "");
}

/* ---- connections */

static struct maas_lend_connection connections[THREADS];
static _Atomic unsigned int next_connection;

static int enter(const char *name, struct maas_lend_connection *connection)
{
	return maas_lend_connection_enter(f.lend, BY(name), connection);
}

static void *enter_one(void *name)
{
	granted += !enter(name, &connections[next_connection++]);
	return NULL;
}

TEST(connections__a_hundred_threads_at_the_limit)
{
	use("a uid=1 owner=a max-connections=50\nb uid=2 owner=b max-connections=0\n");
	memset(connections, 0, sizeof(connections));
	next_connection = 0;
	ask_for(enter_one, (char[]){"a"});
	expect_used("a", "connections 50");
	for (int i = 0; i < THREADS; i++) /* another's, that may have none */
		assert_int_equal(enter("b", &connections[i]), -ENOSR);
	expect_used("a", "");
	expect_used("b", "");
}

/* Those that are open stay, those of a principal that is gone count no more, and again if it comes
 * back. */
TEST(connections__of_another_table)
{
	struct maas_lend_connection mine[2] = {0}, theirs = {0};

	use("a uid=1 owner=a\nb uid=2 owner=b\n");
	for (int i = 0; i < 2; i++)
		assert_int_equal(enter("a", &mine[i]), 0);
	assert_int_equal(enter("b", &theirs), 0);
	use("a uid=1 owner=a max-connections=1\n");
	expect_used("a", "connections 2");
	assert_int_equal(enter("a", &mine[0]), 0);
	maas_lend_connection_leave(f.lend, &mine[0]);
	assert_int_equal(enter("a", &mine[0]), -ENOSR);
	use("b uid=2 owner=b\na uid=1 owner=a\n");
	expect_used("b", "connections 1");
	maas_lend_connection_leave(f.lend, &theirs);
	maas_lend_connection_leave(f.lend, &mine[1]);
	expect_used("a", "");
	expect_used("b", "");
}

/* ---- request ids */

/* Whether the request is known: then it gives what it gave. */
static bool request(const char *name, unsigned int number, uint32_t count,
		    struct maas_slab_ref *ref)
{
	const struct maas_slab_ref before = *ref;

	ALLOCATE(.size_bytes = 64, .count = count, .request_id = numbered("", number),
		 .caller = BY(name));
	*ref = given.refs[0];
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
	expect_used("a", "bytes 3264, allocations 51, owners 1, request_ids 10");
	expect_used("b", "bytes 64, allocations 1, owners 1, request_ids 1");
	assert_true(request("b", 0, 1, &of_b));
	for (unsigned int i = 15; i < 25; i++)
		assert_true(request("a", i, i % 2 ? 1 : 3, &of_a[i]));
	assert_false(request("a", 14, 3, &of_a[14])); /* its own oldest */
	pass_ms(MAAS_LEND_REQUEST_S * UINT64_C(1000) + 1000);
	expect_used("a", "bytes 3456, allocations 54, owners 1");
	expect_used("b", "bytes 64, allocations 1, owners 1");
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
	expect_used("a", "bytes 1024, allocations 16, owners 1, request_ids 2");
	assert_true(request("a", 4, 3, &of_a[4]));
	use("b uid=2 owner=b\n");
	expect_state("slabs 17, owners 2, requests 1");
	use(lines);
	assert_false(request("a", 4, 3, &of_a[4]));
	assert_true(request("b", 0, 1, &of_b));
}

TEST(table__another_one_counts_anew)
{
	struct maas_lend_allocation first;

	assert_int_equal(allocate("a", "team/b", 64, 1), 0);
	first = given.first;
	use("b uid=2 owner=team/b max-allocations=1\na uid=1 owner=a,team/*\n");
	expect_used("a", "");
	expect_used("b", "bytes 64, allocations 1, owners 1");
	assert_int_equal(allocate("b", "team/b", 64, 1), -ENOSR);
	/* Over the quota: what is there stays, nothing new comes. */
	use("b uid=2 owner=team/b max-allocations=0\na uid=1 owner=a,team/*\n");
	expect_used("b", "bytes 64, allocations 1, owners 1");
	assert_int_equal(allocate("b", "team/b", 64, 1), -ENOSR);
	assert_int_equal(free_by(BY("a"), &first), 0);
	expect_used("b", "");
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
		struct maas_lend_session_info info;
		struct maas_lend_caller as = {0};
		int r;

		as.auth = maas_lend_auth(f.lend, &as.epoch);
		as.principal = maas_auth_by_name(as.auth, *name);
		if (!as.principal)
			goto next;
		snprintf(id, sizeof(id), "%u", last_id++);
		r = maas_lend_connection_enter(f.lend, &as, &connection);
		CHECK(!r || r == -ENOSR);
		r = TRY_ALLOCATE(.size_bytes = 64, .request_id = id, .caller = &as);
		CHECK(!r || r == -EACCES || r == -ENOSR);
		if (!r) {
			r = maas_lend_get(f.lend, &as, given.first.id, &given.first);
			CHECK(!r || r == -ENOENT);
			r = free_by(&as, &given.first);
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
	assert_int_equal(lend_stats().sessions, 0);
	assert_int_equal(usage.used[MAAS_AUTH_SESSIONS], 0);
	assert_int_equal(usage.used[MAAS_AUTH_CONNECTIONS], 0);
	assert_int_equal(usage.used[MAAS_AUTH_ALLOCATIONS], live_slabs());
}

TEST_MAIN(set_up, tear_down)
