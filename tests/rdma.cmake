# Tests that need a real RDMA device; scripts/softroce brings one where this kernel has none.
function(maas_rdma_test name)
	add_executable(${name} rdma/${name}.c)
	target_link_libraries(${name} PRIVATE maas_warnings maas_rdma PkgConfig::CMOCKA PkgConfig::VERBS)
	add_test(NAME ${name}
		COMMAND ${PROJECT_SOURCE_DIR}/scripts/softroce --timeout 240 -- $<TARGET_FILE:${name}>)
	set_tests_properties(${name} PROPERTIES LABELS rdma SKIP_RETURN_CODE 77 TIMEOUT 300
		RUN_SERIAL ON)
endfunction()

maas_rdma_test(test_rdma_selftest)

# Many scenarios in one boot of one host: build/dev/tests/one_host MAASD [FILTER] runs some of them.
add_library(device_scenes STATIC rdma/borrower.c rdma/raw_http.c rdma/raw_link.c rdma/scene.c
	rdma/server.c)
target_link_libraries(device_scenes PRIVATE maas_warnings
	PUBLIC maas_base PkgConfig::CURL PkgConfig::JANSSON PkgConfig::VERBS)
add_executable(one_host rdma/basic.c rdma/door.c rdma/life.c rdma/one_host.c rdma/plenty.c
	rdma/trust.c)
target_link_libraries(one_host PRIVATE maas_warnings device_scenes)

add_executable(two_hosts rdma/agent.c rdma/two_hosts.c rdma/wire.c)
target_link_libraries(two_hosts PRIVATE maas_warnings device_scenes maas_static)

# maas_device_test(NAME TIMEOUT_S SOFTROCE_OPTION...): one boot. All counts take more time in the
# long tier, which is why MAAS_LONG in the environment lifts the limit.
function(maas_device_test name timeout_s)
	add_test(NAME rdma_${name}
		COMMAND bash ${CMAKE_CURRENT_SOURCE_DIR}/rdma/boot.sh ${timeout_s} ${ARGN} --
			$<TARGET_FILE:${name}> $<TARGET_FILE:maasd>)
	set_tests_properties(rdma_${name} PROPERTIES LABELS rdma SKIP_RETURN_CODE 77 TIMEOUT 36000
		RUN_SERIAL ON)
endfunction()

maas_device_test(one_host 600)
maas_device_test(two_hosts 400 --hosts 2)

# What a person types: the programs, the example and the maas command.
add_test(NAME rdma_programs
	COMMAND bash ${CMAKE_CURRENT_SOURCE_DIR}/rdma/boot.sh 300 --
		bash ${CMAKE_CURRENT_SOURCE_DIR}/rdma/programs.sh $<TARGET_FILE:maasd>
		$<TARGET_FILE:maas> $<TARGET_FILE:example_rdma> $<TARGET_FILE:borrow_c> $<TARGET_FILE:borrow_cpp>)
set_tests_properties(rdma_programs PROPERTIES LABELS rdma SKIP_RETURN_CODE 77 TIMEOUT 36000
	RUN_SERIAL ON)

# The Go client, with cgo; a sanitizer's libmaas does not go into a Go program.
if(NOT MAAS_SANITIZE)
	add_test(NAME rdma_go_client
		COMMAND bash ${CMAKE_CURRENT_SOURCE_DIR}/rdma/go_client.sh 600 $<TARGET_FILE:maasd>
			$<TARGET_FILE_DIR:maas_shared> ${PROJECT_SOURCE_DIR}/client)
	set_tests_properties(rdma_go_client PROPERTIES LABELS rdma SKIP_RETURN_CODE 77
		TIMEOUT 36000 RUN_SERIAL ON)
endif()
