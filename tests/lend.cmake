# Tests of lend.
maas_unit_test(test_lend_lease maas_lend)
maas_unit_test(test_lend_list maas_lend)
maas_unit_test(test_lend_request maas_lend)
maas_unit_test(test_lend_session maas_lend)
maas_unit_test(test_lend_transfer maas_lend)
maas_unit_test(test_lend_keys maas_lend)
target_sources(test_lend_keys PRIVATE fake/fake_keys.c)
