# Prints what a tab behind each line may become, in bash: tab.bash COMPLETION LINE...
# Words are divided as readline divides them, at blanks and at "=".
# shellcheck disable=SC1090
. "$1"
shift
for line; do
    COMP_LINE=$line
    COMP_POINT=${#line}
    read -ra COMP_WORDS <<<"${line//=/ = }"
    [[ $line != *" " ]] || COMP_WORDS+=("")
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    export COMP_LINE COMP_POINT COMP_WORDS COMP_CWORD
    _deq
    printf '[%s]' "$line"
    [ ${#COMPREPLY[@]} -eq 0 ] || printf ' %s' "${COMPREPLY[@]}"
    echo
done
