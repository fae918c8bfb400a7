# Tests with Prometheus. They need Go, and are skipped where it is missing.
if(MAAS_SANITIZE)
	return()
endif()

maas_go_test(go_prometheus client/prometheus 600)
set_tests_properties(go_prometheus PROPERTIES LABELS prometheus)

# A real Prometheus: build/prometheus/test is what these tests build, without its web UI.
add_test(NAME e2e_prometheus
	COMMAND bash ${CMAKE_CURRENT_SOURCE_DIR}/go/prometheus.sh $<TARGET_FILE:maasd>)
set_tests_properties(e2e_prometheus PROPERTIES LABELS prometheus SKIP_RETURN_CODE 77 TIMEOUT 3000)
