# Completion of deq for bash, which asks the program itself. Source it, or let bash-completion find it.

_deq()
{
    local i piece word head prefix glued rest=$COMP_LINE
    local -a words=()
    COMPREPLY=()
    # Bash divides words at "=" too. What has no blank between belongs together.
    for ((i = 0; i <= COMP_CWORD; i++)); do
        piece=${COMP_WORDS[i]}
        glued=1
        while [[ $rest == [[:blank:]]* ]]; do
            rest=${rest:1}
            glued=0
        done
        rest=${rest#"$piece"}
        if ((i > 0 && glued)); then
            words[-1]+=$piece
        else
            words+=("$piece")
        fi
    done
    word=${words[-1]}
    prefix=
    [[ $word != --*=* ]] || prefix=${word%%=*}=
    # Only what stands behind the last "=" is replaced.
    head=
    [[ $COMP_WORDBREAKS != *=* || $word != *=* ]] || head=${word%=*}=
    while IFS=$'\t' read -r piece _; do
        case $piece in
        :files | :folders)
            compopt -o filenames 2>/dev/null
            glued=-f
            [[ $piece == :files ]] || glued=-d
            while read -r piece; do
                COMPREPLY+=("${prefix}${piece}")
            done < <(compgen "$glued" -- "${word#"$prefix"}")
            ;;
        *) COMPREPLY+=("$piece") ;;
        esac
    done < <("${words[0]/#\~/$HOME}" --complete "${words[@]:1}" 2>/dev/null)
    COMPREPLY=("${COMPREPLY[@]#"$head"}")
    [[ ${COMPREPLY[0]-} != *= ]] || compopt -o nospace 2>/dev/null
}

complete -F _deq deq
