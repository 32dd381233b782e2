# SPDX-License-Identifier: MIT
# fcprocctl(1) for fish.
#
# Verbs and options are read, once a shell, from "fcprocctl --help" and "fcprocctl VERB --help", and what
# a verb takes when it is asked for, so that there is no second list of them; here is only what can stand
# for a value, by its name there: an option with a FILE has files.
#
# The names of sockets can be other users' choice: $(…), quotes, blanks. They are only ever printed, one
# a line; fish quotes what it inserts.
#
# With -H or -M no names are looked up: a key press is no reason to connect to another host.

# Without a question or a message, and not for long: a service that is not there yet is started by the
# bus, and one that does not answer must not hold up whoever types.
function __fcprocctl_run
    timeout --foreground 3 fcprocctl --no-ask-password $argv </dev/null 2>/dev/null
end

# The words before the cursor: sets verb, given (its arguments), remote and literal for the caller.
function __fcprocctl_read_line --no-scope-shadowing
    set verb
    set given
    set remote
    set literal
    set -l option
    for each in (commandline -opc)[2..]
        if test -n "$option"
            set option
        else if test -z "$literal"; and test "$each" = --
            set literal yes
        else if test -z "$literal"; and string match -qr -- '^-.' $each
            string match -qr -- '^(--host|--machine|-[HM]|-[^-]*[HM])' $each; and set remote yes
            contains -- $each $__fcprocctl_valued; and set option $each
        else if test -n "$verb"
            set -a given $each
        else if contains -- $each $__fcprocctl_verbs
            # a value of one of its options may stand before it, which no verb is
            set verb $each
        end
    end
end

# Whether the verb is one of these; with none, whether there is none yet.
function __fcprocctl_verb_is
    set -l verb
    set -l given
    set -l remote
    set -l literal
    __fcprocctl_read_line
    if test -z "$verb"
        test (count $argv) -eq 0
    else
        contains -- $verb $argv
    end
end

function __fcprocctl_is_remote
    set -l verb
    set -l given
    set -l remote
    set -l literal
    __fcprocctl_read_line
    test -n "$remote"
end

# All values of a member in what a verb prints as JSON: pretty has one member a line.
function __fcprocctl_members
    for line in (__fcprocctl_run --json=pretty $argv[1])
        set -l value (string replace -rf '^ *"'$argv[2]'": (.*?),?$' '$1' -- $line); or continue
        if string match -q '"*' -- $value
            set value (string sub -s 2 -e -1 -- $value | string replace -a '\\"' '"')
            # any other escape stands for what cannot be shown
            string match -qr '\\\\' -- (string replace -a '\\\\' '' -- $value); and continue
            set value (string replace -a '\\\\' '\\' -- $value)
        end
        string match -qr '\p{Cc}' -- $value; or printf '%s\n' $value
    end
end

# In the caller's own directory a bare name is enough, where that is what the path will be made of again.
function __fcprocctl_sockets
    set -l token (commandline -ct)
    set -l paths (__fcprocctl_members list api_sock)
    set -l uid (id -u)
    set -l own
    if not string match -q '/*' -- "$token"; and string match -q "*/$uid/*" -- $paths
        set own (__fcprocctl_members status runtime_dir)/$uid/
    end
    set -l length (string length -- "$own")
    for path in $paths
        set -l name
        if test $length -gt 0; and test "$own" = (string sub -l $length -- $path)
            set name (string sub -s (math $length + 1) -- $path)
            set name (string replace -rf '^([A-Za-z0-9_][^/]{0,63})\.sock$' '$1' -- $name)
        end
        if string match -qr '[^0-9]' -- "$name"; and not string match -q '*.sock' -- "$name"
            printf '%s\n' $name
        else
            printf '%s\n' $path
        end
    end
    # it may be one that nobody listens on yet
    if string match -q '/*' -- "$token"
        set -l length (string length -- "$token")
        contains -- "$token" (string sub -l $length -- $paths); or __fish_complete_path "$token"
    end
end

# The verb's arguments as its help names them; the last one may be repeated.
function __fcprocctl_arguments
    set -l verb
    set -l given
    set -l remote
    set -l literal
    __fcprocctl_read_line
    if test "$verb" = run
        # what is Firecracker's can be a file
        test -n "$literal"; and __fish_complete_path (commandline -ct)
        return
    end
    test -z "$remote"; or return
    set -l usage (LC_ALL=C __fcprocctl_run $verb --help)[1]
    set -l names (string replace -r '^.*\] '$verb' *' '' -- $usage | string split -n ' ')
    set -l name $names[(math (count $given) + 1)]
    if test -z "$name"; and string match -q '*...' -- "$names[-1]"
        set name $names[-1]
    end
    set -l found
    if test "$verb" = delete-tap
        set found (__fcprocctl_members taps tap)
    else if string match -q '*PID*' -- "$name"; and string match -qr '^[0-9]' -- "$(commandline -ct)"
        # only once a digit says that no name is wanted
        set found (__fcprocctl_members list pid)
    else if string match -q '*SOCKET*' -- "$name"
        set found (__fcprocctl_sockets)
    end
    for each in $found
        contains -- $each $given; or printf '%s\n' $each
    end
end

function __fcprocctl_machines
    timeout --foreground 3 machinectl --full --no-legend --no-pager list </dev/null 2>/dev/null |
        string replace -r ' .*' ''
end

# Makes the options of the help, or of a verb's, known; those without a verb are common to all.
function __fcprocctl_load
    set -l condition
    test (count $argv) -eq 0; or set condition -n "__fcprocctl_verb_is $argv"
    for line in (__fcprocctl_run $argv --help)
        set -l verb (string match -r '^  ([a-z][a-z-]*) +(.*)' -- $line)
        if test (count $argv) -eq 0 -a (count $verb) -eq 3
            set -ga __fcprocctl_verbs $verb[2]
            complete -c fcprocctl -f -n __fcprocctl_verb_is -a $verb[2] -d (string replace -ra '  +' ' ' -- $verb[3])
            continue
        end
        set -l parts (string match -r '^ +(-[A-Za-z]|)(?:, |)(--[a-z-]+|)(=\S+|) +(\S.*)' -- $line)
        test (count $parts) -eq 5; and test -n "$parts[2]$parts[3]"; or continue
        contains -- $parts[2]$parts[3] $__fcprocctl_common; and continue
        test (count $argv) -gt 0; or set -ga __fcprocctl_common $parts[2]$parts[3]
        set -l how -d $parts[5]
        test -z "$parts[2]"; or set -a how -s (string sub -s 2 -- $parts[2])
        test -z "$parts[3]"; or set -a how -l (string sub -s 3 -- $parts[3])
        if test -n "$parts[4]"
            set -ga __fcprocctl_valued $parts[2] $parts[3]
            switch $parts[4]
                case '=*HOST'
                    set -a how -x -a '(__fish_complete_user_at_hosts)'
                case =NAME
                    set -a how -x -a '(__fcprocctl_machines)'
                case =MODE
                    set -a how -x -a 'short pretty off'
                case =BOOL
                    set -a how -x -a 'yes no'
                case =USER
                    # on another host a name would be another user's
                    set -a how -x -a '(__fcprocctl_is_remote; or __fish_complete_users)'
                case =FILE
                    set -a how -r -F
                case '*'
                    set -a how -x
            end
        end
        complete -c fcprocctl $condition $how
    end
end

set -g __fcprocctl_verbs
set -g __fcprocctl_common
set -g __fcprocctl_valued
complete -c fcprocctl -f
__fcprocctl_load
for each in $__fcprocctl_verbs
    __fcprocctl_load $each
end
set -e each
complete -c fcprocctl -f -n '__fcprocctl_verb_is $__fcprocctl_verbs' -a '(__fcprocctl_arguments)'
