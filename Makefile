# perdure: `make help` lists what there is.
.DEFAULT_GOAL := help
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)

.PHONY: help build dev test redis fmt lint vuln bench drill clean

help: ## show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

build: ## build bin/perdure
	go build -trimpath -ldflags "-X github.com/perdure/perdure/internal/cli.Version=$(VERSION)" -o bin/perdure ./cmd/perdure

dev: build ## build, run sample orders, stay up (needs only Go)
	bin/perdure dev --samples

test: redis ## run every test with the race detector on a real redis-server
	go test -race -timeout 9m ./...

redis: ## make sure that redis-server is there: install it, or say how
	@scripts/ensure-redis.sh

fmt: ## format the code
	gofmt -w $$(git ls-files '*.go')

lint: ## check format, vet and staticcheck
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$unformatted" ]; then echo "not formatted (run make fmt):"; echo "$$unformatted"; exit 1; fi
	go vet ./...
	go tool staticcheck ./...

vuln: ## look for known vulnerabilities that the code calls
	@go tool govulncheck ./... > .vuln.out 2>&1; code=$$?; cat .vuln.out; \
	if [ $$code -ne 0 ] && grep -qE 'fetching vulnerabilities|no such host|connection refused|dial tcp|Forbidden|403|502|503' .vuln.out; then echo "govulncheck: its database cannot be reached; nothing was checked"; code=0; fi; rm -f .vuln.out; exit $$code

bench: redis ## run the benchmarks
	go test -run '^$$' -bench . -benchtime 2s ./...

drill: build ## play the promises for real
	bin/perdure drill

clean: ## remove what was built and what dev has kept
	rm -rf bin .perdure
