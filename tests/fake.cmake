# Tests of rdma and of client's RDMA without a device: libibverbs and librdmacm are replaced by
# tests/fake/fake_verbs.h. As objects, so that these come before the shared libraries.
add_library(fake_verbs OBJECT
	fake/fake_cm.c fake/fake_connect.c fake/fake_cq.c fake/fake_memory.c fake/fake_qp.c
	fake/fake_run.c fake/fake_verbs.c)
target_link_libraries(fake_verbs PRIVATE maas_warnings PUBLIC PkgConfig::VERBS)

maas_unit_test(test_fake_verbs fake_verbs)
maas_unit_test(test_rdma_grades fake_verbs maas_rdma)
maas_fail_nth(test_rdma_grades)
