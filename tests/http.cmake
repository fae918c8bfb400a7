# Tests of http: the parsers alone, then a server in the test's own process.
maas_unit_test(test_http_parse maas_http PkgConfig::JANSSON)
maas_unit_test(test_http_json maas_http PkgConfig::JANSSON)
maas_unit_test(test_http_json_memory maas_http PkgConfig::JANSSON)

add_library(http_fixture STATIC unit/http_fixture.c unit/http_keys.c)
target_link_libraries(http_fixture
	PRIVATE maas_warnings PkgConfig::CMOCKA
	PUBLIC maas_http PkgConfig::JANSSON PkgConfig::CURL Threads::Threads)
foreach(part calls data free grant guard head keys limits listen metrics page peers rdma sessions
	vector)
	maas_unit_test(test_http_${part} http_fixture)
endforeach()
target_compile_definitions(test_http_page PRIVATE MAAS_SOURCE="${PROJECT_SOURCE_DIR}")
# It looks at the socket's file in the moment in which bind(2) makes it.
target_link_options(test_http_listen PRIVATE -Wl,--wrap=bind)
