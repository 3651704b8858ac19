#!/bin/sh
# Tries deq in a bare Debian 12: as a package, or as README.md tells whoever clones it. As root.
#
#   scripts/debian.sh [-b BASE] [-d FILE.deb] package
#   scripts/debian.sh [-b BASE] clone
#
# package   makes the package there, or takes FILE.deb; installs it in another bare system; reads the
#           manual, completes, finds a preset, trains, samples; purges it, and compares the files that
#           are left with those that were there before
# clone     clones this repository there and types the commands of README.md, word by word
#
# BASE is a folder with what debootstrap --variant=minbase makes. It is made if it is missing, and kept.
# Some minutes for a package that is there, half an hour for the rest.
# inside is one command, whose failure is asked for.
# shellcheck disable=SC2310
set -eu
export LC_ALL=C
base=
deb=
while getopts b:d:h option; do
    case $option in
    b) base=$OPTARG ;;
    d) deb=$(realpath "$OPTARG") ;;
    *)
        sed -n '2,/^$/s/^# \{0,1\}//p' "$0"
        exit 64
        ;;
    esac
done
shift $((OPTIND - 1))
case ${1:-} in
package | clone) ;;
*) exec "$0" -h ;;
esac
cd "$(dirname "$0")/.."
[ "$(id -u)" -eq 0 ] || {
    echo "debian.sh: only root can make another system" >&2
    exit 77
}
command -v debootstrap >/dev/null || {
    echo "debian.sh: no debootstrap: scripts/deps.sh package" >&2
    exit 77
}

work=$(mktemp -d)
root=

leave()
{
    [ -n "$root" ] || return 0
    umount "$root/dev/pts" "$root/dev" "$root/proc" 2>/dev/null || :
    # Never delete through a mount.
    if grep -q " $work/" /proc/mounts; then
        echo "debian.sh: still mounted, and left: $work" >&2
        return 1
    fi
    rm -rf --one-file-system "$root"
    root=
}
trap 'leave && rm -rf --one-file-system "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

say()
{
    printf '\n=== %s\n' "$*"
}

# A new system in $root, with the sources of packages that this machine has.
bare()
{
    leave
    root=$work/system
    if [ -z "$base" ]; then
        base=$work/base
    fi
    if [ ! -e "$base/etc/debian_version" ]; then
        say "debootstrap"
        debootstrap --variant=minbase bookworm "$base" >"$work/log" 2>&1 || {
            tail -n 20 "$work/log" >&2
            exit 69
        }
    fi
    cp -a "$base" "$root"
    rm -rf "$root/etc/apt/sources.list" "$root/etc/apt/sources.list.d"
    mkdir -p "$root/etc/apt/sources.list.d"
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/debian.sources; do
        [ ! -e "$file" ] || cp "$file" "$root$file"
    done
    cp /etc/apt/apt.conf.d/* "$root/etc/apt/apt.conf.d/" 2>/dev/null || :
    # Hooks of programs that are not there.
    grep -lE 'Pre-Install-Pkgs|Post-Invoke|Pre-Invoke' "$root"/etc/apt/apt.conf.d/* | xargs -r rm
    cp -L /etc/resolv.conf "$root/etc/resolv.conf"
    mount -t proc proc "$root/proc"
    mount --bind /dev "$root/dev"
    [ ! -d /dev/pts ] || mount --bind /dev/pts "$root/dev/pts"
    inside "apt-get -q update >/dev/null"
}

# Runs a command line in the system.
inside()
{
    chroot "$root" /usr/bin/env -i HOME=/root TERM=dumb LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
        MANWIDTH=80 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        OMP_WAIT_POLICY=passive sh -ec "$1"
}

# Prints a command line, runs it, and demands that its output has $2.
want()
{
    printf '$ %s\n' "$1"
    inside "$1" >"$work/output" 2>&1 || {
        cat "$work/output"
        echo "debian.sh: failed"
        exit 1
    }
    head -n "${3:-4}" "$work/output"
    grep -q -- "$2" "$work/output" || {
        cat "$work/output"
        echo "debian.sh: no \"$2\" in what it printed"
        exit 1
    }
}

# What lies in the system, without caches and logs that other programs keep.
tree()
{
    chroot "$root" find / -xdev \( -path /proc -o -path /dev -o -path /tmp -o -path /var/cache -o -path /var/log \
        -o -path '/var/lib/dpkg/*-old' \) -prune -o -print | sort
}

make_package()
{
    say "make deb, in a bare system"
    bare
    mkdir "$root/root/deq"
    git ls-files -z | tar -c --null -T - | tar -x -C "$root/root/deq"
    inside "cd /root/deq && scripts/deps.sh build subwords report && apt-get -q install -y --no-install-recommends dpkg-dev \
        >/dev/null && make deb | tail -n 3"
    deb=$(ls "$root"/root/deq/build-deb/*.deb)
    cp "$deb" "$work/"
    deb=$work/${deb##*/}
}

try_package()
{
    say "the package in a bare system"
    bare
    cp "$deb" "$root/tmp/deq.deb"
    cp tests/tools/tab.bash tests/tools/sentences.sh "$root/tmp/"
    # Its dependencies first, which are no part of the comparison.
    depends=$(dpkg-deb -f "$deb" Depends)
    inside "apt-get -q satisfy -y --no-install-recommends '$depends' >/dev/null
            apt-get -q install -y --no-install-recommends man-db bash-completion >/dev/null"
    tree >"$work/before"
    want "dpkg -i /tmp/deq.deb" "Setting up deq"
    want "man deq" "layer f" 12
    want "man deq-train" "time-limit" 8
    want "man 5 deq-config" "solver.forward.method" 8
    want "apropos deq" "deq-tokenize (1)" 20
    want "bash -c '. /usr/share/bash-completion/bash_completion; _completion_loader deq; complete -p deq'" "_deq deq"
    want "bash /tmp/tab.bash /usr/share/bash-completion/completions/deq 'deq tr' 'deq train --preset '" "medium large"
    want "cd /tmp && deq info --config wikitext103 --set model.vocab_size=267735" "\"vocab_size\": 267735" 2
    want "mkdir /tmp/work && cd /tmp/work && sh /tmp/sentences.sh 600 >my.txt && deq tokenize --train my.txt \
        --valid-share 5% --out data/my" "deq train --data data/my" 9
    want "cd /tmp/work && deq train --data data/my --preset small --threads 1 --set train.steps=20 --set \
        train.pretrain_steps=5 --set train.warmup_steps=2" "done: runs/my" 9
    want "cd /tmp/work && deq sample --prompt the --tokens 5" "the"
    want "dpkg --purge deq" "Removing deq"
    tree >"$work/after"
    diff "$work/before" "$work/after" || {
        echo "debian.sh: this was left, or taken"
        exit 1
    }
    echo "nothing is left"
}

# The command lines in the blocks of README.md under these headings.
commands()
{
    awk '/^## / { on = /^## (Install|Try it|Your own text|Evaluate, score, sample|PyTorch)$/ }
         /^```/ { fenced = !fenced; next }
         on && fenced { sub(/ +#.*/, ""); print }' README.md
}

type_commands()
{
    say "the commands of README.md, in a bare system"
    bare
    inside "apt-get -q install -y --no-install-recommends ca-certificates git >/dev/null"
    git clone -q --no-hardlinks . "$root/root/deq"
    # What a reader has: a text, and some lines to score.
    sh tests/tools/sentences.sh 20000 >"$root/root/deq/my.txt"
    head -n 20 "$root/root/deq/my.txt" >"$root/root/deq/lines.txt"
    commands >"$work/commands"
    while IFS= read -r line <&3; do
        case $line in
        *dump.safetensors*)
            echo "$line: left out, wants a dump of another program"
            continue
            ;;
        esac
        start=$(date +%s)
        printf '$ %s\n' "$line"
        # Each from the folder of the clone, as by someone who has ~/.local/bin on the path.
        inside "export PATH=\$HOME/.local/bin:\$PATH; cd /root/deq; $line" </dev/null >"$work/output" 2>&1 || {
            cat "$work/output"
            echo "debian.sh: failed"
            exit 1
        }
        tail -n 5 "$work/output"
        echo "[$(($(date +%s) - start)) s]"
    done 3<"$work/commands"
}

if [ "$1" = package ]; then
    [ -n "$deb" ] || make_package
    try_package
else
    type_commands
fi
