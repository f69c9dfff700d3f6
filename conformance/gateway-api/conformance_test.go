// Package conformance runs the Gateway API project's own suite, as it is published.
package conformance

import (
	"testing"

	"sigs.k8s.io/gateway-api/conformance"
	// Built by the runner: the program in the suite's pods.
	_ "sigs.k8s.io/gateway-api/conformance/utils/flags"
)

// TestConformance takes the suite's flags, for example -gateway-class=suimon.
func TestConformance(t *testing.T) {
	conformance.RunConformance(t)
}
