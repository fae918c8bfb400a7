# Tests of base.
maas_unit_test(test_base maas_base)
