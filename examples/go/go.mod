module example.com/counter

go 1.24.0

require github.com/maas-memory/maas/go v0.0.0

// Where the checkout of maas is.
replace github.com/maas-memory/maas/go => ../../go
