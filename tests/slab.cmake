# Tests of slab.
