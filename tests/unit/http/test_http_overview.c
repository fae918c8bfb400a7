/* SPDX-License-Identifier: Apache-2.0 */
/* GET /overview and /figures: all that is lent and refused on one page, as far as the caller sees
 * it, and of the same size whatever is lent. */
#include "tests/unit/http/http_roles.h"

static json_t *overview(void)
{
	return http_json("GET /overview", NULL, 200);
}

static json_t *part(const json_t *json, const char *name)
{
	json_t *value = json_object_get(json, name);

	assert_non_null(value);
	return value;
}

/* The items of a part. */
static const json_t *items(const json_t *json, const char *name)
{
	return part(part(json, name), "items");
}

static const json_t *item(const json_t *json, const char *name, size_t index)
{
	return json_array_get(items(json, name), index);
}

TEST(overview__of_an_empty_server)
{
	json_t *json = overview();

	http_expect_members(json, "{'sees':'all','principal':null,'owners':{'total':0,'items':[]},"
				  "'sessions':{'total':0,'items':[]},'refusals':{'total':0,"
				  "'items':[]}}");
	http_expect_members(part(json, "arena"), "{'kept':false}");
	assert_in_range(http_number(part(json, "arena"), "created"), 1,
			http_number(json, "timestamp"));
	http_expect_members(part(json, "extents"), "{'total':16,'per_entry':1,'entries':[]}");
	http_expect_members(part(json, "leases"), "{'total':0,'whole':true,'items':[]}");
	http_expect_members(part(json, "rdma"), "{'state':'off','device':null,'isolated':false,"
						"'properties':[],'figures':null}");
	assert_int_equal(json_array_size(part(json, "classes")), 7);
}

TEST(overview__says_how_the_server_is)
{
	json_t *json;

	HTTP_START(.threads = 1, .max_connections = 7);
	json = overview();
	http_expect_members(json, "{'readiness':'ready','certificate_expires':null}");
	http_expect_members(part(json, "requests"), "{'connections':1,'max_connections':7}");
	maas_http_drain(server.http);
	nap_ms(1100);
	http_expect_members(overview(), "{'readiness':'draining'}");
	http_expect("GET /figures", NULL, 200, "draining");
}

TEST(overview__shows_what_is_lent)
{
	const char *lease = "{'size_bytes':1000,'owner':'b','lifetime':'ttl','ttl_seconds':90}";
	json_t *json, *one;

	http_json("POST /allocate", "{'size_bytes':1500,'count':3,'owner':'a'}", 200);
	one = http_json("POST /allocate", lease, 200);
	http_open_session("s");
	http_expect_error("POST /allocate", "{'size_bytes':99999999}", 413, "too_large");
	json = overview();
	http_expect_members(item(json, "owners", 0), "{'owner':'a','allocations':3,'bytes':6144}");
	http_expect_members(item(json, "owners", 1), "{'owner':'b','allocations':1,'bytes':1024}");
	http_expect_members(json_array_get(part(json, "classes"), 1),
			    "{'slab_size':2048,'used':3,'lent_bytes':6144,'asked_bytes':4500}");
	http_expect_members(part(json, "extents"),
			    "{'entries':[[2048,2048,3,6144],[1024,4096,1,1024]]}");
	http_expect_members(item(json, "leases", 0), "{'owner':'b','bytes':1024,'ttl_seconds':90}");
	assert_in_range(http_number(item(json, "leases", 0), "ends_in_seconds"), 60, 90);
	/* No id that could be used. */
	assert_string_equal(http_string(item(json, "leases", 0), "id"),
			    http_text("%.8s...", http_string(one, "id")));
	assert_null(strstr(http_get("/overview")->body, http_string(one, "id")));
	http_expect_members(item(json, "sessions", 0),
			    "{'name':'s','exclusive':false,'connected':false,'allocations':0}");
	assert_null(json_object_get(item(json, "sessions", 0), "id"));
	http_expect_members(item(json, "refusals", 0),
			    "{'count':1,'status':413,'code':'too_large','operation':'POST "
			    "/allocate','quota':null,'principal':null}");
}

TEST(overview__counts_requests_by_operation)
{
	json_t *json, *operation = NULL;
	json_int_t in_buckets = 0;
	size_t index;

	for (int i = 0; i < 3; i++)
		http_allocate(10);
	http_expect_error("POST /allocate", "{}", 400, "missing_field");
	http_wait_idle();
	json = part(overview(), "requests");
	assert_int_equal(json_array_size(part(json, "bucket_seconds")), 14);
	json_array_foreach(part(json, "operations"), index, operation)
	{
		if (!strcmp(http_string(operation, "operation"), "POST /allocate"))
			break;
	}
	http_expect_members(operation, "{'count':4,'errors':1}");
	assert_true(json_real_value(part(operation, "sum_seconds")) > 0);
	for (size_t i = 0; i < 15; i++)
		in_buckets += json_integer_value(json_array_get(part(operation, "buckets"), i));
	assert_int_equal(in_buckets, 4);
}

TEST(overview__says_of_rdma_what_was_proved)
{
	static const struct maas_http_rdma rdma = {
		.device = "rxe0", .keys = "mr", .bounds = true, .revocation = true};
	const json_t *properties;
	json_t *json;

	HTTP_START_KEYS(.threads = 1, .rdma = rdma);
	json = part(overview(), "rdma");
	http_expect_members(json, "{'state':'active','device':'rxe0','keys':'mr'}");
	properties = part(json, "properties");
	assert_int_equal(json_array_size(properties), 4);
	http_expect_members(json_array_get(properties, 0), "{'name':'bounds','proved':true}");
	http_expect_members(json_array_get(properties, 1), "{'name':'foreign','proved':false}");
	http_expect_parts(http_string(json_array_get(properties, 1), "text"), "not proved");
	http_expect_members(part(json, "figures"), "{'grants':0}");
	assert_int_equal(json_array_size(part(part(part(json, "figures"), "bind"), "buckets")), 13);
}

/* An answer serves all who come within a second, whatever happens. */
TEST(overview__is_made_once_a_second)
{
	const char *first;
	int same = 0;

	for (int i = 0; i < 20 && !same; i++) {
		first = http_get("/overview")->body;
		http_allocate(10);
		same = !strcmp(http_get("/overview")->body, first);
		nap_ms(10);
	}
	assert_true(same);
	nap_ms(1100);
	assert_string_not_equal(http_get("/overview")->body, first);
}

static void lend_to_forty(int count)
{
	for (int i = 10; i < 50; i++)
		http_json(
			"POST /allocate",
			http_text("{'size_bytes':1,'count':%d,'owner':'owner-%d','ttl_seconds':90}",
				  count, i),
			200);
}

TEST(overview__has_the_same_size_whatever_is_lent)
{
	size_t few;

	lend_to_forty(1);
	http_wait_idle();
	few = http_get("/overview")->len;
	lend_to_forty(200);
	nap_ms(1100);
	assert_in_range(http_get("/overview")->len, few, few + 500);
	assert_int_equal(json_array_size(items(overview(), "owners")), 16);
	assert_int_equal(json_array_size(items(overview(), "leases")), 16);
	http_expect_members(part(overview(), "leases"), "{'total':8040}");
}

/* ---- refusals */

TEST(refusals__are_counted_once_for_each_kind)
{
	json_t *json;

	for (int i = 0; i < 5; i++)
		http_expect_error("POST /allocate", "{}", 400, "missing_field");
	http_expect_error("PATCH /health", NULL, 405, "method_not_allowed");
	http_expect_error("GET /allocate/" NO_ID, NULL, 404, "not_found");
	json = overview();
	http_expect_members(part(json, "refusals"), "{'total':6}");
	assert_int_equal(json_array_size(items(json, "refusals")), 2);
	http_expect_members(item(json, "refusals", 0),
			    "{'count':1,'status':405,'operation':'other /health'}");
	http_expect_members(item(json, "refusals", 1), "{'count':5,'code':'missing_field'}");
}

/* However many ways there are to be refused, they do not drive out what befell others. */
TEST(refusals__of_one_client_are_few)
{
	static const char *const methods[] = {"PATCH", "DELETE", "PUT"};
	static const char *const paths[] = {"/health", "/ready", "/stats", "/metrics"};
	const json_t *list;
	json_t *json;

	use_anew("read=team/*");
	ask(OWNER, "POST /allocate", "{'size_bytes':0}", 400);
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(methods); i++)
		for (size_t j = 0; j < MAAS_ARRAY_SIZE(paths); j++)
			http_expect_error(http_text("%s %s", methods[i], paths[j]), NULL, 405,
					  "method_not_allowed");
	json = http_parse(ask(ADMIN, "GET /overview", NULL, 200));
	list = items(json, "refusals");
	assert_int_equal(json_array_size(list), 8 + 1);
	http_expect_members(json_array_get(list, 0),
			    "{'principal':null,'operation':'PUT /metrics','status':405}");
	http_expect_members(json_array_get(list, 8),
			    "{'principal':'team','code':'bad_field','operation':'POST /allocate'}");
}

/* ---- who sees what */

static void lend_to_both(void)
{
	static const struct {
		enum role role;
		const char *owner;
	} lent[] = {{OWNER, "team/x"}, {OTHER, "other/y"}};

	use_anew("metrics");
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(lent); i++) {
		ask(lent[i].role, "POST /allocate",
		    http_text("{'size_bytes':9,'owner':'%s','ttl_seconds':90}", lent[i].owner),
		    200);
		ask(lent[i].role, "POST /sessions", http_text("{'name':'%s'}", lent[i].owner), 200);
		ask(lent[i].role, "PATCH /health", NULL, 405);
	}
}

/* Two calls of nobody are refused, and a PATCH of each that owns some. */
TEST(overview__shows_each_role_what_it_may_see)
{
	static const struct {
		const char *sees;
		enum role role;
		bool team, other, server;
	} cases[] = {
		{"own", OWNER, true, false, false},
		{"own", OTHER, false, true, false},
		{"figures", READER, false, false, true},
		{"all", ADMIN, true, true, true},
	};

	lend_to_both();
	ask(NOBODY, "GET /overview", NULL, 401);
	ask(NOBODY, "GET /figures", NULL, 401);
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(cases); i++) {
		const char *body = ask(cases[i].role, "GET /overview", NULL, 200);
		const char *html = ask(cases[i].role, "GET /figures", NULL, 200);
		const json_t *json = http_parse(body);
		unsigned int seen = cases[i].team + cases[i].other;

		assert_string_equal(http_string(json, "sees"), cases[i].sees);
		assert_int_equal(!!strstr(body, "team/x"), cases[i].team);
		assert_int_equal(!!strstr(html, "team/x"), cases[i].team);
		assert_int_equal(!!strstr(body, "other/y"), cases[i].other);
		assert_int_equal(!!strstr(html, "other/y"), cases[i].other);
		assert_int_equal(!strstr(html, "what you may see"), !strcmp(cases[i].sees, "all"));
		assert_int_equal(http_number(part(json, "owners"), "total"), seen);
		assert_int_equal(http_number(part(json, "sessions"), "total"), seen);
		assert_int_equal(json_array_size(items(json, "leases")), seen);
		assert_int_equal(json_is_null(part(json, "classes")), !cases[i].server);
		assert_int_equal(json_is_null(part(json, "extents")), !cases[i].server);
		assert_int_equal(json_is_null(part(json, "requests")), !cases[i].server);
		assert_int_equal(json_array_size(items(json, "refusals")), cases[i].server ? 4 : 1);
	}
}

TEST(refusals__are_shown_to_whom_they_befell)
{
	json_t *json;

	use_anew("read=team/* health");
	ask(OTHER, "GET /stats", NULL, 403);
	ask(OWNER, "GET /metrics", NULL, 403);
	json = http_parse(ask(OTHER, "GET /overview", NULL, 200));
	assert_int_equal(json_array_size(items(json, "refusals")), 1);
	http_expect_members(item(json, "refusals", 0),
			    "{'principal':'other','operation':'GET /stats','code':'forbidden'}");
	http_expect_members(part(json, "refusals"), "{'total':null}");
	json = http_parse(ask(ADMIN, "GET /overview", NULL, 200));
	assert_int_equal(json_array_size(items(json, "refusals")), 2);
}

TEST(overview__is_not_for_those_who_may_only_ask_whether_it_works)
{
	use_anew("health");
	ask(READER, "GET /health", NULL, 200);
	http_expect_parts(ask(READER, "GET /overview", NULL, 403), "owner= or read=");
	/* With another table nothing of what was made before is shown. */
	use("admin");
	http_expect_parts(ask(READER, "GET /overview", NULL, 200), "\"sees\":\"all\"");
	use("read=team/*");
	http_expect_parts(ask(READER, "GET /overview", NULL, 200), "\"sees\":\"own\"");
}

/* ---- GET /figures */

TEST(figures__are_tables_that_run_and_load_nothing)
{
	const struct http_answer *a;

	http_json("POST /allocate", "{'size_bytes':1500,'count':3,'owner':'a'}", 200);
	a = http_expect("GET /figures", NULL, 200, "");
	http_expect_parts(a->headers,
			  "\nContent-Type: text/html; charset=utf-8\r*\nCache-Control: no-store\r*"
			  "\nContent-Security-Policy: default-src 'none';");
	http_expect_parts(a->body,
			  "</html>*"
			  "<td>a</td><td align=\"right\">3</td><td align=\"right\">6144</td>");
	assert_null(strstr(a->body, "<script"));
	http_expect("HEAD /figures", NULL, 200, "");
}

HTTP_TEST_MAIN(.threads = 1)
