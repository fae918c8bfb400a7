/* SPDX-License-Identifier: Apache-2.0 */
#include "http/http.h"

int main(void)
{
	return 0;
}
