# Types each line and a tab into a zsh, and prints what the line became: tab.zsh FOLDER LINE...
# FOLDER holds the completion.
zmodload zsh/zpty
folder=$1
shift
zpty z zsh -f -i
zpty -w z "PS1=; fpath=($folder \$fpath); autoload -U compinit; compinit -D -u"
zpty -w z "show() { print -r -- \"<\$BUFFER>\"; BUFFER= }; zle -N show; bindkey '^X' show"
zpty -w z "bindkey '^I' complete-word; print re\\ady"
zpty -r z line '*ready*'
for text; do
    zpty -w -n z "$text"$'\t\x18'
    zpty -r z line '*<*>*'
    print -r -- "[$text] ${${line##*<}%%>*}|"
done
zpty -d z
