# Tests of rdma and of client's RDMA without a device: libibverbs and librdmacm are replaced by
# tests/fake/fake_verbs.h. As objects, so that these come before the shared libraries.
add_library(fake_verbs OBJECT
	fake/fake_cm.c fake/fake_connect.c fake/fake_cq.c fake/fake_memory.c fake/fake_qp.c
	fake/fake_run.c fake/fake_verbs.c)
target_link_libraries(fake_verbs PRIVATE maas_warnings PUBLIC PkgConfig::VERBS)

maas_unit_test(test_fake_verbs fake_verbs)
maas_unit_test(test_rdma_grades fake_verbs maas_rdma)
maas_fail_nth(test_rdma_grades)

# maas_rdma_unit_test(NAME): over a server and clients of the fake device, on a clock of its own.
add_library(rdma_fixture OBJECT unit/rdma_fixture.c)
target_link_libraries(rdma_fixture PRIVATE maas_warnings maas_rdma PkgConfig::CMOCKA
	PkgConfig::VERBS)
function(maas_rdma_unit_test name)
	maas_unit_test(${name} rdma_fixture fake_verbs maas_rdma)
	target_link_options(${name} PRIVATE -Wl,--wrap=maas_clock_ms -Wl,--wrap=maas_clock_ns)
endfunction()

maas_rdma_unit_test(test_rdma_connect)
maas_rdma_unit_test(test_rdma_keys)
maas_rdma_unit_test(test_rdma_revoke)
maas_rdma_unit_test(test_rdma_nomem)
maas_fail_nth(test_rdma_nomem)
