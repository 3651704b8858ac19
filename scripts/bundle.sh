#!/bin/sh
# Packs the sources of this tree, and the libraries they need as they are on this machine, for a
# machine without network or packages.
#
#   scripts/bundle.sh [OUTPUT.tar.gz]        default: build/deq-bundle.tar.gz
#
# Needs what scripts/deps.sh build test installs (it asks for that first). The archive unpacks to
# deq/, with the libraries' headers and shared objects in deq/deps. There scripts/gpu-check.sh uses
# them by itself; by hand:
#
#   make CFLAGS="-O2 -g -I$PWD/deps/include" \
#       LDFLAGS="-L$PWD/deps/lib -Wl,--disable-new-dtags,-rpath,$PWD/deps/lib"
#
# The other machine needs make, gcc and g++ (with their libgomp and libstdc++), the same processor
# family, and a C library at least as new as this one's, which the archive states in deps/glibc.
set -eu
export LC_ALL=C

case ${1:-} in
-h | --help)
    sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p;}' "$0"
    exit 0
    ;;
-*)
    echo "bundle.sh: unknown option $1" >&2
    exit 64
    ;;
esac
root=$(cd "$(dirname "$0")/.." && pwd)
out=${1:-$root/build/deq-bundle.tar.gz}
"$root/scripts/deps.sh" build test
mkdir -p "$(dirname "$out")"
tmp=$(mktemp -d)
trap 'rm -rf "$tmp" "$out.part"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
mkdir -p "$tmp/deq/deps/include" "$tmp/deq/deps/lib"
(cd "$root" && git ls-files -z) >"$tmp/files"
tar -C "$root" --null -T "$tmp/files" -cf "$tmp/sources"
tar -xf "$tmp/sources" -C "$tmp/deq"

# Headers, by what the compiler itself reads.
multiarch=$(gcc -print-multiarch 2>/dev/null || true)
openblas=/usr/lib/$multiarch/openblas-openmp
cat >"$tmp/all.c" <<'END'
#include <cblas.h>
#include <cjson/cJSON.h>
#include <cmocka.h>
#include <dnnl.h>
#include <utf8proc.h>
#include <xxhash.h>
#include <zlib.h>
int main(void) { return 0; }
END
cblas=/usr/include/$multiarch/openblas-openmp
if ! gcc -include stdarg.h -include stddef.h -include stdint.h -include setjmp.h -I"$cblas" \
    -M "$tmp/all.c" >"$tmp/headers"; then
    echo "bundle.sh: a header is missing (see above): scripts/deps.sh build test" >&2
    exit 69
fi
grep -oE '/[^ \\]*/(cblas|openblas_config|cJSON|cmocka|dnnl[a-z_]*|utf8proc|xxhash|xxh3|zlib|zconf)\.h' \
    "$tmp/headers" |
    sort -u >"$tmp/list"
while read -r header; do
    # /usr/include/[MULTIARCH/][openblas-openmp/]REST keeps REST
    rest=${header#/usr/include/}
    rest=${rest#"$multiarch"/}
    rest=${rest#openblas-openmp/}
    mkdir -p "$tmp/deq/deps/include/$(dirname "$rest")"
    cp -L "$header" "$tmp/deq/deps/include/$rest"
done <"$tmp/list"

# Shared objects under their link names and their sonames; and what they need beyond the C library
# and gcc's own.
search="-L$openblas -Wl,-rpath,$openblas"
# shellcheck disable=SC2086
gcc -o "$tmp/all" "$tmp/all.c" -include stdarg.h -include stddef.h -include stdint.h \
    -include setjmp.h -I"$cblas" $search -Wl,--no-as-needed -ldnnl -lopenblas -lcjson -lz \
    -lxxhash -lutf8proc -lcmocka
ldd "$tmp/all" >"$tmp/needed"
if grep 'not found' "$tmp/needed" >&2; then
    echo "bundle.sh: a library is missing (see above): scripts/deps.sh build test" >&2
    exit 69
fi
awk '$2 == "=>" && $3 ~ /^\// { print $1, $3 }' "$tmp/needed" |
    grep -vE '^(libc|libm|libpthread|libdl|librt|libgomp|libgcc_s|libstdc\+\+|ld-linux.*)\.so' >"$tmp/libs"
while read -r soname path; do
    cp -L "$path" "$tmp/deq/deps/lib/$soname"
    ln -sf "$soname" "$tmp/deq/deps/lib/${soname%%.so*}.so"
done <"$tmp/libs"
getconf GNU_LIBC_VERSION >"$tmp/deq/deps/glibc"
tar -czf "$out.part" -C "$tmp" deq
mv "$out.part" "$out"
echo "$out: $(wc -l <"$tmp/libs") libraries, $(wc -l <"$tmp/list") headers, $(wc -c <"$out") bytes"
