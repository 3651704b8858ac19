#!/usr/bin/env bats
# The package in a bare Debian 12, which takes minutes, root, and a mirror of packages.

@test "a package is made, installed, used and purged without a trace" {
    [ "${LONG:-}" = true ] || skip "minutes: LONG=true"
    grep -q '^VERSION_CODENAME=bookworm' /etc/os-release || skip "packages are tried on Debian 12 only"
    [ "$(id -u)" -eq 0 ] || skip "only root can make another system"
    for tool in debootstrap dpkg-shlibdeps; do
        command -v "$tool" >/dev/null || skip "no $tool (scripts/deps.sh package)"
    done
    cd "$BATS_TEST_DIRNAME/../.."
    mkdir "$BATS_TEST_TMPDIR/probe"
    mount -t proc proc "$BATS_TEST_TMPDIR/probe" 2>/dev/null || skip "nothing can be mounted here"
    umount "$BATS_TEST_TMPDIR/probe"
    run apt-get -q update
    [ "$status" -eq 0 ] || skip "no mirror of packages: $output"
    make deb CUDA=0
    run scripts/debian.sh -d build-deb/deq_*.deb package
    [ "$status" -eq 0 ] || { echo "$output"; false; }
    [ "${lines[-1]}" = "nothing is left" ]
    # Left out of the comparison are only what man and apt keep.
    [ "$(grep -c "$BATS_TEST_TMPDIR" /proc/mounts)" -eq 0 ]
}
