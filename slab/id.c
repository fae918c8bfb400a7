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

/* The lowest so many digits; returns where the next byte goes. */
static char *write_hex(char *to, uint64_t value, unsigned int digits)
{
	while (digits)
		*to++ = "0123456789abcdef"[value >> 4 * --digits & 15];
	return to;
}

static void write_text(uint64_t high, uint64_t low, char text[MAAS_SLAB_ID_TEXT])
{
	text = write_hex(text, high >> 32, 8);
	*text++ = '-';
	text = write_hex(text, high >> 16, 4);
	*text++ = '-';
	text = write_hex(text, high, 4);
	*text++ = '-';
	text = write_hex(text, low >> 48, 4);
	*text++ = '-';
	*write_hex(text, low, 12) = '\0';
}

/* What a digit stands for, and one; 0: it is none. */
static const unsigned char hex_digits[256] = {
	['0'] = 1,  ['1'] = 2,	['2'] = 3,  ['3'] = 4,	['4'] = 5,  ['5'] = 6,
	['6'] = 7,  ['7'] = 8,	['8'] = 9,  ['9'] = 10, ['a'] = 11, ['b'] = 12,
	['c'] = 13, ['d'] = 14, ['e'] = 15, ['f'] = 16, ['A'] = 11, ['B'] = 12,
	['C'] = 13, ['D'] = 14, ['E'] = 15, ['F'] = 16,
};

/* So many digits, behind those of `value`, and then `end`. Returns what follows, or NULL. */
static const char *read_hex(const char *text, unsigned int digits, char end, uint64_t *value)
{
	uint64_t read = *value;

	while (digits--) {
		unsigned int digit = hex_digits[(unsigned char)*text++];

		if (!digit)
			return NULL;
		read = read << 4 | (digit - 1);
	}
	*value = read;
	return *text == end ? text + 1 : NULL;
}

static int read_text(const char *text, uint64_t half[2])
{
	half[0] = 0;
	half[1] = 0;
	if (!(text = read_hex(text, 8, '-', &half[0])) ||
	    !(text = read_hex(text, 4, '-', &half[0])) ||
	    !(text = read_hex(text, 4, '-', &half[0])) ||
	    !(text = read_hex(text, 4, '-', &half[1])) || !read_hex(text, 12, '\0', &half[1]))
		return -ENOENT;
	return 0;
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
