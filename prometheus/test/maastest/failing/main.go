// SPDX-License-Identifier: Apache-2.0

// Command failing stands before a memory server, passes requests on, and lets every 7th fail in one
// of three ways. It prints its URL, and runs until it is killed.
//
//	failing http://127.0.0.1:3000
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"sync/atomic"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: failing URL")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "failing:", err)
		os.Exit(1)
	}
}

func run(server string) error {
	target, err := url.Parse(server)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Printf("http://%s\n", listener.Addr())
	return http.Serve(listener, everySeventh(httputil.NewSingleHostReverseProxy(target)))
}

func everySeventh(proxy http.Handler) http.Handler {
	var calls atomic.Int64
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch n := calls.Add(1); {
		case n%7 != 0:
			proxy.ServeHTTP(w, r)
		case n%3 == 0:
			http.Error(w, "{}", http.StatusServiceUnavailable)
		case n%3 == 1:
			_, _ = io.Copy(io.Discard, r.Body)
			panic(http.ErrAbortHandler) // The connection ends without an answer.
		default:
			proxy.ServeHTTP(httptest.NewRecorder(), r) // It is done, and the answer is lost.
			panic(http.ErrAbortHandler)
		}
	})
}
