/* SPDX-License-Identifier: Apache-2.0 */
/* The one function of a fuzz target (https://llvm.org/docs/LibFuzzer.html). */
#ifndef MAAS_TESTS_FUZZ_H
#define MAAS_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
