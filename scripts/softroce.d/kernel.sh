# shellcheck shell=bash disable=SC2154,SC2034  # the caller sets and uses variables
# prepare_kernel finds or makes a kernel and an initrd with rxe, once for each kernel version, in the
# user's cache; it sets cache, kernel_image and initrd.

MODULES=(crc32_generic crc32c_generic virtio_pci virtio_rng virtio_blk ext4 9p 9pnet_virtio overlay virtio_net
	rdma_rxe rdma_ucm ib_uverbs dummy veth sch_netem)

prepare_kernel() {
	install_packages --for "a machine with SoftRoCE" "${PACKAGES_SOFTROCE[@]}" "${PACKAGES_RDMA[@]}"
	cache=${XDG_CACHE_HOME:-$HOME/.cache}/maas-softroce
	mkdir -p "$cache"
	kernel_image=$(newest_kernel)
	if [ -z "$kernel_image" ]; then
		fetch_kernel
		kernel_image=$(newest_kernel)
	fi
	initrd=$cache/initrd-${kernel_image##*/vmlinuz-}
	if [ scripts/softroce.d/init -nt "$initrd" ] || [ scripts/softroce.d/kernel.sh -nt "$initrd" ]; then
		make_initrd "${kernel_image##*/vmlinuz-}"
	fi
}

newest_kernel() {
	find "$cache/kernel/boot" -name 'vmlinuz-*' 2>/dev/null | sort -V | tail -n 1 || true
}

# The package is unpacked, not installed: this machine keeps booting its own kernel.
fetch_kernel() {
	local package new=$cache/kernel.new
	say "Fetching Debian's kernel (70 MB, once)"
	package=$(kernel_package)
	if [ -z "$package" ]; then
		apt update || apt_failed "apt-get update failed"
		package=$(kernel_package)
	fi
	[ -n "$package" ] || die "apt knows no linux-image-amd64: is this Debian on x86_64?"
	rm -rf "$new"
	mkdir "$new"
	(cd "$new" && apt-get -qq download "$package" 2>/dev/null && dpkg -x ./*.deb . && rm ./*.deb) ||
		die "could not fetch $package"
	[ -e "$new/lib" ] || ln -s usr/lib "$new/lib" # Debian 13's package has usr/lib.
	depmod -b "$new" "$(ls "$new/lib/modules")"
	mv "$new" "$cache/kernel"
}

kernel_package() {
	LC_ALL=C apt-cache depends linux-image-amd64 2>/dev/null | awk '/Depends:/ { print $2; exit }'
}

make_initrd() { # VERSION
	local dir path
	dir=$(mktemp -d)
	mkdir -p "$dir/bin" "$dir/modules"
	cp "$(command -v busybox)" "$dir/bin/busybox"
	install -m 755 scripts/softroce.d/init "$dir/init"
	for path in "${MODULES[@]}"; do
		modprobe -d "$cache/kernel" -S "$1" --show-depends "$path"
	done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' >"$dir/paths"
	while read -r path; do
		cp "$path" "$dir/modules/"
		basename "$path"
	done <"$dir/paths" >"$dir/modules.list"
	(cd "$dir" && find . | cpio -o -H newc --quiet | gzip -1) >"$initrd.new"
	mv "$initrd.new" "$initrd"
	rm -rf "$dir"
}
