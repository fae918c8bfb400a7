/* SPDX-License-Identifier: Apache-2.0 */
/* The file of principals: what a line means, what is refused and how, and what a table answers. */
#include <sys/stat.h>
#include <unistd.h>

#include "auth/auth.h"
#include "tests/unit/unit.h"

#define A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
/* Of the token mt_x. */
#define MT_X "sha256:609c5ed8f5f871cb85bfee25264c733f3cdca44d1e374502750f157710b25bfe"

static char error[MAAS_AUTH_ERROR];

static struct maas_auth *tables[4]; /* of a case, which end with it */

static struct maas_auth *__attribute__((format(printf, 1, 2))) parse(const char *format, ...)
{
	struct maas_auth **auth = tables;
	char text[512];
	va_list args;

	va_start(args, format);
	assert_in_range(vsnprintf(text, sizeof(text), format, args), 0, sizeof(text) - 1);
	va_end(args);
	while (*auth)
		auth++;
	assert_true(auth < tables + MAAS_ARRAY_SIZE(tables));
	if (maas_auth_parse(text, strlen(text), error, auth))
		fail_msg("%s", error);
	return *auth;
}

static void end_tables(void)
{
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(tables); i++)
		maas_auth_unref(tables[i]);
	memset(tables, 0, sizeof(tables));
}

static void assert_refused(const char *text, const char *why)
{
	struct maas_auth *auth = NULL;

	assert_int_equal(maas_auth_parse(text, strlen(text), error, &auth), -EINVAL);
	assert_null(auth);
	if (!strstr(error, why))
		fail_msg("'%s' says '%s', not '%s'", text, error, why);
}

/* What a principal may do with the memory of `owner`. */
static const char *may(const struct maas_auth *auth, const char *name, const char *owner)
{
	const struct maas_auth_principal *principal = maas_auth_by_name(auth, name);
	bool read = maas_auth_may(auth, principal, owner, MAAS_AUTH_READ);

	if (maas_auth_may(auth, principal, owner, MAAS_AUTH_OWN))
		return read ? "own" : "not even read";
	return read ? "read" : "nothing";
}

static const struct maas_auth_principal *find(const struct maas_auth *auth, const char *token)
{
	struct maas_auth_known known = {0};

	return maas_auth_by_token(auth, token, strlen(token), &known);
}

static uint64_t proof; /* of the last peer that was asked for */

TEST(empty__whoever_proves_nothing_may_nothing)
{
	struct maas_auth *auth = parse("# nobody\n\n");
	const struct maas_auth_principal *anonymous = maas_auth_anonymous(auth);

	assert_string_equal(anonymous->name, "*");
	assert_int_equal(anonymous->rights, 0);
	assert_int_equal(anonymous->quota[MAAS_AUTH_SESSIONS], 0);
	assert_false(maas_auth_may(auth, anonymous, "x", MAAS_AUTH_READ));
	assert_null(find(auth, ""));
	assert_null(maas_auth_by_peer(auth, 0, 0, &proof));
}

TEST(line__has_its_own_name_once)
{
	static const char *const words[] = {"x", "x,a", "a*,x"};
	static const uint32_t counts[] = {2, 2, 3};

	for (int i = 0; i < 3; i++) {
		struct maas_auth *auth = parse("a uid=1 read=a owner=%s", words[i]);

		assert_int_equal(maas_auth_by_name(auth, "a")->num_patterns, counts[i] + 1);
		assert_string_equal(may(auth, "a", "a"), "own");
	}
}

TEST(line__has_proofs_rights_and_quotas)
{
	struct maas_auth *auth =
		parse("* - health\r\n"
		      "a  token=sha256:" A " token=sha256:" B " owner=x,y:* read=z "
		      "max-bytes=2GiB max-sessions=8 # why\n"
		      "\tops uid=0 gid=27 admin metrics");
	const struct maas_auth_principal *a = maas_auth_by_name(auth, "a");
	const struct maas_auth_principal *ops = maas_auth_by_name(auth, "ops");

	assert_int_equal(maas_auth_anonymous(auth)->rights, MAAS_AUTH_HEALTH);
	assert_int_equal(a->line, 2);
	assert_true(a->owns);
	assert_int_equal(a->quota[MAAS_AUTH_BYTES], 2LL << 30);
	assert_int_equal(a->quota[MAAS_AUTH_SESSIONS], 8);
	assert_int_equal(a->quota[MAAS_AUTH_OWNERS], MAAS_AUTH_MAX_OWNERS);
	assert_int_equal(a->quota[MAAS_AUTH_ALLOCATIONS], MAAS_AUTH_UNLIMITED);
	assert_int_equal(ops->rights, MAAS_AUTH_ADMIN | MAAS_AUTH_METRICS);
	assert_ptr_equal(maas_auth_by_peer(auth, 0, 5, &proof), ops);
	assert_ptr_equal(maas_auth_by_peer(auth, 9, 27, &proof), ops);
	assert_null(maas_auth_by_peer(auth, 27, 9, &proof));
	assert_ptr_equal(maas_auth_at(auth, 1), a);
	assert_null(maas_auth_at(auth, 3));
	assert_null(maas_auth_by_name(auth, "b"));
}

TEST(cert__is_found_by_its_name_exactly)
{
	struct maas_auth *auth = parse("a cert=Prom-A.example cert=spiffe://x/A owner=a\n"
				       "b cert=b.example uid=1 owner=b");
	const struct maas_auth_principal *a = maas_auth_at(auth, 0);

	assert_ptr_equal(maas_auth_by_cert(auth, false, "prom-a.EXAMPLE", &proof), a);
	assert_ptr_equal(maas_auth_by_cert(auth, true, "spiffe://x/A", &proof), a);
	assert_ptr_equal(maas_auth_by_cert(auth, false, "b.example", &proof),
			 maas_auth_at(auth, 1));
	assert_null(maas_auth_by_cert(auth, true, "spiffe://x/a", &proof));
	assert_null(maas_auth_by_cert(auth, true, "prom-a.example", &proof));
	assert_null(maas_auth_by_cert(auth, false, "x.prom-a.example", &proof));
	assert_null(maas_auth_by_cert(auth, false, "*.example", &proof));
	assert_null(maas_auth_by_cert(auth, false, "b.example.", &proof));
	assert_null(maas_auth_by_cert(auth, false, "", &proof));
}

TEST(token__is_found_by_the_hash_of_all_of_it)
{
	char token[MAAS_AUTH_TOKEN], other[MAAS_AUTH_TOKEN], hash[MAAS_AUTH_HASH];
	struct maas_auth_known known = {0};
	struct maas_auth *auth;

	assert_int_equal(maas_auth_token_make(token), 0);
	assert_int_equal(maas_auth_token_make(other), 0);
	assert_string_not_equal(token, other);
	assert_memory_equal(token, "mt_", 3);
	assert_int_equal(strlen(token), MAAS_AUTH_TOKEN - 1);
	maas_auth_token_hash(token, strlen(token), hash);
	auth = parse("a token=%s owner=a\nb token=sha256:" A " owner=b", hash);
	assert_ptr_equal(find(auth, token), maas_auth_at(auth, 0));
	assert_null(maas_auth_by_token(auth, token, strlen(token) - 1, &known));
	assert_null(find(auth, other));

	/* As sha256sum says it. */
	maas_auth_token_hash("mt_x", 4, hash);
	assert_string_equal(hash, MT_X);
}

static char tokens[2][MAAS_AUTH_TOKEN]; /* a's and b's */

static struct maas_auth *parse_tokens(void)
{
	char hashes[2][MAAS_AUTH_HASH];

	for (int i = 0; i < 2; i++) {
		if (!*tokens[i])
			assert_int_equal(maas_auth_token_make(tokens[i]), 0);
		maas_auth_token_hash(tokens[i], strlen(tokens[i]), hashes[i]);
	}
	return parse("a token=%s owner=a\nb token=%s owner=b", hashes[0], hashes[1]);
}

TEST(known__is_the_last_token_that_was_found)
{
	char wrong[MAAS_AUTH_TOKEN];
	const size_t len = MAAS_AUTH_TOKEN - 1;
	struct maas_auth_known known = {0}, before;
	struct maas_auth *auth = parse_tokens();

	for (int i = 0; i < 4; i++)
		assert_ptr_equal(maas_auth_by_token(auth, tokens[i / 2], len, &known),
				 maas_auth_at(auth, (uint32_t)(i / 2)));

	/* A letter more, less or other is another token, and what was known stays. */
	before = known;
	for (size_t i = 0; i < len; i++) {
		memcpy(wrong, tokens[1], sizeof(wrong));
		wrong[i] ^= 1;
		assert_null(maas_auth_by_token(auth, wrong, len, &known));
		assert_null(maas_auth_by_token(auth, tokens[1], i, &known));
	}
	assert_memory_equal(&known, &before, sizeof(known));
}

TEST(known__is_of_one_table)
{
	const size_t len = MAAS_AUTH_TOKEN - 1;
	struct maas_auth_known known = {0}, other = {0};
	struct maas_auth *auth = parse_tokens(), *next = parse_tokens(), *empty = parse("%s", "");

	assert_non_null(maas_auth_by_token(auth, tokens[0], len, &known));
	assert_non_null(maas_auth_by_token(next, tokens[0], len, &other));
	assert_memory_not_equal(known.digest, other.digest, sizeof(known.digest));
	assert_null(maas_auth_by_token(empty, tokens[0], len, &known));
	assert_ptr_equal(maas_auth_by_token(next, tokens[0], len, &known), maas_auth_at(next, 0));
}

TEST(may__by_name_and_by_beginning)
{
	static const struct {
		const char *name, *owner, *wanted;
	} cases[] = {
		/* a has its own name; b, without owner=, has not. */
		{"a", "a", "own"},	{"a", "team/", "own"},	   {"a", "team/y/z", "own"},
		{"a", "x", "own"},	{"a", "team", "nothing"},  {"a", "xy", "nothing"},
		{"a", "ab", "nothing"}, {"a", "shared", "read"},   {"a", "pub:1", "read"},
		{"a", "", "nothing"},	{"b", "anything", "read"}, {"b", "b", "read"},
		{"b", "", "nothing"},	{"c", "", "own"},	   {"c", "team/x", "own"},
	};
	struct maas_auth *auth = parse("a uid=1 owner=team/*,x read=shared,pub:*\n"
				       "b uid=2 read=*\n"
				       "c uid=3 admin\n");

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(cases); i++)
		assert_string_equal(may(auth, cases[i].name, cases[i].owner), cases[i].wanted);
}

TEST(payer__is_the_first_line_that_owns_the_name)
{
	struct maas_auth *auth =
		parse("r uid=9 read=*\na uid=1 owner=team/x\nb uid=2 owner=team/*\n");

	assert_string_equal(maas_auth_payer(auth, "team/x")->name, "a");
	assert_string_equal(maas_auth_payer(auth, "team/y")->name, "b");
	assert_string_equal(maas_auth_payer(auth, "b")->name, "b");
	assert_null(maas_auth_payer(auth, "r"));
	assert_null(maas_auth_payer(auth, ""));
}

#define TOKEN "mt_ol5A6_OooIQdprtadmsJYXHpy3lZR59ox-iBiHgcBG0"

TEST(refused__with_the_line_and_the_remedy)
{
	static const struct {
		const char *text, *why;
	} cases[] = {
		{"\n\na", "line 3: 'a' stands alone"},
		{"a owner=a", "line 1: nothing proves who 'a' is: add token=, cert=, uid= or gid="},
		{"a -", "nothing proves"},
		{"a! uid=1", "'a!' is no name"},
		{"0123456789012345678901234567890123456789012345678901234567890123 uid=1",
		 "no name"},
		{"a uid=1 ownr=a", "unknown word 'ownr'; is it owner?"},
		{"a uid=1 frobnicate", "unknown word 'frobnicate'"},
		{"a uid=1 admin=yes", "admin takes no value"},
		{"a uid=1 owner", "owner needs a value: owner=…"},
		{"a uid=1 owner=", "not ''"},
		{"a uid=1 owner=b,,c", "not ''"},
		{"a uid=1 owner=b*c", "not 'b*c'"},
		{"a uid=1 owner=b**", "not 'b**'"},
		{"a uid=1 read=\xc3\xa4", "owner names of"},
		{"a uid=-1 owner=a", "uid takes a number up to 4294967294, not -1"},
		{"a uid=4294967295 owner=a", "uid takes a number"},
		{"a uid=65534 owner=a", "uid=65534 stands for users of other"},
		{"a gid=65534 owner=a", "gid=65534 stands for groups of other"},
		{"a uid=1x", "uid takes a number up to 4294967294, not 1x"},
		{"a gid= owner=a", "gid takes a number"},
		{TOKEN, "here stands a token itself"},
		{"a " TOKEN, "here stands a token itself"},
		{TOKEN ", owner=a", "here stands a token itself"},
		{"a \"" TOKEN "\" owner=a", "here stands a token itself"},
		{"a tokn=" TOKEN, "here stands a token itself"},
		{"a token=" TOKEN " owner=a", "here stands a token itself"},
		{"a uid=" TOKEN, "here stands a token itself"},
		{"a uid=1 owner=mt_a," TOKEN, "here stands a token itself"},
		{"mt_a:" TOKEN " uid=1", "here stands a token itself"},
		{"a token=mt_secret owner=a", "never the token itself"},
		{"a token=sha256:" A "a owner=a", "64 lower-case hex digits"},
		{"a token=sha256:A" A, "64 lower-case hex digits"},
		{"a uid=1 max-bytes=lots", "max-bytes takes a size such as 64GiB, not lots"},
		{"a uid=1 max-sessions=-1", "max-sessions takes a number"},
		{"a uid=1 max-sessions=4294967296", "max-sessions takes a number"},
		{"a uid=1 max-request-ids=1000001", "a number up to 1000000, not 1000001"},
		{"a uid=1 max-bytes=1 owner=a max-bytes=2", "max-bytes stands twice"},
		{"a uid=1 owner=a owner=b", "owner stands twice"},
		{"a uid=1 metrics health metrics", "metrics stands twice"},
		{"a uid=1 max-request-ids=0", "no retry would be known"},
		{"a uid=1\nb uid=2\na uid=3", "line 3: the name of line 1 once more"},
		{"b uid=2\na uid=2", "line 2: the uid of line 1 once more"},
		{"b gid=2\n\na gid=2", "line 3: the gid of line 1 once more"},
		{"b token=sha256:" A "\na token=sha256:" A, "line 2: the token of line 1"},
		{"a uid=7 uid=7", "the uid of line 1 once more"},
		{"a cert=x.example\nb cert=X.EXAMPLE", "line 2: the certificate's name of line 1"},
		{"a cert=*.example", "cert= takes one name"},
		{"a cert=a,b", "not a,b"},
		{"a cert=", "not nothing"},
		{"a cert=spiffe://\xc3\xa4", "cert= takes one name"},
		{"a crt=x", "unknown word 'crt'; is it cert?"},
		{"* - admin", "give what needs admin a line and a token of its own"},
		{"* - owner=x", "give what needs owner= a line"},
		{"* - health\n* - metrics", "line 2: the name of line 1 once more"},
	};

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(cases); i++)
		assert_refused(cases[i].text, cases[i].why);
}

/* Whoever may allocate has an even share, so that they are never more in all than without lines. */
TEST(request_ids__are_shared)
{
	struct maas_auth *auth = parse("a uid=1 owner=a\nb uid=2 owner=b max-request-ids=7\n"
				       "c uid=3 read=a\nd uid=4 admin\n");
	static const uint64_t shares[] = {333333, 7, MAAS_AUTH_UNLIMITED, 333333};

	for (uint32_t i = 0; i < MAAS_ARRAY_SIZE(shares); i++)
		assert_int_equal(maas_auth_at(auth, i)->quota[MAAS_AUTH_REQUEST_IDS], shares[i]);
}

/* The number of a proof asks for it in another table, and is on one line alone. */
TEST(proof__is_the_same_in_each_table_that_has_it)
{
	struct maas_auth *before = parse("a token=" MT_X " uid=5 gid=5 owner=a\n"
					 "b token=sha256:" A " owner=b");
	struct maas_auth *now = parse("b token=sha256:" B " uid=5 owner=b\n"
				      "a token=sha256:" A " token=" MT_X " gid=5 owner=a");
	struct maas_auth_known known = {0};
	uint64_t uid, gid;

	assert_non_null(maas_auth_by_token(before, "mt_x", 4, &known));
	assert_non_null(maas_auth_by_peer(before, 5, 9, &uid));
	assert_non_null(maas_auth_by_peer(before, 9, 5, &gid));
	assert_true(known.proof && uid && gid && uid != gid);
	assert_true(maas_auth_has_proof(before, maas_auth_at(before, 0), known.proof));
	assert_false(maas_auth_has_proof(before, maas_auth_at(before, 1), known.proof));
	assert_true(maas_auth_has_proof(now, maas_auth_at(now, 1), known.proof));
	assert_true(maas_auth_has_proof(now, maas_auth_at(now, 1), gid));
	assert_false(maas_auth_has_proof(now, maas_auth_at(now, 1), uid));
	assert_true(maas_auth_has_proof(now, maas_auth_at(now, 1), 0));
	now = parse("a uid=6 cert=Prom.example cert=x:prom.example owner=a");
	assert_non_null(maas_auth_by_cert(now, false, "prom.EXAMPLE", &uid));
	assert_non_null(maas_auth_by_cert(now, true, "x:prom.example", &gid));
	assert_true(maas_auth_has_proof(now, maas_auth_at(now, 0), uid));
	assert_true(maas_auth_has_proof(now, maas_auth_at(now, 0), gid));
	assert_false(maas_auth_has_proof(before, maas_auth_at(before, 0), uid));
	assert_false(maas_auth_has_proof(now, maas_auth_at(now, 0), known.proof));
}

TEST(refused__a_nul)
{
	struct maas_auth *auth = NULL;

	assert_int_equal(maas_auth_parse("a uid=1\0b", 9, error, &auth), -EINVAL);
	assert_non_null(strstr(error, "NUL"));
}

TEST(many__lines)
{
	enum { LINES = 10000 };
	struct maas_buf text = {0};
	struct maas_auth *auth;

	for (int i = 0; i < LINES; i++)
		maas_buf_printf(&text, "p%d uid=%d owner=team%d/*\n", i, i + 100000, i);
	assert_int_equal(maas_auth_parse(text.data, text.len, error, &auth), 0);
	tables[0] = auth;
	for (int i = 0; i < LINES; i += 997) {
		const struct maas_auth_principal *principal =
			maas_auth_by_peer(auth, (uid_t)(i + 100000), 0, &proof);
		char owner[32];

		snprintf(owner, sizeof(owner), "team%d/x", i);
		assert_ptr_equal(principal, maas_auth_at(auth, (uint32_t)i));
		assert_ptr_equal(maas_auth_by_name(auth, principal->name), principal);
		assert_ptr_equal(maas_auth_payer(auth, owner), principal);
		assert_false(maas_auth_may(auth, maas_auth_at(auth, (uint32_t)(i + 1)), owner,
					   MAAS_AUTH_READ));
	}
	maas_buf_fini(&text);
}

TEST(reference__keeps_a_table)
{
	struct maas_auth *auth = parse("a uid=1 owner=a");

	assert_ptr_equal(maas_auth_ref(auth), auth);
	maas_auth_unref(auth);
	assert_string_equal(maas_auth_at(auth, 0)->name, "a");
	maas_auth_unref(NULL);
}

/* ---- the file */

static void load(const char *path, int want, const char *why)
{
	assert_int_equal(maas_auth_load(path, error, &tables[0]), want);
	end_tables();
	if (want && !strstr(error, why))
		fail_msg("'%s', not '%s'", error, why);
}

static void load_as(mode_t mode, const char *path, int want, const char *why)
{
	assert_int_equal(chmod(path, mode), 0);
	load(path, want, why);
}

TEST(file__is_a_small_one_that_others_neither_read_nor_write)
{
	char path[] = "/tmp/maas-auth-XXXXXX";
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, "a uid=1 owner=a\n", 16), 16);
	load(path, 0, "");
	load_as(0640, path, 0, "");
	load_as(0440, path, 0, "");
	load_as(0644, path, -EPERM, "may be read by others (mode 644): chmod 0640 it");
	load_as(0660, path, -EPERM, "may be written by others");
	assert_int_equal(fchmod(fd, 0600), 0);
	if (!geteuid()) {
		assert_int_equal(fchown(fd, 12345, 0), 0);
		load(path, -EPERM, "belongs to the user 12345");
	}
	assert_int_equal(fchown(fd, getuid(), getgid()), 0);
	assert_int_equal(ftruncate(fd, MAAS_AUTH_MAX_FILE + 1), 0);
	load(path, -EFBIG, "too large");
	close(fd);
	assert_int_equal(unlink(path), 0);
	load(path, -ENOENT, "No such file");
	load("/dev/zero", -EINVAL, "is not a regular file");
	load("/tmp", -EINVAL, "is not a regular file");
}

TEST_MAIN(NULL, end_tables)
