/* SPDX-License-Identifier: Apache-2.0 */
/* JSON bodies: what is read from them, the words of the errors, and what they cost. */
#include <malloc.h>

#include "http/parse.h"
#include "tests/unit/http/http_fixture.h"

#define ID "01234567-89ab-8def-8123-456789abcdef"

/* A request for 1 byte and a key to it; `more` are members behind these. */
#define KEYED(more) "{'size_bytes':1,'session':'" ID "'" more "}"

static struct maas_http_fault fault;

/* What was read last. */
static struct maas_http_allocate_body body;
static struct maas_http_pieces pieces;
static uint32_t num_ids;
static char id[MAAS_SLAB_ID_TEXT];

/* In the texts of read_…() a ' stands for a ". */
static int read_allocate(const char *text)
{
	text = http_quoted(text);
	return maas_http_json_allocate(text, strlen(text), &body, &fault);
}

/* `fields` are size, count, lifetime and its seconds, access, session, owner and request id. */
static void expect_fields(const char *text, const char *fields)
{
	static const char *const lifetimes[] = {"delete", "ttl", "session"};
	static const char *const accesses[] = {"none", "r", "rw"};

	assert_int_equal(read_allocate(text), 0);
	assert_string_equal(http_text("%ju %ju %s %ju %s '%s' '%s' '%s'", body.size_bytes,
				      body.count, lifetimes[body.lifetime], body.ttl_s,
				      accesses[body.access], body.session, body.owner,
				      body.request_id),
			    fields);
}

TEST(json_allocate__all_fields)
{
	expect_fields(" {'size_bytes':102400,'count':10000,'session':'" ID
		      "','owner':'a/b','lifetime':'ttl','ttl_seconds':9,'request_id':'r 1'} \n",
		      "102400 10000 ttl 9 rw '" ID "' 'a/b' 'r 1'");
}

TEST(json_allocate__lifetimes)
{
	expect_fields("{'size_bytes':1}", "1 0 delete 0 rw '' '' ''");
	expect_fields("{'size_bytes':1,'ttl_seconds':5}", "1 0 ttl 5 rw '' '' ''");
	expect_fields(KEYED(",'lifetime':'session'"), "1 0 session 0 rw '" ID "' '' ''");
}

TEST(json_allocate__access)
{
	expect_fields(KEYED(""), "1 0 delete 0 rw '" ID "' '' ''");
	expect_fields(KEYED(",'access':'rw'"), "1 0 delete 0 rw '" ID "' '' ''");
	expect_fields(KEYED(",'access':'r'"), "1 0 delete 0 r '" ID "' '' ''");
	expect_fields(KEYED(",'access':'none'"), "1 0 delete 0 none '" ID "' '' ''");
}

struct refusal {
	const char *text;
	const char *code;
	const char *says; /* a part of the message */
};

/* What `read` and the fault say of each text. */
static void expect_refused(int (*read)(const char *text), const struct refusal *all, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		int r = read(all[i].text);

		if (r != -EINVAL || strcmp(fault.code, all[i].code) != 0 ||
		    !strstr(fault.text, all[i].says))
			fail_msg("%s: %d %s %s", all[i].text, r, fault.code, fault.text);
	}
}

TEST(json_allocate__refuses)
{
	static const struct refusal cases[] = {
		{"", "bad_json", "{\"size_bytes\": 102400}"},
		{" ", "bad_json", "not valid JSON"},
		{"[]", "bad_json", "must be a JSON object"},
		{"7", "bad_json", "not valid JSON"},
		{"{", "bad_json", "not valid JSON"},
		{"{'size_bytes':1}x", "bad_json", "not valid JSON"},
		{"{'size_bytes':1,'size_bytes':1}", "bad_json", "duplicate"},
		{"{'size_bytes':1,}", "bad_json", "not valid JSON"},
		{"{'size_bytes':01}", "bad_json", "not valid JSON"},
		{"{'size_bytes':1,'owner':'\xff'}", "bad_json", "not valid JSON"},
		{"{'size_bytes':1,'owner':'a\\u0000b'}", "bad_json", "not valid JSON"},
		{"{}", "missing_field", "\"size_bytes\" is missing"},
		{"{'size_bytes':1,'sise':2}", "unknown_field", "\"sise\""},
		{"{'size_bytes':0}", "bad_field", "\"size_bytes\" must be a whole number"},
		{"{'size_bytes':1.0}", "bad_field", "with a point"},
		{"{'size_bytes':1e3}", "bad_field", "with a point"},
		{"{'size_bytes':9223372036854775808}", "bad_field", "\"size_bytes\" must be"},
		{"{'size_bytes' : -9223372036854775809 }", "bad_field", "\"size_bytes\" must be"},
		{"{'size_bytes':1,'count':1e999}", "bad_field", "\"count\" must be"},
		{"{'size_bytes':'1'}", "bad_field", "a string"},
		{"{'size_bytes':null}", "bad_field", "null"},
		{"{'size_bytes':true}", "bad_field", "true"},
		{"{'size_bytes':[1]}", "bad_field", "an array"},
		{"{'size_bytes':1,'count':10001}", "bad_field", "from 1 to 10000"},
		{"{'size_bytes':1,'session':'" ID "0'}", "bad_field", "\"session\""},
		{KEYED(",'access':'w'"), "bad_field", "\"rw\", \"r\" or \"none\""},
		{KEYED(",'access':'nones'"), "bad_field", "\"access\""},
		{"{'size_bytes':1,'access':'rw'}", "missing_field", "\"session\""},
		{"{'size_bytes':1,'access':'none'}", "missing_field", "\"session\""},
		{"{'size_bytes':1,'lifetime':'sessions'}", "bad_field", "\"lifetime\""},
		{"{'size_bytes':1,'lifetime':'ttl'}", "bad_field", "\"ttl_seconds\""},
		{"{'size_bytes':1,'lifetime':'delete','ttl_seconds':1}", "bad_field",
		 "\"ttl_seconds\""},
		{"{'size_bytes':1,'lifetime':'session'}", "missing_field", "\"session\""},
		{"{'size_bytes':1,'ttl_seconds':31622401}", "bad_field", "31622400"},
		{"{'size_bytes':1,'owner':'a b'}", "bad_field", "\"owner\""},
		{"{'size_bytes':1,'owner':''}", "bad_field", "\"owner\""},
		{"{'size_bytes':1,'request_id':'\\n'}", "bad_field", "\"request_id\""},
		{"{'size_bytes':1,'request_id':'\xc3\xa9'}", "bad_field", "\"request_id\""},
	};

	expect_refused(read_allocate, cases, MAAS_ARRAY_SIZE(cases));
}

TEST(json_allocate__length_limits)
{
	static const struct {
		const char *field;
		int most;
	} cases[] = {{"request_id", 127}, {"owner", 63}};

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(cases); i++)
		for (int len = cases[i].most - 1; len <= cases[i].most + 1; len++)
			assert_int_equal(read_allocate(http_text("{'size_bytes':1,'%s':'%0*d'}",
								 cases[i].field, len, 7)),
					 len <= cases[i].most ? 0 : -EINVAL);
}

/* All ids of a body, or the error of the first that is none. */
static int walk_ids(const char *text, size_t len)
{
	struct maas_http_element element;
	struct maas_http_list list;
	int r = maas_http_ids_open(&list, text, len, &fault);

	if (!r)
		do
			r = maas_http_ids_next(&list, id, &element, &fault);
		while (r == 1);
	num_ids = list.count;
	return r;
}

static int read_ids(const char *text)
{
	return walk_ids(http_quoted(text), strlen(text));
}

TEST(json_ids__forms)
{
	static const struct refusal bad[] = {
		{"", "bad_json", "empty"},
		{"[]", "bad_json", "object"},
		{"{}", "missing_field", "\"ids\""},
		{"{'ids':[]}", "bad_field", "1 to 10000"},
		{"{'ids':'a'}", "bad_field", "1 to 10000"},
		{"{'ids':['a',7]}", "bad_field", "ids[1]"},
		{"{'ids':['a'],'b':1}", "unknown_field", "\"b\""},
		{"{'b':1,'ids':['a']}", "unknown_field", "\"b\""},
		{"{'ids':['a'],'ids':['a']}", "bad_json", "twice"},
		{"{'ids':['a']", "bad_json", "'}'"},
		{"{'ids':['a']}x", "bad_json", "the end"},
		{"{'ids':['a'}", "bad_json", "']'"},
		{"{'ids':['a' 'b']}", "bad_json", "','"},
		{"{'ids':['a',]}", "bad_field", "ids[1]"},
		{"{'ids':['a]}", "bad_json", "no end"},
		{"{'ids':['\\x']}", "bad_json", "no string"},
		{"{'ids':['\xff']}", "bad_json", "no string"},
		{"{'ids':[[]]}", "bad_field", "ids[0]"},
	};

	assert_int_equal(read_ids(" { 'ids' : [ 'a' ,\n'\\u0062' ] } "), 0);
	assert_int_equal(num_ids, 2);
	assert_string_equal(id, "b");
	expect_refused(read_ids, bad, MAAS_ARRAY_SIZE(bad));
}

TEST(json_ids__too_many)
{
	struct maas_buf text = {0};

	maas_buf_str(&text, "{'ids':['a'");
	for (int i = 0; i < 10000; i++)
		maas_buf_str(&text, ",'a'");
	maas_buf_add(&text, "]}", 3);
	assert_int_equal(read_ids(text.data), -EINVAL);
	assert_non_null(strstr(fault.text, "10000"));
	maas_buf_fini(&text);
}

/* A string of any length is no id, and costs nothing; a long one that has to be decoded is refused.
 */
TEST(json_ids__long_strings)
{
	strcpy(id, "x");
	assert_int_equal(read_ids(http_text("{'ids':['%037d']}", 7)), 0);
	assert_string_equal(id, "");
	assert_int_equal(read_ids(http_text("{'ids':['%0*d']}", MAAS_HTTP_ELEMENT_BYTES, 7)),
			 -EINVAL);
	assert_non_null(strstr(fault.text, "longer than"));
}

#define PIECE(id, offset, length) "{'id':'" id "','offset':" offset ",'length':" length "}"

/* All of them; frees those of the call before. */
static int walk_pieces(const char *text, size_t len)
{
	int r;

	free(pieces.at);
	r = maas_http_pieces_open(&pieces, text, len, &fault);
	return r ? r : maas_http_pieces_read(&pieces, UINT32_MAX, &fault);
}

static int read_pieces(const char *text)
{
	text = http_quoted(text);
	return walk_pieces(text, strlen(text));
}

TEST(json_pieces__forms)
{
	static const struct refusal bad[] = {
		{"{}", "missing_field", "\"ranges\""},
		{"{'ranges':[]}", "bad_field", "\"ranges\""},
		{"{'ranges':[7]}", "bad_field", "ranges[0]"},
		{"{'ranges':[" PIECE("a", "0", "1") "}", "bad_json", "']'"},
		{"{'ranges':[{'id':'a','id':'b'}]}", "bad_json", "duplicate"},
		{"{'ranges':[{]]}", "bad_json", "ranges[0]"},
		{"{'ranges':[" PIECE("a", "0", "0") "]}", "bad_field", "ranges[0]: \"length\""},
		{"{'ranges':[" PIECE("a", "-1", "1") "]}", "bad_field", "ranges[0]: \"offset\""},
		{"{'ranges':[" PIECE("a", "0", "1.5") "]}", "bad_field", "\"length\""},
		{"{'ranges':[" PIECE("a", "0", "1") ",{'id':'a'}]}", "missing_field",
		 "ranges[1]: \"offset\""},
		{"{'ranges':[{'id':'a','offset':0,'size':1}]}", "unknown_field", "\"size\""},
		{"{'ranges':[" PIECE("a", "0", "9223372036854775807") "," PIECE("a", "0", "1") "]}",
		 "bad_field", "2^63"},
		{"{'ranges':[" PIECE("a", "9223372036854775808", "1") "]}", "bad_field",
		 "\"offset\""},
	};

	assert_int_equal(
		read_pieces("{'ranges':[" PIECE("a", "0", "1") "," PIECE("b", "5", "7") "]}"), 0);
	assert_int_equal(pieces.count, 2);
	assert_int_equal(pieces.total, 8);
	assert_string_equal(pieces.at[1].id, "b");
	assert_int_equal(pieces.at[1].offset, 5);
	assert_int_equal(pieces.at[1].len, 7);
	expect_refused(read_pieces, bad, MAAS_ARRAY_SIZE(bad));
}

/* ---- what a body costs: less than eight times its size and 1 MiB, whatever its shape */

static struct {
	size_t now;
	size_t most;
} heap;

#define MALLOC_ADDS 16 /* about so much to each piece */

static void *count_malloc(size_t size)
{
	void *at = malloc(size);

	heap.now += malloc_usable_size(at) + MALLOC_ADDS;
	if (heap.now > heap.most)
		heap.most = heap.now;
	return at;
}

static void count_free(void *at)
{
	heap.now -= at ? malloc_usable_size(at) + MALLOC_ADDS : 0;
	free(at);
}

/* `unit` over and over, between `before` and `after`, in a body of `len` bytes. */
static void expect_cheap(const char *before, const char *unit, const char *after, size_t len)
{
	struct maas_buf text = {0};

	maas_buf_str(&text, before);
	while (text.len + strlen(unit) + strlen(after) <= len)
		maas_buf_str(&text, unit);
	/* The last comma separates nothing. */
	text.len--;
	maas_buf_printf(&text, "%*s", (int)(len - text.len), after);
	heap.now = 0;
	heap.most = 0;
	(void)walk_ids(text.data, len);
	(void)!walk_pieces(text.data, len);
	heap.most += pieces.room * sizeof(*pieces.at);
	if (len <= 8192)
		(void)!maas_http_json_allocate(text.data, len, &body, &fault);
	/* The body itself lies in a buffer of at most twice its length. */
	if (2 * len + heap.most > 8 * len + (1 << 20))
		fail_msg("%zu bytes of %s%s: %zu bytes", len, before, unit, heap.most);
	maas_buf_fini(&text);
}

TEST(json__memory_of_any_shape)
{
	static const struct {
		const char *before, *unit, *after;
	} shapes[] = {
		{"{'ids':[", "[],", "]}"},	   {"{'ids':[", "{},", "]}"},
		{"{'ids':[", "'',", "]}"},	   {"{'ids':[", "'\\u0061',", "]}"},
		{"{'ids':[{", "'':0,", "}]}"},	   {"{'ids':[", "{'':{}},", "]}"},
		{"{'ids':[[", "0,", "]]}"},	   {"{'ids':[", "[[[[[[[[", "]}"},
		{"{'ranges':[", "{},", "]}"},	   {"{'ranges':[", PIECE("x", "0", "1") ",", "]}"},
		{"{'ranges':[{", "'':{},", "}]}"}, {"{", "'a':0,", "}"},
		{"{'size_bytes':[", "{},", "]}"},  {"[", "{},", "]"},
	};
	static const size_t lens[] = {64, 4096, 8192, 300000, 4 << 20};

	json_set_alloc_funcs(count_malloc, count_free);
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(shapes); i++)
		for (size_t j = 0; j < MAAS_ARRAY_SIZE(lens); j++)
			expect_cheap(http_quoted(shapes[i].before), http_quoted(shapes[i].unit),
				     shapes[i].after, lens[j]);
	json_set_alloc_funcs(malloc, free);
}

TEST_MAIN(NULL, http_teardown)
