# Tests of slab.

# maas_fail_nth(TARGET) makes the memory requests of a test program fail on command
# (tests/fake/fail_nth.h).
function(maas_fail_nth target)
	target_sources(${target} PRIVATE fake/fail_nth.c)
	foreach(symbol malloc calloc realloc reallocarray aligned_alloc posix_memalign strdup strndup
			free mmap munmap)
		target_link_options(${target} PRIVATE -Wl,--wrap=${symbol})
	endforeach()
endfunction()

# maas_slow_run(NAME) lets NAME make a short run among the unit tests, and a run with the full counts
# of the tier among the slow ones.
function(maas_slow_run name)
	set_tests_properties(${name} PROPERTIES ENVIRONMENT MAAS_SHORT=1)
	add_test(NAME ${name}_slow COMMAND ${name})
	set_tests_properties(${name}_slow PROPERTIES LABELS slow SKIP_RETURN_CODE 77 TIMEOUT 600)
endfunction()

maas_unit_test(test_slab_model maas_slab)
maas_unit_test(test_slab_reuse maas_slab)
maas_unit_test(test_slab_smoke maas_slab)

target_sources(test_slab_model PRIVATE unit/slab_model.c)

# Long runs in one thread, which a sanitizer would only slow down.
if(NOT MAAS_SANITIZE)
	maas_slow_run(test_slab_model)
else()
	set_tests_properties(test_slab_model PROPERTIES ENVIRONMENT MAAS_SHORT=1)
endif()
