// SPDX-License-Identifier: Apache-2.0

//go:build !unix

package maas

import "os"

// checkAccess takes any file: its mode does not say here who may do what with it.
func checkAccess(os.FileInfo, string, bool) error { return nil }
