# Tests of the programs, end to end: maas_e2e_test(NAME TIMEOUT_S COMMAND...).
function(maas_e2e_test name timeout_s)
	add_test(NAME e2e_${name} COMMAND ${ARGN})
	set_tests_properties(e2e_${name} PROPERTIES
		LABELS e2e SKIP_RETURN_CODE 77 TIMEOUT ${timeout_s})
endfunction()

function(maas_e2e_script name timeout_s)
	maas_e2e_test(${name} ${timeout_s}
		bash ${CMAKE_CURRENT_SOURCE_DIR}/e2e/test_${name}.sh $<TARGET_FILE:maasd> ${ARGN})
endfunction()

maas_e2e_script(guide 60)
maas_e2e_script(start 120)
maas_e2e_script(lifecycle 120)
maas_e2e_script(log 120)
maas_e2e_script(unit 60 ${CMAKE_BINARY_DIR})
if(NOT MAAS_SANITIZE)
	maas_e2e_script(scripts 1500 ${PROJECT_SOURCE_DIR})
endif()
maas_e2e_script(kept_memory 90)
maas_e2e_script(memory_file 120 $<TARGET_FILE:maas>)
maas_e2e_script(lease_stop 90)
maas_e2e_script(metrics 60)
maas_e2e_script(release 60 ${PROJECT_SOURCE_DIR})

# Debian's interpreter, whose packages the test uses, not whatever stands first in PATH.
find_program(MAAS_PYTHON3 python3 PATHS /usr/bin NO_DEFAULT_PATH REQUIRED)

add_executable(keyed_server e2e/keyed_server.c unit/http_keys.c)
target_include_directories(keyed_server PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
target_link_libraries(keyed_server PRIVATE maas_warnings maas_http Threads::Threads)
maas_e2e_test(openapi 120 ${MAAS_PYTHON3} -W ignore ${CMAKE_CURRENT_SOURCE_DIR}/e2e/test_openapi.py
	$<TARGET_FILE:maasd> $<TARGET_FILE:keyed_server> ${PROJECT_SOURCE_DIR}/docs/openapi.yaml
	${PROJECT_SOURCE_DIR}/http/calls.h)
maas_e2e_test(victim 300 ${MAAS_PYTHON3} ${CMAKE_CURRENT_SOURCE_DIR}/e2e/test_victim.py
	$<TARGET_FILE:maasd>)
maas_e2e_script(maas_command 120 $<TARGET_FILE:maas>)
maas_e2e_script(completion 60 $<TARGET_FILE:maas> ${PROJECT_SOURCE_DIR})
maas_e2e_test(evil_server 300 ${CMAKE_COMMAND} -E env MAAS_SANITIZE=${MAAS_SANITIZE}
	${MAAS_PYTHON3} ${CMAKE_CURRENT_SOURCE_DIR}/e2e/test_evil_server.py $<TARGET_FILE:maas>)

find_program(MAAS_CXX NAMES c++ g++ clang++ REQUIRED)
maas_e2e_script(client_install 120 ${CMAKE_BINARY_DIR} ${PROJECT_SOURCE_DIR} ${CMAKE_C_COMPILER}
	${MAAS_CXX} -fsanitize=${MAAS_SANITIZE})

maas_e2e_script(examples 120 ${CMAKE_BINARY_DIR} ${PROJECT_SOURCE_DIR} ${CMAKE_C_COMPILER}
	-fsanitize=${MAAS_SANITIZE})

# Both write the manifest of what was installed.
set_tests_properties(e2e_client_install e2e_examples PROPERTIES RESOURCE_LOCK install)

# The same programs in the build tree, for the tests on an RDMA device.
enable_language(CXX)
add_executable(borrow_c e2e/programs/borrow.c)
add_executable(borrow_cpp e2e/programs/borrow.cpp)
add_executable(hold e2e/programs/hold.c)
add_executable(example_file ${PROJECT_SOURCE_DIR}/examples/file.c)
add_executable(example_rdma ${PROJECT_SOURCE_DIR}/examples/rdma.c)
set(programs borrow_c borrow_cpp hold example_file example_rdma)
foreach(program ${programs})
	target_include_directories(${program} PRIVATE ${PROJECT_SOURCE_DIR}/client)
	target_link_libraries(${program} PRIVATE maas_shared)
endforeach()
set_target_properties(borrow_cpp PROPERTIES CXX_STANDARD 11)
# Like a user's programs they know nothing of sanitizers, and clang's do not come with the library.
set_target_properties(${programs} PROPERTIES EXCLUDE_FROM_ALL ${MAAS_FUZZ})

add_executable(hostile e2e/abuse.c e2e/crowd.c e2e/hostile.c e2e/wire.c)
target_include_directories(hostile PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
target_link_libraries(hostile PRIVATE maas_warnings maas_base Threads::Threads)
maas_e2e_script(hostile 600 $<TARGET_FILE:hostile>)

# With a sanitizer, its own memory would be what is measured.
if(NOT MAAS_SANITIZE)
	maas_e2e_script(memory 600)
	set_tests_properties(e2e_memory PROPERTIES LABELS slow)
endif()
