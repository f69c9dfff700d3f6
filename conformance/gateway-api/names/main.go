// Program names is the smallest name server: it answers every question for an address with one,
// over UDP and TCP. It stands where the suite's manifests have CoreDNS; the tests want any answer.
package main

import (
	"log"
	"net"

	"github.com/miekg/dns"
)

func answer(writer dns.ResponseWriter, question *dns.Msg) {
	reply := new(dns.Msg)
	reply.SetReply(question)
	for _, asked := range question.Question {
		if asked.Qtype == dns.TypeA {
			reply.Answer = append(reply.Answer, &dns.A{
				Hdr: dns.RR_Header{Name: asked.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60},
				A:   net.IPv4(192, 0, 2, 53),
			})
		}
	}
	if err := writer.WriteMsg(reply); err != nil {
		log.Printf("cannot answer: %v", err)
	}
}

func main() {
	dns.HandleFunc(".", answer)
	failed := make(chan error)
	for _, network := range []string{"udp", "tcp"} {
		go func() {
			failed <- (&dns.Server{Addr: ":53", Net: network}).ListenAndServe()
		}()
	}
	log.Fatal(<-failed)
}
