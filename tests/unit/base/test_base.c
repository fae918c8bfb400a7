/* SPDX-License-Identifier: Apache-2.0 */
/* Sizes, text buffers, guesses, and text on its way to a person. */
#include "base/base.h"
#include "tests/unit/unit.h"

TEST(size_parse__units)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} cases[] = {{"0", 0},	       {"4096", 4096},	  {"64KiB", 65536}, {"1GiB", 1u << 30},
		     {"512k", 524288}, {"2mb", 2u << 20}, {"7B", 7}};

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(cases); i++) {
		uint64_t bytes = 1;

		assert_int_equal(maas_size_parse(cases[i].text, &bytes), 0);
		assert_int_equal(bytes, cases[i].bytes);
	}
}

TEST(size_parse__refuses)
{
	static const char *const bad[] = {"",	  "-1", "+1", " 1",    "1 ",
					  "1.5G", "G",	"1X", "1KiBs", "0x10"};
	uint64_t bytes = 42;

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(bad); i++)
		assert_int_equal(maas_size_parse(bad[i], &bytes), -EINVAL);
	assert_int_equal(maas_size_parse("9223372036854775808", &bytes), -ERANGE);
	assert_int_equal(maas_size_parse("8388608T", &bytes), -ERANGE);
	assert_int_equal(maas_size_parse("99999999999999999999999", &bytes), -ERANGE);
	assert_int_equal(bytes, 42);
}

TEST(size_format__largest_exact_unit)
{
	char text[MAAS_SIZE_TEXT];

	assert_string_equal(maas_size_format(0, text), "0B");
	assert_string_equal(maas_size_format(1000, text), "1000B");
	assert_string_equal(maas_size_format(512 << 10, text), "512KiB");
	assert_string_equal(maas_size_format(1u << 30, text), "1GiB");
}

static void expect_json(const char *text, const char *json)
{
	struct maas_buf buf = {0};

	maas_buf_json(&buf, text);
	assert_int_equal(buf.error, 0);
	assert_int_equal(buf.len, strlen(json));
	assert_memory_equal(buf.data, json, buf.len);
	maas_buf_fini(&buf);
}

TEST(size_round__for_people)
{
	char text[MAAS_SIZE_TEXT];

	assert_string_equal(maas_size_round(0, text), "0 B");
	assert_string_equal(maas_size_round(1023, text), "1023 B");
	assert_string_equal(maas_size_round(1024, text), "1 KiB");
	assert_string_equal(maas_size_round(1536, text), "1.5 KiB");
	assert_string_equal(maas_size_round((1 << 20) - 1, text), "1.0 MiB");
	assert_string_equal(maas_size_round(5e15, text), "4.4 PiB");
}

TEST(size_human__is_exact)
{
	char text[MAAS_SIZE_TEXT];

	assert_string_equal(maas_size_human(0, text), "0 B");
	assert_string_equal(maas_size_human(1000, text), "1000 B");
	assert_string_equal(maas_size_human(1 << 30, text), "1 GiB");
	assert_string_equal(maas_size_human(1536 << 20, text), "1.5 GiB (1536 MiB)");
	assert_string_equal(maas_size_human(25276510208, text), "23.5 GiB (24684092 KiB)");
	assert_string_equal(maas_size_human((1 << 30) + 1, text), "1.0 GiB (1073741825 B)");
	assert_string_equal(maas_size_human(UINT64_MAX, text),
			    "16384.0 PiB (18446744073709551615 B)");
}

TEST(buf_json__escapes)
{
	expect_json("plain", "\"plain\"");
	expect_json("a\"b\\c\n\t\x01\x7f", "\"a\\\"b\\\\c\\n\\t\\u0001\\u007f\"");
	expect_json("\xc3\xa9", "\"\xc3\xa9\"");
	expect_json("\xff"
		    "a\xc3",
		    "\"\xef\xbf\xbd"
		    "a\xef\xbf\xbd\"");
	expect_json("\xed\xa0\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");
}

TEST(buf_u64__of_each_length)
{
	struct maas_buf buf = {0};
	uint64_t value = 1;

	for (unsigned int digits = 1; digits <= 20; digits++, value *= 10) {
		char want[64];
		int len = snprintf(want, sizeof(want), "%llu|%llu|", (unsigned long long)value,
				   (unsigned long long)value - 1);

		buf.len = 0;
		maas_buf_u64(&buf, value);
		maas_buf_str(&buf, "|");
		maas_buf_u64(&buf, value - 1);
		maas_buf_str(&buf, "|");
		assert_int_equal(buf.len, len);
		assert_memory_equal(buf.data, want, buf.len);
	}
	maas_buf_u64(&buf, UINT64_MAX);
	assert_memory_equal(buf.data + buf.len - 20, "18446744073709551615", 20);
	maas_buf_fini(&buf);
}

TEST(buf__nothing_is_nothing)
{
	struct maas_buf buf = {0};

	maas_buf_add(&buf, NULL, 0);
	maas_buf_str(&buf, "");
	assert_int_equal(buf.len, 0);
	maas_buf_str(&buf, "a");
	buf.error = -ENOMEM;
	maas_buf_str(&buf, "b");
	assert_int_equal(buf.len, 1);
	maas_buf_fini(&buf);
}

TEST(buf__grows)
{
	struct maas_buf buf = {0};

	for (uint64_t i = 0; i < 1000; i++) {
		maas_buf_u64(&buf, i * 1000000007u);
		maas_buf_printf(&buf, "%c", ',');
	}
	assert_int_equal(buf.error, 0);
	assert_memory_equal(buf.data, "0,1000000007,2000000014,", 24);
	assert_null(maas_buf_reserve(&buf, SIZE_MAX - 10));
	assert_int_equal(buf.error, -ENOMEM);
	maas_buf_fini(&buf);
}

static void expect_printable(size_t room, const char *text, const char *wanted)
{
	char printable[129];

	printable[room] = '?';
	assert_int_equal(maas_printable(printable, room, text), strlen(wanted));
	assert_string_equal(printable, wanted);
	assert_int_equal(printable[room], '?');
}

TEST(printable__leaves_nothing_that_steers_a_terminal)
{
	static const char fine[] = "plain: \\ caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80";

	expect_printable(128, "", "");
	expect_printable(128, fine, fine);
	expect_printable(128, "\x1b[2J\r\n\t\x7f", "\\x1b[2J\\x0d\\x0a\\x09\\x7f");
	expect_printable(128, "\xc2\x9b", "\\xc2\\x9b");
	expect_printable(128, "\xe2\x80\xae", "\\xe2\\x80\\xae");
	expect_printable(128, "\xef\xbb\xbf", "\\xef\\xbb\\xbf");
	expect_printable(128, "\xf3\xa0\x81\x81", "\\xf3\\xa0\\x81\\x81");
	expect_printable(128, "\x9b\xff\xc0\x80\xe2\x80", "\\x9b\\xff\\xc0\\x80\\xe2\\x80");
}

TEST(printable__is_cut_between_characters)
{
	expect_printable(6, "abcdefgh", "abcde");
	expect_printable(6, "abcd\xc3\xa9", "abcd");
	expect_printable(6, "ab\x1b", "ab");
	expect_printable(1, "a", "");
}

TEST(guess__what_is_near)
{
	static const char *const names[] = {"max-pool-size", "max-body-size", NULL, "listen",
					    "numa-node",     "get",	      "ls", "alloc"};
	static const struct {
		const char *word;
		size_t index;
	} cases[] = {
		{"max-poolsize", 0}, {"lsiten", 3},	{"numa", 4},	 {"pool-size", 0},
		{"egt", 5},	     {"lst", 6},	{"allocate", 7}, {"size", 8},
		{"max", 8},	     {"frobnicate", 8}, {"", 8},	 {"x", 8},
	};
	char word[200];

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(cases); i++)
		if (maas_guess(cases[i].word, names, MAAS_ARRAY_SIZE(names)) != cases[i].index)
			fail_msg("%s", cases[i].word);
	memset(word, 'l', sizeof(word) - 1);
	word[sizeof(word) - 1] = '\0';
	for (size_t len = sizeof(word) - 1; len > 3; len--, word[len] = '\0')
		assert_int_equal(maas_guess(word, names, MAAS_ARRAY_SIZE(names)),
				 MAAS_ARRAY_SIZE(names));
}

TEST_MAIN(NULL, NULL)
