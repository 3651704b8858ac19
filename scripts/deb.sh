#!/bin/sh
# Makes a Debian package of what was built for PREFIX=/usr, and prints its name. make deb calls it.
#
#   scripts/deb.sh BUILD VERSION
#
# MAINTAINER="Name <address>" in the environment names who answers for it. Wants dpkg-dev; what lintian
# finds is shown where it is (scripts/deps.sh package).
set -eu
export LC_ALL=C
if [ $# -ne 2 ] || [ "$1" = -h ]; then
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0"
    exit 64
fi
for tool in dpkg-deb dpkg-shlibdeps strip; do
    command -v "$tool" >/dev/null || {
        echo "deb.sh: no $tool: scripts/deps.sh package" >&2
        exit 69
    }
done
build=$1
# A hyphen divides our version from that of the package.
version=$(printf '%s' "${2#v}" | tr - .)-1
machine=$(dpkg --print-architecture)
maintainer=${MAINTAINER:-The deq authors <deq@example.org>}
package=$build/deq_${version}_$machine.deb
root=$build/package
doc=$root/usr/share/doc/deq
date=$(sed -n 's/^\.TH [^ ]* [0-9] \([^ ]*\) .*/\1/p' "$build/man/deq.1")
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(date -u -d "$date" +%s)}
export SOURCE_DATE_EPOCH

rm -rf "$root" "$build/package-source" "$build"/deq_*.deb
scripts/install.sh "$build" /usr "$root"
rm "$root/usr/share/deq/installed"
# The library would be a package of its own.
rm -r "$root/usr/lib" "$root/usr/include"
strip --strip-unneeded --remove-section=.comment --remove-section=.note "$root/usr/bin/deq"
mv "$root/usr/share/zsh/site-functions" "$root/usr/share/zsh/vendor-completions"

# Debian's names for the papers.
rm "$doc/LICENSE"
gzip -9nc "$doc/CHANGELOG.md" >"$doc/changelog.gz"
rm "$doc/CHANGELOG.md"
printf 'deq (%s) unstable; urgency=medium\n\n  * Built by make deb.\n\n -- %s  %s\n' "$version" \
    "$maintainer" "$(date -u -R -d "@$SOURCE_DATE_EPOCH")" | gzip -9n >"$doc/changelog.Debian.gz"
{
    printf 'Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n'
    printf 'Upstream-Name: deq\n'
    # What deq report puts into its pages has the same license, and other authors.
    ! grep -q 'Chart\.js v' "$build/deq" ||
        sed -n '1s/^This page holds/Comment: Pages of deq report hold/p; 2s/\(.*\):$/ \1./p' \
            src/report/page/notice.txt
    printf '\nFiles: *\nCopyright: %s\nLicense: Expat\n' \
        "$(sed -n 's/^Copyright (c) //p' LICENSE)"
    sed -n '/^Permission/,$p' LICENSE | sed 's/^$/./; s/^/ /'
} >"$doc/copyright"

# The OpenMP build of OpenBLAS lies in a folder of its own.
mkdir -p "$root/usr/share/lintian/overrides" "$root/DEBIAN" "$build/package-source/debian"
echo 'deq: custom-library-search-path RUNPATH *openblas-openmp* [usr/bin/deq]' \
    >"$root/usr/share/lintian/overrides/deq"
printf 'Source: deq\n\nPackage: deq\nArchitecture: any\n' >"$build/package-source/debian/control"
binary=$(realpath "$root/usr/bin/deq")
depends=$(cd "$build/package-source" && dpkg-shlibdeps -O "$binary" | sed -n 's/^shlibs:Depends=//p')
chmod -R u=rwX,go=rX "$root"
(cd "$root" && find usr -type f -exec md5sum {} + | LC_ALL=C sort -k 2) >"$root/DEBIAN/md5sums"
cat >"$root/DEBIAN/control" <<EOC
Package: deq
Version: $version
Architecture: $machine
Maintainer: $maintainer
Installed-Size: $(du -k -s "$root/usr" | cut -f 1)
Depends: $depends, libopenblas0-openmp
Suggests: gnuplot-nox, openmpi-bin
Section: science
Priority: optional
Description: trainer of deep equilibrium language models
 A deep equilibrium model has one layer, whose output is a fixed point that a
 solver looks for. This program trains, evaluates and samples such models of
 text, from a laptop without a GPU to a cluster, and networks of layers to
 compare them with. It needs no Python.
EOC
dpkg-deb --root-owner-group -Zxz --build "$root" "$package" >/dev/null
echo "$package: apt-get install ./$package"
if command -v lintian >/dev/null; then
    lintian --allow-root "$package" || :
fi
