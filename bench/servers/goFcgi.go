// Go's net/http/fcgi with the benchmark's paths: the FastCGI server of another language's standard library. It keeps
// connections, and runs a goroutine for each request.
package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/fcgi"
	"os"
)

func main() {
	large := make([]byte, 1024*1024)
	for i := range large {
		large[i] = byte(i*31 + i>>8)
	}
	listener, err := net.Listen("unix", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/bench/hello", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		io.WriteString(w, "Hello world!")
	})
	mux.HandleFunc("/bench/upload", func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/plain")
		fmt.Fprint(w, n)
	})
	mux.HandleFunc("/bench/download", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Write(large)
	})
	mux.HandleFunc("/bench/stream", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/octet-stream")
		for i := 0; i < 16; i++ {
			w.Write(large[i*65536 : (i+1)*65536])
		}
	})
	mux.HandleFunc("/bench/wait", func(w http.ResponseWriter, r *http.Request) { select {} })
	log.Fatal(fcgi.Serve(listener, mux))
}
