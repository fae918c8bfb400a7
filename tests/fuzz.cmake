# Fuzz targets: maas_fuzz(NAME CORPUS LIBRARY...) builds fuzz/NAME.c. With MAAS_FUZZ it is a
# libFuzzer program (run it on a directory of its own and fuzz/corpus/CORPUS), else it only runs
# the corpus. Either way ctest replays the corpus.
function(maas_fuzz name corpus)
	set(seeds ${CMAKE_CURRENT_SOURCE_DIR}/fuzz/corpus/${corpus})
	add_executable(${name} fuzz/${name}.c)
	target_include_directories(${name} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
	target_link_libraries(${name} PRIVATE maas_warnings ${ARGN})
	if(MAAS_FUZZ)
		target_compile_options(${name} PRIVATE -fsanitize=fuzzer)
		target_link_options(${name} PRIVATE -fsanitize=fuzzer)
		add_test(NAME ${name} COMMAND ${name} -runs=0 ${seeds})
	else()
		target_sources(${name} PRIVATE fuzz/replay.c)
		add_test(NAME ${name} COMMAND ${name} ${seeds})
	endif()
	set_tests_properties(${name} PROPERTIES LABELS unit TIMEOUT 60)
endfunction()

# The fuzzer steers by what it sees executed, in our libraries too.
if(MAAS_FUZZ)
	target_compile_options(maas_warnings INTERFACE -fsanitize=fuzzer-no-link)
	target_link_options(maas_warnings INTERFACE -fsanitize=fuzzer-no-link)
endif()

maas_fuzz(fuzz_http http maas_http PkgConfig::JANSSON)
maas_fuzz(fuzz_options options maas_daemon)
maas_fuzz(fuzz_segment segment maas_cmd_parts)
