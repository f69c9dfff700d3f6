// Program calls stands where the suite's mesh manifests have Istio's echo application, which is not
// to be had as a Go module: a server that says who it is and what it was asked, and, as `client`, a
// caller that prints what it was answered in the lines that the suite reads.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
)

// list is a flag that may be given several times.
type list []string

func (l *list) String() string { return strings.Join(*l, ",") }

func (l *list) Set(text string) error {
	*l = append(*l, text)
	return nil
}

const method = "/suimon.dev.Calls/Echo"

// text is a gRPC codec for messages that are bytes already.
type text struct{}

func (text) Name() string { return "text" }

func (text) Marshal(message any) ([]byte, error) { return []byte(*message.(*string)), nil }

func (text) Unmarshal(data []byte, message any) error {
	*message.(*string) = string(data)
	return nil
}

func main() {
	if filepath.Base(os.Args[0]) == "client" {
		client(os.Args[1:])
		return
	}
	server()
}

func server() {
	var ports list
	flag.Var(&ports, "port", "a port for HTTP")
	grpcPort := flag.String("grpc", "", "the port for gRPC")
	tls := flag.String("tls", "", "the port for TLS; nobody asks there")
	for _, name := range []string{"tcp", "crt", "key"} {
		flag.String(name, "", "not used")
	}
	flag.Parse()
	if len(ports) == 0 {
		// Who only calls has no ports in the manifests.
		ports = list{"8080"}
	}
	failed := make(chan error)
	for _, port := range ports {
		if port != *tls {
			go func() { failed <- http.ListenAndServe(":"+port, http.HandlerFunc(answer)) }()
		}
	}
	if *grpcPort != "" {
		go func() { failed <- serveGrpc(*grpcPort) }()
	}
	log.Fatal(<-failed)
}

func who() string {
	name, _ := os.Hostname()
	return "Hostname=" + name + "\n"
}

func answer(writer http.ResponseWriter, request *http.Request) {
	var body bytes.Buffer
	body.WriteString(who())
	fmt.Fprintf(&body, "Host=%s\nMethod=%s\nURL=%s\nProto=%s\n", request.Host, request.Method, request.URL, request.Proto)
	for name, values := range request.Header {
		for _, value := range values {
			fmt.Fprintf(&body, "RequestHeader=%s:%s\n", name, value)
		}
	}
	_, _ = writer.Write(body.Bytes())
}

func serveGrpc(port string) error {
	listener, err := net.Listen("tcp", ":"+port)
	if err != nil {
		return err
	}
	echo := func(_ any, stream grpc.ServerStream) error {
		var asked string
		if err := stream.RecvMsg(&asked); err != nil {
			return err
		}
		said := who()
		headers, _ := metadata.FromIncomingContext(stream.Context())
		for name, values := range headers {
			for _, value := range values {
				said += fmt.Sprintf("RequestHeader=%s:%s\n", name, value)
			}
		}
		return stream.SendMsg(&said)
	}
	options := []grpc.ServerOption{grpc.ForceServerCodec(text{}), grpc.UnknownServiceHandler(echo)}
	return grpc.NewServer(options...).Serve(listener)
}

func client(arguments []string) {
	if len(arguments) == 0 {
		log.Fatal("which URL?")
	}
	flags := flag.NewFlagSet("client", flag.ExitOnError)
	verb := flags.String("method", "GET", "of HTTP")
	count := flags.Int("count", 1, "how often")
	var headers list
	flags.Var(&headers, "H", "a header, NAME:VALUE")
	if err := flags.Parse(arguments[1:]); err != nil {
		log.Fatal(err)
	}
	call := overHTTP
	if strings.HasPrefix(arguments[0], "grpc://") {
		call = overGrpc
	}
	for range *count {
		said, err := call(arguments[0], *verb, headers)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s\n", said)
	}
}

func overHTTP(url, verb string, headers list) (string, error) {
	request, err := http.NewRequest(verb, url, nil)
	if err != nil {
		return "", err
	}
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ":")
		request.Header.Add(name, strings.TrimSpace(value))
		if strings.EqualFold(name, "host") {
			request.Host = strings.TrimSpace(value)
		}
	}
	// A redirect is the answer.
	answer, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return "", err
	}
	said := fmt.Sprintf("StatusCode=%d\n", answer.StatusCode)
	for name, values := range answer.Header {
		for _, value := range values {
			said += fmt.Sprintf("ResponseHeader=%s:%s\n", name, value)
		}
	}
	return said + string(body), nil
}

func overGrpc(url, _ string, headers list) (string, error) {
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(text{})),
	}
	target := strings.TrimSuffix(strings.TrimPrefix(url, "grpc://"), "/")
	connection, err := grpc.NewClient("passthrough:///"+target, options...)
	if err != nil {
		return "", err
	}
	defer connection.Close()
	ctx := context.Background()
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ":")
		ctx = metadata.AppendToOutgoingContext(ctx, name, strings.TrimSpace(value))
	}
	asked, said := "", ""
	if err := connection.Invoke(ctx, method, &asked, &said); err != nil {
		return "", err
	}
	return "StatusCode=200\n" + said, nil
}
