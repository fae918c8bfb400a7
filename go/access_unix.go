// SPDX-License-Identifier: Apache-2.0

//go:build unix

// Who else may read or change a file.

package maas

import (
	"fmt"
	"os"
	"strings"
	"syscall"
)

func checkAccess(info os.FileInfo, path string, secret bool) error {
	forbidden, may, mode := os.FileMode(0o022), "written by", "0644"
	if secret {
		forbidden, mode = 0o027, "0640"
	}
	if status, ok := info.Sys().(*syscall.Stat_t); ok && status.Uid != 0 && int(status.Uid) != os.Geteuid() {
		return fmt.Errorf("%s belongs to the user %d, who could change it: chown it to root", path, status.Uid)
	}
	got := info.Mode().Perm()
	if got&forbidden == 0 {
		return nil
	}
	if got&forbidden&0o004 != 0 {
		may = "read by"
	}
	return fmt.Errorf("%s may be %s others (mode %03o): chmod %s it; in Kubernetes, give the volume defaultMode: %s",
		path, may, got, mode, strings.Replace(mode, "6", "4", 1))
}
