# Tests of client: its texts alone, then the library against a real maasd and against servers and
# wires that misbehave.
add_library(client_fixture STATIC unit/client_fixture.c unit/client_stub.c)
target_compile_definitions(client_fixture PRIVATE MAASD="$<TARGET_FILE:maasd>")
target_link_libraries(client_fixture
	PRIVATE maas_warnings PkgConfig::CMOCKA Threads::Threads
	PUBLIC maas_static maas_base PkgConfig::CURL PkgConfig::JANSSON)
add_dependencies(client_fixture maasd)

foreach(part text json calls async session faults hostile nomem versions)
	maas_unit_test(test_client_${part} client_fixture)
endforeach()
maas_fail_nth(test_client_nomem)

maas_unit_test(test_cmd maas_cmd_parts)
maas_unit_test(test_segment maas_cmd_parts)
