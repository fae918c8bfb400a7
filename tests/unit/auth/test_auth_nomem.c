/* SPDX-License-Identifier: Apache-2.0 */
/* The n-th request for memory fails, for every n: an error, and nothing is lost. */
#include "auth/auth.h"
#include "tests/fake/fail_nth.h"
#include "tests/unit/unit.h"

TEST(parse__fails_clean)
{
	static const char text[] = "a uid=1 uid=2 gid=3 cert=a.example owner=x,y,z read=*\n"
				   "b uid=4 owner=b max-bytes=1GiB\n";
	bool fired = true;
	long nth;

	for (nth = 1; fired; nth++) {
		long blocks = fail_nth_blocks();
		struct maas_auth *auth = NULL;
		char error[MAAS_AUTH_ERROR];
		int r;

		fail_nth_arm(nth);
		r = maas_auth_parse(text, sizeof(text) - 1, error, &auth);
		fired = fail_nth_disarm();
		assert_int_equal(r, fired ? -ENOMEM : 0);
		assert_int_equal(auth != NULL, !fired);
		maas_auth_unref(auth);
		assert_int_equal(fail_nth_blocks(), blocks);
	}
	assert_true(nth > 6);
}

TEST_MAIN(NULL, NULL)
