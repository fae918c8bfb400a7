module example.com/counter

go 1.26.0

require maas/client/go v0.0.0

// Where the checkout of maas is.
replace maas/client/go => ../../client/go
