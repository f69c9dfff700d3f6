module suimon.dev/conformance/smuggling/server

go 1.22
