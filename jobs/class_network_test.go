package jobs_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/perdure/perdure/jobs"
)

// closedPort returns an address that refuses connections.
func closedPort(t *testing.T) string {
	t.Helper()
	listener := listen(t)
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	return address
}

func listen(t *testing.T) *net.TCPListener {
	t.Helper()
	listener, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener
}

// serveOnce hands the first connection to a function, once a request has come.
func serveOnce(t *testing.T, serve func(*net.TCPConn)) string {
	t.Helper()
	listener := listen(t)
	served := make(chan struct{})
	go func() {
		defer close(served)
		connection, err := listener.AcceptTCP()
		if err != nil {
			return
		}
		defer connection.Close()
		var request []byte
		for part := make([]byte, 4096); !bytes.HasSuffix(request, []byte("\r\n\r\n")); {
			n, err := connection.Read(part)
			if err != nil {
				return
			}
			request = append(request, part[:n]...)
		}
		serve(connection)
	}()
	t.Cleanup(func() { _ = listener.Close(); <-served })
	return "http://" + listener.Addr().String() + "/"
}

// post sends a request that net/http does not repeat by itself, and reads the
// whole answer.
func post(t *testing.T, client *http.Client, url string) error {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	_, err = io.ReadAll(response.Body)
	return err
}

func newClient(t *testing.T, transport *http.Transport) *http.Client {
	t.Helper()
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func TestClassifyNetwork(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		produce func(t *testing.T) error
		class   jobs.Class
		rule    string
	}{
		{"refused, dialled", func(t *testing.T) error {
			_, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", closedPort(t))
			return err
		}, jobs.ClassUnavailable, "connection refused"},
		{"refused, http", func(t *testing.T) error {
			return post(t, newClient(t, &http.Transport{}), "http://"+closedPort(t))
		}, jobs.ClassUnavailable, "connection refused"},
		{"reset instead of a reply", func(t *testing.T) error {
			url := serveOnce(t, func(c *net.TCPConn) { _ = c.SetLinger(0) })
			return post(t, newClient(t, &http.Transport{}), url)
		}, jobs.ClassUnavailable, "connection reset"},
		{"broken pipe", func(t *testing.T) error {
			reader, writer, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer writer.Close()
			_ = reader.Close()
			_, err = writer.WriteString("x")
			return err
		}, jobs.ClassUnavailable, "connection reset"},
		{"closed without a reply", func(t *testing.T) error {
			url := serveOnce(t, func(*net.TCPConn) {})
			return post(t, newClient(t, &http.Transport{}), url)
		}, jobs.ClassUnavailable, "connection closed without a reply"},
		{"half a header", func(t *testing.T) error {
			url := serveOnce(t, func(c *net.TCPConn) { _, _ = c.Write([]byte("HTTP/1.1 200 OK\r\nServer: x\r\n")) })
			return post(t, newClient(t, &http.Transport{}), url)
		}, jobs.ClassTransient, "reply cut short"},
		{"half a body", func(t *testing.T) error {
			url := serveOnce(t, func(c *net.TCPConn) {
				_, _ = c.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"))
			})
			return post(t, newClient(t, &http.Transport{}), url)
		}, jobs.ClassTransient, "reply cut short"},
		{"half a chunk", func(t *testing.T) error {
			url := serveOnce(t, func(c *net.TCPConn) {
				_, _ = c.Write([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nhalf"))
			})
			return post(t, newClient(t, &http.Transport{}), url)
		}, jobs.ClassTransient, "reply cut short"},
		{"host unreachable", func(*testing.T) error {
			return &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EHOSTUNREACH)}
		}, jobs.ClassUnavailable, "unreachable"},
		{"network unreachable", func(*testing.T) error {
			return &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ENETUNREACH)}
		}, jobs.ClassUnavailable, "unreachable"},
		{"dns server refuses", func(t *testing.T) error {
			_, err := resolver(closedPort(t)).LookupHost(t.Context(), "service.invalid.")
			return err
		}, jobs.ClassUnavailable, "dns"},
		{"dns knows no such name", func(t *testing.T) error {
			_, err := resolver(nameServer(t, 3)).LookupHost(t.Context(), "service.invalid.")
			return err
		}, jobs.ClassUnavailable, "dns"},
		{"dns server fails", func(t *testing.T) error {
			_, err := resolver(nameServer(t, 2)).LookupHost(t.Context(), "service.invalid.")
			return err
		}, jobs.ClassUnavailable, "dns"},
		{"dns, http", func(t *testing.T) error {
			dialer := &net.Dialer{Resolver: resolver(nameServer(t, 3))}
			return post(t, newClient(t, &http.Transport{DialContext: dialer.DialContext}), "http://service.invalid.")
		}, jobs.ClassUnavailable, "dns"},
		{"dns within a context that has ended", func(t *testing.T) error {
			ctx, cancel := context.WithDeadline(t.Context(), time.Unix(0, 0))
			defer cancel()
			_, err := resolver(nameServer(t, 3)).LookupHost(ctx, "service.invalid.")
			return err
		}, jobs.ClassTimeout, "context deadline"},
		{"read deadline", func(t *testing.T) error {
			here, there := net.Pipe()
			defer here.Close()
			defer there.Close()
			_ = here.SetReadDeadline(time.Unix(1, 0))
			_, err := here.Read(make([]byte, 1))
			return err
		}, jobs.ClassTimeout, "network timeout"},
		{"timeout of the kernel", func(*testing.T) error {
			return &net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ETIMEDOUT)}
		}, jobs.ClassTimeout, "network timeout"},
		{"client timeout", func(t *testing.T) error {
			client := silentServer(t)
			client.Timeout = time.Millisecond
			return post(t, client, "http://silent.invalid/")
		}, jobs.ClassTimeout, "context deadline"},
		{"header timeout", func(t *testing.T) error {
			client := silentServer(t)
			client.Transport.(*http.Transport).ResponseHeaderTimeout = time.Millisecond
			return post(t, client, "http://silent.invalid/")
		}, jobs.ClassTimeout, "context deadline"},
		{"request's context cancelled", func(t *testing.T) error {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+closedPort(t), http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			response, err := newClient(t, &http.Transport{}).Do(request)
			if err == nil {
				_ = response.Body.Close()
			}
			return err
		}, jobs.ClassTransient, "context cancelled"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			err := test.produce(t)
			if err == nil {
				t.Fatal("no error was produced")
			}
			requireClass(t, err, test.class, test.rule)
		})
	}
}

// silentServer returns a client of a server that never answers.
func silentServer(t *testing.T) *http.Client {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	t.Cleanup(server.Close)
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", server.Listener.Addr().String())
	}
	return newClient(t, &http.Transport{DialContext: dial})
}

// resolver asks one name server only.
func resolver(address string) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}}
}

// nameServer answers every question with an error code: 2 is a failure of the
// server, 3 a name that does not exist.
func nameServer(t *testing.T, code byte) string {
	t.Helper()
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for message := make([]byte, 1024); ; {
			n, from, err := server.ReadFrom(message)
			if err != nil {
				return
			}
			_, _ = server.WriteTo(answer(message[:n], code), from)
		}
	}()
	t.Cleanup(func() { _ = server.Close(); <-stopped })
	return server.LocalAddr().String()
}

// answer turns a DNS message of one question into the answer to it.
func answer(message []byte, code byte) []byte {
	message[2] |= 0x80 // a response
	message[3] = code
	clear(message[6:12]) // the question only, no records
	end := 12
	for message[end] != 0 {
		end += int(message[end]) + 1
	}
	return message[:end+5]
}

func TestClassifyTLS(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	trusted := x509.NewCertPool()
	trusted.AddCert(server.Certificate())
	tests := []struct {
		name   string
		config *tls.Config
	}{
		{"unknown authority", &tls.Config{RootCAs: x509.NewCertPool()}},
		{"another host", &tls.Config{RootCAs: trusted, ServerName: "other.invalid"}},
		{"expired", &tls.Config{RootCAs: trusted, Time: func() time.Time { return server.Certificate().NotAfter.Add(time.Hour) }}},
		{"not valid yet", &tls.Config{RootCAs: trusted, Time: func() time.Time { return server.Certificate().NotBefore.Add(-time.Hour) }}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			err := post(t, newClient(t, &http.Transport{TLSClientConfig: test.config}), server.URL)
			if err == nil {
				t.Fatal("no error was produced")
			}
			requireClass(t, err, jobs.ClassDenied, "bad certificate")
		})
	}
	t.Run("trusted", func(t *testing.T) {
		t.Parallel()
		if err := post(t, newClient(t, &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted}}), server.URL); err != nil {
			t.Error(err)
		}
	})
	for name, version := range map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13} {
		t.Run("no client certificate, TLS "+name, func(t *testing.T) {
			t.Parallel()
			requireClass(t, handshake(t, server.TLS.Certificates, version, nil), jobs.ClassDenied, "tls alert")
		})
		t.Run("client certificate of another authority, TLS "+name, func(t *testing.T) {
			t.Parallel()
			requireClass(t, handshake(t, server.TLS.Certificates, version, server.TLS.Certificates), jobs.ClassDenied, "tls alert")
		})
	}
}

// handshake returns what a client reads from a server that requires a client
// certificate and trusts none. The server closes only after the client has read,
// so that the alert is not lost to a reset.
func handshake(t *testing.T, own []tls.Certificate, version uint16, certificates []tls.Certificate) error {
	t.Helper()
	listener := listen(t)
	read, served := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(served)
		connection, err := listener.Accept()
		if err != nil {
			return
		}
		defer connection.Close()
		_ = tls.Server(connection, &tls.Config{
			Certificates: own, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: x509.NewCertPool(),
		}).HandshakeContext(t.Context())
		<-read
	}()
	connection, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	client := tls.Client(connection, &tls.Config{
		InsecureSkipVerify: true, MinVersion: version, MaxVersion: version, // it is the server that refuses here
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if len(certificates) == 0 {
				return new(tls.Certificate), nil
			}
			return &certificates[0], nil
		},
	})
	if err = client.HandshakeContext(t.Context()); err == nil {
		_, err = client.Read(make([]byte, 1))
	}
	close(read)
	<-served
	if err == nil {
		t.Fatal("the server did not refuse")
	}
	return err
}
