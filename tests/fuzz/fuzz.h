/* SPDX-License-Identifier: Apache-2.0 */
/* The one function of a fuzz target (https://llvm.org/docs/LibFuzzer.html), and its assertion. */
#ifndef MAAS_TESTS_FUZZ_H
#define MAAS_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#define REQUIRE(condition) ((condition) ? (void)0 : abort())

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
