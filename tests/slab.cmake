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

maas_unit_test(test_id maas_slab)
maas_unit_test(test_slab_bounds maas_slab)
maas_unit_test(test_slab_extents maas_slab)
maas_unit_test(test_slab_fail_nth maas_slab)
maas_unit_test(test_slab_file maas_slab)
maas_unit_test(test_slab_guard maas_slab)
maas_unit_test(test_slab_model maas_slab)
maas_unit_test(test_slab_nospace maas_slab)
maas_unit_test(test_slab_refuse maas_slab)
maas_unit_test(test_slab_reuse maas_slab)
maas_unit_test(test_slab_smoke maas_slab)
maas_unit_test(test_slab_threads maas_slab)

target_sources(test_slab_model PRIVATE unit/slab_model.c)
maas_fail_nth(test_slab_fail_nth)
maas_slow_run(test_slab_threads)

# Long runs in one thread, which ThreadSanitizer would only slow down; figures of memory and steps,
# which sanitizers would only blur.
if(NOT MAAS_SANITIZE)
	maas_slow_run(test_slab_extents)
	maas_slow_run(test_slab_model)
	maas_unit_test(test_slab_memory maas_slab)
	maas_unit_test(test_slab_steps maas_slab)
	set_tests_properties(test_slab_memory test_slab_steps PROPERTIES LABELS slow)
else()
	set_tests_properties(test_slab_extents test_slab_model PROPERTIES ENVIRONMENT MAAS_SHORT=1)
endif()
