# Tests of our Go modules: maas_go_test(NAME DIRECTORY TIMEOUT_S [PACKAGE...]) vets the module in
# DIRECTORY and runs its tests with the race detector. A sanitizer in the server finds in them what
# it finds in the tests of libmaas.
function(maas_go_test name directory timeout_s)
	if(MAAS_SANITIZE)
		return()
	endif()
	add_test(NAME ${name} COMMAND bash ${CMAKE_CURRENT_SOURCE_DIR}/go/module.sh
		$<TARGET_FILE:maasd> ${PROJECT_SOURCE_DIR}/${directory} ${ARGN})
	set_tests_properties(${name} PROPERTIES LABELS e2e SKIP_RETURN_CODE 77 TIMEOUT ${timeout_s})
endfunction()

maas_go_test(go_client client/go 300)

# The example of the Go client, as its page says to run it.
if(NOT MAAS_SANITIZE)
	maas_e2e_script(examples_go 120)
endif()
