#!/bin/bash
# What a person meets first: help, versions, and one line with the right exit code for a mistake.
set -u
: "${ZOETROPE:?run me through tests/run.sh}"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# check NAME CONDITION...: the condition is a command
check() {
    local name=$1
    shift
    if "$@"; then echo "ok $name"; else echo "not ok $name: $* ($(head -c 300 "$work/err"))"; fi
}

# zoetrope ARGUMENTS...: leaves out, err and code
zoetrope() {
    "$ZOETROPE" "$@" > "$work/out" 2> "$work/err"
    code=$?
}

# says CODE LINE: that exit code, nothing on standard output, and that one line of error
says() { [ "$code" = "$1" ] && [ ! -s "$work/out" ] && [ "$(cat "$work/err")" = "$2" ]; }
succeeds() { [ "$code" = 0 ] && [ -s "$work/out" ] && [ ! -s "$work/err" ]; }
has() { grep -q -- "$1" "$work/out"; }

zoetrope --version
check version_names_commit_and_libraries succeeds
check version_has_a_commit has 'commit '
check version_has_libyaml has 'libyaml 0\.'

zoetrope --help
check help_goes_to_standard_output succeeds
commands=$(sed -n 's/^    \([a-z]*\) .*/\1/p' "$work/out")
check help_lists_commands [ "$(wc -w <<< "$commands")" -ge 4 ]
for command in $commands; do
    zoetrope "$command" --help
    check "help_of_$command" succeeds
    check "usage_of_$command" has "^usage: zoetrope $command"
done

zoetrope tarin
check unknown_command_names_the_nearest \
    says 2 "zoetrope: unknown command 'tarin'; did you mean train?"
zoetrope
check no_command_is_a_usage_error [ "$code" = 2 ]
zoetrope train --print-confg configs/tiny.yaml
check unknown_option_names_the_nearest \
    says 2 "zoetrope: train: unknown option --print-confg; did you mean --print-config?"
zoetrope train
check missing_argument_prints_usage [ "$code" = 2 ]
"$ZOETROPE" --help > /dev/full 2> "$work/err"
code=$?
: > "$work/out"
check full_disk_on_standard_output_is_an_error \
    says 3 "zoetrope: standard output: No space left on device"

# shellcheck source=tests/e2e/configs_support.sh
. tests/e2e/configs_support.sh
for file in configs/*.yaml; do
    base=$(base_of "$file")
    zoetrope train "$file" --print-config ${base:+"$base"}
    check "print_config_of_$(basename "$file" .yaml)" succeeds
    cp "$work/out" "$work/first"
    zoetrope train "$work/first" --print-config
    check "printed_config_of_$(basename "$file" .yaml)_reads_back" cmp "$work/first" "$work/out"
done

printf 'run: {dir: r}\ndata: {train: d}\ntrain:\n  stpes: 3\n' > "$work/c.yaml"
zoetrope train "$work/c.yaml"
check unknown_key_gives_file_line_column \
    says 2 "zoetrope: $work/c.yaml:4:3: unknown key train.stpes; did you mean train.steps?"
zoetrope train configs/tiny.yaml train.steps=many
check bad_override_names_the_argument \
    says 2 "zoetrope: argument 'train.steps=many': train.steps: 'many' is not a whole number"
zoetrope train /nowhere/c.yaml
check absent_configuration_is_named says 3 "zoetrope: /nowhere/c.yaml: open: No such file or directory"

# four ranks find the same mistake; one line tells it, and the job ends with its code
mpirun -n 4 "$ZOETROPE" train configs/tiny.yaml train.steps=many > "$work/out" 2> "$work/err"
code=$?
check job_ends_with_the_code [ "$code" = 2 ]
check one_rank_speaks [ "$(grep -c '^zoetrope: ' "$work/err")" = 1 ]
