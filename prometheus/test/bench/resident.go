// SPDX-License-Identifier: Apache-2.0

//go:build maas_edited

package main

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// resident is what a container's working set counts of this process: its anonymous and file-backed
// pages, and the page cache of the chunk files, of which it has mapped a part.
func resident(chunkDir string) (sum int64) {
	sum = lines("/proc/self/status", "RssAnon:", "RssFile:") - mappedBytes(chunkDir)
	files, _ := filepath.Glob(filepath.Join(chunkDir, "*"))
	for _, name := range files {
		sum += cachedBytes(name)
	}
	return sum
}

// lines adds up the figures, in KiB, of a file of /proc.
func lines(name string, keys ...string) (sum int64) {
	b, err := os.ReadFile(name)
	check(err)
	for line := range strings.Lines(string(b)) {
		if fields := strings.Fields(line); len(fields) > 1 && slices.Contains(keys, fields[0]) {
			sum += kib(fields[1])
		}
	}
	return sum
}

func kib(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	check(err)
	return n << 10
}

// mappedBytes is how much of a folder's files is mapped and present.
func mappedBytes(dir string) (sum int64) {
	b, err := os.ReadFile("/proc/self/smaps")
	check(err)
	within := false
	for line := range strings.Lines(string(b)) {
		fields := strings.Fields(line)
		switch {
		case strings.Contains(fields[0], "-"):
			within = strings.HasPrefix(fields[len(fields)-1], dir+"/")
		case within && fields[0] == "Rss:":
			sum += kib(fields[1])
		}
	}
	return sum
}

// cachedBytes is how much of a file is in page cache.
func cachedBytes(name string) (sum int64) {
	f, err := os.Open(name)
	check(err)
	defer f.Close()
	info, err := f.Stat()
	check(err)
	if info.Size() == 0 {
		return 0
	}
	b, err := unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED)
	check(err)
	defer func() { check(unix.Munmap(b)) }()
	page := os.Getpagesize()
	present := make([]byte, (len(b)+page-1)/page)
	_, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), uintptr(unsafe.Pointer(&present[0])))
	if errno != 0 {
		check(errno)
	}
	for _, p := range present {
		sum += int64(p&1) * int64(page)
	}
	return sum
}
