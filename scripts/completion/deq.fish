# Completion of deq for fish, which asks the program itself.

function __deq_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l program (string replace -r '^~' $HOME -- $words[1])
    set -e words[1]
    # What stands in front of the value of --option=value.
    set -l prefix (string match -r -- '^--[^=]+=' "$current")
    for line in ($program --complete $words "$current" 2>/dev/null)
        switch $line
            case ':files'
                for path in (__fish_complete_path (string replace -- "$prefix" '' "$current"))
                    echo "$prefix$path"
                end
            case ':folders'
                for path in (__fish_complete_directories (string replace -- "$prefix" '' "$current"))
                    echo "$prefix$path"
                end
            case '*'
                echo $line
        end
    end
end

complete -c deq -f -a '(__deq_complete)'
