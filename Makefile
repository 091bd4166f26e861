# A thin list of commands; whatever is more than one line is in scripts/.

PREFIX     ?= /usr/local
SYSCONFDIR ?= /etc
UNITDIR    ?= $(PREFIX)/lib/systemd/system
CARGO      ?= cargo
# Where `make install` takes the programs from; target/pgo/release after `make pgo`.
RELEASE    ?= target/release

export CARGO

.PHONY: help run build profile pgo test bench peers soak install uninstall clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z]+:.*## /{printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: ## the gateway with its built-in configuration
	scripts/build run

build: ## both programs, as shipped: the gateway by the profile in gateway/pgo
	scripts/build

profile: build ## gateway/pgo anew, when the data path has changed or the compiler
	scripts/profile

pgo: build ## the gateway once more, by a profile of its own and laid out anew, to target/pgo/release
	scripts/pgo

test: ## everything that must hold
	scripts/test

bench: ## the benchmarks
	$(CARGO) bench

peers: build ## ringgate beside nginx, HAProxy, Envoy, pingora and others: some 40 minutes, an hour from nothing
	bench/peers/install
	bench/peers/run $(ARGS)

soak: build ## load, hostile clients, fuzzing, WebSocket cases: what takes minutes
	scripts/soak

install: build ## to DESTDIR and PREFIX (/usr/local): programs, example configuration, systemd unit
	install -d "$(DESTDIR)$(PREFIX)/bin" "$(DESTDIR)$(SYSCONFDIR)/ringgate" "$(DESTDIR)$(UNITDIR)"
	install -m 755 $(RELEASE)/ringgate $(RELEASE)/ringgate-load "$(DESTDIR)$(PREFIX)/bin"
	install -m 644 examples/ringgate.toml "$(DESTDIR)$(SYSCONFDIR)/ringgate/ringgate.toml.example"
	sed 's|@BINDIR@|$(PREFIX)/bin|g; s|@SYSCONFDIR@|$(SYSCONFDIR)|g' packaging/ringgate.service \
	  > "$(DESTDIR)$(UNITDIR)/ringgate.service"
	chmod 644 "$(DESTDIR)$(UNITDIR)/ringgate.service"

uninstall: ## what install wrote; your configuration stays
	rm -f "$(DESTDIR)$(PREFIX)/bin/ringgate" "$(DESTDIR)$(PREFIX)/bin/ringgate-load"
	rm -f "$(DESTDIR)$(SYSCONFDIR)/ringgate/ringgate.toml.example" "$(DESTDIR)$(UNITDIR)/ringgate.service"

clean: ## what was built
	$(CARGO) clean
