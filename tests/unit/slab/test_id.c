/* SPDX-License-Identifier: Apache-2.0 */
/* Ids: a UUID of version 8 that nobody can guess, alter or use after its slab's life. */
#include "tests/unit/slab/slab_fixture.h"

#include <ctype.h>

#include "tests/counts.h"
#include "tests/random.h"

static struct maas_slab_id_key key_random(void)
{
	struct maas_slab_id_key key;

	maas_slab_id_key_random(&key);
	return key;
}

static void expect_unknown(const struct maas_slab_id_key *key, const char *text)
{
	uint32_t index = 12345, generation = 67890;

	if (maas_slab_id_decode(key, text, &index, &generation) != -ENOENT)
		fail_msg("\"%s\" decodes to %u, %u", text, index, generation);
	assert_int_equal(index, 12345);
	assert_int_equal(generation, 67890);
}

static void expect_decodes(const struct maas_slab_id_key *key, const char *text, uint32_t index,
			   uint32_t generation)
{
	uint32_t got_index = ~index, got_generation = ~generation;

	assert_int_equal(maas_slab_id_decode(key, text, &got_index, &got_generation), 0);
	assert_int_equal(got_index, index);
	assert_int_equal(got_generation, generation);
}

TEST(id__round_trip)
{
	static const uint32_t edges[] = {0, 1, 2, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff};
	struct maas_slab_id_key key = key_random();
	uint64_t random = maas_test_seed_told();
	char text[MAAS_SLAB_ID_TEXT];

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(edges); i++) {
		for (size_t j = 0; j < MAAS_ARRAY_SIZE(edges); j++) {
			maas_slab_id_encode(&key, edges[i], edges[j], text);
			expect_decodes(&key, text, edges[i], edges[j]);
		}
	}
	for (uint64_t i = 0; i < count_id_guesses(); i++) {
		uint64_t bits = test_random(&random);

		maas_slab_id_encode(&key, (uint32_t)bits, (uint32_t)(bits >> 32), text);
		expect_decodes(&key, text, (uint32_t)bits, (uint32_t)(bits >> 32));
	}
}

TEST(id__text_is_a_uuid_of_version_8)
{
	uint64_t random = maas_test_seed_told();

	for (uint64_t i = 0; i < count_id_keys(); i++) {
		struct maas_slab_id_key key = key_random();
		uint64_t bits = test_random(&random);
		char text[MAAS_SLAB_ID_TEXT + 1];

		text[MAAS_SLAB_ID_TEXT] = '!';
		maas_slab_id_encode(&key, (uint32_t)bits, (uint32_t)(bits >> 32), text);
		assert_int_equal(text[MAAS_SLAB_ID_TEXT], '!');
		assert_int_equal(strlen(text), MAAS_SLAB_ID_TEXT - 1);
		for (int c = 0; c < MAAS_SLAB_ID_TEXT - 1; c++) {
			if (c == 8 || c == 13 || c == 18 || c == 23)
				assert_int_equal(text[c], '-');
			else
				assert_true(strchr("0123456789abcdef", text[c]) != NULL);
		}
		assert_int_equal(text[14], '8');	       /* version, RFC 9562 4.2 */
		assert_true(strchr("89ab", text[19]) != NULL); /* variant, RFC 9562 4.1 */
	}
}

TEST(id__upper_case_is_accepted)
{
	struct maas_slab_id_key key = key_random();
	char text[MAAS_SLAB_ID_TEXT];

	maas_slab_id_encode(&key, 0xabcdef01, 0xfedcba98, text);
	for (size_t i = 0; text[i]; i += 2)
		text[i] = (char)toupper(text[i]);
	expect_decodes(&key, text, 0xabcdef01, 0xfedcba98);
	for (size_t i = 0; text[i]; i++)
		text[i] = (char)toupper(text[i]);
	expect_decodes(&key, text, 0xabcdef01, 0xfedcba98);
}

TEST(id__every_altered_character_is_unknown)
{
	uint64_t random = maas_test_seed_told();

	for (uint64_t i = 0; i < count_id_keys(); i++) {
		struct maas_slab_id_key key = key_random();
		uint64_t bits = i ? test_random(&random) : 0;
		char text[MAAS_SLAB_ID_TEXT];

		maas_slab_id_encode(&key, (uint32_t)bits, (uint32_t)(bits >> 32), text);
		for (size_t c = 0; c < MAAS_SLAB_ID_TEXT - 1; c++) {
			char right = text[c];

			for (int value = 0; value < 256; value++) {
				if (tolower(value) == right)
					continue;
				text[c] = (char)value;
				expect_unknown(&key, text);
			}
			text[c] = right;
		}
		expect_decodes(&key, text, (uint32_t)bits, (uint32_t)(bits >> 32));
	}
}

TEST(id__wrong_length_is_unknown)
{
	static const char *const around[][2] = {
		{"", "0"}, {"", "\n"}, {" ", ""}, {"{", "}"}, {"urn:uuid:", ""}};
	struct maas_slab_id_key key = key_random();
	char text[MAAS_SLAB_ID_TEXT], longer[128], shorter[MAAS_SLAB_ID_TEXT];

	maas_slab_id_encode(&key, 42, 43, text);
	for (size_t len = 0; len < MAAS_SLAB_ID_TEXT - 1; len++) {
		char *exact = strndup(text, len); /* exact, so that ASan sees a read past its end */

		assert_non_null(exact);
		expect_unknown(&key, exact);
		free(exact);
		snprintf(shorter, sizeof(shorter), "%s", text + 1 + len);
		expect_unknown(&key, shorter);
	}
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(around); i++) {
		snprintf(longer, sizeof(longer), "%s%s%s", around[i][0], text, around[i][1]);
		expect_unknown(&key, longer);
	}
	snprintf(longer, sizeof(longer), "%s%s", text, text);
	expect_unknown(&key, longer);
	snprintf(longer, sizeof(longer), "%.8s%.4s%.4s%.4s%.12s", text, text + 9, text + 14,
		 text + 19, text + 24);
	expect_unknown(&key, longer);
}

TEST(id__another_key_does_not_decode)
{
	uint64_t random = maas_test_seed_told();

	for (uint64_t i = 0; i < count_id_keys(); i++) {
		struct maas_slab_id_key key = key_random();
		uint32_t bits = (uint32_t)test_random(&random);
		char text[MAAS_SLAB_ID_TEXT];

		maas_slab_id_encode(&key, bits, bits >> 7, text);
		for (size_t bit = 0; bit < 8 * sizeof(key); bit++) {
			struct maas_slab_id_key other = key;

			other.bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
			expect_unknown(&other, text);
		}
	}
}

TEST(id__guesses_are_unknown)
{
	struct maas_slab_id_key key = key_random();
	uint64_t random = maas_test_seed_told();
	char text[MAAS_SLAB_ID_TEXT];

	for (uint64_t i = 0; i < count_id_guesses(); i++) {
		uint64_t a = test_random(&random), b = test_random(&random);

		snprintf(text, sizeof(text), "%08x-%04x-8%03x-%c%03x-%012llx", (unsigned int)a,
			 (unsigned int)(a >> 32) & 0xffff, (unsigned int)(a >> 48) & 0xfff,
			 "89ab"[a >> 60 & 3], (unsigned int)b & 0xfff,
			 (unsigned long long)(b >> 16));
		expect_unknown(&key, text);
	}
	expect_unknown(&key, "00000000-0000-0000-0000-000000000000");
	expect_unknown(&key, "00000000-0000-8000-8000-000000000000");
	expect_unknown(&key, "ffffffff-ffff-ffff-ffff-ffffffffffff");
	expect_unknown(&key, "------------------------------------");
}

TEST(ref__generation_never_repeats)
{
	struct maas_slab *slab = POOL(4096, 4096, 4096);
	struct maas_slab_ref last = pool_alloc(slab, 1);

	for (uint64_t i = 0; i < count_slab_generations(); i++) {
		struct maas_slab_ref ref;

		pool_free(slab, last);
		ref = pool_alloc(slab, 1);
		assert_int_equal(ref.slot, last.slot);
		assert_int_equal(ref.generation, last.generation + 1);
		assert_int_equal(pool_try_get(slab, last), -ENOENT);
		last = ref;
	}
}

/* A slot's generation outlives its extent's class: slots are not shared by two ids ever. */
TEST(ref__never_repeats_across_classes)
{
	struct maas_slab *slab = POOL(4096, 4096, 64, 1024, 4096);
	static const uint64_t sizes[] = {64, 4096, 1024};
	uint32_t highest[64] = {0};
	bool is_seen[64] = {false};
	struct maas_slab_ref refs[64];

	for (int round = 0; round < 300; round++) {
		uint64_t size = sizes[round % 3];

		for (uint64_t i = 0; i < 4096 / size; i++) {
			refs[i] = pool_alloc(slab, size);
			assert_in_range(refs[i].slot, 0, 63);
			assert_true(!is_seen[refs[i].slot] ||
				    refs[i].generation > highest[refs[i].slot]);
			is_seen[refs[i].slot] = true;
			highest[refs[i].slot] = refs[i].generation;
		}
		for (uint64_t i = 0; i < 4096 / size; i++)
			pool_free(slab, refs[i]);
	}
}

TEST_MAIN(NULL, pools_close)
