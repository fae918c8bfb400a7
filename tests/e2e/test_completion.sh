#!/usr/bin/env bash
# Completion on the command line, as bash does it.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
MAAS=$(realpath "$2")
SOURCE=$3

mkdir "$WORK/files"
: >"$WORK/files/my notes.txt"
cat >"$WORK/rc" <<END
. '$SOURCE/cmd/completion/maas.bash'
. '$SOURCE/daemon/completion/maasd.bash'
# What the shell would call, one argument a line; for maas, ids come from the server.
show() { printf '<%s>' "\$@" >'$WORK/called'; }
maasd() { show "\$@"; }
maas() { if [ "\$1" = ls ]; then '$MAAS' "\$@"; else show "\$@"; fi; }
bind 'set bell-style none'
cd '$WORK/files'
PROMPT_COMMAND=': >"$WORK/ready"'
END

# typed WHAT WANTED KEYS: bash completes at each \t of KEYS, and calls maas or maasd with WANTED.
typed() {
	rm -f "$WORK/ready" "$WORK/called"
	{
		wait_for 20 test -e "$WORK/ready"
		printf '%b\n' "$3"
		wait_for 20 test -s "$WORK/called"
		printf 'exit\n'
	} | script -qec "bash --noprofile --rcfile '$WORK/rc' -i" /dev/null >"$WORK/typescript.log" 2>&1 ||
		fail "$1: $(cat "$WORK/typescript.log")"
	equal "$1" "$2" "$(cat "$WORK/called")"
}

# completed WORD...: what bash completes the last word of this command line to.
compopt() { :; }
completed() {
	local COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_LINE=$* COMPREPLY=()
	_maas
	echo "${COMPREPLY[*]}"
}

# options PATTERN [COMMAND]: those of --help behind which this stands.
options() {
	"$MAAS" "${@:2}" --help | sed -nE "s/^  (--[a-z-]+) $1.*/\1/p"
}

step 'maasd'
typed 'an option' '<--max-pool-size>' 'maasd --max-po\t'
typed 'a word' '<--rdma><required>' 'maasd --rdma req\t'
typed 'a word behind =' '<--log-level=debug>' 'maasd --log-level=d\t'
typed 'a file with a blank' '<--log-file><my notes.txt>' 'maasd --log-file my\t'
typed 'a file whose blank is typed' '<--memory-file><my notes.txt>' 'maasd --memory-file my\\ n\t'

step 'options with and without a value'
. "$SOURCE/cmd/completion/maas.bash"
for command in '' $("$MAAS" --help | sed -nE '/^Options/q; s/^  ([a-z]+) .*/\1/p'); do
	line=(maas ${command:+"$command"})
	alone=$(options ' ' "${line[@]:1}") valued=$(options '[A-Z]' "${line[@]:1}")
	contains "options of ${line[*]}" "$alone $valued" --help --url
	for option in $alone; do
		equal "behind ${line[*]} $option" --help "$(completed "${line[@]}" "$option" --hel)"
	done
	for option in $valued; do
		equal "as the value of ${line[*]} $option" '' "$(completed "${line[@]}" "$option" --hel)"
	done
done

step 'maas'
typed 'a command' '<stats>' 'maas sta\t'
typed 'a command behind an option' '<--url><http://127.0.0.1:1><health>' 'maas --url http://127.0.0.1:1 he\t'
typed 'a command behind two' '<--json><--timeout=5><bench>' 'maas --json --timeout=5 be\t'
typed 'a global option' '<--timeout>' 'maas --tim\t'
typed 'an option of a command' '<--json><alloc><--request-id>' 'maas --json alloc --req\t'
typed 'a word of a command' '<prometheus><status>' 'maas prom\tst\t'
typed 'a file' '<get><--token-file><my notes.txt>' 'maas get --token-file my\t'
typed 'another file' '<get><--ca-file><my notes.txt>' 'maas get --ca-f\tmy\t'
typed 'a word' '<get><--transport><rdma>' 'maas get --transport r\t'
typed 'a file with a blank' '<put><my notes.txt>' 'maas put my\t'
start_server
request POST /allocate -H 'Content-Type: application/json' -d '{"size_bytes":1}'
id=$(jq -r .id <<<"$BODY")
typed 'an id of the named server' "<--url><$URL><free><$id>" "maas --url $URL free ${id:0:20}\\t"
typed 'an id, then a file' "<--url><$URL><get><$id><my notes.txt>" "maas --url $URL get ${id:0:20}\\tmy\\t"
stop_server
