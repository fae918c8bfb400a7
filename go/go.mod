module github.com/maas-memory/maas/go

go 1.24.0
