# Tests of lend.
maas_unit_test(test_lend_lease maas_lend)
maas_unit_test(test_lend_session maas_lend)
maas_unit_test(test_lend_transfer maas_lend)
