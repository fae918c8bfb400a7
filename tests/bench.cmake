# The drivers of scripts/bench, and tests of what they stand on.
add_library(bench_report STATIC bench/report.c bench/options.c)
target_link_libraries(bench_report PRIVATE maas_warnings PkgConfig::JANSSON PUBLIC maas_base m)

add_library(bench_load STATIC bench/load.c bench/wire.c)
target_link_libraries(bench_load PRIVATE maas_warnings PUBLIC maas_base)

add_executable(test_bench bench/test_bench.c)
target_link_libraries(test_bench PRIVATE maas_warnings bench_report bench_load PkgConfig::CMOCKA)
add_test(NAME test_bench COMMAND test_bench)
set_tests_properties(test_bench PROPERTIES LABELS unit TIMEOUT 60)

add_executable(bench_slab bench/bench_slab.c bench/contest.c)
target_link_libraries(bench_slab PRIVATE maas_warnings bench_report maas_slab ${CMAKE_DL_LIBS})
# Else the compiler drops a malloc whose memory is only freed.
set_source_files_properties(bench/contest.c PROPERTIES
	COMPILE_OPTIONS "-fno-builtin-malloc;-fno-builtin-free")

add_executable(bench_http bench/bench_http.c bench/scene.c bench/scene_open.c bench/server.c
	bench/jobs.c bench/call.c)
target_link_libraries(bench_http PRIVATE maas_warnings bench_report bench_load PkgConfig::JANSSON)

add_executable(bare_mhd bench/bare_mhd.c)
target_link_libraries(bare_mhd PRIVATE maas_warnings PkgConfig::MHD)

# bind_keys is a program of its own: the server's names and those of libmaas do not go together.
add_executable(bind_keys bench/bind_keys.c bench/bare_keys.c)
target_link_libraries(bind_keys PRIVATE
	maas_warnings maas_rdma PkgConfig::VERBS PkgConfig::SODIUM Threads::Threads)

add_executable(bench_rdma bench/bench_rdma.c bench/rdma_data.c bench/rdma_rows.c bench/perftest.c
	bench/key_maker.c bench/server.c)
target_link_libraries(bench_rdma PRIVATE maas_warnings bench_report maas_shared m)
