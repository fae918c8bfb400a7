/* SPDX-License-Identifier: Apache-2.0 */
/* JSON bodies: what is read from them, the words of the errors, and what they cost. */
#include "http/parse.h"
#include "tests/unit/http/http_fixture.h"

#define ID "01234567-89ab-8def-8123-456789abcdef"

static struct maas_http_fault fault;

/* In these texts a ' stands for a ". */
static int parse(const char *text, struct maas_http_allocate_body *ret_body)
{
	text = http_quoted(text);
	return maas_http_json_allocate(text, strlen(text), ret_body, &fault);
}

TEST(json_allocate__all_fields)
{
	struct maas_http_allocate_body body;

	assert_int_equal(
		parse(" {'size_bytes':102400,'count':10000,'session':'" ID
		      "','owner':'a/b','lifetime':'ttl','ttl_seconds':9,'request_id':'r 1'} \n",
		      &body),
		0);
	assert_int_equal(body.size_bytes, 102400);
	assert_int_equal(body.count, 10000);
	assert_int_equal(body.ttl_s, 9);
	assert_int_equal(body.lifetime, MAAS_LEND_LIFETIME_TTL);
	assert_string_equal(body.session, ID);
	assert_string_equal(body.owner, "a/b");
	assert_string_equal(body.request_id, "r 1");
}

TEST(json_allocate__lifetimes)
{
	struct maas_http_allocate_body body;

	assert_int_equal(parse("{'size_bytes':1}", &body), 0);
	assert_int_equal(body.lifetime, MAAS_LEND_LIFETIME_DELETE);
	assert_int_equal(body.count, 0);
	assert_int_equal(parse("{'size_bytes':1,'ttl_seconds':5}", &body), 0);
	assert_int_equal(body.lifetime, MAAS_LEND_LIFETIME_TTL);
	assert_int_equal(parse("{'size_bytes':1,'lifetime':'session','session':'" ID "'}", &body),
			 0);
	assert_int_equal(body.lifetime, MAAS_LEND_LIFETIME_SESSION);
}

struct refusal {
	const char *text;
	const char *code;
	const char *says; /* a part of the message */
};

/* What `r` and the fault say of the text. */
static void expect_refused(const struct refusal *refusal, int r)
{
	if (r != -EINVAL || strcmp(fault.code, refusal->code) != 0 ||
	    !strstr(fault.text, refusal->says))
		fail_msg("%s: %d %s %s", refusal->text, r, fault.code, fault.text);
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
		{"{'size_bytes':1,'session':'" ID "','access':'w'}", "bad_field",
		 "\"rw\", \"r\" or \"none\""},
		{"{'size_bytes':1,'session':'" ID "','access':'nones'}", "bad_field", "\"access\""},
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

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(cases); i++) {
		struct maas_http_allocate_body body;

		expect_refused(&cases[i], parse(cases[i].text, &body));
	}
}

TEST(json_allocate__access)
{
	static const struct {
		const char *field;
		enum maas_lend_access access;
	} cases[] = {
		{"", MAAS_LEND_ACCESS_WRITE},
		{",'access':'rw'", MAAS_LEND_ACCESS_WRITE},
		{",'access':'r'", MAAS_LEND_ACCESS_READ},
		{",'access':'none'", MAAS_LEND_ACCESS_NONE},
	};

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(cases); i++) {
		struct maas_http_allocate_body body;

		assert_int_equal(
			parse(http_text("{'size_bytes':1,'session':'" ID "'%s}", cases[i].field),
			      &body),
			0);
		assert_int_equal(body.access, cases[i].access);
	}
}

TEST(json_allocate__length_limits)
{
	static const struct {
		const char *field;
		int most;
	} cases[] = {{"request_id", 127}, {"owner", 63}};
	struct maas_http_allocate_body body;

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(cases); i++)
		for (int len = cases[i].most - 1; len <= cases[i].most + 1; len++)
			assert_int_equal(parse(http_text("{'size_bytes':1,'%s':'%0*d'}",
							 cases[i].field, len, 7),
					       &body),
					 len <= cases[i].most ? 0 : -EINVAL);
}

/* All ids of a body, or the error of the first that is none. */
static int walk_ids(const char *text, size_t len, uint32_t *ret_count,
		    char ret_id[MAAS_SLAB_ID_TEXT])
{
	struct maas_http_element element;
	struct maas_http_list list;
	int r = maas_http_ids_open(&list, text, len, &fault);

	if (!r)
		do
			r = maas_http_ids_next(&list, ret_id, &element, &fault);
		while (r == 1);
	*ret_count = list.count;
	return r;
}

static int walk_text(const char *text, uint32_t *ret_count, char ret_id[MAAS_SLAB_ID_TEXT])
{
	return walk_ids(http_quoted(text), strlen(text), ret_count, ret_id);
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
	char id[MAAS_SLAB_ID_TEXT];
	uint32_t count;

	assert_int_equal(walk_text(" { 'ids' : [ 'a' ,\n'\\u0062' ] } ", &count, id), 0);
	assert_int_equal(count, 2);
	assert_string_equal(id, "b");
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(bad); i++)
		expect_refused(&bad[i], walk_text(bad[i].text, &count, id));
}

TEST(json_ids__too_many)
{
	struct maas_buf text = {0};
	char id[MAAS_SLAB_ID_TEXT];
	uint32_t count;

	maas_buf_str(&text, "{'ids':['a'");
	for (int i = 0; i < 10000; i++)
		maas_buf_str(&text, ",'a'");
	maas_buf_str(&text, "]}");
	maas_buf_add(&text, "", 1);
	assert_int_equal(walk_text(text.data, &count, id), -EINVAL);
	assert_non_null(strstr(fault.text, "10000"));
	maas_buf_fini(&text);
}

/* A string of any length is no id, and costs nothing; a long one that has to be decoded is refused.
 */
TEST(json_ids__long_strings)
{
	char id[MAAS_SLAB_ID_TEXT] = "x";
	uint32_t count;

	assert_int_equal(walk_text(http_text("{'ids':['%037d']}", 7), &count, id), 0);
	assert_string_equal(id, "");
	assert_int_equal(
		walk_text(http_text("{'ids':['%0*d']}", MAAS_HTTP_ELEMENT_BYTES, 7), &count, id),
		-EINVAL);
	assert_non_null(strstr(fault.text, "longer than"));
}

#define PIECE(id, offset, length) "{'id':'" id "','offset':" offset ",'length':" length "}"

static int read_pieces(const char *text, struct maas_http_pieces *ret_pieces)
{
	text = http_quoted(text);
	return maas_http_json_pieces(text, strlen(text), ret_pieces, &fault);
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
	struct maas_http_pieces pieces;

	assert_int_equal(
		read_pieces("{'ranges':[" PIECE("a", "0", "1") "," PIECE("b", "5", "7") "]}",
			    &pieces),
		0);
	assert_int_equal(pieces.count, 2);
	assert_int_equal(pieces.total, 8);
	assert_string_equal(pieces.at[1].id, "b");
	assert_int_equal(pieces.at[1].offset, 5);
	assert_int_equal(pieces.at[1].len, 7);
	free(pieces.at);
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(bad); i++)
		expect_refused(&bad[i], read_pieces(bad[i].text, &pieces));
}

/* ---- what a body costs: less than eight times its size and 1 MiB, whatever its shape */

static struct {
	size_t now;
	size_t most;
} heap;

static void *count_malloc(size_t size)
{
	size_t *at = malloc(size + 16);

	if (!at)
		return NULL;
	*at = size;
	/* About what malloc itself adds to a piece. */
	heap.now += size + 16;
	if (heap.now > heap.most)
		heap.most = heap.now;
	return (char *)at + 16;
}

static void count_free(void *at)
{
	size_t *start = (void *)((char *)at - 16);

	if (!at)
		return;
	heap.now -= *start + 16;
	free(start);
}

/* `unit` over and over, between `before` and `after`, to `len` bytes; freed by the caller. */
static char *fill(const char *before, const char *unit, const char *after, size_t len)
{
	size_t unit_len = strlen(unit);
	size_t after_len = strlen(after);
	char *text = malloc(len + 1);
	size_t used;

	assert_non_null(text);
	used = (size_t)snprintf(text, len + 1, "%s", before);
	for (; used + unit_len + after_len <= len; used += unit_len)
		snprintf(text + used, len + 1 - used, "%s", unit);
	/* The last comma separates nothing. */
	memset(text + used - 1, ' ', len - used + 1);
	snprintf(text + len - after_len, after_len + 1, "%s", after);
	return text;
}

static void expect_cheap(const char *before, const char *unit, const char *after, size_t len)
{
	char *text = fill(before, unit, after, len);
	struct maas_http_pieces pieces = {0};
	char id[MAAS_SLAB_ID_TEXT];
	uint32_t count;
	struct maas_http_allocate_body allocate;

	heap.now = 0;
	heap.most = 0;
	(void)walk_ids(text, len, &count, id);
	if (!maas_http_json_pieces(text, len, &pieces, &fault)) {
		heap.most += pieces.count * sizeof(*pieces.at);
		free(pieces.at);
	}
	if (len <= 8192)
		(void)!maas_http_json_allocate(text, len, &allocate, &fault);
	/* The body itself lies in a buffer of at most twice its length. */
	if (2 * len + heap.most > 8 * len + (1 << 20))
		fail_msg("%zu bytes of %s%s: %zu bytes", len, before, unit, heap.most);
	free(text);
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
