/* SPDX-License-Identifier: Apache-2.0 */
/* Ids: a slot and its generation as a UUID that cannot be guessed. No state: any thread. */
#include <errno.h>
#include <sodium.h>
#include <string.h>

#include "slab/internal.h"

/*
 * 128 bits, as RFC 9562 numbers them:
 *
 *   index 32 | generation 16 | 8 (version) | generation 12 | 2 (variant) | generation 4 | MAC 58
 */
#define VERSION	 0x8000ull
#define VARIANT	 (2ull << 62)
#define MAC_BITS 58
#define MAC_MASK ((1ull << MAC_BITS) - 1)

static_assert(MAAS_SLAB_ID_KEY_BYTES == crypto_shorthash_KEYBYTES, "the key is SipHash-2-4's");

static uint64_t mac(const struct maas_slab_id_key *key, uint32_t index, uint32_t generation)
{
	unsigned char in[8];
	unsigned char out[crypto_shorthash_BYTES];
	uint64_t value = 0;

	for (unsigned int i = 0; i < 4; i++) {
		in[i] = (unsigned char)(index >> 8 * i);
		in[i + 4] = (unsigned char)(generation >> 8 * i);
	}
	crypto_shorthash(out, in, sizeof(in), key->bytes);
	for (unsigned int i = 0; i < sizeof(out); i++)
		value |= (uint64_t)out[i] << 8 * i;
	return value & MAC_MASK;
}

static bool hyphen_at(unsigned int place)
{
	return place == 8 || place == 13 || place == 18 || place == 23;
}

static void write_text(uint64_t high, uint64_t low, char text[MAAS_SLAB_ID_TEXT])
{
	unsigned int digit = 0;

	for (unsigned int i = 0; i < MAAS_SLAB_ID_TEXT - 1; i++) {
		uint64_t half = digit < 16 ? high : low;

		if (hyphen_at(i))
			text[i] = '-';
		else
			text[i] = "0123456789abcdef"[half >> (60 - 4 * (digit++ & 15)) & 15];
	}
	text[MAAS_SLAB_ID_TEXT - 1] = '\0';
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int read_text(const char *text, uint64_t half[2])
{
	unsigned int digit = 0;

	half[0] = 0;
	half[1] = 0;
	for (unsigned int i = 0; i < MAAS_SLAB_ID_TEXT - 1; i++) {
		int value = hex_digit(text[i]);

		if (hyphen_at(i) ? text[i] != '-' : value < 0)
			return -ENOENT;
		if (value < 0)
			continue;
		half[digit / 16] = half[digit / 16] << 4 | (unsigned int)value;
		digit++;
	}
	return text[MAAS_SLAB_ID_TEXT - 1] ? -ENOENT : 0;
}

void maas_slab_id_key_random(struct maas_slab_id_key *ret_key)
{
	randombytes_buf(ret_key->bytes, sizeof(ret_key->bytes));
}

void maas_slab_id_random(char text[MAAS_SLAB_ID_TEXT])
{
	uint64_t half[2];

	randombytes_buf(half, sizeof(half));
	write_text((half[0] & ~0xf000ull) | 0x4000, (half[1] & ~(3ull << 62)) | VARIANT, text);
}

bool maas_slab_id_is_text(const char text[MAAS_SLAB_ID_TEXT])
{
	uint64_t half[2];

	return !read_text(text, half);
}

void maas_slab_id_encode(const struct maas_slab_id_key *key, uint32_t index, uint32_t generation,
			 char text[MAAS_SLAB_ID_TEXT])
{
	uint64_t high = (uint64_t)index << 32 | (uint64_t)(generation >> 16) << 16 | VERSION |
			(generation >> 4 & 0xfff);
	uint64_t low =
		VARIANT | (uint64_t)(generation & 0xf) << MAC_BITS | mac(key, index, generation);

	write_text(high, low, text);
}

int maas_slab_id_decode(const struct maas_slab_id_key *key, const char *text, uint32_t *ret_index,
			uint32_t *ret_generation)
{
	uint64_t half[2];
	uint32_t index;
	uint32_t generation;
	int r;

	r = read_text(text, half);
	if (r)
		return r;
	if ((half[0] & 0xf000) != VERSION || half[1] >> 62 != VARIANT >> 62)
		return -ENOENT;
	index = (uint32_t)(half[0] >> 32);
	generation = (uint32_t)(half[0] >> 16 << 16 | (half[0] & 0xfff) << 4 |
				(half[1] >> MAC_BITS & 0xf));
	if ((half[1] & MAC_MASK) != mac(key, index, generation))
		return -ENOENT;
	*ret_index = index;
	*ret_generation = generation;
	return 0;
}
