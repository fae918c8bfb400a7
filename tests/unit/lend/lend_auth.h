/* SPDX-License-Identifier: Apache-2.0 */
/* Calls of principals: the table of who may what, and a caller by name. */
#ifndef MAAS_TESTS_UNIT_LEND_AUTH_H
#define MAAS_TESTS_UNIT_LEND_AUTH_H

#include "tests/unit/lend/lend_fixture.h"

static struct maas_auth *table;

static inline struct maas_lend_caller caller(const char *name)
{
	return (struct maas_lend_caller){table, maas_lend_auth_epoch(f.lend),
					 maas_auth_by_name(table, name), 0};
}

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

static inline void table_end(void)
{
	maas_auth_unref(table);
	table = NULL;
}

#endif
