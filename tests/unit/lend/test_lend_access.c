/* SPDX-License-Identifier: Apache-2.0 */
/* Keys need two rights, the caller's and that of the session's principal, and end with them. */
#include "tests/unit/lend/lend_auth.h"
#include "tests/unit/lend/lend_keys.h"

static char theirs[MAAS_SLAB_ID_TEXT]; /* a session of the principal b */

static void set_up(void)
{
	keys_open(1u << 20);
	use("a uid=1 owner=a\nb uid=2 owner=b read=a\nc uid=3 owner=c\n");
	assert_int_equal(open_by(BY("b"), "b"), 0);
	memcpy(theirs, session.id, sizeof(theirs));
}

static void tear_down(void)
{
	table_end();
	keys_teardown();
}

static int grant(const char *name, const char *id, enum maas_lend_access access)
{
	static struct maas_lend_key key;

	return maas_lend_grant(f.lend, BY(name), id, theirs, access, &key, tell, &end);
}

TEST(grant__needs_the_right_of_both)
{
	struct maas_lend_allocation of_a = ALLOCATE(.caller = BY("a"));
	struct maas_lend_allocation of_c = ALLOCATE(.caller = BY("c"));

	/* The caller's: c is to neither of them there, b may read what is a's. */
	assert_int_equal(grant("c", of_a.id, MAAS_LEND_ACCESS_READ), -ENOENT);
	assert_int_equal(grant("b", of_c.id, MAAS_LEND_ACCESS_READ), -ENOENT);
	assert_int_equal(grant("b", of_a.id, MAAS_LEND_ACCESS_WRITE), -EACCES);
	/* The session's: b may not write what is a's, nor see what is c's. Nor do they learn that
	 * there is such a session. */
	assert_int_equal(grant("a", of_a.id, MAAS_LEND_ACCESS_WRITE), -ESRCH);
	assert_int_equal(grant("c", of_c.id, MAAS_LEND_ACCESS_READ), -ESRCH);
	assert_int_equal(keys.num_ops, 0);
	assert_int_equal(grant("a", of_a.id, MAAS_LEND_ACCESS_READ), -EINPROGRESS);
	assert_int_equal(keys.num_ops, 1);
	finish(0);
}

static bool theirs_lives(void)
{
	return !maas_lend_session_get(f.lend, BY("b"), theirs, &session);
}

TEST(reload__ends_the_session_and_with_it_its_keys)
{
	use("a uid=1 owner=a\nb uid=2 owner=b read=a,c\nc uid=3 owner=c\n");
	assert_true(theirs_lives());
	assert_int_equal(keys.num_ops, 0);
	use("a uid=1 owner=a\nb uid=2 owner=b\nc uid=3 owner=c\n");
	assert_false(theirs_lives());
	assert_int_equal(keys.num_ops, 1); /* its connection ends */
	finish(0);
}

/* The keys of who lost a right do not survive that there was no memory to say so. */
TEST(reload__ends_the_session_when_it_can)
{
	assert_int_equal(maas_lend_session_get(f.lend, BY("b"), theirs, &session), 0);
	keys.start_error = -ENOMEM;
	use("a uid=1 owner=a\nb uid=2 owner=b\nc uid=3 owner=c\n");
	assert_false(theirs_lives());
	assert_int_equal(keys.num_ops, 0);
	keys.start_error = 0;
	pass_ms(100);
	assert_int_equal(keys.num_ops, 1);
	expect_used("b", "sessions 1");
	finish(0);
	expect_used("b", "");
}

/* The time of a list does not tell whether a name of somebody else is in use. */
TEST(list__of_a_foreign_owner_looks_at_nothing)
{
	struct maas_lend_caller b = caller("b");
	struct maas_lend_allocation got[4];
	struct maas_lend_page walk;
	uint32_t count;

	ALLOCATE(.caller = BY("c"));
	for (int foreign = 0; foreign < 2; foreign++) {
		const char *owner = foreign ? "c" : "none";

		assert_int_equal(maas_lend_page_start(f.lend, &b, &walk, owner, NULL, 4), 0);
		assert_false(maas_lend_page_next(f.lend, &walk, got, 4, &count));
		assert_int_equal(count, 0);
		assert_int_equal(walk.cursor, 0);
	}
}

TEST(ungrant__is_of_who_owns_the_memory_or_the_session)
{
	const char *id;

	use("a uid=1 owner=a\nb uid=2 owner=b read=a\nd uid=4 owner=d read=a\n");
	ALLOCATE(.caller = BY("a"));
	id = given.first.id;
	assert_int_equal(grant("a", id, MAAS_LEND_ACCESS_READ), -EINPROGRESS);
	finish(0);
	assert_int_equal(maas_lend_ungrant(f.lend, BY("d"), id, theirs, tell, &end), -ESRCH);
	/* There may be no key left, but the caller may ask. */
	assert_int_not_equal(maas_lend_ungrant(f.lend, BY("b"), id, theirs, tell, &end), -ESRCH);
	assert_int_not_equal(maas_lend_ungrant(f.lend, BY("a"), id, theirs, tell, &end), -ESRCH);
	finish_all();
}

/* ---- proofs */

static struct maas_lend_session_info open_by_uid(uid_t uid)
{
	struct maas_lend_caller as = caller_by_uid(uid);

	assert_int_equal(open_by(&as, ""), 0);
	return session;
}

static int renew_by_uid(uid_t uid, const struct maas_lend_session_info *which)
{
	struct maas_lend_caller as = caller_by_uid(uid);

	return maas_lend_session_renew(f.lend, &as, which->id, 0, &session);
}

/* A proof that is taken away ends what it began; what another one of the line began goes on. */
TEST(reload__takes_a_proof_away)
{
	struct maas_lend_session_info by_2, by_22;
	struct maas_auth *before;
	struct maas_lend_caller late;

	use("b uid=2 uid=22 owner=b read=a\n");
	by_2 = open_by_uid(2);
	by_22 = open_by_uid(22);
	before = maas_auth_ref(table);
	late = caller_by_uid(2);
	use("b uid=22 owner=b read=a\n");
	assert_int_equal(renew_by_uid(22, &by_2), -ENOENT);
	assert_int_equal(renew_by_uid(22, &by_22), 0);
	/* A request that was under way, too. */
	assert_int_equal(open_by(&late, ""), -EACCES);
	use("b uid=2 uid=22 owner=b read=a\n");
	assert_int_equal(renew_by_uid(2, &by_2), -ENOENT);
	finish_all();
	maas_auth_unref(before);
}

/* A rotation: what is used by the new proof before the old one goes outlives that. */
TEST(session__lives_by_what_its_principal_proved_last)
{
	struct maas_lend_session_info first, second;

	use("b uid=2 uid=22 owner=b\nops uid=9 admin\n");
	first = open_by_uid(2);
	second = open_by_uid(2);
	assert_int_equal(renew_by_uid(22, &first), 0);
	assert_int_equal(renew_by_uid(9, &second), 0); /* an admin's proof is not the session's */
	use("b uid=22 owner=b\nops uid=9 admin\n");
	assert_int_equal(renew_by_uid(22, &first), 0);
	assert_int_equal(renew_by_uid(9, &second), -ENOENT);
	/* The same proof on another line is another principal's. */
	use("b uid=2 owner=b\nops uid=9 admin\nc uid=22 owner=b,c\n");
	assert_int_equal(renew_by_uid(9, &first), -ENOENT);
	finish_all();
}

/* One token more, or figures that are no longer shown, end nothing. */
TEST(reload__of_other_words_ends_nothing)
{
	use("a uid=1 owner=a\nb uid=2 owner=b read=a metrics\n");
	use("a uid=1 owner=a\nb uid=22 uid=2 owner=b read=a\nnew uid=9 owner=new\n");
	assert_true(theirs_lives());
}

/* A caller that was found in the table of before is held against the one of now. */
TEST(reload__counts_for_a_call_that_began_before_it)
{
	struct maas_lend_allocation of_a = ALLOCATE(.caller = BY("a")), again;
	struct maas_auth *before = maas_auth_ref(table);
	struct maas_lend_caller b = caller("b");

	assert_int_equal(maas_lend_get(f.lend, &b, of_a.id, &again), 0);
	use("a uid=1 owner=a\nb uid=2 owner=b\n");
	finish(0);
	assert_int_equal(maas_lend_get(f.lend, &b, of_a.id, &again), -ENOENT);
	use("a uid=1 owner=a\n");
	assert_int_equal(maas_lend_get(f.lend, &b, of_a.id, &again), -ENOENT);
	maas_auth_unref(before);
}

/* Each call in the name of nobody, on memory that is there … */
static void nobody_may_reach(const char *id)
{
	struct maas_lend_transfer transfer = {0};
	struct maas_lend_allocation got;

	assert_int_equal(TRY_ALLOCATE(.count = 1), -EACCES);
	assert_int_equal(maas_lend_get(f.lend, NULL, id, &got), -ENOENT);
	assert_int_equal(maas_lend_free(f.lend, NULL, id, NULL, NULL), -ENOENT);
	assert_int_equal(maas_lend_renew(f.lend, NULL, id, 1, &got), -ENOENT);
	assert_int_equal(maas_lend_transfer_begin(f.lend, NULL, id, MAAS_AUTH_READ, &transfer),
			 -ENOENT);
	assert_int_equal(list_page(NULL, NULL, 100), 0);
	assert_false(more);
	assert_int_equal(open_by(NULL, ""), -EACCES);
}

/* … and on a session. */
static void nobody_has_a_session(const char *id)
{
	struct maas_lend_session_info info;
	struct maas_lend_key key;

	assert_int_equal(
		maas_lend_grant(f.lend, NULL, id, theirs, MAAS_LEND_ACCESS_READ, &key, tell, &end),
		-ENOENT);
	assert_int_equal(maas_lend_ungrant(f.lend, NULL, id, theirs, tell, &end), -ENOENT);
	assert_int_equal(maas_lend_session_named(f.lend, NULL, "b", &info, 1, &more), 0);
	assert_int_equal(maas_lend_session_get(f.lend, NULL, theirs, &info), -ENOENT);
	assert_int_equal(maas_lend_session_renew(f.lend, NULL, theirs, 0, &info), -ENOENT);
	assert_int_equal(maas_lend_session_ticket(f.lend, NULL, theirs, &info), -ENOENT);
	assert_int_equal(maas_lend_session_end(f.lend, NULL, theirs, NULL, NULL), -ENOENT);
}

/* A caller that was forgotten opens nothing, nor does a table that is still to come. */
TEST(nobody__may_do_nothing)
{
	struct maas_lend_options options = fixture_options();
	struct maas_lend_allocation of_a = ALLOCATE(.caller = BY("a"));

	nobody_may_reach(of_a.id);
	nobody_has_a_session(of_a.id);
	options.keys = &fake_key_ops;
	options.keys_ctx = &keys;
	options.has_principals = true;
	maas_lend_close(f.lend);
	assert_int_equal(maas_lend_open(&options, &f.lend), 0);
	nobody_may_reach(of_a.id);
}

TEST_MAIN(set_up, tear_down)
