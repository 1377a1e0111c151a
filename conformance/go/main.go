// The application that the conformance suite asks for (docs/conformance.md), on Go's net/http/fcgi.
//
//	go build -o app-go ./conformance/go/main.go && ./app-go /tmp/app.sock
//
// The package has no API for FCGI_STDERR, for appStatus and for the roles Authorizer and Filter, and always writes a
// header block: /stderr, /appstatus, /nothing and the two roles are missing.
package main

import (
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/fcgi"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

var started, ended, aborted int64

var zeros [64 * 1024]byte

// A handler has been told that its request is given up when its body fails, when a write fails, or when its context ends.
func handle(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/counters" {
		fmt.Fprintf(w, "started %d\nended %d\naborted %d\n",
			atomic.LoadInt64(&started), atomic.LoadInt64(&ended), atomic.LoadInt64(&aborted))
		return
	}
	atomic.AddInt64(&started, 1)
	if respond(w, r) {
		atomic.AddInt64(&ended, 1)
	} else {
		atomic.AddInt64(&aborted, 1)
	}
}

func number(r *http.Request) int {
	query := r.URL.RawQuery
	n, _ := strconv.Atoi(query[strings.LastIndex(query, "=")+1:])
	return n
}

func respond(w http.ResponseWriter, r *http.Request) bool {
	switch r.URL.Path {
	case "/echo":
		w.Header().Set("Content-Type", "application/octet-stream")
		w.WriteHeader(200)
		w.(http.Flusher).Flush()
		buffer := make([]byte, 64*1024)
		for {
			n, err := r.Body.Read(buffer)
			if n > 0 {
				if _, err := w.Write(buffer[:n]); err != nil {
					return false
				}
				w.(http.Flusher).Flush()
			}
			if err == io.EOF {
				return true
			}
			if err != nil {
				return false
			}
		}
	case "/length":
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			http.Error(w, err.Error(), 400)
			return true
		}
		fmt.Fprintf(w, "%d\n", n)
	case "/params":
		for name, value := range fcgi.ProcessEnv(r) {
			if strings.HasPrefix(name, "X_") {
				fmt.Fprintf(w, "%s=%s\n", hex.EncodeToString([]byte(name)), hex.EncodeToString([]byte(value)))
			}
		}
	case "/sleep":
		select {
		case <-time.After(time.Duration(number(r)) * time.Millisecond):
		case <-r.Context().Done():
			return false
		}
		fmt.Fprint(w, "slept\n")
	case "/large":
		w.Header().Set("Content-Type", "application/octet-stream")
		for left := number(r); left > 0; {
			n := left
			if n > len(zeros) {
				n = len(zeros)
			}
			if _, err := w.Write(zeros[:n]); err != nil {
				return false
			}
			left -= n
		}
	default:
		http.NotFound(w, r)
	}
	return true
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: app-go PATH-OF-SOCKET")
		os.Exit(2)
	}
	os.Remove(os.Args[1])
	listener, err := net.Listen("unix", os.Args[1])
	if err == nil {
		err = fcgi.Serve(listener, http.HandlerFunc(handle))
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
