/* SPDX-License-Identifier: Apache-2.0 */
/* What a web page can make a browser send, and names that are not this machine's. */
#include <unistd.h>

#include "http/parse.h"
#include "tests/unit/http/http_fixture.h"

static const char *const hosts[] = {"maas.test"};

/* A request with these header lines, each ended. */
static void expect(const char *start_line, const char *lines, int status, const char *parts)
{
	http_expect_raw(http_text("%s\r\n%sConnection: close\r\n\r\n", start_line, lines), status,
			parts);
}

static void expect_host(const char *host, bool good)
{
	expect("GET /allocations HTTP/1.1", http_text("Host: %s\r\n", host), good ? 200 : 403,
	       good ? "allocations" : "\"foreign_host\"");
}

TEST(host__of_this_machine)
{
	static const char *const good[] = {
		"localhost",	"localhost:3000", "LOCALHOST:1", "localhost.", "127.0.0.1",
		"127.1.2.3:80", "[::1]",	  "[::1]:3000",	 "maas.test",  "Maas.Test:99",
	};
	char name[200];

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(good); i++)
		expect_host(good[i], true);
	assert_int_equal(gethostname(name, sizeof(name)), 0);
	expect_host(http_text("%s:3000", name), true);
}

TEST(host__of_another)
{
	char names[] =
		"evil.example evil.example:3000 localhost.evil.example 127.0.0.1.nip.io "
		"10.0.0.1 0.0.0.0:3000 [::2] [::1 maas.test.evil x@localhost localhost:x "
		"127.0.0.1:99999 127.1 [::ffff:10.0.0.1] notlocalhost "; /* the last is empty */

	for (char *rest = names, *host; (host = strsep(&rest, " "));)
		expect_host(host, false);
}

TEST(host__in_the_target)
{
	expect("GET http://evil.example/allocations HTTP/1.1", "Host: localhost\r\n", 403,
	       "\"foreign_host\"");
	expect("GET http://localhost/allocations HTTP/1.1", "Host: evil.example\r\n", 403,
	       "\"foreign_host\"");
	expect("GET http://maas.test:7/allocations HTTP/1.1", "Host: localhost\r\n", 200,
	       "allocations");
}

TEST(host__none)
{
	expect("GET /health HTTP/1.0", "", 200, "healthy");
	expect("GET /ready HTTP/1.0", "", 200, "ready");
	expect("GET /allocations HTTP/1.0", "", 403, "\"foreign_host\"");
	expect("GET /stats HTTP/1.0", "", 403, "\"foreign_host\"");
}

#define AT_80	"Host: localhost\r\n"
#define AT_443	"Host: localhost:443\r\n"
#define AT_3000 "Host: localhost:3000\r\n"

TEST(origin__of_another_site)
{
	static const char *const bad[] = {
		AT_3000 "Origin: http://evil.example\r\n",
		AT_3000 "Origin: http://localhost:8080\r\n",
		AT_3000 "Origin: http://localhost\r\n",
		AT_80 "Origin: https://localhost:80\r\n",
		AT_3000 "Origin: null\r\n",
		AT_3000 "Origin: http://localhost:3000/x\r\n",
		AT_3000 "Origin: http://localhost:3000@evil.example\r\n",
		AT_3000 "Sec-Fetch-Site: cross-site\r\n",
		AT_3000 "Sec-Fetch-Site: same-site\r\n",
		AT_3000 "Origin: http://localhost:3000\r\nSec-Fetch-Site: Cross-Site\r\n",
		AT_3000 "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\n",
	};
	static const char *const good[] = {
		AT_3000 "Origin: http://localhost:3000\r\n",
		AT_3000 "Origin: HTTP://LocalHost:3000\r\n",
		AT_80 "Origin: http://localhost:80\r\n",
		AT_443 "Origin: https://localhost\r\n",
		AT_80 "Origin: https://localhost\r\n",
		AT_3000 "Sec-Fetch-Site: same-origin\r\n",
		AT_3000 "Sec-Fetch-Site: none\r\nSec-Fetch-Mode: navigate\r\n",
	};
	static const char *const starts[] = {
		"GET /allocations HTTP/1.1", "DELETE /allocate/x HTTP/1.1", "POST /free HTTP/1.1",
		"GET /nowhere HTTP/1.1",     "HEAD /health HTTP/1.1",
	};

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(bad); i++)
		for (size_t j = 0; j < MAAS_ARRAY_SIZE(starts); j++)
			expect(starts[j], bad[i], 403, "");
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(good); i++) {
		expect("GET /allocations HTTP/1.1", good[i], 200, "allocations");
		expect("DELETE /allocate/x HTTP/1.1", good[i], 404, "not_found");
	}
}

/* A link from elsewhere may open the page; nothing else. */
TEST(origin__a_link_to_the_page)
{
	static const char *const paths[] = {"/", "/openapi.yaml"};
	const char *link = AT_80 "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\n";
	const char *script = AT_80 "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\n";

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(paths); i++) {
		const char *get = http_text("GET %s HTTP/1.1", paths[i]);

		expect(get, link, 200, "");
		expect(get, script, 403, "\"foreign_origin\"");
		expect(http_text("POST %s HTTP/1.1", paths[i]), link, 403, "\"foreign_origin\"");
	}
}

TEST(authority__parts)
{
	static const struct {
		const char *text;
		size_t host_len;
		unsigned int port;
	} good[] = {{"a.b:8080", 3, 8080}, {"[::1]", 5, 0}, {"a:", 1, 0}};
	static const char *const bad[] = {"", ":80", "a b", "a:65536", "[::1]x"};
	struct maas_http_authority a;

	for (size_t i = 0; i < MAAS_ARRAY_SIZE(good); i++) {
		assert_int_equal(maas_http_authority_parse(good[i].text, strlen(good[i].text), &a),
				 0);
		assert_int_equal(a.host_len, good[i].host_len);
		assert_int_equal(a.port, good[i].port);
	}
	for (size_t i = 0; i < MAAS_ARRAY_SIZE(bad); i++)
		assert_int_equal(maas_http_authority_parse(bad[i], strlen(bad[i]), &a), -EINVAL);
}

HTTP_TEST_MAIN(.hosts = hosts, .num_hosts = 1)
