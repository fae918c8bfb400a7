# Tests of http: the parsers alone, then a server in the test's own process.
maas_unit_test(test_http_parse maas_http PkgConfig::JANSSON)
