/* SPDX-License-Identifier: Apache-2.0 */
/* Calls of principals: the table of who may what, a caller by name, and what it uses. */
#ifndef MAAS_TESTS_UNIT_LEND_AUTH_H
#define MAAS_TESTS_UNIT_LEND_AUTH_H

#include "tests/unit/lend/lend_fixture.h"

static struct maas_auth *table;

static inline struct maas_lend_caller caller(const char *name)
{
	return (struct maas_lend_caller){table, maas_lend_auth_epoch(f.lend),
					 maas_auth_by_name(table, name), 0};
}

/* For one call. */
#define BY(name) ((const struct maas_lend_caller[]){caller(name)})

/* The same, by what proves it. */
static inline struct maas_lend_caller caller_by_uid(uid_t uid)
{
	struct maas_lend_caller as = {table, maas_lend_auth_epoch(f.lend), NULL, 0};

	as.principal = maas_auth_by_peer(table, uid, UINT32_MAX, &as.proof);
	assert_non_null(as.principal);
	return as;
}

/* From now on this table counts. */
static inline void use(const char *text)
{
	struct maas_auth *before = table;
	char error[MAAS_AUTH_ERROR];

	if (maas_auth_parse(text, strlen(text), error, &table))
		fail_msg("%s", error);
	assert_int_equal(maas_lend_set_auth(f.lend, table), 0);
	maas_auth_unref(before);
}

static inline int free_by(const struct maas_lend_caller *as, const struct maas_lend_allocation *a)
{
	return maas_lend_free(f.lend, as, a->id, NULL, NULL);
}

/* All that it uses of its quotas, such as "bytes 128, allocations 2, owners 1". */
static inline void expect_usage(const struct maas_lend_usage *usage, const char *wanted)
{
	struct figure figures[MAAS_AUTH_NUM_QUOTAS];

	for (int i = 0; i < MAAS_AUTH_NUM_QUOTAS; i++)
		figures[i] = (struct figure){maas_auth_quota_name((enum maas_auth_quota)i),
					     usage->used[i]};
	expect_figures(figures, MAAS_AUTH_NUM_QUOTAS, wanted);
}

static inline void expect_used(const char *name, const char *wanted)
{
	struct maas_lend_usage usage;

	assert_true(maas_lend_usage(f.lend, name, &usage));
	expect_usage(&usage, wanted);
}

static inline void table_end(void)
{
	maas_auth_unref(table);
	table = NULL;
}

#endif
