# Tests of base.
maas_unit_test(test_base maas_base)
maas_unit_test(test_ratelimit maas_base)
target_link_options(test_ratelimit PRIVATE -Wl,--wrap=maas_clock_ms)
maas_unit_test(test_log maas_base)
maas_unit_test(test_cgroup maas_base)
