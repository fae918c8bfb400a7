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
