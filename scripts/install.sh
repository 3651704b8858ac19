#!/bin/sh
# Installs what was built, or takes it away again, for make install and make uninstall.
#
#   scripts/install.sh BUILD PREFIX [DESTDIR]
#   scripts/install.sh -l BUILD PREFIX [DESTDIR]     libdeq alone
#   scripts/install.sh -u PREFIX [DESTDIR]
#
# LIBDIR in the environment is the folder of libraries, PREFIX/lib without it.
# PREFIX/share/deq/installed lists the files and folders that were made. -u removes these and nothing
# else, and of the folders those that are empty.
set -eu
if [ $# -lt 2 ] || [ "$1" = -h ]; then
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0"
    exit 64
fi
only_library=
if [ "$1" = -l ]; then
    only_library=yes
    shift
fi
build=$1
prefix=${2%/}
root=${3:-}
list=$root$prefix/share/deq/installed

# Makes a folder and what is missing above it, and remembers what it made.
folder()
{
    [ ! -d "$root$1" ] || return 0
    folder "$(dirname "$1")"
    mkdir "$root$1"
    echo "d $1" >>"$new"
}

# put MODE FILE FOLDER [NAME]
put()
{
    to=$3/${4:-$(basename "$2")}
    folder "$3"
    install -m "$1" "$2" "$root$to"
    echo "f $to" >>"$new"
}

pack()
{
    gzip -9nc "$1" >"$new.gz"
    put 644 "$new.gz" "$2" "$(basename "$1").gz"
}

library()
{
    libdir=${LIBDIR:-$prefix/lib}
    put 644 src/lib/deq.h "$prefix/include"
    put 644 "$build/lib/libdeq.a" "$libdir"
    for shared in "$build"/lib/libdeq.so.*; do
        put 644 "$shared" "$libdir"
        ln -sf "$(basename "$shared")" "$root$libdir/libdeq.so"
        echo "f $libdir/libdeq.so" >>"$new"
    done
    put 644 "$build/deq.pc" "$libdir/pkgconfig"
}

program()
{
    put 755 "$build/deq" "$prefix/bin"
    for config in configs/*.json; do
        put 644 "$config" "$prefix/share/deq/configs"
    done
    for page in "$build"/man/*.1; do
        pack "$page" "$prefix/share/man/man1"
    done
    pack "$build/man/deq-config.5" "$prefix/share/man/man5"
    put 644 scripts/completion/deq.bash "$prefix/share/bash-completion/completions" deq
    put 644 scripts/completion/_deq "$prefix/share/zsh/site-functions"
    put 644 scripts/completion/deq.fish "$prefix/share/fish/vendor_completions.d"
    for page in README.md CHANGELOG.md LICENSE; do
        put 644 "$page" "$prefix/share/doc/deq"
    done
}

remove()
{
    if [ ! -e "$list" ]; then
        echo "install.sh: nothing to take away: there is no $list" >&2
        return 0
    fi
    sed -n 's/^f //p' "$list" | while IFS= read -r path; do rm -f "$root$path"; done
    # The deepest first. What others have put into a folder keeps it.
    sed -n 's/^d //p' "$list" | sort -r >"$new"
    rm -f "$list"
    while IFS= read -r path; do
        rmdir "$root$path" 2>/dev/null || :
    done <"$new"
}

new=$(mktemp)
trap 'rm -f "$new" "$new.gz"' EXIT
if [ "$build" = -u ]; then
    remove
    exit 0
fi

[ -z "$root" ] || mkdir -p "$root"
library
[ -n "$only_library" ] || program
# What an earlier installation made is still ours.
[ ! -e "$list" ] || cat "$list" >>"$new"
{
    [ -n "$only_library" ] || printf 'd %s\n' "$prefix/share/deq/configs"
    printf 'd %s\n' "$prefix/share/deq"
    cat "$new"
} | sort -u >"$new.gz"
folder "$prefix/share/deq"
install -m 644 "$new.gz" "$list"
