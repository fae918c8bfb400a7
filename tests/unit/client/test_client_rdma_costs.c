/* SPDX-License-Identifier: Apache-2.0 */
/* What a transfer costs once all is warm: work requests, doorbells, memory, locks, system calls. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "client/maas.h"
#include "tests/fake/costs.h"
#include "tests/unit/client/rdma_lan.h"

#define RANGES 100
#define PIECE  4096u

struct scene {
	struct maas *maas;
	struct maas_allocation memory;
	struct maas_buffer *buffer;
	char *bytes;
	char *plain; /* not registered */
};

static void begin(struct scene *scene)
{
	const struct maas_options options = {
		.size = sizeof(options),
		.transport = MAAS_TRANSPORT_RDMA,
		.url = lan_url(),
	};

	memset(scene, 0, sizeof(*scene));
	if (maas_open(&options, &scene->maas) ||
	    maas_alloc(scene->maas, LAN_LARGEST, NULL, &scene->memory))
		fail_msg("%s", maas_error());
	scene->bytes = calloc(1, LAN_LARGEST);
	scene->plain = calloc(1, LAN_LARGEST);
	if (maas_buffer_register(scene->maas, scene->bytes, LAN_LARGEST, &scene->buffer))
		fail_msg("%s", maas_error());
	/* The first use of a path may make what is kept. */
	assert_int_equal(maas_write(scene->maas, scene->memory.id, 0, scene->bytes, 1), 0);
}

static void end(struct scene *scene)
{
	assert_int_equal(maas_buffer_unregister(scene->maas, scene->buffer), 0);
	maas_close(scene->maas);
	free(scene->bytes);
	free(scene->plain);
}

static struct fake_counts before;

static void measure(void)
{
	fake_counts(&before);
	costs_begin();
}

/* One doorbell, one signalled completion, no memory, no lock twice, no system call. */
static void expect(unsigned long requests, unsigned long inlined)
{
	struct costs costs = costs_end();
	struct fake_counts after;

	fake_counts(&after);
	assert_int_equal(after.doorbells - before.doorbells, 1);
	assert_int_equal(after.requests - before.requests, requests);
	assert_int_equal(after.signalled - before.signalled, 1);
	assert_int_equal(after.inlined - before.inlined, inlined);
	assert_int_equal(costs.memory, 0);
	assert_int_equal(costs.repeated, 0);
	assert_in_range(costs.locks, 1, 1);
	assert_int_equal(costs.calls, 0);
}

static void one__of_a_registered_buffer(void **state)
{
	static const size_t sizes[] = {1024, PIECE, 65536, LAN_LARGEST};
	struct scene scene;

	(void)state;
	lan_open(NULL, "auto");
	begin(&scene);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		memset(scene.bytes, (int)i + 1, sizes[i]);
		measure();
		assert_int_equal(maas_write(scene.maas, scene.memory.id, 0, scene.bytes, sizes[i]),
				 0);
		expect(1, 0);
		memset(scene.bytes, 0, sizes[i]);
		measure();
		assert_int_equal(maas_read(scene.maas, scene.memory.id, 0, scene.bytes, sizes[i]),
				 0);
		expect(1, 0);
		assert_int_equal(scene.bytes[0], (char)(i + 1));
		assert_int_equal(scene.bytes[sizes[i] - 1], (char)(i + 1));
	}
	end(&scene);
	lan_close();
}

static void one__that_is_inline(void **state)
{
	struct scene scene;

	(void)state;
	lan_open(NULL, "auto");
	begin(&scene);
	memset(scene.plain, 'i', 96);
	measure();
	assert_int_equal(maas_write(scene.maas, scene.memory.id, 8, scene.plain, 96), 0);
	expect(1, 1);
	assert_int_equal(maas_read(scene.maas, scene.memory.id, 0, scene.bytes, 128), 0);
	assert_int_equal(scene.bytes[7], 0);
	assert_int_equal(scene.bytes[8], 'i');
	assert_int_equal(scene.bytes[103], 'i');
	assert_int_equal(scene.bytes[104], 0);
	end(&scene);
	lan_close();
}

static void one__that_is_copied(void **state)
{
	static const size_t sizes[] = {97, PIECE, 65536};
	struct scene scene;

	(void)state;
	lan_open(NULL, "auto");
	begin(&scene);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		memset(scene.plain, (int)i + 1, sizes[i]);
		measure();
		assert_int_equal(maas_write(scene.maas, scene.memory.id, 0, scene.plain, sizes[i]),
				 0);
		expect(1, 0);
		memset(scene.plain, 0, sizes[i]);
		measure();
		assert_int_equal(maas_read(scene.maas, scene.memory.id, 0, scene.plain, sizes[i]),
				 0);
		expect(1, 0);
		assert_int_equal(scene.plain[0], (char)(i + 1));
		assert_int_equal(scene.plain[sizes[i] - 1], (char)(i + 1));
	}
	end(&scene);
	lan_close();
}

static void batch__of_many_ranges(void **state)
{
	struct maas_range ranges[RANGES];
	struct scene scene;

	(void)state;
	lan_open(NULL, "auto");
	begin(&scene);
	for (unsigned int i = 0; i < RANGES; i++) {
		memset(&scene.bytes[i * 1024ul], (int)i + 1, 1024);
		ranges[i] = (struct maas_range){scene.memory.id, i * 2048ull,
						&scene.bytes[i * 1024ul], 1024};
	}
	/* Memory for so many ranges is kept from the first time on. */
	assert_int_equal(maas_writev(scene.maas, ranges, RANGES), 0);
	measure();
	assert_int_equal(maas_writev(scene.maas, ranges, RANGES), 0);
	expect(RANGES, 0);
	memset(scene.bytes, 0, RANGES * 1024ul);
	measure();
	assert_int_equal(maas_readv(scene.maas, ranges, RANGES), 0);
	expect(RANGES, 0);
	for (int i = 0; i < RANGES * 1024; i++)
		assert_int_equal(scene.bytes[i], (char)(i / 1024 + 1));
	end(&scene);
	lan_close();
}

static void one__larger_than_a_message(void **state)
{
	struct fake_rules rules = fake_rules_default();
	struct scene scene;

	(void)state;
	rules.max_msg_sz = PIECE;
	lan_open(&rules, "auto");
	begin(&scene);
	for (size_t i = 0; i < 65536; i++)
		scene.bytes[i] = (char)(i / PIECE + i);
	/* Memory for so many pieces is kept from the first time on. */
	assert_int_equal(maas_write(scene.maas, scene.memory.id, 0, scene.bytes, 65536), 0);
	measure();
	assert_int_equal(maas_write(scene.maas, scene.memory.id, 0, scene.bytes, 65536), 0);
	expect(65536 / PIECE, 0);
	memcpy(scene.plain, scene.bytes, 65536);
	memset(scene.bytes, 0, 65536);
	measure();
	assert_int_equal(maas_read(scene.maas, scene.memory.id, 0, scene.bytes, 65536), 0);
	expect(65536 / PIECE, 0);
	assert_memory_equal(scene.bytes, scene.plain, 65536);
	/* Copied, the pieces are as small. */
	assert_int_equal(maas_write(scene.maas, scene.memory.id, 1, scene.plain, 65536), 0);
	assert_int_equal(maas_read(scene.maas, scene.memory.id, 1, scene.bytes, 65536), 0);
	assert_memory_equal(scene.bytes, scene.plain, 65536);
	end(&scene);
	lan_close();
}

static void one__larger_than_is_copied(void **state)
{
	struct fake_live first;
	struct fake_live last;
	struct scene scene;

	(void)state;
	lan_open(NULL, "auto");
	begin(&scene);
	fake_live(&first);
	memset(scene.plain, 'p', LAN_LARGEST);
	assert_int_equal(maas_write(scene.maas, scene.memory.id, 0, scene.plain, LAN_LARGEST), 0);
	assert_int_equal(maas_read(scene.maas, scene.memory.id, 0, scene.bytes, LAN_LARGEST), 0);
	assert_memory_equal(scene.bytes, scene.plain, LAN_LARGEST);
	fake_live(&last);
	assert_int_equal(first.mrs, last.mrs);
	end(&scene);
	lan_close();
}

static void submitted__one_doorbell_each(void **state)
{
	struct maas_completion completion;
	struct scene scene;

	(void)state;
	lan_open(NULL, "auto");
	begin(&scene);
	for (int i = 0; i < 3; i++) {
		struct maas_range range = {scene.memory.id, 0, scene.bytes, PIECE};

		measure();
		assert_int_equal(maas_submit_write(scene.maas, &range, 1, 0, &scene), 0);
		expect(1, 0);
		assert_int_equal(maas_poll(scene.maas, &completion, 1, 10000), 1);
		assert_int_equal(completion.status, 0);
		assert_ptr_equal(completion.user, &scene);
	}
	end(&scene);
	lan_close();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one__of_a_registered_buffer),
		cmocka_unit_test(one__that_is_inline),
		cmocka_unit_test(one__that_is_copied),
		cmocka_unit_test(batch__of_many_ranges),
		cmocka_unit_test(one__larger_than_a_message),
		cmocka_unit_test(one__larger_than_is_copied),
		cmocka_unit_test(submitted__one_doorbell_each),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
