# What there is: make help
#
# MIRROR=URL takes kernels and packages from that Debian mirror instead of the
# one that the machine's own apt sources name.

GO       ?= go
FUZZTIME ?= 2m
# Kernels for `make bench`.
K        ?= 6.12,7.2

STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2

# A clone that belongs to another user has no version control data for go.
export GOFLAGS := $(strip $(GOFLAGS) -buildvcs=false)
export GO FUZZTIME MIRROR STATICCHECK

# HOST=1, or ARGS=--host: on the running kernel instead of one in a VM.
demo_args = $(if $(HOST),--host) $(ARGS)

.PHONY: build demo test check bench soak generate libpcap profile clean help

build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags='-s -w' -o trace ./cmd/trace

demo:
	@scripts/demo.sh $(demo_args)

test:
	@scripts/test.sh

check:
	@scripts/check.sh

bench:
	@scripts/deps.sh demo
	CGO_ENABLED=0 $(GO) run ./bench -K $(K)

soak:
	@scripts/soak.sh

generate:
	$(GO) generate ./bpf

libpcap:
	@scripts/deps.sh libpcap
	@internal/pcapfilter/wasm/build.sh

# What the compiler inlines by, in every build of cmd/trace: a profile of the way
# from a record to its text, without which a call costs 90 instructions more.
profile:
	$(GO) test -trimpath ./tracer/flow -run '^$$' -bench . -benchtime 3s -cpuprofile cmd/trace/default.pgo -o /dev/null

clean:
	rm -f trace trace-amd64 trace-arm64

help:
	@echo 'make            build ./trace'
	@echo 'make demo       install what it needs, build, boot a kernel, trace a ping in it'
	@echo 'make demo HOST=1    the same on the running kernel (also: ARGS=--host)'
	@echo 'make test       install what it needs; unit tests, then every kernel of the matrix'
	@echo 'make check      format, vet, staticcheck, BPF objects, imports, cross builds'
	@echo 'make bench      what a traced call and a start cost (K=6.12,7.2)'
	@echo 'make soak       fuzz every target for FUZZTIME (2m), then the long matrix and graphs under load'
	@echo 'make profile    renew the profile that trace is built with'
	@echo 'make libpcap    compile the compiler of packet filters to WebAssembly'
	@echo 'make generate   compile the BPF programs, generate their Go types'
	@echo 'MIRROR=URL      the Debian mirror for kernels and packages'
