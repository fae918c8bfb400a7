# Tests of daemon.
maas_unit_test(test_options maas_daemon)
target_compile_definitions(test_options PRIVATE
	MAAS_MANUAL="${PROJECT_SOURCE_DIR}/daemon/maasd.8")
maas_unit_test(test_options_env maas_daemon)
maas_unit_test(test_machine maas_daemon)
