/* SPDX-License-Identifier: Apache-2.0 */
/* Options of libmaas in one line: OPTIONS(.timeout_ms = 300). They live as long as their block. */
#ifndef MAAS_TESTS_UNIT_CLIENT_OPTIONS_H
#define MAAS_TESTS_UNIT_CLIENT_OPTIONS_H

#include "client/maas.h"

#define OPTIONS(...)                                                                               \
	(&(const struct maas_options){.size = sizeof(struct maas_options), __VA_ARGS__})
#define ALLOC_OPTIONS(...)                                                                         \
	(&(const struct maas_alloc_options){.size = sizeof(struct maas_alloc_options), __VA_ARGS__})

#endif
