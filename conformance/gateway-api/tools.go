//go:build tools

// Package conformance needs the program that runs in the suite's pods.
package conformance

import _ "sigs.k8s.io/gateway-api-conformance-images/echo-basic"
