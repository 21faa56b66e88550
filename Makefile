# Everything that is done with vestibule is a target here; `make` alone lists them.

PREFIX = /usr
DESTDIR =
architecture := $(patsubst armv7l,armv7,$(shell uname -m))
destination = $(DESTDIR)$(PREFIX)

.DEFAULT_GOAL := help
.PHONY: help build cross cross-check deps demo test bench install uninstall clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## the static binary for this machine, at dist/<architecture>/vestibule
	scripts/build $(architecture)

cross: ## the static binaries for phones and boards, at dist/aarch64/vestibule and dist/armv7/vestibule
	scripts/build aarch64 armv7

cross-check: ## whether the code compiles for the other architectures
	scripts/build --check aarch64 armv7

deps: ## install what build, demo and test need (Debian; as root)
	scripts/deps

demo: deps build ## boot a machine with an encrypted disk and unlock it (INTERACTIVE=1: by yourself)
	INTERACTIVE=$(INTERACTIVE) qemu-tests/demo

test: deps ## every test: code style, units, builds, and machines that boot
	scripts/test

bench: deps build ## measure sizes and times, as a table
	scripts/bench

install: ## install what `make build` made, and the parts for dracut, initramfs-tools and mkinitcpio (DESTDIR, PREFIX)
	@test -x dist/$(architecture)/vestibule || { echo "dist/$(architecture)/vestibule is missing. Type: make build" >&2; exit 1; }
	install -D -m 0755 dist/$(architecture)/vestibule $(destination)/bin/vestibule
	install -D -m 0644 -t $(destination)/lib/vestibule systemd/vestibule.service systemd/keys.conf
	install -D -m 0755 -t $(destination)/lib/dracut/modules.d/95vestibule dracut-module/*.sh
	install -D -m 0644 -t $(destination)/lib/dracut/dracut.conf.d dracut-module/50-vestibule.conf
	install -D -m 0644 -t $(destination)/lib/initcpio/install mkinitcpio-hook/install/vestibule
	install -D -m 0644 -t $(destination)/lib/initcpio/hooks mkinitcpio-hook/hooks/vestibule
	install -D -m 0755 -t $(destination)/share/initramfs-tools/hooks initramfs-tools-hook/hooks/vestibule
	install -D -m 0755 -t $(destination)/share/initramfs-tools/scripts/init-top initramfs-tools-hook/scripts/init-top/0-vestibule
	install -D -m 0755 -t $(destination)/share/initramfs-tools/scripts/init-premount initramfs-tools-hook/scripts/init-premount/vestibule
	install -D -m 0755 -t $(destination)/share/initramfs-tools/scripts/init-bottom initramfs-tools-hook/scripts/init-bottom/0-vestibule
	install -D -m 0644 -t $(destination)/share/initramfs-tools/conf-hooks.d initramfs-tools-hook/conf-hooks.d/vestibule
	install -D -m 0644 -t $(destination)/share/doc/vestibule config.example.toml chroot.example.toml README.md

uninstall: ## remove what install installed; keys and configuration below /etc stay
	rm -f $(destination)/bin/vestibule
	rm -f $(destination)/lib/initcpio/install/vestibule $(destination)/lib/initcpio/hooks/vestibule
	rm -f $(addprefix $(destination)/share/initramfs-tools/,hooks/vestibule conf-hooks.d/vestibule scripts/init-top/0-vestibule scripts/init-premount/vestibule scripts/init-bottom/0-vestibule)
	rm -rf $(destination)/lib/vestibule $(destination)/lib/dracut/modules.d/95vestibule $(destination)/lib/dracut/dracut.conf.d/50-vestibule.conf $(destination)/share/doc/vestibule

clean: ## remove what was built
	rm -rf dist target
