// The server in Go: a goroutine and a buffer per connection. Go turns Nagle's delay off and raises the descriptor limit by
// itself; that it runs on one thread is said by GOMAXPROCS in the environment.
//
// Not io.Copy, which would splice through a pipe: three descriptors per connection, and more calls per echo.
package main

import (
	"flag"
	"fmt"
	"net"
	"os"
	"time"
)

func echo(connection net.Conn) {
	defer connection.Close()
	buffer := make([]byte, 16*1024)
	for {
		size, err := connection.Read(buffer)
		if size > 0 {
			if _, err := connection.Write(buffer[:size]); err != nil {
				return
			}
		}
		if err != nil { // The peer's end, or a reset.
			return
		}
	}
}

func main() {
	port := flag.Int("port", 0, "port to listen on")
	host := flag.String("host", "127.0.0.1", "address to listen on")
	flag.Parse()
	listener, err := net.Listen("tcp", fmt.Sprintf("%s:%d", *host, *port))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Printf("listening on %s:%d\n", *host, *port)
	for {
		connection, err := listener.Accept()
		if err != nil {
			time.Sleep(10 * time.Millisecond) // Out of descriptors, most likely: accepting again at once would spin.
			continue
		}
		go echo(connection)
	}
}
