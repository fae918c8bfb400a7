# Tests of lend.
