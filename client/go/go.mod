module maas/client/go

go 1.26.0
