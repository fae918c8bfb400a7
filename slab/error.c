/* SPDX-License-Identifier: Apache-2.0 */
/* The sentence that a failed opening leaves for the operator. No state: any thread. */
#include "slab/internal.h"

int maas_slab_refuse(char *error, int r, const char *fmt, ...)
{
	va_list args;

	if (error) {
		va_start(args, fmt);
		vsnprintf(error, MAAS_SLAB_ERROR, fmt, args);
		va_end(args);
	}
	return r;
}
