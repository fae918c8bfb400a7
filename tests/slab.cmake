# Tests of slab.
maas_unit_test(test_slab_smoke maas_slab)
