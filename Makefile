# One way to do each thing. A target's text is what `make help` says about it.
SHELL := /bin/sh
.DEFAULT_GOAL := help

VERSION   := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS   := -X github.com/perdure/perdure/internal/cli.Version=$(VERSION)
TESTFLAGS ?=
CHAOSFLAGS ?=
BENCHTIME ?= 1s

.PHONY: help build dev test redis fmt lint vuln bench crash outage drill chaos chaos-mutants soak soak-dead clean

help: ## say what there is (the default)
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build bin/perdure (needs only Go)
	go build -trimpath -ldflags '$(LDFLAGS)' -o bin/perdure ./cmd/perdure

dev: build ## build, then everything in one process with sample orders (needs only Go)
	bin/perdure dev --samples

# Tests wait more than they compute: four at a time in each package.
test: redis ## all tests, with the race detector, on the real Redis; TESTFLAGS='-run Name -v' for some
	go test -race -parallel 4 -timeout 9m $(TESTFLAGS) ./...

redis: ## make sure that redis-server is on PATH; installs it where it can
	@sh scripts/ensure-redis.sh

fmt: ## format the Go files
	gofmt -w $(GOFILES)

lint: ## gofmt, go vet and staticcheck; changes nothing
	@bad=$$(gofmt -l $(GOFILES)) && if [ -n "$$bad" ]; then echo "not formatted, run make fmt:"; echo "$$bad"; exit 1; fi
	go vet ./...
	go tool staticcheck ./...

vuln: ## known vulnerabilities in what is used; says so when the database cannot be reached
	@sh scripts/vuln.sh

bench: redis ## benchmarks, without the tests; BENCHTIME=10s for longer
	go test -run '^$$' -bench . -benchmem -benchtime $(BENCHTIME) ./...

crash: redis ## kill workers mid-step, 200 times, and measure until their jobs run elsewhere; CRASHFLAGS='--trials 20 --seed 7'
	go run ./test/crash $(CRASHFLAGS)

outage: redis ## take a service away from 100,000 jobs, and measure how they come back; OUTAGEFLAGS='--jobs 10000'
	go run ./test/outage $(OUTAGEFLAGS)

drill: build redis ## play the promises for real and show the evidence
	bin/perdure drill

chaos: redis ## 2,000 workflows under every fault, some four minutes; CHAOSFLAGS='-seed 7 -duration 10m' for others
	go run ./test/chaos/cmd/chaos $(CHAOSFLAGS)

chaos-mutants: redis ## prove that chaos can fail: without the token check, and without fsync
	go run ./test/chaos/cmd/chaos -workflows 400 -duration 60s -freeze 5s -settle 30s -mutant token
	go run ./test/chaos/cmd/chaos -workflows 400 -duration 60s -freeze 5s -settle 30s -mutant fsync

soak: redis ## chaos in full, with fail-overs and mutants, some twenty minutes; writes docs/chaos.md
	sh test/chaos/soak.sh docs/chaos.md

soak-dead: redis ## 1,000,000 dead letters listed, counted, moved out and back under kills, and 10,000 replayed at their rate; eleven minutes, up to 8 GB
	go test -tags soak -count 1 -timeout 60m -run 'TestALargeQuarantine|TestAPlanKeepsItsRate' -v ./store

clean: ## remove what was built; the data of make dev in .perdure stays
	rm -rf bin
	go clean -testcache

# Every Go file, and none of what tools and data directories keep.
GOFILES = $(shell find . -name '*.go' -not -path './.*/*' -not -path './bin/*')
