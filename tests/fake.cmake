# Tests of rdma and of client's RDMA without a device: libibverbs and librdmacm are replaced by
# tests/fake/fake_verbs.h. As objects, so that these come before the shared libraries.
add_library(fake_verbs OBJECT
	fake/fake_cm.c fake/fake_connect.c fake/fake_cq.c fake/fake_memory.c fake/fake_qp.c
	fake/fake_run.c fake/fake_verbs.c)
target_link_libraries(fake_verbs PRIVATE maas_warnings PUBLIC PkgConfig::VERBS)

maas_unit_test(test_fake_verbs fake_verbs)
maas_unit_test(test_rdma_grades fake_verbs maas_rdma)
maas_fail_nth(test_rdma_grades)

# maas_rdma_unit_test(NAME): over a server and clients of the fake device, on a clock of its own.
add_library(rdma_fixture OBJECT unit/rdma_fixture.c)
target_link_libraries(rdma_fixture PRIVATE maas_warnings maas_rdma PkgConfig::CMOCKA
	PkgConfig::VERBS)
function(maas_rdma_unit_test name)
	maas_unit_test(${name} rdma_fixture fake_verbs maas_rdma)
	target_link_options(${name} PRIVATE -Wl,--wrap=maas_clock_ms -Wl,--wrap=maas_clock_ns)
endfunction()

maas_rdma_unit_test(test_rdma_choice)
maas_rdma_unit_test(test_rdma_connect)
maas_rdma_unit_test(test_rdma_batch)
maas_rdma_unit_test(test_rdma_keys)
maas_rdma_unit_test(test_rdma_revoke)
maas_rdma_unit_test(test_rdma_strangers)
maas_rdma_unit_test(test_rdma_nomem)
maas_fail_nth(test_rdma_nomem)
# Two thousand lives of a server: ThreadSanitizer sees enough in a few of them.
if(MAAS_SANITIZE STREQUAL "thread")
	set_tests_properties(test_rdma_nomem PROPERTIES ENVIRONMENT MAAS_SHORT=1)
endif()

# maas_client_rdma_test(NAME): libmaas against all of a maasd in one process, over the fake device.
# The server is a shared library, so that fail_nth and costs see libmaas alone.
set_target_properties(fake_verbs PROPERTIES C_VISIBILITY_PRESET default)
add_library(rdma_lan SHARED unit/rdma_lan.c)
target_link_libraries(rdma_lan PRIVATE maas_warnings maas_http maas_rdma PkgConfig::CMOCKA
	PkgConfig::VERBS Threads::Threads)
target_link_options(rdma_lan PRIVATE -Wl,--exclude-libs,ALL)
function(maas_client_rdma_test name)
	maas_unit_test(${name} fake_verbs rdma_lan maas_static PkgConfig::CURL PkgConfig::JANSSON
		PkgConfig::VERBS)
	maas_fail_nth(${name})
endfunction()
# With a sanitizer the linker takes --wrap to be about the shared library's references too.
set_source_files_properties(fake/fail_nth.c fake/costs.c
	PROPERTIES COMPILE_OPTIONS -fvisibility=default)
# maas_costs(TARGET) counts what threads do (tests/fake/costs.h).
function(maas_costs target)
	target_sources(${target} PRIVATE fake/costs.c)
	foreach(symbol pthread_mutex_lock poll eventfd_read eventfd_write nanosleep)
		target_link_options(${target} PRIVATE -Wl,--wrap=${symbol})
	endforeach()
endfunction()

maas_client_rdma_test(test_client_rdma_costs)
maas_costs(test_client_rdma_costs)
maas_client_rdma_test(test_client_rdma)
maas_client_rdma_test(test_client_rdma_faults)
maas_client_rdma_test(test_client_rdma_nomem)
maas_client_rdma_test(test_client_rdma_threads)
