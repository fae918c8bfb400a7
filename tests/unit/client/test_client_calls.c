/* SPDX-License-Identifier: Apache-2.0 */
/* Allocations and their bytes, at once and submitted, against a real maasd. */
#include "tests/unit/client/client_fixture.h"

/* ---- allocations */

TEST(alloc__describes_what_it_gives)
{
	const struct maas_alloc_options *wish = ALLOC_OPTIONS(.owner = "team/a", .ttl_seconds = 60);
	struct maas_allocation given, found;

	assert_int_equal(maas_alloc(maas, 1000, wish, &given), 0);
	assert_int_equal(given.size_bytes, 1000);
	assert_int_equal(given.actual_size_bytes, 1024);
	assert_int_equal(given.lifetime, MAAS_LIFETIME_TTL);
	assert_string_equal(given.owner, "team/a");
	assert_int_equal(maas_describe(maas, given.id, &found), 0);
	/* A second may have begun since. */
	assert_in_range(found.age_seconds, 0, 10);
	assert_in_range(found.lease_seconds, 50, 60);
	found.age_seconds = given.age_seconds;
	found.lease_seconds = given.lease_seconds;
	assert_memory_equal(&given, &found, sizeof(given));
	assert_int_equal(maas_renew(maas, given.id, 120, &found), 0);
	assert_int_equal(found.ttl_seconds, 120);
	assert_int_equal(maas_renew(maas, given.id, 0, NULL), 0);
	client_free(&given, 1);
	assert_int_equal(maas_free(maas, given.id), -ENOENT);
	expect_error(maas_describe(maas, given.id, &found), -ENOENT, "no allocation with this id");
}

TEST(alloc__errors)
{
	const struct maas_alloc_options *leased = ALLOC_OPTIONS(.lifetime = MAAS_LIFETIME_TTL);
	const struct maas_alloc_options *owned = ALLOC_OPTIONS(.lifetime = MAAS_LIFETIME_SESSION);
	struct maas_allocation at;

	assert_int_equal(maas_alloc(maas, 0, NULL, &at), -EINVAL);
	assert_int_equal(maas_alloc(maas, UINT64_MAX, NULL, &at), -EINVAL);
	assert_int_equal(maas_alloc(maas, 5u << 20, NULL, &at), -EFBIG);
	expect_error(maas_alloc(maas, 1, ALLOC_OPTIONS(.owner = "a b"), &at), -EINVAL, "owner");
	expect_error(maas_alloc(maas, 1, leased, &at), -EINVAL, "ttl_seconds");
	expect_error(maas_alloc(maas, 1, owned, &at), -EINVAL, "ttl_seconds");
	assert_int_equal(maas_alloc_many(maas, 1, 0, NULL, &at), -EINVAL);
	assert_int_equal(maas_alloc_many(maas, 1, MAAS_MAX_BATCH + 1, NULL, &at), -EINVAL);
	at = client_alloc(maas, 1);
	assert_int_equal(maas_renew(maas, at.id, 5, NULL), -EMEDIUMTYPE);
	client_free(&at, 1);
}

TEST(alloc__same_request_id_same_answer)
{
	const struct maas_alloc_options *mine = ALLOC_OPTIONS(.request_id = "mine-1");
	struct maas_allocation first, second;

	assert_int_equal(maas_alloc(maas, 10, mine, &first), 0);
	assert_int_equal(maas_alloc(maas, 10, mine, &second), 0);
	assert_string_equal(first.id, second.id);
	assert_int_equal(maas_alloc(maas, 11, mine, &second), -ENOTUNIQ);
	client_free(&first, 1);
}

TEST(alloc_many__until_the_pool_is_full)
{
	struct maas_allocation at[4], more;
	const char *ids[] = {at[0].id, at[1].id, at[2].id, at[3].id};
	bool missing[4];

	assert_int_equal(maas_alloc_many(maas, 4u << 20, 4, NULL, at), 0);
	assert_int_equal(maas_alloc(maas, 1, NULL, &more), -ENOSPC);
	assert_int_equal(maas_free(maas, at[2].id), 0);
	assert_int_equal(maas_free_many(maas, ids, 4, missing), 3);
	for (int i = 0; i < 4; i++)
		assert_int_equal(missing[i], i == 2);
	assert_int_equal(maas_free_many(maas, ids, 4, NULL), 0);
	assert_int_equal(maas_free_many(maas, ids, 0, NULL), -EINVAL);
}

TEST(alloc_many__ten_thousand)
{
	static struct maas_allocation at[MAAS_MAX_BATCH];

	if (maas_alloc_many(maas, 1024, MAAS_MAX_BATCH, NULL, at))
		fail_msg("%s", maas_error());
	client_free(at, MAAS_MAX_BATCH);
}

#define LENT "{\"id\":\"" SOME_ID "\",\"size_bytes\":1,\"actual_size_bytes\":64,\"age_seconds\":0"

TEST(alloc__says_the_owner_that_the_server_gave)
{
	struct maas_allocation at[2];

	client_end();
	stub_open(OK(LENT ",\"owner\":\"me\"}"), NULL);
	assert_int_equal(maas_alloc(maas, 1, NULL, at), 0);
	assert_string_equal(at->owner, "me");
	stub_say(OK("{\"allocations\":[" LENT "}," LENT "}],\"owner\":\"us\"}"), OK(LENT "}"));
	assert_int_equal(maas_alloc_many(maas, 1, 2, NULL, at), 0);
	assert_string_equal(at[0].owner, "us");
	assert_string_equal(at[1].owner, "us");
	assert_int_equal(maas_alloc(maas, 1, NULL, at), 0);
	assert_string_equal(at->owner, "");
	client_end();
}

TEST(list__pages_of_one_owner)
{
	struct maas_allocation theirs = client_alloc(maas, 100);
	struct maas_allocation at[7], page[3];
	char cursor[MAAS_ID_BYTES] = "";
	int n, total = 0, pages = 0;

	assert_int_equal(maas_alloc_many(maas, 100, 7, ALLOC_OPTIONS(.owner = "mine"), at), 0);
	do {
		n = maas_list(maas, "mine", cursor, page, 3);
		assert_true(n >= 0);
		for (int i = 0; i < n; i++)
			assert_string_equal(page[i].owner, "mine");
		total += n;
		pages++;
	} while (*cursor);
	assert_int_equal(total, 7);
	assert_int_equal(pages, 3);
	assert_int_equal(maas_list(maas, "nobody", cursor, page, 3), 0);
	assert_int_equal(maas_list(maas, MAAS_NO_OWNER, cursor, page, 3), 1);
	assert_string_equal(page[0].id, theirs.id);
	assert_int_equal(maas_list(maas, "no body", cursor, page, 3), -EINVAL);
	assert_int_equal(maas_list(maas, "", cursor, page, 3), -EINVAL);
	assert_int_equal(maas_list(maas, NULL, cursor, page, 0), -EINVAL);
	client_free(at, 7);
	client_free(&theirs, 1);
}

/* ---- data */

static void fill(unsigned char *bytes, size_t len, unsigned int seed)
{
	for (size_t i = 0; i < len; i++)
		bytes[i] = (unsigned char)((i * 131 + seed) >> (i % 3));
}

TEST(read_write__pieces_of_four_mebibytes)
{
	static unsigned char out[4u << 20], in[4u << 20];
	struct maas_allocation at = client_alloc(maas, sizeof(out));

	fill(out, sizeof(out), 7);
	assert_int_equal(maas_write(maas, at.id, 0, out, sizeof(out)), 0);
	assert_int_equal(maas_read(maas, at.id, 0, in, sizeof(in)), 0);
	assert_memory_equal(in, out, sizeof(in));
	assert_int_equal(maas_write(maas, at.id, 1000, "abc", 3), 0);
	assert_int_equal(maas_read(maas, at.id, 999, in, 5), 0);
	assert_memory_equal(in + 1, "abc", 3);
	assert_int_equal(in[0], out[999]);
	assert_int_equal(in[4], out[1003]);
	assert_int_equal(maas_read(maas, at.id, 0, NULL, 0), 0);
	client_free(&at, 1);
}

TEST(read_write__outside_is_an_error)
{
	static unsigned char bytes[8u << 20];
	struct maas_allocation at = client_alloc(maas, 100);

	assert_int_equal(maas_write(maas, at.id, 0, bytes, 101), -ERANGE);
	assert_int_equal(maas_write(maas, at.id, 100, bytes, 1), -ERANGE);
	assert_int_equal(maas_write(maas, at.id, 0, bytes, 8u << 20), -ERANGE);
	assert_int_equal(maas_read(maas, at.id, 0, bytes, 101), -ERANGE);
	assert_int_equal(maas_read(maas, at.id, 100, bytes, 1), -ERANGE);
	assert_int_equal(maas_read(maas, at.id, UINT64_MAX, bytes, 1), -ERANGE);
	assert_int_equal(maas_read(maas, at.id, 0, bytes, SIZE_MAX), -ERANGE);
	assert_int_equal(maas_read(maas, at.id, 0, bytes, 100), 0);
	client_free(&at, 1);
	assert_int_equal(maas_read(maas, at.id, 0, bytes, 1), -ENOENT);
	assert_int_equal(maas_write(maas, at.id, 0, bytes, 1), -ENOENT);
}

TEST(vector__many_ranges_in_one_request)
{
	enum { COUNT = 500, LEN = 700 };
	static unsigned char out[COUNT][LEN], in[COUNT][LEN];
	static struct maas_range ranges[COUNT];
	struct maas_allocation at[2];

	assert_int_equal(maas_alloc_many(maas, sizeof(out), 2, NULL, at), 0);
	fill(&out[0][0], sizeof(out), 3);
	for (size_t i = 0; i < COUNT; i++)
		ranges[i] = (struct maas_range){at[i % 2].id, (COUNT - 1 - i) * LEN, out[i], LEN};
	assert_int_equal(maas_writev(maas, ranges, COUNT), 0);
	for (int i = 0; i < COUNT; i++)
		ranges[i].buf = in[i];
	assert_int_equal(maas_readv(maas, ranges, COUNT), 0);
	assert_memory_equal(in, out, sizeof(in));

	ranges[COUNT - 1].offset = sizeof(out);
	assert_int_equal(maas_readv(maas, ranges, COUNT), -ERANGE);
	assert_int_equal(maas_writev(maas, ranges, COUNT), -ERANGE);
	ranges[COUNT - 1].len = 0;
	assert_int_equal(maas_writev(maas, ranges, COUNT), -EINVAL);
	assert_int_equal(maas_readv(maas, ranges, 0), -EINVAL);
	client_free(&at[0], 1);
	ranges[COUNT - 1].len = 1;
	assert_int_equal(maas_readv(maas, ranges, COUNT), -ENOENT);
	client_free(&at[1], 1);
}

/* ---- threads: more of them than connections */

static void *use(void *arg)
{
	unsigned int seed = *(unsigned int *)arg;
	unsigned char out[3000], in[3000];
	struct maas_allocation at;

	for (unsigned int i = 0; i < 30; i++) {
		fill(out, sizeof(out), seed + i);
		CHECK(maas_alloc(maas, sizeof(out), NULL, &at) == 0);
		CHECK(maas_write(maas, at.id, 0, out, sizeof(out)) == 0);
		CHECK(maas_read(maas, at.id, 0, in, sizeof(in)) == 0);
		CHECK(memcmp(in, out, sizeof(in)) == 0);
		CHECK(maas_free(maas, at.id) == 0);
		CHECK(maas_free(maas, at.id) == -ENOENT);
		CHECK(strstr(maas_error(), "no allocation"));
	}
	return NULL;
}

TEST(threads__share_a_handle)
{
	unsigned int seeds[12];

	for (unsigned int i = 0; i < MAAS_ARRAY_SIZE(seeds); i++)
		seeds[i] = i * 1000;
	threads_run(MAAS_ARRAY_SIZE(seeds), use, seeds, sizeof(*seeds));
}

TEST(get__pages_of_the_server)
{
	char *text;
	size_t len;

	assert_int_equal(maas_get(maas, "/health", &text, &len), 0);
	assert_int_equal(strlen(text), len);
	assert_non_null(strstr(text, "\"healthy\""));
	free(text);
	assert_int_equal(maas_get(maas, "/metrics", &text, NULL), 0);
	assert_non_null(strstr(text, "maas_build_info"));
	free(text);
	assert_int_equal(client_get("/nothing"), -ENOENT);
}

/* ---- submitted now and completed later */

#define OPS   200
#define BYTES 4096

TEST(submit__many_in_flight)
{
	static unsigned char out[OPS][BYTES];
	static unsigned char in[OPS][BYTES];
	static struct maas_allocation at[OPS];
	unsigned int done[OPS] = {0};
	struct maas_completion none;

	assert_int_equal(maas_alloc_many(maas, BYTES, OPS, NULL, at), 0);
	for (size_t i = 0; i < OPS; i++) {
		memset(out[i], (int)i + 1, BYTES);
		submit_write(RANGE(at[i].id, 0, out[i], BYTES), 0, &done[i]);
	}
	client_take(OPS, 0);
	for (size_t i = 0; i < OPS; i++)
		submit_read(RANGE(at[i].id, 0, in[i], BYTES), 0, &done[i]);
	client_take(OPS, 0);
	for (size_t i = 0; i < OPS; i++)
		assert_int_equal(done[i], 2);
	assert_memory_equal(in, out, sizeof(in));
	assert_int_equal(maas_poll(maas, &none, 1, -1), 0);
	assert_false(client_readable(0));
	client_free(at, OPS);
}

TEST(submit__several_ranges_at_once)
{
	char out[2][5] = {"abcd", "wxyz"};
	char in[2][5] = {"", ""};
	struct maas_allocation at[2];
	struct maas_range ranges[2];

	assert_int_equal(maas_alloc_many(maas, 100, 2, NULL, at), 0);
	for (int i = 0; i < 2; i++)
		ranges[i] = (struct maas_range){at[i].id, 50, out[i], 4};
	assert_int_equal(maas_submit_write(maas, ranges, 2, 0, NULL), 0);
	client_done(0);
	ranges[0].buf = in[0];
	ranges[1].buf = in[1];
	assert_int_equal(maas_submit_read(maas, ranges, 2, 0, ranges), 0);
	assert_ptr_equal(client_done(0).user, ranges);
	assert_memory_equal(in, out, sizeof(in));
	client_free(at, 2);
}

TEST(submit__errors_come_as_completions)
{
	char byte[2] = "x";
	struct maas_allocation at = client_alloc(maas, 1);
	struct maas_completion completion;

	submit_read(RANGE(SOME_ID, 0, byte, 1), 0, NULL);
	assert_non_null(strstr(client_done(-ENOENT).error, "no allocation"));
	submit_read(RANGE(at.id, 0, byte, 2), 0, NULL);
	client_done(-ERANGE);
	client_free(&at, 1);

	assert_int_equal(maas_submit_read(maas, RANGE(at.id, 0, byte, 2), 0, 0, NULL), -EINVAL);
	assert_int_equal(maas_submit_write(maas, RANGE("a/b", 0, byte, 2), 1, 0, NULL), -EINVAL);
	assert_int_equal(maas_poll(maas, &completion, 0, 0), -EINVAL);
	assert_int_equal(maas_poll(maas, &completion, 1, -2), -EINVAL);
}

TEST(event_fd__is_readable_while_there_are_completions)
{
	char byte = 'x';
	struct maas_allocation at = client_alloc(maas, 2);
	struct maas_completion none;

	assert_false(client_readable(0));
	/* Each its own byte: two writers of one are a race in the server. */
	submit_write(RANGE(at.id, 0, &byte, 1), 0, NULL);
	submit_write(RANGE(at.id, 1, &byte, 1), 0, NULL);
	assert_true(client_readable(10000));
	client_done(0);
	client_done(0);
	assert_false(client_readable(0));
	assert_int_equal(maas_poll(maas, &none, 1, 0), 0);
	client_free(&at, 1);
}

/* ---- a server that does not answer */

TEST(submit__each_has_its_own_timeout)
{
	struct maas_completion none;
	char byte;
	const struct maas_range *range = RANGE("a", 0, &byte, 1);
	uint64_t start_ms = maas_clock_ms();

	client_end();
	stub_open("", OPTIONS(.max_connections = 2));
	submit_read(range, 600, (void *)3);
	submit_read(range, 300, (void *)2);
	/* No connection is left for this one. */
	submit_read(range, 100, (void *)1);
	assert_int_equal(maas_poll(maas, &none, 1, 10), 0);
	for (uintptr_t i = 1; i <= 3; i++)
		assert_ptr_equal(client_done(-ETIMEDOUT).user, (void *)i);
	assert_in_range(maas_clock_ms() - start_ms, 590, 5000);
}

TEST(submit__a_limit_and_a_close_under_way)
{
	struct maas_buffer *buffer;
	char bytes[10];
	const struct maas_range *range = RANGE("a", 0, bytes, 1);

	client_end();
	stub_open("", OPTIONS(.max_connections = 2, .max_submitted = 5));
	assert_int_equal(maas_buffer_register(maas, bytes, sizeof(bytes), &buffer), 0);
	for (int i = 0; i < 5; i++)
		submit_read(range, 0, NULL);
	assert_int_equal(maas_submit_read(maas, range, 1, 0, NULL), -EAGAIN);
	assert_int_equal(maas_buffer_unregister(maas, buffer), -EBUSY);
	AWAIT(stub.connections > 0);
	listener_stop(&stub);
}

TEST(buffer__bookkeeping)
{
	static char bytes[100];
	struct maas_allocation at = client_alloc(maas, 80);
	struct maas_buffer *first, *second;

	assert_int_equal(maas_buffer_register(maas, NULL, 1, &first), -EINVAL);
	assert_int_equal(maas_buffer_register(maas, bytes, 0, &first), -EINVAL);
	assert_int_equal(maas_buffer_register(maas, bytes, SIZE_MAX, &first), -EINVAL);
	assert_int_equal(maas_buffer_register(maas, bytes, 90, &first), 0);
	assert_int_equal(maas_buffer_register(maas, bytes + 89, 1, &second), -EEXIST);
	assert_int_equal(maas_buffer_register(maas, bytes + 90, 10, &second), 0);
	submit_write(RANGE(at.id, 0, bytes + 10, 80), 0, NULL);
	client_done(0);
	assert_int_equal(maas_buffer_unregister(maas, first), 0);
	assert_int_equal(maas_buffer_unregister(maas, second), 0);
	assert_int_equal(maas_buffer_unregister(maas, second), -ENOENT);
	client_free(&at, 1);
}

TEST(threads__submit_and_poll)
{
	char bytes[16] = "x";
	struct maas_allocation at = client_alloc(maas, sizeof(bytes) * CROWD_OPS);

	crowd_run(RANGE(at.id, 0, bytes, sizeof(bytes)));
	client_free(&at, 1);
}

TEST_MAIN(server_open, client_end_empty)
