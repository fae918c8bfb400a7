/* SPDX-License-Identifier: Apache-2.0 */
/* Servers of a later or an earlier version than this libmaas (docs/upgrading.md). */
#include "tests/unit/client/client_fixture.h"

#define NEWS "\"a_new_field\":{\"list\":[1,{\"b\":null}],\"text\":\"]}\"}"
#define LENT                                                                                       \
	"{" NEWS ",\"id\":\"" SOME_ID "\",\"size_bytes\":64,\"actual_size_bytes\":1024,"           \
	"\"age_seconds\":0,\"rdma\":{" NEWS "},\"owner\":\"me\",\"another\":[]}"
/* An answer with a header that is not known yet. */
#define NEW(body) "HTTP/1.1 200 OK\r\nX-Maas-New: yes\r\n\r\n" body

static void begin(const char *answer)
{
	client_end();
	stub_open(answer, OPTIONS(.ttl_seconds = 30));
}

static void expect_lent(const struct maas_allocation *lent)
{
	assert_string_equal(lent->id, SOME_ID);
	assert_string_equal(lent->owner, "me");
	assert_int_equal(lent->size_bytes, 64);
	assert_int_equal(lent->actual_size_bytes, 1024);
}

TEST(later_server__new_fields_of_an_allocation)
{
	struct maas_allocation lent;

	begin(NEW(LENT));
	assert_int_equal(maas_alloc(maas, 64, NULL, &lent), 0);
	expect_lent(&lent);
	assert_int_equal(maas_describe(maas, SOME_ID, &lent), 0);
	expect_lent(&lent);
	assert_int_equal(maas_renew(maas, SOME_ID, 0, &lent), 0);
	expect_lent(&lent);
}

TEST(later_server__new_fields_beside_a_list)
{
	struct maas_allocation lent[2];
	char cursor[MAAS_ID_BYTES] = "";
	bool missing;

	begin(NEW("{" NEWS ",\"allocations\":[" LENT "," LENT "],\"next\":null," NEWS "}"));
	assert_int_equal(maas_alloc_many(maas, 64, 2, NULL, lent), 0);
	expect_lent(&lent[1]);
	assert_int_equal(maas_list(maas, NULL, cursor, lent, 2), 2);
	expect_lent(&lent[1]);
	begin(NEW("{" NEWS ",\"freed\":1,\"unknown\":[],\"refused\":[]}"));
	assert_int_equal(maas_free_many(maas, (const char *[]){SOME_ID}, 1, &missing), 1);
	assert_false(missing);
}

TEST(later_server__new_fields_of_a_session)
{
	begin(NEW("{" NEWS ",\"id\":\"" SOME_ID "\",\"ttl_seconds\":30,\"rdma\":null,\"x\":1}"));
	assert_int_equal(maas_reopen(maas), 0);
	assert_string_equal(client_session().id, SOME_ID);
}

static void expect_code(const char *answer, int error)
{
	struct maas_allocation lent;

	begin(answer);
	assert_int_equal(maas_alloc(maas, 64, NULL, &lent), error);
	assert_string_equal(maas_error(), "why");
}

/* The status says what an unknown code is about, and the server's sentence the rest. An earlier
 * server refuses by name what it does not know, a field or a call; it never does something else
 * instead. */
TEST(other_server__codes_of_errors)
{
	expect_code(NO("401", "{\"code\":\"new_code\",\"message\":\"why\"}"), -EACCES);
	expect_code(NO("409", "{\"code\":\"new_code\",\"message\":\"why\"}"), -EEXIST);
	expect_code(NO("429", "{\"message\":\"why\",\"more\":{}}"), -EUSERS);
	expect_code(NO("507", "{\"code\":\"new_code\",\"message\":\"why\"}"), -ENOSPC);
	expect_code(NO("400", "{\"code\":\"unknown_field\",\"message\":\"why\"}"), -EINVAL);
	expect_code(NO("404", "{\"code\":\"no_such_path\",\"message\":\"why\"}"), -ENOENT);
}

TEST_MAIN(NULL, client_end)
