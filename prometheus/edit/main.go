// SPDX-License-Identifier: Apache-2.0

// Command edit applies this project's changes to a tree of Prometheus's source.
package main

import (
	"embed"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// mark is the first line of every file that was changed.
const mark = "// This file was changed for MaaS; the changes are listed in prometheus/edit/edits.go.\n"

// files are copied without the suffix .txt, which keeps them out of this module's build.
//
//go:embed files testfiles
var files embed.FS

func main() {
	dir := flag.String("dir", "", "root of the Prometheus tree to edit")
	only := flag.String("only", "", "edit only what lies below this folder, such as tsdb")
	tests := flag.Bool("tests", false, "add what lets the tree's own tests run on the stores of this module")
	flag.Parse()
	if *dir == "" || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	report, err := apply(*dir, *only, edits)
	if err != nil {
		fmt.Fprintln(os.Stderr, "edit:", err)
		os.Exit(1)
	}
	fmt.Println(report)
	if *tests {
		if _, err := add("testfiles", *dir, *only); err != nil {
			fmt.Fprintln(os.Stderr, "edit:", err)
			os.Exit(1)
		}
	}
}

// apply edits a tree: all of it, or nothing if an anchor has the wrong count. Files that were edited before stay
// as they are, so a run can complete one that broke off, or one that was narrower.
func apply(dir, only string, edits []edit) (string, error) {
	texts := map[string]string{}
	edited := map[string]bool{}
	var problems []error
	for _, e := range edits {
		if !strings.HasPrefix(e.file, only) {
			continue
		}
		text, ok := texts[e.file]
		if !ok {
			b, err := os.ReadFile(filepath.Join(dir, e.file))
			if err != nil {
				return "", fmt.Errorf("%w: is %s the root of a Prometheus tree?", err, dir)
			}
			text = string(b)
			edited[e.file] = strings.HasPrefix(text, mark)
		}
		if edited[e.file] {
			texts[e.file] = text
			if strings.Count(text, e.with) != e.count {
				problems = append(problems, fmt.Errorf("%s: edited before, but not so; begin with a fresh tree:\n\t%s", e.file, strings.TrimSpace(e.with)))
			}
			continue
		}
		if n := strings.Count(text, e.anchor); n != e.count {
			problems = append(problems, fmt.Errorf("%s: expected %d times, found %d times:\n\t%s", e.file, e.count, n, strings.TrimSpace(e.anchor)))
		}
		texts[e.file] = strings.ReplaceAll(text, e.anchor, e.with)
	}
	if len(problems) > 0 {
		return "", fmt.Errorf("this tree differs from what the edits are made for (Prometheus 3.13 to 3.16); nothing was changed:\n%w", errors.Join(problems...))
	}
	for file := range edited {
		if edited[file] {
			delete(texts, file)
		}
	}
	return write(dir, only, texts)
}

func write(dir, only string, texts map[string]string) (string, error) {
	// The added files come first: a file that is marked as edited needs them.
	added, err := add("files", dir, only)
	if err != nil {
		return "", err
	}
	for file, text := range texts {
		if err := replace(filepath.Join(dir, file), mark+text); err != nil {
			return "", err
		}
	}
	if len(texts) == 0 {
		return "already edited: " + dir, nil
	}
	return fmt.Sprintf("%d files changed, %d added: %s", len(texts), added, dir), nil
}

// add copies one of the embedded folders into a tree.
func add(folder, dir, only string) (added int, err error) {
	err = fs.WalkDir(files, folder, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		target := strings.TrimSuffix(strings.TrimPrefix(name, folder+"/"), ".txt")
		if !strings.HasPrefix(target, only) {
			return nil
		}
		b, err := files.ReadFile(name)
		if err != nil {
			return err
		}
		added++
		return replace(filepath.Join(dir, filepath.FromSlash(target)), string(b))
	})
	return added, err
}

// replace writes a new file in the place of the old one, all of it or nothing: the old one may be a link into a
// shared module cache.
func replace(name, text string) error {
	unfinished := name + ".unfinished"
	if err := os.WriteFile(unfinished, []byte(text), 0o644); err != nil {
		return err
	}
	return os.Rename(unfinished, name)
}
