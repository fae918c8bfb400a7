# Tests with Prometheus. They need Go, and are skipped where it is missing.
if(MAAS_SANITIZE)
	return()
endif()

maas_go_test(go_prometheus client/prometheus 600
	./blocks ./chunkstore ./edit ./flags ./memory ./record ./segment ./tail)
set_tests_properties(go_prometheus PROPERTIES LABELS prometheus)

# A real Prometheus: build/prometheus/test is what these tests build, without its web UI.
add_test(NAME e2e_prometheus
	COMMAND bash ${CMAKE_CURRENT_SOURCE_DIR}/go/prometheus.sh $<TARGET_FILE:maasd>)
set_tests_properties(e2e_prometheus PROPERTIES LABELS prometheus SKIP_RETURN_CODE 77 TIMEOUT 3000)

# Two of them, one of which follows the other.
add_test(NAME e2e_prometheus_standby
	COMMAND bash ${CMAKE_CURRENT_SOURCE_DIR}/go/prometheus.sh $<TARGET_FILE:maasd> standby)
set_tests_properties(e2e_prometheus_standby PROPERTIES LABELS prometheus SKIP_RETURN_CODE 77 TIMEOUT 3000)

# A stock tsdb and ours, fed and asked the same while everything around ours fails.
add_test(NAME prometheus_same_answers
	COMMAND bash ${CMAKE_CURRENT_SOURCE_DIR}/go/same_answers.sh $<TARGET_FILE:maasd>)
set_tests_properties(prometheus_same_answers PROPERTIES LABELS prometheus SKIP_RETURN_CODE 77 TIMEOUT 18000)

add_test(NAME go_prometheus_versions COMMAND bash ${CMAKE_CURRENT_SOURCE_DIR}/go/edits.sh)
set_tests_properties(go_prometheus_versions PROPERTIES LABELS prometheus SKIP_RETURN_CODE 77 TIMEOUT 3000)

# Prometheus's own tests, on our store: those of the head, the database and out-of-order samples with
# every 7th call to the server failing; in the long run all of tsdb, in every mode.
add_test(NAME go_prometheus_upstream COMMAND bash ${CMAKE_CURRENT_SOURCE_DIR}/go/upstream_all.sh $<TARGET_FILE:maasd>)
set_tests_properties(go_prometheus_upstream PROPERTIES LABELS prometheus SKIP_RETURN_CODE 77 TIMEOUT 10000)

# In the long run alone: an evening beside a stock Prometheus, with the server on a second host, and on a
# real RDMA device.
add_test(NAME e2e_prometheus_evening
	COMMAND bash ${CMAKE_CURRENT_SOURCE_DIR}/go/prometheus.sh $<TARGET_FILE:maasd> evening)
set_tests_properties(e2e_prometheus_evening PROPERTIES LABELS long SKIP_RETURN_CODE 77 TIMEOUT 7200)
add_test(NAME e2e_prometheus_hosts
	COMMAND bash ${CMAKE_CURRENT_SOURCE_DIR}/go/prometheus.sh $<TARGET_FILE:maasd> hosts)
set_tests_properties(e2e_prometheus_hosts PROPERTIES LABELS long SKIP_RETURN_CODE 77 TIMEOUT 3000)
add_test(NAME rdma_prometheus
	COMMAND bash ${CMAKE_CURRENT_SOURCE_DIR}/rdma/prometheus.sh 600 $<TARGET_FILE:maasd>)
set_tests_properties(rdma_prometheus PROPERTIES LABELS long SKIP_RETURN_CODE 77 TIMEOUT 36000 RUN_SERIAL ON)
add_test(NAME rdma_same_answers
	COMMAND bash ${CMAKE_CURRENT_SOURCE_DIR}/rdma/same_answers.sh 900 $<TARGET_FILE:maasd>
		$<TARGET_FILE_DIR:maas_shared> ${PROJECT_SOURCE_DIR}/client)
set_tests_properties(rdma_same_answers PROPERTIES LABELS long SKIP_RETURN_CODE 77 TIMEOUT 36000 RUN_SERIAL ON)
